//! What is shipped for Prometheus and Grafana, before the real Prometheus: the alert rules are
//! right, and every query of the dashboard has an answer while uploads come.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bitsd::metrics::labels::{DISK_OPS, REASONS};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use support::client::{Client, E_ACCESSDENIED, fragment};
use support::program::{Program, free_address};
use support::server::{Server, Settings};
use support::skip;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts/packaging")
        .join(name)
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(shipped("dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The queries of the dashboard, as Grafana would send them.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    let queries = targets.map(|target| {
        let query = target["expr"].as_str().unwrap();
        query
            .replace("$__rate_interval", "8s")
            .replace("$instance", ".*")
    });
    queries.collect()
}

#[test]
fn the_alert_rules_are_right() {
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let mut promtool = Command::new("promtool");
        promtool.args([what, "rules"]).arg(shipped(file));
        let Ok(checked) = promtool.output() else {
            return skip("promtool is not installed (Debian: prometheus)");
        };
        let said = String::from_utf8_lossy(&checked.stdout);
        let why = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}{why}");
    }
    let rules = std::fs::read_to_string(shipped("alerts.yml")).unwrap();
    assert_eq!(
        rules.matches("- alert:").count(),
        rules.matches("remedy:").count()
    );
}

/// No rule without an example in which it alerts somebody.
#[test]
fn every_alert_is_tested() {
    let read = |name: &str| std::fs::read_to_string(shipped(name)).unwrap();
    let (rules, examples) = (read("alerts.yml"), read("alerts_test.yml"));
    let names = rules
        .lines()
        .filter_map(|line| line.split("- alert: ").nth(1));
    let mut count = 0;
    for name in names {
        let line = format!("alertname: {name}\n        exp_alerts:\n          - ");
        assert!(examples.contains(&line), "{name} is in no example");
        count += 1;
    }
    assert!(count > 15, "{count}");
}

/// The alert leaves out reasons that the program has.
#[test]
fn everyday_refusals_are_known_by_their_words() {
    let rules = std::fs::read_to_string(shipped("alerts.yml")).unwrap();
    let left_out = rules.split("bitsd_refused_packets_total{reason!~\"").nth(1);
    let left_out = left_out.expect("some are left out").split('"').next();
    for word in left_out.unwrap().split('|') {
        assert!(REASONS.contains(&word), "{word}");
    }
}

/// What fails of the disk alerts somebody, whatever its word: but for these, each a word that the
/// program has.
#[test]
fn whatever_fails_of_the_disk_is_in_its_alert() {
    let rules = std::fs::read_to_string(shipped("alerts.yml")).unwrap();
    let left_out = rules.split("bitsd_disk_errors_total{op!~\"").nth(1);
    let left_out = left_out.expect("all but some are in it").split('"').next();
    let left_out: BTreeSet<_> = left_out.unwrap().split('|').collect();
    let known = BTreeSet::from_iter(DISK_OPS.iter().copied());
    assert!(left_out.is_subset(&known), "{left_out:?} of {known:?}");
    // A client chooses what is looked up, opened to read and reserved.
    let expected = ["look_up", "open", "allocate", "ledger"];
    assert_eq!(left_out, BTreeSet::from(expected));
}

/// What a shard counts is shown: each field is read where the series are written.
#[test]
fn whatever_is_counted_is_shown() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let counted = read("metrics/shard.rs");
    let shown = read("admin/exposition.rs") + &read("admin/targets.rs");
    let mut seen = 0;
    for owner in ["ShardMetrics", "TargetMetrics", "LocationMetrics"] {
        let fields = counted.split(&format!("pub struct {owner} {{\n")).nth(1);
        for line in fields.unwrap().lines().take_while(|line| *line != "}") {
            let Some((name, kind)) = line.trim().split_once(": ") else {
                continue;
            };
            if !["Count", "Times", "Sizes"]
                .iter()
                .any(|counts| kind.contains(counts))
            {
                continue;
            }
            let name = name.trim_start_matches("pub ");
            assert!(
                shown.contains(&format!(".{name}")),
                "{owner}: {name} is in no series"
            );
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}

#[test]
fn the_dashboard_has_the_shape_that_grafana_takes() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(
        ids.len(),
        panels.len(),
        "each panel has a number of its own"
    );
    for panel in panels {
        for field in ["title", "type"] {
            assert!(
                panel[field].as_str().is_some_and(|text| !text.is_empty()),
                "{panel}"
            );
        }
        let place = &panel["gridPos"];
        let side = |name: &str| place[name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24 && side("h") > 0, "{panel}");
    }
    assert!(queries().len() >= panels.len());
}

