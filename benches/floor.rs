//! What `scripts/bench` compares with: the least a program can do, and no less.
//!
//! * `floor files DIR [--sync]`: a thread for each connection that receives 256 KiB and writes it
//!   to a file, without HTTP; with `--sync` each file is synced (fdatasync) before it is answered.
//!   Its load is `bitsd bench --raw`.
//! * `floor direct FILE BYTES`: one plain sequential writer, 1 MiB at a time, O_DIRECT; prints its
//!   GB/s.
//! * `floor echo REPLY`: answers whatever a read brings with the bytes of the file REPLY; tokio on
//!   epoll, one thread. Its load is `bitsd bench --ping`.
//!
//! The servers listen on 127.0.0.1, print their port, and end with their stdin.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program beside the server"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["files", folder] => files(folder.into(), Sync::Never),
        ["files", folder, "--sync"] => files(folder.into(), Sync::EachFile),
        ["direct", file, bytes] => direct(file.as_ref(), bytes.parse().unwrap_or(0)),
        ["echo", reply] => echo(reply.as_ref()),
        // `cargo bench` and `cargo test` run every bench.
        _ => {
            println!("floor: see scripts/bench");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Never,
    EachFile,
}

/// Says where it listens, and ends with stdin.
fn announce(listener: &TcpListener) -> io::Result<()> {
    println!("listening on {}", listener.local_addr()?.port());
    io::stdout().flush()?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    Ok(())
}

fn files(folder: PathBuf, sync: Sync) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // As long a queue as the server's; the standard library asks for 128.
    rustix::net::listen(&listener, 4096)?;
    announce(&listener)?;
    let folder = Arc::new(folder);
    loop {
        let (stream, _) = listener.accept()?;
        let folder = Arc::clone(&folder);
        // A small stack, in favour of the floor: only its block is on the heap.
        let name = thread::Builder::new().stack_size(64 * 1024);
        name.spawn(move || receive(stream, &folder, sync))?;
    }
}

/// Files one after the other until the connection ends.
fn receive(mut stream: TcpStream, folder: &Path, sync: Sync) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let mut head = [0; 16];
        match stream.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let (number, mut left) = numbers(head);
        let mut file = File::create(folder.join(format!("bench-{number}.bin")))?;
        while left > 0 {
            let most = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            let read = stream.read(&mut block[..most])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&block[..read])?;
            left -= read as u64;
        }
        if sync == Sync::EachFile {
            file.sync_data()?;
        }
        drop(file);
        stream.write_all(b"+")?;
    }
}

fn numbers(head: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(head);
    let low = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0);
    (low(both), low(both >> 64))
}

fn direct(path: &Path, bytes: u64) -> io::Result<()> {
    let mut memory: Vec<u8> = (0..=255).cycle().take(DIRECT_BYTES + ALIGNMENT).collect();
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let block = &mut memory[start..start + DIRECT_BYTES];
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(direct)
        .open(path)?;
    let began = Instant::now();
    let blocks = bytes / DIRECT_BYTES as u64;
    for _ in 0..blocks {
        file.write_all(block)?;
    }
    file.sync_data()?;
    let seconds = began.elapsed().as_secs_f64();
    let written = (blocks * DIRECT_BYTES as u64) as f64;
    println!("{}", written / 1e9 / seconds);
    Ok(())
}

fn echo(reply: &Path) -> io::Result<()> {
    let reply: Arc<[u8]> = std::fs::read(reply)?.into();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(&listener)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream, Arc::clone(&reply)));
        }
    })
}

async fn answer(mut stream: tokio::net::TcpStream, reply: Arc<[u8]>) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.set_nodelay(true)?;
    let mut block = vec![0; 4096];
    while stream.read(&mut block).await? > 0 {
        stream.write_all(&reply).await?;
    }
    Ok(())
}

const BLOCK_BYTES: usize = 256 * 1024;
const DIRECT_BYTES: usize = 1 << 20;
const ALIGNMENT: usize = 4096;
