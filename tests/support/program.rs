//! Other programs that a test runs, and the configurations of the documentation that they are run
//! with.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::wait_until;

/// The fenced block of a language in docs/operations.md; the first is number 0.
pub fn snippet(language: &str, number: usize) -> String {
    let page = include_str!("../../docs/operations.md");
    let fence = format!("```{language}\n");
    let block = page.split(&fence).nth(number + 1);
    let block = block.expect("docs/operations.md has a block for it");
    block.split("```").next().unwrap_or_default().to_owned()
}

/// An address where nobody listens, for TCP and for UDP. No other call of this process gets it, and
/// no socket that leaves the choice to the kernel: those get ports of `ip_local_port_range`, which
/// begins above. So it stays free until the program that it is for has started.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + (begin + step) % 10_000));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// A number of a process that /proc tells in kibibytes, such as `VmHWM`, in bytes.
pub fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = value.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What a process has computed so far, in all its threads.
pub fn computed(pid: u32) -> Duration {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // One may have ended meanwhile.
        let spent = fs::read_to_string(task.unwrap().path().join("schedstat"));
        let spent = spent.unwrap_or_default();
        let own = spent.split(' ').next().unwrap_or_default();
        ns += own.parse::<u64>().unwrap_or_default();
    }
    Duration::from_nanos(ns)
}

/// The lines that something says, as they come.
pub fn lines_of(said: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let _nobody_listens = sender.send(line);
        }
    });
    lines
}

/// The first line that has these words, in bounded time.
#[track_caller]
pub fn await_line(lines: &mpsc::Receiver<String>, words: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(50);
    let mut all = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            panic!("{words:?} were not said: {all:#?}");
        };
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
        all.push(line);
    }
}

/// Ends with the test.
pub struct Program(pub Child);

impl Program {
    /// Waits, within bounds, for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        // In order first: nginx ends its worker only then.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}
