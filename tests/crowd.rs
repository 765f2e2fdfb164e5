//! Many at once: idle connections and concurrent uploads.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, fragment};
use support::host::allow_files;
use support::program::{computed, memory};
use support::random::Rng;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::tls::{Authority, listener};
use support::{skip, wait_until};

/// Resident memory of a process, in bytes.
fn ping(raw: &mut Raw) {
    raw.send(
        "BITS_POST /a HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(raw.receive().status, 200);
}

#[test]
fn ten_thousand_idle_connections_cost_under_8_kib_each() {
    const CONNECTIONS: u64 = 10_000;
    const EACH_MAX: u64 = 8 * 1024;
    if !allow_files(CONNECTIONS + 1000) {
        return skip("10,000 files cannot be open here (raise the hard limit of RLIMIT_NOFILE)");
    }
    let server = Server::start();
    // What the server needs once is not counted: it has served before.
    let warm: Vec<Raw> = (0..100)
        .map(|_| {
            let mut raw = server.connect();
            ping(&mut raw);
            raw
        })
        .collect();
    let before = memory(server.pid(), "VmRSS");
    let mut idle: Vec<Raw> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(ping);
    let after = memory(server.pid(), "VmRSS");
    let each = after.saturating_sub(before) / CONNECTIONS;
    assert!(
        each < EACH_MAX,
        "{each} bytes for each idle connection ({before} -> {after})"
    );
    // They are all alive.
    idle.iter_mut().step_by(100).for_each(ping);
    drop(warm);
    eprintln!("{each} bytes for each idle connection");
}

/// Goal: what a connection once carried costs nothing while it is idle. Method: as many connections
/// as before, after the longest names and heads that are taken, and a refusal; beside such that
/// sent a short Ping.
#[test]
fn an_idle_connection_costs_the_same_whatever_it_sent() {
    const CONNECTIONS: u64 = 2_000;
    const MORE_MAX: u64 = 1024;
    if !allow_files(3 * CONNECTIONS) {
        return skip("6,000 files cannot be open here (raise the hard limit of RLIMIT_NOFILE)");
    }
    let server = Server::start();
    let ping = |target: &str, host: &str, field: &str| {
        let host = host.to_owned();
        format!(
            "BITS_POST {target} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Ping\r\n{field}\r\n"
        )
    };
    let name = "n".repeat(250);
    let ticket = format!("Authorization: Negotiate {}\r\n", "v".repeat(48 << 10));
    let path = format!("/{name}/{name}/{name}/{name}/a:b");
    let short = vec![ping("/a", "h", "")];
    let long = vec![ping("/a", &name, &ticket), ping(&path, &name, "")];
    let idle = |requests: &[String], connections| -> Vec<Raw> {
        let talk = |_| {
            let mut raw = server.connect();
            for request in requests {
                raw.send(request);
                assert!([200, 400].contains(&raw.receive().status));
            }
            raw
        };
        (0..connections).map(talk).collect()
    };
    let _warm = [idle(&long, 100), idle(&short, 100)];
    let mut resident = memory(server.pid(), "VmRSS");
    let mut cost = |requests: &[String]| {
        let held = idle(requests, CONNECTIONS);
        let before = std::mem::replace(&mut resident, memory(server.pid(), "VmRSS"));
        (held, resident.saturating_sub(before) / CONNECTIONS)
    };
    let (_short, after_short) = cost(&short);
    let (_long, after_long) = cost(&long);
    assert!(
        after_long < after_short + MORE_MAX,
        "{after_long} bytes for each instead of {after_short}"
    );
    eprintln!("{after_short} and {after_long} bytes for each idle connection");
}

/// One of the thousand uploads.
struct Upload {
    client: Client,
    total: u64,
    /// What the server acked last.
    acked: u64,
    is_closed: bool,
}

#[test]
fn a_thousand_concurrent_uploads_end_in_a_thousand_identical_files() {
    // Each of 20 threads drives 50 uploads in random turns: a fragment, or one that is cut at a
    // random offset by an orderly end or a reset, after which the upload goes on by another
    // connection (of whichever shard) from its last ack.
    const THREADS: u64 = 20;
    const EACH: u64 = 50;
    const SEED: u64 = 0x0b17_5d00;
    eprintln!("seed {SEED:#x}");
    allow_files(4096);
    let server = Server::with(Settings::default().flags(&["--durability", "none"]));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let server = &server;
            scope.spawn(move || drive(server, thread * EACH..(thread + 1) * EACH, SEED ^ thread));
        }
    });
    for seed in 0..THREADS * EACH {
        let total = size_of(seed);
        server.assert_file(&format!("{seed}.bin"), seed, total);
    }
    assert!(
        server
            .work_files()
            .iter()
            .all(|name| !name.ends_with(".part"))
    );
}

fn size_of(seed: u64) -> u64 {
    Rng(seed).within(5_000..=200_000)
}

fn drive(server: &Server, seeds: std::ops::Range<u64>, seed: u64) {
    let mut random = Rng(seed);
    let mut uploads: Vec<Upload> = seeds
        .map(|seed| Upload {
            client: Client::create(server.address(), &format!("/{seed}.bin")).seed(seed),
            total: size_of(seed),
            acked: 0,
            is_closed: false,
        })
        .collect();
    while !uploads.iter().all(|upload| upload.is_closed) {
        let which = random.next() % uploads.len() as u64;
        let upload = &mut uploads[usize::try_from(which).unwrap()];
        if !upload.is_closed {
            take_turn(server, upload, &mut random);
        }
    }
}

