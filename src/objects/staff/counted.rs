//! Files that wait for their stores, counted.

use std::sync::Arc;

use crate::coarse_clock;
use crate::metrics::Metrics;

/// A file that waits for its store; counted until dropped.
pub(super) struct Counted {
    pub(super) metrics: Arc<Metrics>,
    bytes: u64,
    began_ms: u64,
}

impl Counted {
    pub(super) fn begin(metrics: &Arc<Metrics>, bytes: u64) -> Self {
        let began_ms = coarse_clock::ms();
        metrics.objects.begin(bytes, began_ms);
        Self {
            metrics: Arc::clone(metrics),
            bytes,
            began_ms,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.objects.end(self.bytes, self.began_ms);
    }
}
