//! The descriptor of an open file, which holds up nobody when it is closed.
//!
//! To close a file that was written makes NFS and FUSE send what is left of it to the other machine
//! and wait for that. A file is closed wherever the last one lets go of it: a connection that ends,
//! the watchdog, a write of the ring that comes back late.

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::lane::Lane;

/// A descriptor that a shard and the lane of its disk share; the lane closes it where that may take
/// its time.
#[derive(Clone)]
pub struct Descriptor {
    /// None only while it is dropped.
    file: Option<Arc<OwnedFd>>,
    lane: Rc<Lane>,
}

impl Descriptor {
    /// Of a file on the disk of this lane.
    pub fn new(file: OwnedFd, lane: Rc<Lane>) -> Self {
        let file = Some(Arc::new(file));
        Self { file, lane }
    }

    /// For a call by the lane.
    pub fn share(&self) -> Arc<OwnedFd> {
        Arc::clone(self.shared())
    }

    fn shared(&self) -> &Arc<OwnedFd> {
        self.file.as_ref().expect("taken only by drop")
    }
}

impl Deref for Descriptor {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        self.shared()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let last = self.file.take().and_then(Arc::into_inner);
        if let Some(file) = last {
            self.lane.close_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, PipeReader, Read as _};
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::super::lane::WAITING_MAX;
    use super::*;

    /// An open file, and who hears when it is closed.
    fn open(lane: &Rc<Lane>) -> (Descriptor, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (Descriptor::new(writer.into(), Rc::clone(lane)), reader)
    }

    fn is_open(reader: &mut PipeReader) -> bool {
        match reader.read(&mut [0]) {
            // Nobody has its other end.
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn what_is_here_is_closed_at_once() {
        let (file, mut reader) = open(&Rc::new(Lane::new(false)));
        let other = file.clone();
        drop(file);
        assert!(is_open(&mut reader), "somebody has it still");
        drop(other);
        assert!(!is_open(&mut reader));
    }

    /// However many wait for it.
    #[test]
    fn what_is_on_another_machine_is_closed_by_its_lane() {
        for waiting in [0, WAITING_MAX + 1] {
            let lane = Rc::new(Lane::new(true));
            let (release, held) = mpsc::channel::<()>();
            let (begins, has_begun) = mpsc::channel();
            let mut context = Context::from_waker(Waker::noop());
            let mut hangs = pin!(lane.send(move || {
                begins.send(()).unwrap();
                let _ = held.recv();
                Ok(())
            }));
            assert!(hangs.as_mut().poll(&mut context).is_pending());
            has_begun.recv().unwrap();
            let mut calls: Vec<_> = (0..waiting)
                .map(|_| Box::pin(lane.send(|| Ok(()))))
                .collect();
            for call in &mut calls {
                assert!(call.as_mut().poll(&mut context).is_pending());
            }
            let (file, mut reader) = open(&lane);
            drop(file);
            assert!(is_open(&mut reader), "the other machine does not answer");
            drop(release);
            rustix::io::ioctl_fionbio(&reader, false).unwrap();
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "it is closed");
        }
    }
}
