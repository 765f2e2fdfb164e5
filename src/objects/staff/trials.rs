//! Whether a store keeps what is there, tried for all of its files at once, and once at a time: a
//! hundred files that wait for a store that throttles must not each make a trial of their own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Chosen, Desk, random};
use crate::coarse_clock;
use crate::config::ObjectStore;
use crate::objects::Unfit;
use crate::objects::bucket::{Bucket as _, StoreTrouble};
use crate::objects::note::StorePlace;
use crate::objects::probe::{self, ProbeOutcome, Wrong};

/// After a trial that has shown nothing, for so long nobody makes another one.
const REST: Duration = Duration::from_secs(2);
/// So many objects of trials are remembered that could not be removed.
const LEFT_MAX: usize = 100;

/// The trials of one store.
#[derive(Default)]
pub(super) struct Trials {
    turn: tokio::sync::Mutex<()>,
    /// The last one has shown nothing: when, and why.
    failed: RefCell<Option<(Instant, String)>>,
    /// What they have made, and could not remove.
    left: RefCell<Vec<String>>,
}

impl Trials {
    fn just_failed(&self) -> Option<StoreTrouble> {
        let failed = self.failed.borrow();
        let (at, why) = failed.as_ref()?;
        (at.elapsed() < REST).then(|| StoreTrouble::Doubt(why.clone()))
    }

    /// Tries to remove what former ones have left.
    async fn clear(&self, bucket: &Chosen) {
        loop {
            let Some(name) = self.left.borrow().last().cloned() else {
                return;
            };
            if bucket.remove(&name).await.is_err() {
                return;
            }
            self.left.borrow_mut().pop();
        }
    }
}

impl Desk {
    /// What was wrong may have been mended: the next who asks has it tried, and at once.
    pub(super) fn forget_trial(&self, place: &StorePlace) {
        self.tried.borrow_mut().remove(place);
        if let Some(trials) = self.trials.borrow().get(place) {
            trials.failed.take();
        }
    }

    /// What is known of a store, or comes of a trial: of ours, or of that of another file.
    ///
    /// # Errors
    /// It does not keep what is there, or nobody knows.
    pub(super) async fn try_once(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        bucket: &Chosen,
    ) -> Result<(), StoreTrouble> {
        let trials = self.trials_of(place);
        let _turn = trials.turn.lock().await;
        let known = self.tried.borrow().get(place).cloned();
        match known {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => return Err(StoreTrouble::Settings(why)),
            None => {}
        }
        if let Some(trouble) = trials.just_failed() {
            return Err(trouble);
        }
        let tried = self.probe(store, place, bucket, &trials).await;
        *trials.failed.borrow_mut() = match &tried {
            Err(StoreTrouble::Doubt(why) | StoreTrouble::Unsigned(why)) => {
                Some((Instant::now(), why.clone()))
            }
            _ => None,
        };
        tried
    }

    async fn probe(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        bucket: &Chosen,
        trials: &Trials,
    ) -> Result<(), StoreTrouble> {
        let trial = async |name: &str| probe::try_it(bucket, name).await;
        let shown = self.make_trial(store, place, bucket, trials, trial).await?;
        let unfit = shown.map_err(|wrong| {
            let bucket = place.bucket.clone();
            let why = wrong.to_owned();
            Unfit { bucket, why }.to_string()
        });
        let known = unfit.clone();
        self.tried.borrow_mut().insert(place.clone(), known);
        self.metrics
            .objects
            .note(&place.bucket, unfit.as_ref().err());
        unfit.map_err(StoreTrouble::Settings)
    }

    /// Makes another trial, when it has its turn.
    pub(super) async fn try_with(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        bucket: &Chosen,
        trial: impl AsyncFnOnce(&str) -> ProbeOutcome,
    ) -> Result<Result<(), Wrong>, StoreTrouble> {
        let trials = self.trials_of(place);
        let _turn = trials.turn.lock().await;
        self.make_trial(store, place, bucket, &trials, trial).await
    }

    fn trials_of(&self, place: &StorePlace) -> Rc<Trials> {
        let mut all = self.trials.borrow_mut();
        Rc::clone(all.entry(place.clone()).or_default())
    }

    /// Makes a trial by an object of its own, of which nothing is to be left.
    async fn make_trial(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        bucket: &Chosen,
        trials: &Trials,
        trial: impl AsyncFnOnce(&str) -> ProbeOutcome,
    ) -> Result<Result<(), Wrong>, StoreTrouble> {
        trials.clear(bucket).await;
        let number = self.probes.replace(self.probes.get() + 1);
        let random = u64::from_le_bytes(random()?);
        let name = probe::name(store, random, number);
        // Before it is made: the job that asks for the trial may be ended in the middle of it.
        if trials.left.borrow().len() < LEFT_MAX {
            trials.left.borrow_mut().push(name.clone());
        }
        let trial = trial(&name).await;
        match trial.left {
            Some(why) => self.tell_of_left(place, &name, &why),
            None => trials.left.borrow_mut().retain(|left| *left != name),
        }
        trial.shown
    }

    /// A store that is away lets nothing be removed either, and that is told elsewhere.
    fn tell_of_left(&self, place: &StorePlace, key: &str, why: &StoreTrouble) {
        let (event, remedy) = ("object_probe_left", probe::REMEDY_OF_LEFT);
        let is_told = matches!(why, StoreTrouble::Refused(_));
        if !is_told || !self.metrics.objects.may_tell(event, coarse_clock::ms()) {
            return;
        }
        let bucket = &place.bucket;
        tracing::warn!(event, bucket, key, %why, remedy, "what a trial of an object store has made cannot be removed");
    }
}
