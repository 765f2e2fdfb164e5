//! What a check finds out about stores: the trial that a start makes ([`probe`]), without a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use super::note::StorePlace;
use super::staff::{Chosen, random};
use super::{TRIAL_PATIENCE, Unfit, probe};
use crate::config::ObjectStore;

/// How long what a trial has left may be looked for, where it was cut off.
const CLEARING_PATIENCE: Duration = Duration::from_secs(3);

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The store keeps what is there.
    Fit,
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
    let deadline = Instant::now() + TRIAL_PATIENCE;
    let tried = |store: &Arc<ObjectStore>| {
        let outcome = match &runtime {
            Ok(runtime) => runtime.block_on(try_one(store, deadline)),
            Err(error) => Tried::Unknown(error.to_string()),
        };
        (store.bucket.clone(), outcome)
    };
    let all = stores.iter().map(tried).collect();
    if let Ok(runtime) = runtime {
        // A name that is still looked up is not waited for.
        runtime.shutdown_background();
    }
    all
}

async fn try_one(store: &ObjectStore, deadline: Instant) -> Tried {
    let unknown = |why: &dyn std::fmt::Display| Tried::Unknown(why.to_string());
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
        Ok(Ok(Ok(()))) => Tried::Fit,
        Ok(Ok(Err(wrong))) => Tried::Unfit(Unfit {
            bucket: store.bucket.clone(),
            why: wrong.to_owned(),
        }),
        Ok(Err(trouble)) => unknown(&trouble),
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
