//! Bounds in time and number: slow and idle peers, expiry, the end of the server.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::host::make_pipe;
use support::program::descriptors;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::wait_until;

// -- slow and idle peers

#[test]
fn an_idle_connection_is_ended_and_a_busy_one_is_not() {
    let server = Server::with(Settings::default().file("[limits]\nidle_ms_max = 3000"));
    let mut idle = server.connect();
    let mut client = Client::create(server.address(), "/a.bin");
    let ended = std::thread::spawn(move || idle.assert_closed());
    while !ended.is_finished() {
        client.ping().assert(200, None);
    }
    ended.join().unwrap();
    client.send(fragment(0..10)).assert(200, None);
}

#[test]
fn a_reload_changes_limits_that_no_memory_was_taken_by() {
    let server = Server::with(Settings::default().file("[limits]\nidle_ms_max = 3600000"));
    let mut idle = server.connect();
    let lines =
        "[limits]\nidle_ms_max = 100\nsessions_per_shard_max = 1\nblock_bytes = \"1 MiB\"\n";
    server.reload(lines);
    server.wait_for_log("the settings were reloaded");
    idle.assert_closed();
    let log = server.log();
    let waiting = log
        .lines()
        .filter(|line| line.contains("with the next start only"));
    let waiting: Vec<_> = waiting.collect();
    assert!(
        waiting.len() == 1 && waiting[0].contains("limits.block_bytes"),
        "{waiting:?}"
    );
}

#[test]
fn who_is_turned_away_from_a_full_server_gives_its_place_back() {
    // The simulator found it: two clients that waited for a session held the only two connections,
    // and those who had the sessions could not come in to end them.
    let lines = "[limits]\nsessions_per_shard_max = 1\nconnections_per_shard_max = 1";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(lines));
    let mut owner = Client::create(server.address(), "/a.bin");
    owner.raw.finish();
    owner.raw.assert_closed();
    let mut waits = Client::new(server.address(), "/b.bin");
    waits.try_create().assert(503, None);
    waits.raw.assert_closed();
    drop(waits);
    wait_until("the place is free", || {
        owner.reconnect();
        let answer = owner.try_send(&fragment(0..10));
        answer.is_some_and(|answer| answer.status == 200)
    });
    owner.close().assert(200, None);
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let server = Server::with(Settings::default().file("[limits]\nhead_ms_max = 1500"));
    let mut slow = server.connect();
    let mut idle = server.connect();
    let began = Instant::now();
    slow.send("BITS_POST /a.bin HTTP/1.1\r\nHost: x\r\n");
    // A byte now and then does not wind the clock up.
    let mut sent = 0;
    while slow.try_send("X").is_ok() {
        sent += 1;
        assert!(sent < 1000, "still alive after {:?}", began.elapsed());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    slow.assert_closed();
    // Between requests another clock runs.
    idle.send("BITS_POST /a.bin HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\n\r\n");
    idle.receive().assert(200, None);
}

#[test]
fn a_body_that_stalls_is_given_up_and_kept() {
    let server = Server::with(Settings::default().file("[limits]\nbody_stall_ms_max = 2500"));
    let mut stalled = Client::create(server.address(), "/a.bin");
    stalled.send_part(&fragment(0..900_000), 600_000);
    let mut other = Client::create(server.address(), "/b.bin");
    stalled.raw.assert_closed();
    other.send(fragment(0..10)).assert(200, None);
    assert_eq!(server.part_bytes(stalled.session()), 600_000);
    stalled.reconnect();
    stalled.send_rest(600_000, 900_000, 300_000);
    stalled.close().assert(200, None);
    server.assert_file("a.bin", 1, 900_000);
}

#[test]
fn a_body_that_dribbles_goes_on_and_reaches_the_disk() {
    // A byte each 100 ms, after a fast beginning: slower than the stall limit in all, never without
    // a byte for as long.
    let server = Server::with(Settings::default().file("[limits]\nbody_stall_ms_max = 3000"));
    let mut client = Client::create(server.address(), "/a.bin");
    let total = 700_000;
    client.send_part(&fragment(0..total), 600_000);
    let began = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    let mut sent = 600_000;
    while began.elapsed() < Duration::from_secs(10) {
        client.raw.send(content(1, sent, sent + 1));
        sent += 1;
        seen.insert(server.part_bytes(client.session()));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(seen.len() >= 4, "the part grew in steps: {seen:?}");
    assert!(*seen.last().unwrap() > 600_000, "{seen:?}");
    client.raw.send(content(1, sent, total));
    let ack = client.raw.receive();
    assert_eq!(ack.assert(200, None).received(), total);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, total);
}

