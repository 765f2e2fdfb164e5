//! Where the interface is: its socket and its addresses, and a thread for each viewer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::House;
use super::answer::AdminAnswer;
use super::overview::Overview;
use super::process;
use super::request::{self, LIMITS};
use super::routes::{self, From, Stay};
use super::socket::{BadDoor, Closing, Socket};
use super::ticker::Ticker;
use super::viewers::{Admitted, PATIENCE, Stream, Viewers, Who};
use crate::config::Config;

/// How long an acceptor waits after it failed: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// The open listeners.
#[derive(Debug)]
pub struct Doors {
    socket: Option<Socket>,
    addresses: Vec<(TcpListener, SocketAddr)>,
}

impl Doors {
    /// Opens them, before anything else is begun: what cannot be is told at once.
    ///
    /// # Errors
    /// [`BadDoor`]
    pub fn open(config: &Config) -> Result<Self, BadDoor> {
        let _known_from_now_on = (process::start_seconds(), process::serving_since_seconds());
        let socket = match config.admin_socket.as_os_str().is_empty() {
            true => None,
            false => Some(Socket::bind(&config.admin_socket)?),
        };
        let addresses = config.admin_listen.iter().copied().map(listen);
        Ok(Self {
            socket,
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }

    /// The addresses, with their real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|(_, address)| *address).collect()
    }

    /// Begins to answer. What is given back takes the socket's name away at the end.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn begin(self, house: Arc<dyn House>) -> io::Result<Closing> {
        let mut closing = Closing::default();
        if self.socket.is_none() && self.addresses.is_empty() {
            return Ok(closing);
        }
        let overview = Overview::begin(house)?;
        let ticker = Ticker::begin(Arc::clone(&overview))?;
        if let Some(mut socket) = self.socket {
            closing = socket.closing();
            let (overview, ticker) = (Arc::clone(&overview), Arc::clone(&ticker));
            // Of its own: whoever fills those of the addresses keeps nobody from giving orders.
            let viewers = Arc::default();
            spawn("admin", move || {
                let next = || {
                    let stream = socket.next()?;
                    let peer = rustix::net::sockopt::socket_peercred(&stream).ok();
                    let user = peer.map(|peer| peer.uid.as_raw());
                    let process = peer.map(|peer| peer.pid.as_raw_pid());
                    Ok((stream, Who::User(user), From::Socket { user, process }))
                };
                accept(&viewers, next, &overview, &ticker);
            })?;
        }
        let viewers = Arc::default();
        for (listener, _) in self.addresses {
            let (overview, ticker) = (Arc::clone(&overview), Arc::clone(&ticker));
            let viewers = Arc::clone(&viewers);
            spawn("admin-tcp", move || {
                let next = || {
                    let (stream, peer) = listener.accept()?;
                    // Events are small, and none waits for the next one.
                    let _ = stream.set_nodelay(true);
                    Ok((stream, Who::Address(peer.ip()), From::Address))
                };
                accept(&viewers, next, &overview, &ticker);
            })?;
        }
        Ok(closing)
    }
}

/// Listens on an address; gives it with its real port, too.
///
/// # Errors
/// [`BadDoor::Address`]
pub fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BadDoor> {
    let failed = |error| BadDoor::Address(address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}

/// Takes connections for ever. One too many hears so.
fn accept<S: Stream>(
    viewers: &Arc<Viewers<S>>,
    mut next: impl FnMut() -> io::Result<(S, Who, From)>,
    overview: &Arc<Overview>,
    ticker: &Arc<Ticker>,
) where
    for<'s> &'s S: Read + Write,
{
    loop {
        let Ok((stream, who, from)) = next() else {
            thread::sleep(PAUSE);
            continue;
        };
        let stream = Arc::new(stream);
        let Some(place) = viewers.admit(&stream, who) else {
            viewers.turn_away(&*stream);
            continue;
        };
        let its = Arc::clone(&stream);
        let serve_apart = {
            let (overview, ticker) = (Arc::clone(overview), Arc::clone(ticker));
            move || {
                serve(
                    &overview,
                    &ticker,
                    &*its,
                    &place,
                    (from, Stay::AsLongAsItLikes),
                );
                // Before the place is given on, so that there are never more of them.
                drop((its, place));
            }
        };
        if spawn("admin-viewer", serve_apart).is_ok() {
            continue;
        }
        // There can be no more threads, and somebody should be able to ask why.
        match viewers.admit(&stream, who) {
            Some(place) => serve(overview, ticker, &*stream, &place, (from, Stay::Briefly)),
            None => viewers.turn_away(&*stream),
        }
    }
}

/// One request and its answer.
fn serve<'s, S: Stream>(
    overview: &Arc<Overview>,
    ticker: &Ticker,
    mut stream: &'s S,
    place: &Admitted<S>,
    (from, stay): (From, Stay),
) where
    &'s S: Read + Write,
{
    if stream.be_patient().is_err() {
        return;
    }
    let read = read(&mut stream);
    place.has_asked();
    // Whoever is gone needs no answer.
    let _ = match read {
        Ok(Some(request)) => routes::respond(overview, ticker, &request, (from, stay), &mut stream),
        Ok(None) => Ok(()),
        Err(why) => AdminAnswer::outcome(why.status(), why.to_string()).write(&mut stream, false),
    };
}

/// Reads a request; `None` if the connection ends before it is whole.
fn read(stream: &mut impl Read) -> Result<Option<request::AdminRequest>, request::Malformed> {
    let began = Instant::now();
    let mut bytes = Vec::with_capacity(1 << 10);
    let mut piece = [0; 1 << 10];
    loop {
        // A read that times out ends it, and so do many that do not.
        let read = match stream.read(&mut piece) {
            Ok(read) if read > 0 && began.elapsed() < PATIENCE => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return Ok(None),
        };
        bytes.extend_from_slice(&piece[..read]);
        debug_assert!(bytes.len() <= LIMITS.head_bytes_max + piece.len());
        if let Some(request) = request::parse(&bytes)? {
            return Ok(Some(request));
        }
    }
}
