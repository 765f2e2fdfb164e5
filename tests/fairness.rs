//! One shard, one client that takes all it can, and the others: everybody has a turn.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::client::{Client, fragment};
use support::content::content;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::{PATIENCE, wait_until};

/// A server with a single shard.
fn one_shard(file: &str) -> Server {
    let flags = ["--cores", "1", "--durability", "none"];
    Server::with(Settings::default().flags(&flags).file(file))
}

/// Pings until `is_over`; how many were answered, and the longest time one took.
fn ping_until(server: &Server, is_over: &AtomicBool) -> (u64, Duration) {
    let mut client = Client::new(server.address(), "/ping");
    let (mut answered, mut longest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        client.ping().assert(200, None);
        longest = longest.max(began.elapsed());
        answered += 1;
    }
    (answered, longest)
}

/// Runs `attack` beside a client that pings. Many answers must come in its time: a server that
/// serves one of them at a time answers none while the attacker has something to say.
fn attack_beside_pings(server: &Server, pings_min: u64, attack: impl FnOnce() + Send) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| ping_until(server, &is_over));
        attack();
        is_over.store(true, Ordering::Relaxed);
        let (answered, longest) = pings.join().unwrap();
        eprintln!("{answered} pings were answered, the slowest after {longest:?}");
        assert!(answered >= pings_min, "only {answered} pings were answered");
    });
}

/// Sends the same bytes as fast as the server takes them, until the time is over or the server has
/// had enough.
fn flood(stream: &mut TcpStream, piece: &[u8], time: Duration) -> u64 {
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time && stream.write_all(piece).is_ok() {
        sent += piece.len() as u64;
    }
    sent
}

/// A connection on which a fragment of 60 MiB was announced as chunked.
fn chunked(server: &Server) -> TcpStream {
    let session = Client::create(server.address(), "/chunked.bin");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "BITS_POST /chunked.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Fragment\r\n\
         BITS-Session-Id: {}\r\nContent-Range: bytes 0-62914559/62914560\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        session.session()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn a_body_in_chunks_of_a_byte_is_refused_soon() {
    let server = one_shard("");
    let mut stream = chunked(&server);
    let sent = flood(&mut stream, &b"1\r\nx\r\n".repeat(1_000), 2 * PATIENCE);
    // What the sockets hold on the way, and what is read on before the end.
    assert!(sent < 100 << 20, "{sent} bytes were taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[test]
fn a_body_in_small_chunks_leaves_the_others_their_turns() {
    let server = one_shard("");
    attack_beside_pings(&server, 100, || {
        let mut stream = chunked(&server);
        flood(
            &mut stream,
            &b"2\r\nxx\r\n".repeat(9_000),
            Duration::from_secs(3),
        );
    });
}

#[test]
fn a_body_that_is_only_skipped_leaves_the_others_their_turns() {
    let server = one_shard("");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_rest(0, 8 << 20, 8 << 20);
    attack_beside_pings(&server, 100, || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            client.send(fragment(0..8 << 20)).assert(200, None);
        }
    });
}

#[test]
fn heads_in_a_row_leave_the_others_their_turns() {
    let server = one_shard("");
    let ping =
        "BITS_POST /a HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
    attack_beside_pings(&server, 100, || {
        let stream = TcpStream::connect(server.address()).unwrap();
        let mut answers = stream.try_clone().unwrap();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = answers.read(&mut bytes) {
                    taken.fetch_add(read as u64, Ordering::Relaxed);
                }
            });
            let mut stream = stream;
            flood(
                &mut stream,
                ping.repeat(500).as_bytes(),
                Duration::from_secs(3),
            );
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        assert!(taken.into_inner() > 0);
    });
}

/// What a shard did not do while it stood still is not its clients' fault. Here the whole server
/// stands still, and all that its clients send in that time is there when it goes on.
#[test]
fn a_server_that_stood_still_blames_nobody() {
    let limits = "[limits]\nhead_ms_max = 3000\nidle_ms_max = 3500\nbody_stall_ms_max = 3000";
    let server = one_shard(limits);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let head = "BITS_POST /a HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\n";
    let mut heads: Vec<Raw> = (0..30).map(|_| server.connect()).collect();
    let mut bodies: Vec<Client> = (0..30)
        .map(|n| Client::create(server.address(), &format!("/{n}.bin")))
        .collect();
    for raw in &mut heads {
        raw.send(head);
    }
    for client in &mut bodies {
        client.send_part(&fragment(0..1_000), 500);
        server.wait_for_part(client.session(), 500);
    }
    kill_process(pid, Signal::STOP).unwrap();
    for raw in &mut heads {
        raw.send("Content-Length: 0\r\n\r\n");
    }
    for client in &mut bodies {
        client.raw.send(content(1, 500, 1_000));
    }
    // Longer than any limit.
    std::thread::park_timeout(Duration::from_secs(4));
    kill_process(pid, Signal::CONT).unwrap();
    for raw in &mut heads {
        assert_eq!(raw.receive().status, 200);
    }
    for client in &mut bodies {
        client.raw.receive().assert(200, None);
    }
    wait_until("the shard tells of it", || {
        server.log().contains("this shard stood still")
    });
}