fn take_turn(server: &Server, upload: &mut Upload, random: &mut Rng) {
    let Upload {
        client,
        total,
        acked,
        is_closed,
    } = upload;
    if *acked == *total {
        match client.try_close() {
            Some(ack) => {
                ack.assert(200, None);
                *is_closed = true;
            }
            None => {
                client.reconnect();
            }
        }
        return;
    }
    let end = (*acked + random.within(1_000..=60_000)).min(*total);
    let next = fragment(*acked..end).of(*total);
    match random.next() % 4 {
        0 => {
            client.try_send_part(&next, random.within(0..=end - *acked - 1));
            client.reconnect();
        }
        1 => {
            client.try_send_part(&next, random.within(0..=end - *acked - 1));
            let broken = std::mem::replace(&mut client.raw, server.connect());
            broken.reset();
        }
        2 => {
            client.reconnect();
            client.ping().assert(200, None);
        }
        _ => match client.try_send(&next) {
            Some(ack) => {
                let received = ack.assert(200, None).received();
                assert!(received >= end, "an ack went back");
                *acked = received;
            }
            // What was left of the connection before was heard of after this one, and took over.
            // The client tries again.
            None => {
                client.reconnect();
            }
        },
    }
}

#[test]
fn many_small_uploads_over_one_connection() {
    let server = Server::with(Settings::default().flags(&["--durability", "none"]));
    let mut raw = server.connect();
    for seed in 0..200 {
        let mut client = Client::new(server.address(), &format!("/{seed}")).seed(seed);
        std::mem::swap(&mut client.raw, &mut raw);
        client.try_create().assert(200, None);
        client.send(fragment(0..1000)).assert(200, None);
        client.close().assert(200, None);
        std::mem::swap(&mut client.raw, &mut raw);
    }
    for seed in 0..200 {
        server.assert_file(&seed.to_string(), seed, 1000);
    }
}

/// What a handshake costs a server, of some that go to their end.
fn cost_of_a_handshake(server: &Server, authority: &Authority) -> Duration {
    const COUNT: u32 = 50;
    let before = computed(server.pid());
    for _ in 0..COUNT {
        // With no ticket of the one before.
        Raw::secure(server.secure(), &authority.trusting());
    }
    (computed(server.pid()) - before) / COUNT
}

/// The first words of a client, which cost it nothing and the server a signature.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(authority.trusting(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Measured is what the server computes, against what the same machine needs for a handshake: where
/// others have it too, time says nothing. The rate is lower than by default, so that it is reached
/// also there.
#[test]
fn a_flood_of_handshakes_and_silent_ones_leave_room_for_uploads() {
    const SILENT: u64 = 5_000;
    const HELLOS: u32 = 4_000;
    const PER_SECOND: u32 = 100;
    const EACH_MAX: u64 = 12 << 10;
    const WINDOW: Duration = Duration::from_secs(2);
    if !allow_files(SILENT + u64::from(HELLOS) + 1000) {
        return skip("so many files cannot be open here (raise the hard limit of RLIMIT_NOFILE)");
    }
    let authority = Authority::new();
    let pair = authority.server("ec", &["localhost"]);
    let limits = format!("[limits]\nhandshakes_per_second_max = {PER_SECOND}\n");
    let settings = listener("", &[&pair]).file(&limits);
    let settings = settings.flags(&["--cores", "1", "--log-level", "warn"]);
    let server = Server::with(settings);
    let trust = authority.trusting();
    let mut upload = Client::over(server.secure(), "/a.bin", Some(&trust));
    upload.try_create().assert(200, None);
    let hello = hello(&authority);
    let flood = |count: u32| {
        let streams = (0..count).map(|_| {
            let mut stream = TcpStream::connect(server.secure()).unwrap();
            // It may be ended already.
            let _ = stream.write_all(&hello);
            stream
        });
        streams.collect::<Vec<_>>()
    };
    let each = cost_of_a_handshake(&server, &authority);
    drop(flood(PER_SECOND));
    let before = memory(server.pid(), "VmRSS");
    let silent: Vec<_> = (0..SILENT).map(|_| Raw::connect(server.secure())).collect();
    let (began, spent) = (Instant::now(), computed(server.pid()));
    let streams = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(HELLOS));
        upload.send_rest(0, 16 << 20, 1 << 20);
        flood.join().unwrap()
    });
    upload.close().assert(200, None);
    // If hands were shaken with all of them at once, that would be over by then.
    wait_until("the time is over", || began.elapsed() >= WINDOW);
    let took = began.elapsed();
    let spent = computed(server.pid()) - spent;
    let grown = memory(server.pid(), "VmRSS").saturating_sub(before);
    server.assert_file("a.bin", 1, 16 << 20);
    eprintln!(
        "{spent:?} of {took:?}, a handshake {each:?}, {} KiB",
        grown >> 10
    );
    // Those whose turn it was, and a part of the others: of these alone all would cost a third of
    // what as many handshakes do that go to their end.
    let turns = (took * PER_SECOND).as_secs_f64();
    let most = each.mul_f64(turns + f64::from(HELLOS) / 6.0);
    assert!(spent < most, "{spent:?} of {most:?} for {HELLOS} that come");
    let connections = SILENT + u64::from(HELLOS);
    assert!(grown < connections * EACH_MAX, "{} KiB", grown >> 10);
    drop((silent, streams));
}
