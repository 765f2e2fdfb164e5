//! A thread that a shard gives its calls to when they would hold it up.

use std::io;
use std::thread;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::begun::Begun;
use crate::processors;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after another; it begins with the first.
pub struct Helper {
    name: &'static str,
    jobs_max: usize,
    jobs: Begun<mpsc::Sender<Job>>,
}

impl Helper {
    /// No thread yet; so many jobs may wait for it.
    pub fn new(name: &'static str, jobs_max: usize) -> Self {
        Self {
            name,
            jobs_max,
            jobs: Begun::default(),
        }
    }

    /// Does a job and waits for it.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let job = move || {
            // Whoever asked may be gone with its connection.
            let _ = tell.send(job());
        };
        self.begin(Box::new(job)).await;
        told.await
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// Gives a job to the thread, as soon as there is room for it; does it here where there is no
    /// thread.
    pub async fn begin(&self, job: Job) {
        let left = match self.jobs() {
            Some(jobs) => jobs.send(job).await.err().map(|refused| refused.0),
            None => Some(job),
        };
        if let Some(job) = left {
            job();
        }
    }

    /// Gives a job to the thread if there is room for it now; does it here where there is no
    /// thread.
    pub fn begin_if_room(&self, job: Job) {
        let Some(jobs) = self.jobs() else {
            return job();
        };
        if let Err(TrySendError::Closed(job)) = jobs.try_send(job) {
            job();
        }
    }

    fn jobs(&self) -> Option<&mpsc::Sender<Job>> {
        self.jobs.get_or_begin(|is_first| self.start(is_first))
    }

    fn start(&self, is_first: bool) -> Option<mpsc::Sender<Job>> {
        let (jobs, mut to_do) = mpsc::channel::<Job>(self.jobs_max);
        let work = move || {
            processors::leave_to_shards();
            while let Some(job) = to_do.blocking_recv() {
                job();
            }
        };
        let thread = thread::Builder::new().name(self.name.to_owned());
        match thread.spawn(work) {
            Ok(_) => Some(jobs),
            Err(_) if !is_first => None,
            Err(error) => {
                let event = "lane_missing";
                tracing::warn!(
                    event,
                    %error,
                    "there is no thread for the calls of a slow disk: they hold up their shard"
                );
                None
            }
        }
    }
}