#[test]
fn stalled_peers_do_not_slow_a_fast_one() {
    // 40 peers stall where each could hold a body block, of which there are four.
    const STALLED: u64 = 40;
    const TOTAL: u64 = 20_000_000;
    let server = Server::with(Settings::default().file("[limits]\nbody_blocks_per_shard = 4"));
    let stalled: Vec<Client> = (0..STALLED)
        .map(|n| {
            let mut client = Client::create(server.address(), &format!("/stalled{n}"));
            client.send_part(&fragment(0..4_000_000), 65_536);
            client
        })
        .collect();
    let body = content(1, 0, TOTAL);
    let mut fast = Client::create(server.address(), "/fast.bin");
    let began = Instant::now();
    fast.send_head(&fragment(0..TOTAL));
    fast.raw.send(body);
    assert_eq!(fast.raw.receive().assert(200, None).received(), TOTAL);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "20 MB took {took:?}");
    fast.close().assert(200, None);
    server.assert_file("fast.bin", 1, TOTAL);
    for client in &stalled {
        server.wait_for_part(client.session(), 65_536);
    }
}

#[test]
fn connections_over_the_limit_hear_that_it_is_busy() {
    let limits = "[limits]\nconnections_per_shard_max = 3";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut busy: Vec<Client> = (0..3)
        .map(|n| {
            let mut client = Client::create(server.address(), &format!("/{n}"));
            client.send_part(&fragment(0..100), 50);
            server.wait_for_part(client.session(), 50);
            client
        })
        .collect();
    // Before it said anything, and as the answer to what it says.
    server.connect().receive().assert(503, None);
    let mut refused = Client::new(server.address(), "/refused");
    refused.try_create().assert(503, None);
    refused.raw.assert_closed();
    server.wait_for_log("this shard holds as many as it may");
    busy.pop();
    wait_until("there is room again", || {
        ping(&mut server.connect()).is_some()
    });
    for client in &mut busy {
        client.raw.send(content(1, 50, 100));
        client.raw.receive().assert(200, None);
    }
}

#[test]
fn idle_connections_make_room_and_busy_ones_stay() {
    let limits = "[limits]\nconnections_per_shard_max = 50";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut busy = Client::create(server.address(), "/busy");
    busy.send_part(&fragment(0..100), 50);
    server.wait_for_part(busy.session(), 50);
    // Pings keep them from the idle time-out, not from making room.
    let mut idle: Vec<Raw> = (0..49).map(|_| server.connect()).collect();
    for raw in &mut idle {
        assert!(ping(raw).is_some());
    }
    for _ in 0..100 {
        assert!(ping(&mut server.connect()).is_some());
    }
    idle[0].assert_closed();
    busy.raw.send(content(1, 50, 100));
    busy.raw.receive().assert(200, None);
}

#[test]
fn a_client_has_so_many_connections_where_the_settings_say_so() {
    let limits = "[limits]\nconnections_per_client_max = 2";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut first = server.connect();
    let mut second = server.connect();
    assert!(ping(&mut first).is_some() && ping(&mut second).is_some());
    server.connect().receive().assert(503, None);
    drop(first);
    wait_until("there is room again", || {
        ping(&mut server.connect()).is_some()
    });
    assert!(ping(&mut second).is_some());
}

#[test]
fn a_connection_that_its_own_shard_has_no_place_for_hears_that() {
    // On the shard of the session all places are taken by bodies that are under way.
    let limits = "[limits]\nconnections_per_shard_max = 4";
    let server = Server::with(Settings::default().file(limits));
    let busy: Vec<Client> = std::iter::from_fn(|| {
        let mut client = Client::new(server.address(), "/busy");
        // Those of the other shard are gone, and may hold their places for a moment still.
        wait_until("there is a place", || {
            let answer = client.reconnect().try_create();
            if answer.status != 503 {
                answer.assert(200, None);
            }
            answer.status == 200
        });
        client.send_part(&fragment(0..100), 50);
        Some(client)
    })
    .filter(|client| client.shard(2) == 0)
    .take(4)
    .collect();
    for client in &busy {
        server.wait_for_part(client.session(), 50);
    }
    let mut other = Client::new(server.address(), "/busy");
    other.adopt(busy[0].session());
    for _ in 0..8 {
        let response = other.reconnect().packet(
            "Cancel-Session",
            &format!("BITS-Session-Id: {}\r\n", busy[0].session()),
        );
        assert_eq!(response.status, 503, "{response:?}");
    }
}

/// Whether a connection is served.
fn ping(raw: &mut Raw) -> Option<()> {
    let text =
        "BITS_POST /a HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
    raw.try_send(text).ok()?;
    let response = raw.try_receive().ok()??;
    if response.status == 503 {
        return None;
    }
    assert_eq!(response.status, 200);
    Some(())
}

