//! Who is served at the same time, and who makes room when all places are taken.
//!
//! A connection costs nothing, and one that says nothing keeps its place for as long as a request
//! may take. So whoever has asked nothing yet makes room for the next one, the oldest first, and of
//! those first who has the most places. And nobody may keep more than half of the places while
//! others wait.

use std::cmp::Reverse;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PLACES_MAX;
use super::answer::AdminAnswer;

/// How long a request may take to arrive, and an answer to be taken.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is waited for whoever makes room: its thread has only to notice.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);
/// Between two lines that say that there are too many.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);
/// What is read of a request that is not answered: more is no request.
const UNREAD_PIECES_MAX: usize = 16;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// It comes from this address.
    Address(IpAddr),
    /// It is of this user; `None` if the kernel does not say.
    User(Option<u32>),
}

/// The places of one kind of door.
pub struct Viewers<S> {
    seats: Mutex<Seats<S>>,
    freed: Condvar,
}

struct Seats<S> {
    /// At most [`PLACES_MAX`], in the order in which they were taken.
    taken: Vec<Seat<S>>,
    next: u64,
    /// When it was last told that there are too many.
    told: Option<Instant>,
}

struct Seat<S> {
    number: u64,
    holder: Holder,
    stream: Arc<S>,
}

#[derive(Clone, Copy)]
struct Holder {
    who: Who,
    /// Its request was read.
    has_asked: bool,
}

/// A place that is taken, until it is dropped.
pub struct Admitted<S> {
    viewers: Arc<Viewers<S>>,
    number: u64,
}

impl<S> Default for Viewers<S> {
    fn default() -> Self {
        Self {
            seats: Mutex::new(Seats {
                taken: Vec::new(),
                next: 0,
                told: None,
            }),
            freed: Condvar::new(),
        }
    }
}

impl<S: Stream> Viewers<S> {
    /// Gives a newcomer a place. `None`: all are taken by others who have asked for something.
    pub fn admit(self: &Arc<Self>, stream: &Arc<S>, who: Who) -> Option<Admitted<S>> {
        let is_full = |seats: &mut Seats<S>| seats.taken.len() >= PLACES_MAX;
        let mut seats = self.lock();
        if is_full(&mut seats) {
            let holders: Vec<_> = seats.taken.iter().map(|seat| seat.holder).collect();
            seats.taken[who_makes_room(&holders, who)?].stream.hang_up();
            let waited = self.freed.wait_timeout_while(seats, ROOM_PATIENCE, is_full);
            seats = waited.unwrap_or_else(PoisonError::into_inner).0;
            if is_full(&mut seats) {
                return None;
            }
        }
        let number = seats.next;
        seats.next += 1;
        let holder = Holder {
            who,
            has_asked: false,
        };
        seats.taken.push(Seat {
            number,
            holder,
            stream: Arc::clone(stream),
        });
        drop(seats);
        Some(Admitted {
            viewers: Arc::clone(self),
            number,
        })
    }

    /// Tells somebody who gets no place, and never waits for it.
    pub fn turn_away<'s>(&self, stream: &'s S)
    where
        &'s S: Read + Write,
    {
        if self.may_tell() {
            let event = "admin_crowded";
            tracing::warn!(
                event,
                max = PLACES_MAX,
                "as many look at the admin interface as may"
            );
        }
        if stream.never_wait().is_err() {
            return;
        }
        let (mut unread, mut stream_of) = ([0; 1 << 10], stream);
        // What is left unread would reset the connection, and the answer with it.
        for _ in 0..UNREAD_PIECES_MAX {
            if !matches!(stream_of.read(&mut unread), Ok(1..)) {
                break;
            }
        }
        let why = "as many look at the admin interface as may: ask again in a while";
        // Whoever is gone needs no answer.
        let _ = AdminAnswer::outcome(503, why).write(&mut stream_of, false);
        stream.say_no_more();
    }
}

impl<S> Viewers<S> {
    /// Whether it may be told that there are too many.
    fn may_tell(&self) -> bool {
        let told = &mut self.lock().told;
        let is_due = told.is_none_or(|told| told.elapsed() >= TOLD_INTERVAL);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self) -> MutexGuard<'_, Seats<S>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Admitted<S> {
    /// Its request was read: from now on it makes room only where it has too many places.
    pub fn has_asked(&self) {
        let mut seats = self.viewers.lock();
        let seat = (seats.taken.iter_mut()).find(|seat| seat.number == self.number);
        if let Some(seat) = seat {
            seat.holder.has_asked = true;
        }
    }
}

