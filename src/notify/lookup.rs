//! Looks up the names of applications, on threads of their own.
//!
//! A look-up cannot be stopped: one that hangs outlives the time-out of whoever waits for it. So
//! look-ups are counted until they end, and while too many hang, no other begins.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Look-ups under way at once.
const LOOKUPS_MAX: usize = 64;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Lookup {
    under_way: Arc<AtomicUsize>,
}

/// One look-up, counted until it ends.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |under_way| (under_way < LOOKUPS_MAX).then_some(under_way + 1);
        let begun = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        begun.is_ok().then(|| Self(Arc::clone(count)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lookup {
    /// What `find` finds, if it does so in time.
    fn in_time(
        &self,
        timeout: NextTimeout,
        find: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Result<Vec<SocketAddr>, Error> {
        let Some(under_way) = UnderWay::begin(&self.under_way) else {
            let why = "too many look-ups of names hang; look at the name servers";
            return Err(Error::Io(io::Error::other(why)));
        };
        let (found, finds) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("lookup".to_owned())
            .spawn(move || {
                // Nobody may wait any more.
                let _ = found.send(find());
                drop(under_way);
            })?;
        match finds.recv_timeout(*timeout.after) {
            Ok(addresses) => Ok(addresses?),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Timeout(timeout.reason)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::HostNotFound),
        }
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?.to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match literal.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.in_time(timeout, move || {
                Ok((host.as_str(), port).to_socket_addrs()?.collect())
            })?,
        };
        let mut result = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            result.push(address);
        }
        match result.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn timeout(after: Duration) -> NextTimeout {
        NextTimeout {
            after: after.into(),
            reason: ureq::Timeout::Resolve,
            ..NextTimeout::default()
        }
    }

    #[test]
    fn look_ups_that_hang_are_bounded_and_counted_until_they_end() {
        let lookup = Lookup::default();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        for _ in 0..LOOKUPS_MAX {
            let ends = Arc::clone(&ends);
            let hang = move || {
                let _ = ends.lock().unwrap().recv();
                Ok(Vec::new())
            };
            let told = lookup.in_time(timeout(Duration::from_millis(1)), hang);
            assert!(matches!(told, Err(Error::Timeout(_))), "{told:?}");
        }
        let patience = Duration::from_secs(30);
        let told = lookup.in_time(timeout(patience), || unreachable!("it never begins"));
        assert!(matches!(told, Err(Error::Io(_))), "{told:?}");
        drop(end);
        let deadline = std::time::Instant::now() + patience;
        while lookup.under_way.load(Ordering::Relaxed) > 0 {
            assert!(std::time::Instant::now() < deadline);
            thread::yield_now();
        }
        let told = lookup.in_time(timeout(patience), || Ok(Vec::new()));
        assert!(told.is_ok());
    }

    #[test]
    fn an_address_is_not_looked_up() {
        let lookup = Lookup::default();
        for (uri, address) in [
            ("http://127.0.0.1/x", "127.0.0.1:80"),
            ("https://[::1]:444/", "[::1]:444"),
        ] {
            let found = lookup
                .resolve(
                    &uri.parse().unwrap(),
                    &Config::default(),
                    timeout(Duration::from_secs(30)),
                )
                .unwrap();
            assert_eq!(found[..], [address.parse().unwrap()]);
        }
    }
}