/// The metric and the label of a variable that is a query: `label_values(metric, label)`.
fn variable(variable: &Value) -> Option<(&str, &str)> {
    let query = variable["query"]["query"].as_str()?;
    assert_eq!(variable["definition"], query, "{variable}");
    let inner = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    Some(inner.split_once(", ").expect("a metric and a label"))
}

/// Uploads without end, some of which are refused.
fn load(address: SocketAddr, is_over: &AtomicBool) {
    let mut number = 0;
    let mut open = Client::create(address, "/open.bin");
    open.send(fragment(0..10).of(20_000)).assert(200, None);
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let mut client = Client::create(address, &format!("/{number}.bin"));
        client.send(fragment(0..20_000)).assert(200, None);
        client.close().assert(200, None);
        Client::new(address, "/1.bin")
            .try_create()
            .assert(403, Some(E_ACCESSDENIED));
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Prometheus has to start, and to see what rates are made of.
const QUERIES_MAX: Duration = Duration::from_secs(120);

#[test]
fn every_query_of_the_dashboard_is_answered_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let admin = free_address();
    let settings = Settings::default().file(&format!("admin_listen = \"{admin}\""));
    let server = Server::with(settings);
    let (at, alerts) = (free_address(), shipped("alerts.yml"));
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{alerts:?}]\n\
         scrape_configs:\n  - job_name: bitsd\n    static_configs: [{{ targets: [\"{admin}\"] }}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={at}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        return skip("prometheus is not installed (Debian: prometheus)");
    };
    let _prometheus = Program(child);
    let is_over = Arc::new(AtomicBool::new(false));
    let loader = thread::spawn({
        let (address, is_over) = (server.address(), Arc::clone(&is_over));
        move || load(address, &is_over)
    });
    let mut left = queries();
    left.push("ALERTS{alertname=\"none\"} or vector(1)".to_owned());
    let deadline = Instant::now() + QUERIES_MAX;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "not answered: {left:?}");
        thread::park_timeout(Duration::from_millis(500));
        left.retain(|query| !is_answered(at, query));
    }
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables: Vec<_> = variables.filter_map(variable).collect();
    assert_eq!(variables.len(), 1, "of servers");
    for (metric, label) in variables {
        let values = get(
            at,
            &format!("/api/v1/label/{label}/values?match%5B%5D={metric}"),
        )
        .unwrap();
        let expected = serde_json::json!([admin.to_string()]);
        assert_eq!(values["data"], expected, "{metric}, {label}: {values}");
    }
    let targets = get(at, "/api/v1/targets").unwrap();
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!(
        (&target["health"], &target["lastError"]),
        (&"up".into(), &"".into()),
        "{target}"
    );
    let firing = get(at, "/api/v1/alerts").unwrap();
    let firing = firing["data"]["alerts"].as_array().unwrap();
    let firing: Vec<_> = firing
        .iter()
        .filter(|alert| alert["state"] == "firing")
        .collect();
    assert!(firing.is_empty(), "all is well: {firing:?}");
    is_over.store(true, Ordering::Relaxed);
    loader.join().unwrap();
}

fn is_answered(at: SocketAddr, query: &str) -> bool {
    let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
    let Some(answer) = get(at, &format!("/api/v1/query?query={encoded}")) else {
        return false;
    };
    // What is wrong with a query does not get better.
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    answer["data"]["result"]
        .as_array()
        .is_some_and(|result| !result.is_empty())
}

/// What Prometheus says; `None` while it starts.
fn get(at: SocketAddr, target: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(at).ok()?;
    let request = format!("GET {target} HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