impl<S> Drop for Admitted<S> {
    fn drop(&mut self) {
        let mut seats = self.viewers.lock();
        seats.taken.retain(|seat| seat.number != self.number);
        self.viewers.freed.notify_one();
    }
}

/// A connection of either kind.
pub trait Stream: Send + Sync + 'static {
    /// Bounds how long it is waited for the other side.
    ///
    /// # Errors
    /// What the kernel says.
    fn be_patient(&self) -> io::Result<()>;
    /// The other side is never waited for.
    ///
    /// # Errors
    /// What the kernel says.
    fn never_wait(&self) -> io::Result<()>;
    /// The other side sees the end of what it reads.
    fn say_no_more(&self);
    /// Ends it, whoever waits for it.
    fn hang_up(&self);
}

macro_rules! stream {
    ($stream:ty) => {
        impl Stream for $stream {
            fn be_patient(&self) -> io::Result<()> {
                self.set_read_timeout(Some(PATIENCE))?;
                self.set_write_timeout(Some(PATIENCE))
            }

            fn never_wait(&self) -> io::Result<()> {
                self.set_nonblocking(true)
            }

            fn say_no_more(&self) {
                // Whoever is gone needs none of it.
                let _ = self.shutdown(Shutdown::Write);
            }

            fn hang_up(&self) {
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    };
}
stream!(UnixStream);
stream!(TcpStream);

/// Which of the holders, in the order in which they came, makes room.
fn who_makes_room(holders: &[Holder], newcomer: Who) -> Option<usize> {
    let places_of = |who| holders.iter().filter(|other| other.who == who).count();
    let silent = holders.iter().enumerate().filter(|(_, one)| !one.has_asked);
    let silent = silent.max_by_key(|(at, one)| (places_of(one.who), Reverse(*at)));
    silent.map(|(at, _)| at).or_else(|| {
        let is_greedy = |who| who != newcomer && places_of(who) > PLACES_MAX / 2;
        holders.iter().position(|one| is_greedy(one.who))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: u32, has_asked: bool) -> Holder {
        Holder {
            who: Who::User(Some(user)),
            has_asked,
        }
    }

    #[test]
    fn the_oldest_silent_one_of_whoever_has_most_places_makes_room() {
        let newcomer = Who::User(Some(9));
        let room = |holders: &[Holder]| who_makes_room(holders, newcomer);
        assert_eq!(room(&[of(1, true), of(2, false), of(2, false)]), Some(1));
        // One who was quicker does not go for those of another.
        assert_eq!(room(&[of(1, false), of(2, false), of(2, true)]), Some(1));
        assert_eq!(room(&[of(1, true), of(2, true)]), None);
        let half = PLACES_MAX / 2;
        let mut busy = vec![of(1, true); half];
        busy.extend(vec![of(2, true); half]);
        assert_eq!(room(&busy), None, "half of them is a fair share");
        busy[0] = of(2, true);
        assert_eq!(room(&busy), Some(0));
        assert_eq!(who_makes_room(&busy, Who::User(Some(2))), None);
    }

    #[test]
    fn places_are_bounded_and_whoever_gets_none_hears_why() {
        let viewers = Arc::<Viewers<UnixStream>>::default();
        let who = Who::User(None);
        let mut others = Vec::new();
        let places: Vec<_> = (0..PLACES_MAX)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                others.push(theirs);
                let place = viewers.admit(&Arc::new(ours), who).unwrap();
                place.has_asked();
                place
            })
            .collect();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Arc::new(ours);
        assert!(viewers.admit(&ours, who).is_none());
        theirs.write_all(b"GET /live HTTP/1.1\r\n\r\n").unwrap();
        viewers.turn_away(&*ours);
        drop(ours);
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 503 "), "{heard}");
        assert!(!viewers.may_tell(), "once a minute");
        drop(places);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(viewers.admit(&Arc::new(ours), who).is_some());
    }

    #[test]
    fn a_silent_one_is_hung_up_on_and_its_place_is_given_on() {
        let viewers = Arc::<Viewers<UnixStream>>::default();
        let who = Who::User(None);
        let mut threads = Vec::new();
        let mut others = Vec::new();
        for _ in 0..=PLACES_MAX {
            let (ours, theirs) = UnixStream::pair().unwrap();
            others.push(theirs);
            let ours = Arc::new(ours);
            let place = viewers.admit(&ours, who).expect("somebody makes room");
            threads.push(std::thread::spawn(move || {
                // Ends when it is hung up, or when the other side is dropped.
                let _ = (&*ours).read(&mut [0]);
                drop(place);
            }));
        }
        let oldest = threads.remove(0);
        oldest.join().unwrap();
        assert_eq!((&others[0]).read(&mut [0]).unwrap(), 0);
        drop(others);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}