#[test]
fn sessions_over_the_limit_hear_that_it_is_busy() {
    let limits = "[limits]\nsessions_per_shard_max = 2";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut first = Client::create(server.address(), "/a");
    let _second = Client::create(server.address(), "/b");
    let mut third = Client::new(server.address(), "/c");
    third.try_create().assert(503, None);
    // One that ended counts no more.
    first.cancel().assert(200, None);
    third.try_create().assert(200, None);
}

// -- expiry

#[test]
fn a_session_without_progress_expires_while_the_server_runs() {
    let server = Server::with(Settings::default().file("session_timeout = \"5s\""));
    let mut forgotten = Client::create(server.address(), "/a.bin");
    let mut busy = Client::create(server.address(), "/b.bin");
    forgotten.send(fragment(0..10).of(30)).assert(200, None);
    let mut offset = 0;
    wait_until("the session expires", || {
        busy.send(fragment(offset..offset + 1).of(1_000_000))
            .assert(200, None);
        offset += 1;
        !server.part(forgotten.session()).exists()
    });
    let late = forgotten.send(fragment(10..30));
    late.assert(500, Some(SESSION_NOT_FOUND));
    server.wait_for_log("expired");
    assert!(server.part(busy.session()).exists());
}

#[test]
fn a_session_that_is_being_received_does_not_expire() {
    let server = Server::with(Settings::default().file("session_timeout = \"3s\""));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..200), 100);
    // Longer than the time-out, on the clock of another session that does expire.
    let other = Client::create(server.address(), "/b.bin");
    wait_until("the other one expires", || {
        !server.part(other.session()).exists()
    });
    client.raw.send(content(1, 100, 200));
    assert_eq!(client.raw.receive().assert(200, None).received(), 200);
    client.close().assert(200, None);
}

#[test]
fn a_session_without_progress_expires_at_start() {
    let mut server = Server::start();
    let mut old = Client::create(server.address(), "/old");
    old.send(fragment(0..10).of(30)).assert(200, None);
    let mut new = Client::create(server.address(), "/new");
    new.send(fragment(0..10).of(30)).assert(200, None);
    server.kill9();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(15 * 86_400);
    let part = server.part(old.session());
    let file = fs::File::options().write(true).open(part).unwrap();
    file.set_modified(long_ago).unwrap();
    server.restart();
    wait_until("the old one is gone", || {
        !server.part(old.session()).exists()
    });
    old.reconnect_to(server.address());
    let late = old.send(fragment(10..30));
    late.assert(500, Some(SESSION_NOT_FOUND));
    new.reconnect_to(server.address());
    new.send(fragment(10..30)).assert(200, None);
    new.close().assert(200, None);
}

#[test]
fn an_orphan_is_removed_at_start() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a");
    client.send(fragment(0..10).of(30)).assert(200, None);
    server.kill9();
    for entry in fs::read_dir(server.file(".bitsd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "journal") {
            fs::remove_file(path).unwrap();
        }
    }
    server.restart();
    assert_eq!(server.work_files(), [""; 0]);
    // No byte that was acked goes without a word.
    server.wait_for_log("event=orphans_removed");
    server.wait_for_log("parts=1 bytes=10");
    client.reconnect_to(server.address());
    client
        .send(fragment(10..30))
        .assert(500, Some(SESSION_NOT_FOUND));
}

#[test]
fn what_the_server_does_not_understand_is_set_aside() {
    let mut server = Server::start();
    let mut whole = Client::create(server.address(), "/whole");
    whole.send(fragment(0..10).of(30)).assert(200, None);
    server.kill9();
    let work = server.root().join(".bitsd");
    fs::write(work.join("notes.txt"), "foreign").unwrap();
    fs::create_dir(work.join("folder")).unwrap();
    fs::write(work.join("0.part"), "foreign").unwrap();
    fs::create_dir(work.join("1.part")).unwrap();
    for name in ["1.part.aside", "1.part.1.aside"] {
        fs::write(work.join(name), "of before").unwrap();
    }
    fs::write(work.join("0-0.journal"), "foreign").unwrap();
    server.restart();
    // What nobody takes for the server's own stays, and is told of.
    for name in ["notes.txt", "folder"] {
        assert!(work.join(name).exists(), "{name} is lost");
    }
    server.wait_for_log("not the server's (folder, notes.txt)");
    for name in ["0.part", "0-0.journal"] {
        assert!(!work.join(name).exists(), "{name} stayed");
        assert!(
            work.join(format!("{name}.aside")).exists(),
            "{name} is lost"
        );
        server.wait_for_log(name);
    }
    // What was set aside before stays.
    for name in ["1.part.aside", "1.part.1.aside"] {
        assert_eq!(fs::read(work.join(name)).unwrap(), b"of before", "{name}");
    }
    assert!(work.join("1.part.2.aside").is_dir());
    server.wait_for_log("was set aside");
    whole.reconnect_to(server.address());
    whole.send(fragment(10..30)).assert(200, None);
    whole.close().assert(200, None);
    server.assert_file("whole", 1, 30);
    // Once is enough.
    server.restart();
    assert!(!server.log().contains("set aside"));
}

