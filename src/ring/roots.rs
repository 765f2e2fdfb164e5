//! The roots of a shard's world: how new ones come to it, and that each is still at its path.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::RingWorld;
use super::directories::Ground;
use crate::vault::disk::Place;

impl RingWorld {
    /// Takes over roots that new settings name, with their numbers.
    pub fn add_roots(&self, roots: Vec<(usize, Arc<Ground>, OwnedFd)>) {
        let mut opened = Vec::new();
        for (number, ground, root) in roots {
            opened.push((number, root, Arc::from(ground.spot.path())));
            self.grounds.borrow_mut().insert(number, ground);
        }
        self.trees.add_roots(opened);
    }

    /// What is looked up or published in a root must be seen at its path.
    pub(super) async fn check_ground(&self, place: &Place) -> io::Result<()> {
        let Some(ground) = self.grounds.borrow().get(&place.root).cloned() else {
            return Ok(());
        };
        let (root, seen) = (place.root, Arc::clone(&self.ground_seen));
        let lane = self.disk.lane(ground.shelf);
        let look = move || seen.look(root, || ground.spot.check());
        lane.look("look at a root", look).await
    }
}
