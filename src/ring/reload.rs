//! New settings for shards that run: they hold on all of them, or on none.
//!
//! Every shard is offered the settings and says that it has them in hand. The offer holds only when
//! all have said so. Then no shard can miss it, because what is in hand is taken over before the
//! next offer is looked at. A shard that is held up (by a slow disk, say) and does not answer in
//! time ends the offer for all of them.

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc::Receiver, mpsc::Sender, watch};

/// What one shard is offered.
pub struct Offer<T> {
    what: T,
    /// Told when the shard has the offer in hand; dropped when it has taken it over.
    in_hand: mpsc::Sender<()>,
    /// Becomes true when the offer holds; ends without that if it was withdrawn.
    holds: watch::Receiver<bool>,
}

/// A shard did not answer in time, so that nothing was changed anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldUp;

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a shard is held up, by a slow disk perhaps, and could not be asked: \
             reload once more when it answers again",
        )
    }
}

impl std::error::Error for HeldUp {}

/// Offers each shard its part, and returns when all have taken it over, or none will.
///
/// # Errors
/// [`HeldUp`]; everything stays as it was.
pub fn offer<T>(
    shards: &[Sender<Offer<T>>],
    parts: Vec<T>,
    patience: Duration,
) -> Result<(), HeldUp> {
    let deadline = Instant::now() + patience;
    let left = || deadline.saturating_duration_since(Instant::now());
    // Dropped on the way out by an error, which withdraws the offer.
    let (holds, verdict) = watch::channel(false);
    let (in_hand, answers) = mpsc::channel();
    for (shard, what) in shards.iter().zip(parts) {
        let offer = Offer {
            what,
            in_hand: in_hand.clone(),
            holds: verdict.clone(),
        };
        // It still has the one before.
        shard.try_send(offer).map_err(|_| HeldUp)?;
    }
    drop(in_hand);
    for _ in shards {
        answers.recv_timeout(left()).map_err(|_| HeldUp)?;
    }
    holds.send_replace(true);
    // Until each has dropped its end; one that is held up from here on takes it over before it does
    // anything else with the next offer.
    while answers.recv_timeout(left()).is_ok() {}
    Ok(())
}

/// Takes over what one shard is offered, as long as there are offers.
pub async fn take<T>(mut offers: Receiver<Offer<T>>, mut adopt: impl FnMut(T)) {
    while let Some(mut offer) = offers.recv().await {
        let _asker_gave_up = offer.in_hand.send(());
        if offer.holds.wait_for(|holds| *holds).await.is_ok() {
            adopt(offer.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A shard that writes down what it took over.
    struct Shard {
        offers: Sender<Offer<u32>>,
        adopted: Arc<Mutex<Vec<u32>>>,
        /// Ends its being held up.
        release: mpsc::Sender<()>,
        thread: JoinHandle<()>,
    }

    /// A shard that does nothing before it is released.
    fn held_up() -> Shard {
        let (offers, to_take) = tokio::sync::mpsc::channel(1);
        let (release, released) = mpsc::channel();
        let adopted: Arc<Mutex<Vec<u32>>> = Arc::default();
        let seen = Arc::clone(&adopted);
        let run = move || {
            let _ = released.recv();
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let adopt = |what| seen.lock().unwrap().push(what);
            runtime.unwrap().block_on(take(to_take, adopt));
        };
        Shard {
            offers,
            adopted,
            release,
            thread: thread::spawn(run),
        }
    }

    /// What each shard took over, after all have ended.
    fn end(shards: Vec<Shard>) -> Vec<Vec<u32>> {
        let end = |shard: Shard| {
            drop((shard.offers, shard.release));
            shard.thread.join().unwrap();
            Arc::try_unwrap(shard.adopted)
                .unwrap()
                .into_inner()
                .unwrap()
        };
        shards.into_iter().map(end).collect()
    }

    fn offer_to(shards: &[Shard], what: u32, patience: Duration) -> Result<(), HeldUp> {
        let senders: Vec<_> = shards.iter().map(|shard| shard.offers.clone()).collect();
        offer(&senders, vec![what; shards.len()], patience)
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn all_have_taken_it_over_when_it_holds() {
        let shards = vec![held_up(), held_up()];
        for shard in &shards {
            shard.release.send(()).unwrap();
        }
        for what in [1, 2] {
            assert_eq!(offer_to(&shards, what, LONG), Ok(()));
            for shard in &shards {
                assert_eq!(shard.adopted.lock().unwrap().last(), Some(&what));
            }
        }
        assert_eq!(end(shards), [[1, 2], [1, 2]]);
    }

    #[test]
    fn one_that_is_held_up_ends_the_offer_for_all() {
        let shards = vec![held_up(), held_up()];
        shards[0].release.send(()).unwrap();
        // The second time its hands are full already.
        assert_eq!(offer_to(&shards, 1, SHORT), Err(HeldUp));
        assert_eq!(offer_to(&shards, 2, SHORT), Err(HeldUp));
        shards[1].release.send(()).unwrap();
        // It sees that the first was withdrawn, and takes the next one as all do.
        while offer_to(&shards, 3, LONG).is_err() {
            thread::yield_now();
        }
        assert_eq!(end(shards), [[3], [3]]);
    }
}
