//! What is under way on all shards together: connections, those on their way from one shard to
//! another, and the loops that accept new ones.
//!
//! A shard ends when nothing is under way on any of them: until then a connection may come over
//! that names one of its sessions, and nobody would be there to answer it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// The count that all shards share.
#[derive(Clone, Debug, Default)]
pub struct Afoot(Arc<AtomicUsize>);

/// One thing that is under way, until it is dropped.
#[derive(Debug)]
pub struct OneAfoot(Afoot);

impl Afoot {
    /// Something begins. What it begins from must still be under way, or there is nothing for a
    /// moment.
    pub fn begin(&self) -> OneAfoot {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneAfoot(self.clone())
    }

    /// Whether nothing is under way anywhere.
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl OneAfoot {
    /// It is under way as long as this task is.
    pub fn during<F: Future<Output = ()>>(self, task: F) -> During<F> {
        During { task, of: self }
    }
}

pin_project! {
    /// A task that is counted until it is dropped. An `async fn` around it would keep room for it
    /// more than once.
    pub struct During<F> {
        #[pin]
        task: F,
        of: OneAfoot,
    }
}

impl<F: Future<Output = ()>> Future for During<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.project().task.poll(context)
    }
}

impl Drop for OneAfoot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_on_is_never_missed() {
        let afoot = Afoot::default();
        assert!(afoot.is_none());
        let here = afoot.begin();
        let there = afoot.begin();
        drop(here);
        assert!(!afoot.is_none());
        drop(there);
        assert!(afoot.is_none());
    }
}
