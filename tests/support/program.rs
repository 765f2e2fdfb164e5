//! Other programs that a test runs, and the configurations of the documentation that they are run
//! with.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ExitStatus};
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

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
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
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
