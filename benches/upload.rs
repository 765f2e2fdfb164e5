//! Whole uploads over loopback: the real server, and the load generator in this process.
//!
//! These figures hold for one machine and one moment; for comparisons there is `scripts/bench`.
#![allow(clippy::disallowed_methods, reason = "a program beside the server")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitsd::bench::conversation::{End, Mode, Script};
use bitsd::bench::{Options, run};
use bitsd::client::url::Url;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A server on a folder of its own; both end with it.
struct Server {
    child: Child,
    folder: Url,
    _root: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let root = tempfile::tempdir().expect("a folder for the uploads");
        std::fs::create_dir(root.path().join("root")).expect("the folder was just made");
        let config = root.path().join("bitsd.toml");
        // Each round uploads the same names again.
        std::fs::write(&config, "allow_overwrite = true\n").expect("the folder was just made");
        let mut child = Command::new(env!("CARGO_BIN_EXE_bitsd"))
            .args(["serve", "--listen", "127.0.0.1:0", "--cores", "1"])
            .args(["--durability", "none", "--log-level", "warn"])
            .arg("--config")
            .arg(config)
            .arg("--root")
            .arg(root.path().join("root"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server says where it listens");
        let url = line.trim().trim_start_matches("listening on ");
        let folder = format!("{url}/").parse().expect("the server tells a URL");
        Self {
            child,
            folder,
            _root: root,
        }
    }

    fn upload(&self, mode: Mode, connections: usize, files: u64, file_bytes: u64) -> Duration {
        let options = Options {
            secure: None,
            script: Script {
                mode,
                folder: self.folder.clone(),
                file_bytes,
                fragment_bytes: 4 << 20,
                prefix: format!("{mode:?}-{files}-{file_bytes}"),
                end: End::Close,
                credentials: None,
            },
            connections,
            files,
            is_connection_per_session: false,
            idle: 0,
            verify: None,
            keep: true,
            stall: Duration::from_secs(30),
        };
        let report = run(&options, &mut |_| std::ops::ControlFlow::Continue(()))
            .expect("the server is there");
        assert!(report.is_success(), "{report}");
        Duration::from_secs_f64(report.seconds)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn uploads(criterion: &mut Criterion) {
    let server = Server::start();
    let mut group = criterion.benchmark_group("upload");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (name, connections, file_bytes) in [
        ("16 KiB, 8 connections", 8, 16 << 10),
        ("1 MiB, 8 connections", 8, 1 << 20),
        ("32 MiB, 1 connection", 1, 32 << 20),
    ] {
        group.throughput(Throughput::Bytes(file_bytes));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            // One iteration is one file.
            bencher.iter_custom(|files| server.upload(Mode::Bits, connections, files, file_bytes));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("Ping, 1 connection", |bencher| {
        bencher.iter_custom(|pings| server.upload(Mode::Ping, 1, pings, 1));
    });
    group.finish();
}

criterion_group!(benches, uploads);
criterion_main!(benches);