// -- the end

#[test]
fn a_running_fragment_is_finished_before_the_end() {
    let mut server = Server::start();
    let mut idle = server.connect();
    ping(&mut idle).unwrap();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000).of(300_000), 100_000);
    server.wait_for_part(client.session(), 100_000);
    server.terminate();
    idle.assert_closed();
    wait_until("nobody listens", || {
        Raw::try_connect(server.address()).is_err()
    });
    client.raw.send(content(1, 100_000, 200_000));
    let ack = client.raw.receive();
    assert_eq!(ack.assert(200, None).received(), 200_000);
    assert_eq!(ack.field("Connection"), Some("close"));
    client.raw.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
    server.restart();
    client.reconnect_to(server.address());
    client.send_rest(200_000, 300_000, 100_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 300_000);
}

#[test]
fn a_stalled_fragment_does_not_keep_the_server_from_its_end() {
    let limits = "[limits]\nshutdown_ms_max = 500";
    let mut server = Server::with(Settings::default().file(limits));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    server.wait_for_part(client.session(), 100_000);
    let began = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(500),
        "it was given its time: {took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    client.raw.assert_closed();
    server.restart();
    client.reconnect_to(server.address());
    client.send_rest(100_000, 200_000, 100_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 200_000);
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    server.wait_for_part(client.session(), 100_000);
    server.terminate();
    server.wait_for_log("a second signal stops at once");
    let began = Instant::now();
    // One that comes at once would be taken for the first one, sent to the process group as well.
    wait_until("a second signal is another one", || {
        server.terminate();
        server.log().contains("event=stopped_at_once")
    });
    assert_eq!(server.wait().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(10));
    server.restart();
    client.reconnect_to(server.address());
    client.send_rest(100_000, 200_000, 100_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 200_000);
}

/// Behind a body, as old clients send it. No head has begun, so that neither its time runs nor the
/// stop waits for its end.
#[test]
fn a_connection_is_idle_whatever_empty_lines_came() {
    let limits = "[limits]\nhead_ms_max = 600000\nshutdown_ms_max = 600000";
    let mut server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut raw = server.connect();
    assert!(ping(&mut raw).is_some());
    raw.send("\r\n\r\n");
    assert!(ping(&mut raw).is_some());
    raw.send("\r\n");
    // It was seen when what was sent after it is answered.
    assert!(ping(&mut server.connect()).is_some());
    server.stop();
    assert!(
        !server.log().contains("connection_ended_early"),
        "{}",
        server.log()
    );
    // One by one they are no more than at once.
    let server = Server::start();
    let mut raw = server.connect();
    for _ in 0..5 {
        raw.send("\r\n");
    }
    raw.receive().assert(400, Some("0x80070057"));
    raw.assert_closed();
}

