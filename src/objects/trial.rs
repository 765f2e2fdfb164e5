//! What a check finds out about stores: the trial that a start makes ([`probe`]), without a server.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{self, LocalSet};

use super::bucket::Bucket;
use super::note::StorePlace;
use super::staff::{Chosen, random};
use super::{TRIAL_PATIENCE, Unfit, probe};
use crate::config::ObjectStore;

/// How long what a trial has left may be looked for, where it was cut off.
const CLEARING_PATIENCE: Duration = Duration::from_secs(3);

/// So many are tried at once.
const AT_ONCE_MAX: usize = 16;

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The store keeps what is there.
    Fit,
    /// It does, and what the trial has made could not be removed; why.
    Leaves(String),
    /// It does not, and no server starts with it.
    Unfit(Unfit),
    /// Nobody knows. A server starts, and files wait.
    Unknown(String),
}

/// Tries each store once; all together for no longer than a start does. Gives their buckets, and
/// what came of it.
pub fn try_each(stores: &[Arc<ObjectStore>]) -> Vec<(String, Tried)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let unknown = |store: &Arc<ObjectStore>| {
                let outcome = Tried::Unknown(error.to_string());
                (store.bucket.clone(), outcome)
            };
            return stores.iter().map(unknown).collect();
        }
    };
    let deadline = Instant::now() + TRIAL_PATIENCE;
    let slots = Rc::new(Semaphore::new(AT_ONCE_MAX));
    let local = LocalSet::new();
    let all = local.block_on(&runtime, async {
        let begin = |store: &Arc<ObjectStore>| {
            let (store, slots) = (Arc::clone(store), Rc::clone(&slots));
            let bucket = store.bucket.clone();
            let trial = task::spawn_local(async move { in_turn(&store, &slots, deadline).await });
            (bucket, trial)
        };
        let trials: Vec<_> = stores.iter().map(begin).collect();
        let mut all = Vec::new();
        for (bucket, trial) in trials {
            let outcome = trial.await;
            all.push((bucket, outcome.unwrap_or_else(|error| unknown(&error))));
        }
        all
    });
    // A name that is still looked up is not waited for.
    drop(local);
    runtime.shutdown_background();
    all
}

/// As many as are tried at once; the others come when one of these has ended.
async fn in_turn(store: &ObjectStore, slots: &Semaphore, deadline: Instant) -> Tried {
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left, slots.acquire()).await {
        Ok(Ok(_slot)) => try_one(store, deadline).await,
        _ => unknown(&"it was not asked, since others took all the time and did not answer"),
    }
}

fn unknown(why: &dyn std::fmt::Display) -> Tried {
    Tried::Unknown(why.to_string())
}

async fn try_one(store: &ObjectStore, deadline: Instant) -> Tried {
    let bucket = match Chosen::open(&StorePlace::from(store)).await {
        Ok(bucket) => bucket,
        Err(trouble) => return unknown(&trouble),
    };
    let random = match random() {
        Ok(random) => u64::from_le_bytes(random),
        Err(error) => return unknown(&error),
    };
    let name = probe::name(store, random, 0);
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left, probe::try_it(&bucket, &name)).await {
        Ok(trial) => match (trial.shown, trial.left) {
            (Ok(Ok(())), None) => Tried::Fit,
            (Ok(Ok(())), Some(why)) => Tried::Leaves(format!("{name}: {why}")),
            (Ok(Err(wrong)), _) => Tried::Unfit(Unfit {
                bucket: store.bucket.clone(),
                why: wrong.to_owned(),
            }),
            (Err(trouble), _) => unknown(&trouble),
        },
        Err(_) => {
            let cleared = clear(&bucket, &name);
            let _best_effort = tokio::time::timeout(CLEARING_PATIENCE, cleared).await;
            unknown(&"no answer in time")
        }
    }
}

/// Removes what a trial that was cut off may have left.
async fn clear<B: Bucket>(bucket: &B, name: &str) {
    for upload in bucket.uploads(name).await.unwrap_or_default() {
        let _best_effort = bucket.abort(name, &upload).await;
    }
    let _best_effort = bucket.remove(name).await;
}