/// The settings come through a pipe into which nobody writes: the reload waits for some seconds,
/// and the stop does not.
#[test]
fn a_reload_that_is_held_up_does_not_hold_a_stop_up() {
    let mut server = Server::with(Settings::default().file("create_dirs = true"));
    let settings = server.root().with_extension("toml");
    std::fs::remove_file(&settings).unwrap();
    make_pipe(&settings);
    let process = Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    kill_process(process, Signal::HUP).unwrap();
    server.stop();
    let log = server.log();
    assert!(!log.contains("event=reload_failed"), "{log}");
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = Server::start();
    let _idle: Vec<Raw> = (0..20).map(|_| server.connect()).collect();
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

// -- sessions

/// Goal: who has just closed an upload is remembered before those that did so long ago, also when
/// the server was killed meanwhile. Method: five times as many uploads as are remembered, two
/// kills, and the last ones of all ask again.
#[test]
fn those_that_ended_last_are_remembered_over_kills() {
    const REMEMBERED: usize = 20;
    let settings = Settings::default().flags(&["--cores", "1"]);
    let lines = format!("[limits]\ntombstones_per_shard_max = {REMEMBERED}");
    let settings = settings.file(&lines);
    let mut server = Server::with(settings);
    for round in 0..2 {
        let mut closed = Vec::new();
        for number in 0..5 * REMEMBERED {
            let path = format!("/{round}-{number}.bin");
            let mut client = Client::create(server.address(), &path);
            client.send(fragment(0..10)).assert(200, None);
            client.close().assert(200, None);
            closed.push(client);
        }
        for _kill in 0..2 {
            server.kill9();
            server.restart();
            for client in &mut closed[4 * REMEMBERED..] {
                client.reconnect_to(server.address());
                client.close().assert(200, None);
            }
        }
    }
}

#[test]
fn nobody_makes_the_server_forget_anothers_close() {
    let settings = Settings::default().flags(&["--cores", "1"]);
    let settings = settings.file("[limits]\ntombstones_per_shard_max = 1000");
    let mut server = Server::with(settings);
    let mut victim = Client::create(server.address(), "/a.bin");
    victim.send(fragment(0..10)).assert(200, None);
    victim.close().assert(200, None);
    let mut other = Client::new(server.address(), "/b.bin");
    for _ in 0..4_200 {
        other.try_create().assert(200, None);
        other.cancel().assert(200, None);
    }
    victim.close().assert(200, None);
    server.kill9();
    server.restart();
    victim.reconnect_to(server.address());
    victim.close().assert(200, None);
    victim.close().assert(200, None);
}

#[test]
fn an_upload_without_any_byte_goes_sooner_than_one_that_has_some() {
    let server = Server::with(Settings::default().file("empty_session_timeout = \"3s\""));
    let mut begun = Client::create(server.address(), "/begun.bin");
    assert_eq!(begun.send(fragment(0..10).of(20)).received(), 10);
    let mut empty = Client::create(server.address(), "/empty.bin");
    server.wait_for_log("expired");
    empty.send(fragment(0..10)).assert(500, Some("0x8020001F"));
    assert_eq!(begun.send(fragment(10..20).of(20)).received(), 20);
}

/// Whoever opens a fragment for it, and sends none of its bytes, holds it open until that
/// connection ends, and not by the next one.
#[test]
fn an_upload_without_any_byte_is_not_held_open_by_fragments_without_bytes() {
    let settings = Settings::default().flags(&["--cores", "1"]);
    let server = Server::with(settings.file("empty_session_timeout = \"3s\""));
    let mut held = Client::create(server.address(), "/held.bin");
    held.send_head(&fragment(0..10));
    let _later = Client::create(server.address(), "/later.bin");
    server.wait_for_log("path=\"later.bin\"");
    assert!(
        !server.log().contains("path=\"held.bin\""),
        "{}",
        server.log()
    );
    let mut next = Client::new(server.address(), "/held.bin");
    next.adopt(held.session());
    next.send(fragment(0..10)).assert(500, Some("0x8020001F"));
    server.wait_for_log("path=\"held.bin\" bytes=0");
}

#[test]
fn a_shorter_time_for_uploads_holds_for_those_that_are_there() {
    let server = Server::with(Settings::default().file("session_timeout = \"1d\""));
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..10).of(20)).received(), 10);
    server.reload("session_timeout = \"1s\"");
    // With what it had, since somebody may miss it.
    server.wait_for_log("bytes=10 of=20");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("expired")).unwrap();
    assert!(line.contains("WARN") && line.contains("idle_ms="), "{line}");
}

#[test]
fn a_session_at_rest_holds_no_descriptor() {
    let settings = Settings::default().flags(&["--cores", "1"]);
    let server = Server::with(settings.file("sessions_per_client_max = \"unlimited\""));
    let descriptors = || descriptors(server.pid());
    let mut client = Client::new(server.address(), "/a.bin");
    client.ping().assert(200, None);
    let before = descriptors();
    // One connection for many sessions, as a proxy has it.
    for number in 0..10_000 {
        client.try_create().assert(200, None);
        let answer = client.send(fragment(0..10).of(20));
        assert_eq!(answer.received(), 10, "{number}");
    }
    // Some are opened with the first upload and stay; none of them for a session.
    assert!(descriptors() <= before + 16, "{before}, {}", descriptors());
}

#[test]
fn sessions_count_towards_the_journal_and_whoever_is_too_many_hears_503() {
    let settings = Settings::default().flags(&["--cores", "1", "--log-level", "warn"]);
    let settings = settings.file("create_dirs = true\n[limits]\njournal_bytes_max = \"16MiB\"");
    let server = Server::with(settings);
    let folder = "f".repeat(250);
    let mut made = 0;
    let refused = loop {
        let path = format!("/{}/{made}", [folder.as_str(); 7].join("/"));
        let answer = Client::new(server.address(), &path).try_create();
        if answer.status != 200 {
            break answer;
        }
        made += 1;
        assert!(made < 3_000, "some 2 KiB each, and a quarter of 16 MiB");
    };
    refused.assert(503, None);
    assert!(made > 1_500, "{made}");
    let journals = std::fs::read_dir(server.file(".bitsd")).unwrap();
    let journals = journals.map(|entry| entry.unwrap());
    let longest = journals
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".journal"))
        .map(|entry| entry.metadata().unwrap().len())
        .max();
    assert!(longest.unwrap() <= 16 << 20, "{longest:?}");
}

#[test]
fn sessions_from_before_a_reload_count_for_their_client() {
    let file = "cleanup_interval = \"1s\"\n";
    let mut server = Server::with(Settings::default().file(file));
    for number in 0..5 {
        Client::create(server.address(), &format!("/{number}.bin"));
    }
    server.reload(&format!("{file}sessions_per_client_max = 5\n"));
    server.wait_for_log("the settings were reloaded");
    let mut client = Client::new(server.address(), "/six.bin");
    client.try_create().assert(503, None);
    // Nor does a restart forget whose they are.
    server.kill9();
    let settings = Settings::default().file("sessions_per_client_max = 5");
    server.restart_with(settings);
    client.reconnect_to(server.address());
    client.try_create().assert(503, None);
}

// -- the log

#[test]
fn the_log_has_one_line_for_each_session() {
    let server = Server::with(Settings::default().flags(&["--log-format", "json"]));
    let mut client = Client::create(
        server.address(),
        "/in \"quotes\".bin"
            .replace(' ', "%20")
            .replace('"', "%27")
            .as_str(),
    );
    for n in 0..20 {
        client
            .send(fragment(n * 100..(n + 1) * 100).of(2000))
            .assert(200, None);
        if n % 10 == 5 {
            client.reconnect();
        }
    }
    let peer = client.raw.local_addr().to_string();
    client.close().assert(200, None);
    client.close().assert(200, None);
    server.wait_for_log("session ended");
    let log = server.log();
    let session = client.session().to_owned();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line.get("session").is_some())
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line = &lines[0];
    assert_eq!(line["session"], session.as_str());
    assert_eq!(line["message"], "session ended");
    assert_eq!(line["ending"], "published");
    assert_eq!(
        line["path"],
        "in%20'quotes'.bin".replace("%20", " ").as_str()
    );
    assert_eq!(line["bytes"], 2000);
    assert_eq!(line["of"], 2000);
    // It turned up on another connection twice, and went on where it was: no interruption.
    assert_eq!(line["connections"], 3);
    assert_eq!(line["interruptions"], 0);
    assert_eq!(line["peer"], peer.as_str());
    assert!(line["duration_ms"].is_u64(), "{line}");
}

/// Goal: `interruptions` says how often an upload had to begin again, whatever its client sent
/// before it found out where, and however small the fragments are in which it goes on.
#[test]
fn an_interruption_counts_once_however_many_fragments_follow_it() {
    let mut server = Server::with(Settings::default().file("fragment_bytes_max = \"5 KiB\""));
    let last = || fragment(19_999..20_000).of(20_000);
    let create = |server: &Server, path: &str| Client::create(server.address(), path);
    let end = |server: &Server, mut client: Client, from: u64, expected: u32| {
        client.send_rest(from, 20_000, 500);
        client.close().assert(200, None);
        let line = || {
            let log = server.log();
            let ended =
                |line: &&str| line.contains("session ended") && line.contains(client.session());
            log.lines().find(ended).map(str::to_owned)
        };
        wait_until("its end is told", || line().is_some());
        let words = format!(" interruptions={expected} ");
        assert!(line().unwrap().contains(&words), "{}", line().unwrap());
    };

    // It offers more than is taken at once, and then less: nothing interrupted it.
    let mut client = create(&server, "/large.bin");
    client
        .send(fragment(0..20_000).of(20_000))
        .assert(413, None);
    end(&server, client, 0, 0);
    // It asks by its last byte where to go on, as our own client does.
    let mut client = create(&server, "/asks.bin");
    assert_eq!(client.send(last()).status, 416);
    end(&server, client, 0, 1);
    // It breaks off within a fragment, and asks then.
    let mut client = create(&server, "/breaks.bin");
    client.send_part(&fragment(0..5_000).of(20_000), 500);
    server.wait_for_part(client.session(), 500);
    assert_eq!(client.reconnect().send(last()).status, 416);
    end(&server, client, 500, 1);
    // It sends again what it sent.
    let mut client = create(&server, "/repeats.bin");
    for n in (0..10).chain(0..10) {
        let again = fragment(n * 500..(n + 1) * 500).of(20_000);
        client.send(again).assert(200, None);
    }
    end(&server, client, 5_000, 1);
    // It breaks off twice.
    let mut client = create(&server, "/twice.bin");
    client.send_part(&fragment(0..5_000).of(20_000), 500);
    server.wait_for_part(client.session(), 500);
    client.reconnect();
    client.send_part(&fragment(500..5_500).of(20_000), 100);
    server.wait_for_part(client.session(), 600);
    client.reconnect();
    end(&server, client, 600, 2);
    // It finds the server started anew, and asks.
    let mut client = create(&server, "/restarted.bin");
    client.send(fragment(0..5_000).of(20_000)).assert(200, None);
    server.kill9();
    server.restart();
    client.reconnect_to(server.address());
    assert_eq!(client.send(last()).status, 416);
    end(&server, client, 5_000, 1);
}

#[test]
fn a_client_that_does_not_close_after_its_last_answer_holds_no_stop_up() {
    let mut server = Server::with(Settings::default().file("[limits]\nhead_ms_max = 60000"));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..100), 50);
    server.wait_for_part(client.session(), 50);
    server.terminate();
    // It is draining when it takes no connections any more.
    wait_until("it takes no connections", || {
        Raw::try_connect(server.address()).is_err()
    });
    client.raw.send(content(1, 50, 100));
    client.raw.receive().assert(200, None);
    let began = Instant::now();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    drop(client);
}

#[test]
fn nobody_who_does_not_go_on_holds_a_stop_up() {
    let mut server = Server::with(Settings::default().file("[limits]\nhead_ms_max = 60000"));
    let mut begins = Raw::connect(server.address());
    begins.send("B");
    let mut goes_on = Client::new(server.address(), "/a.bin");
    goes_on.ping().assert(200, None);
    goes_on.raw.send("BITS_POST /a HTTP/1.1\r\nHost: h\r\n");
    // It is refused, and its body does not come.
    let mut stranger = Client::new(server.address(), "/a.bin");
    stranger.adopt("{7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE}");
    stranger.send_part(&fragment(0..100_000), 10);
    // All that was sent before is read when this is answered.
    for _ in 0..10 {
        Client::new(server.address(), "/a").ping().assert(200, None);
    }
    let began = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop((begins, goes_on, stranger));
}

#[test]
fn whoever_is_turned_away_hears_so_however_many_others_are() {
    const OTHERS: usize = 100;
    const MIB: u64 = 1 << 20;
    let limits = "[limits]\nconnections_per_shard_max = 1\nhead_ms_max = 600000";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(limits));
    let mut busy = Client::create(server.address(), "/busy");
    busy.send_part(&fragment(0..100), 50);
    server.wait_for_part(busy.session(), 50);
    // They hear it, and stay.
    let others: Vec<Raw> = (0..OTHERS)
        .map(|_| {
            let mut other = server.connect();
            other.receive().assert(503, None);
            other
        })
        .collect();
    let mut refused = Client::new(server.address(), "/refused");
    refused.try_create().assert(503, None);
    refused.raw.assert_closed();
    let mut sends_all = Client::new(server.address(), "/busy");
    sends_all.adopt(busy.session());
    let answer = sends_all.try_send(&fragment(0..40 * MIB));
    answer.expect("an answer to 40 MiB").assert(503, None);
    drop(others);
}

#[test]
fn an_answer_to_a_head_that_cannot_be_taken_waits_for_all_that_comes_behind_it() {
    const MIB: u64 = 1 << 20;
    let settings = "create_dirs = true\n[limits]\nlong_heads_per_shard_max = 1\n\
                    [[location]]\nprefix = \"/small\"\nfragment_bytes_max = \"1 MiB\"";
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(settings));
    let ticket = |bytes: usize| format!("Authorization: Negotiate {}\r\n", "v".repeat(bytes));
    let mut client = Client::create(server.address(), "/a.bin");
    let mut long = server.connect();
    long.send("BITS_POST /a HTTP/1.1\r\nHost: h\r\n");
    long.send(ticket(30_000));
    wait_until("there is no room for a long head", || {
        let mut other = Client::new(server.address(), "/a.bin");
        other.lines = ticket(30_000);
        other.ping().status == 503
    });
    client.lines = ticket(25_000);
    let answer = client.try_send(&fragment(0..40 * MIB));
    assert_eq!(answer.expect("an answer to 40 MiB").status, 503);
    client.reconnect();
    client.lines = format!("BITS-Too-Long: {}\r\n", "v".repeat(8_000));
    let answer = client.try_send(&fragment(0..40 * MIB));
    assert_eq!(answer.expect("an answer to 40 MiB").status, 400);
    // Many times too long.
    let mut client = Client::create(server.address(), "/small/a.bin");
    let answer = client.try_send(&fragment(0..100 * MIB));
    assert_eq!(answer.expect("an answer to 100 MiB").status, 413);
}

#[test]
fn a_connection_that_turns_to_other_sessions_holds_one_file() {
    const SESSIONS: usize = 500;
    let server = Server::with(Settings::default().flags(&["--cores", "1", "--durability", "none"]));
    let open = || descriptors(server.pid());
    let mut client = Client::new(server.address(), "/0");
    client.ping().assert(200, None);
    // What is opened with the first upload stays open, such as the folder whose free space is asked
    // for.
    let mut first = Client::create(server.address(), "/first");
    first.cancel().assert(200, None);
    drop(first);
    let before = open();
    for number in 0..SESSIONS {
        let mut next = Client::new(server.address(), &format!("/{number}"));
        std::mem::swap(&mut next.raw, &mut client.raw);
        next.try_create().assert(200, None);
        next.send(fragment(0..10).of(20)).assert(200, None);
        std::mem::swap(&mut next.raw, &mut client.raw);
        // It has a connection of its own for a moment.
        assert!(open() <= before + 8, "after {number}");
    }
    // The first one of all made the server open the shelf once more, to see what is free there.
    wait_until("the last one rests too", || open() <= before + 1);
    client.ping().assert(200, None);
}

#[test]
fn what_is_sent_again_is_read_to_its_end_and_answered() {
    const MIB: u64 = 1 << 20;
    let server = Server::with(Settings::default().flags(&["--durability", "none"]));
    let mut client = Client::create(server.address(), "/a.bin");
    let total = 200 * MIB;
    client
        .send(fragment(0..60 * MIB).of(total))
        .assert(200, None);
    for mib in [8, 17, 24, 40, 60] {
        // All of it is sent before anything is read; a reset would be the loss of the answer.
        client.reconnect();
        let again = client.try_send(&fragment(0..mib * MIB).of(total));
        let again = again.unwrap_or_else(|| panic!("no answer to {mib} MiB"));
        assert_eq!(again.assert(200, None).received(), 60 * MIB);
        // The connection goes on.
        client.ping().assert(200, None);
        client.reconnect();
        let chunked = client.try_send(&fragment(0..mib * MIB).of(total).in_chunks());
        let chunked = chunked.unwrap_or_else(|| panic!("no answer to {mib} MiB in chunks"));
        assert_eq!(chunked.assert(200, None).received(), 60 * MIB);
        client.reconnect();
        let beyond = fragment(61 * MIB..(61 + mib) * MIB).of(total).in_chunks();
        let beyond = client.try_send(&beyond);
        let beyond = beyond.unwrap_or_else(|| panic!("no answer to a gap, {mib} MiB in chunks"));
        assert_eq!((beyond.status, beyond.received()), (416, 60 * MIB));
        client.reconnect();
        let gap = client.try_send(&fragment(61 * MIB..(61 + mib) * MIB).of(total));
        let gap = gap.unwrap_or_else(|| panic!("no answer to a gap before {mib} MiB"));
        assert_eq!((gap.status, gap.received()), (416, 60 * MIB));
        client.reconnect();
        let stranger = "{7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE}".to_owned();
        let known = std::mem::replace(&mut client, Client::new(server.address(), "/a.bin"));
        client.adopt(&stranger);
        let unknown = client.try_send(&fragment(0..mib * MIB).of(total));
        let unknown = unknown.unwrap_or_else(|| panic!("no answer about {mib} MiB of nothing"));
        unknown.assert(500, Some(SESSION_NOT_FOUND));
        client = known;
    }
    // A fragment that is too large is read too, so that its client hears that it is.
    client.reconnect();
    let too_large = client.try_send(&fragment(60 * MIB..140 * MIB).of(total));
    let too_large = too_large.expect("an answer to 80 MiB where 64 are the most");
    assert_eq!(too_large.status, 413);
}

/// Its client has sent all of it when it looks for the answer, whatever that is.
#[test]
fn what_is_too_long_or_not_understood_is_read_to_its_end_and_answered() {
    const MIB: u64 = 1 << 20;
    let settings = "durability = \"none\"\nfragment_bytes_max = \"3 MiB\"\nupload_bytes_max = \"60 MiB\"\n\
                    [limits]\ndrain_bytes_max = 0\n\
                    [[location]]\nprefix = \"long\"\nfragment_bytes_max = \"48 MiB\"\n\
                    [[location]]\nprefix = \"off\"\nenabled = false";
    let server = Server::with(Settings::default().file(settings));
    std::fs::create_dir(server.file("long")).unwrap();
    let client = Client::create(server.address(), "/a.bin");
    let stranger = "{7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE}";
    let mut whole = Client::create(server.address(), "/whole.bin");
    whole.send(fragment(0..MIB)).assert(200, None);
    let begun = client.session().to_owned();
    for (path, session, offered, status) in [
        ("/a.bin", &*begun, fragment(0..40 * MIB).of(70 * MIB), 500),
        ("/a.bin", stranger, fragment(0..40 * MIB), 500),
        ("/a.bin", &*begun, fragment(0..40 * MIB), 413),
        ("/off/a.bin", stranger, fragment(0..40 * MIB), 501),
        // Not understood.
        (
            "/long/a.bin",
            stranger,
            fragment(0..40 * MIB).with("Content-Encoding: gzip\r\n"),
            400,
        ),
        (
            "/a.bin",
            &*begun,
            fragment(0..40 * MIB).with("Content-Encoding: gzip\r\n"),
            400,
        ),
        ("/whole.bin", whole.session(), fragment(0..40 * MIB), 400),
    ] {
        let mut client = Client::new(server.address(), path);
        client.adopt(session);
        let answer = client.try_send(&offered);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {offered:?}"));
        assert_eq!(answer.status, status, "{offered:?}");
        // The connection goes on.
        client.ping();
    }
}
