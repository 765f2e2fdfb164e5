//! What a shard does at destinations: looks them up, and moves files there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::publication::{self, RingPublished};
use super::work_file::RingFile;
use super::{RingWorld, counting, disk, op};
use crate::bits::reply::Obstacle;
use crate::diagnosis::{self, LeftOnOtherDisk};
use crate::event::{DiskOp, Event};
use crate::vault::disk::{Disk, Manner, Place, ReplyStat, Runtime as _, Shelf, Standing};

impl Disk for RingWorld {
    type Published = RingPublished;

    fn shelf(&self, place: &Place) -> Shelf {
        let grounds = self.grounds.borrow();
        grounds
            .get(&place.root)
            .map_or(Shelf::WORK, |ground| ground.shelf)
    }

    fn is_away(&self, place: &Place) -> bool {
        let grounds = self.grounds.borrow();
        let Some(ground) = grounds.get(&place.root) else {
            return true;
        };
        let path = ground.real.join(place.path.as_str());
        // The folder of a shelf is the root that it was made for, or beneath that.
        let folders = self
            .missing_shelves
            .iter()
            .filter_map(|shelf| shelf.parent());
        folders.into_iter().any(|folder| path.starts_with(folder))
    }

    fn path_of_root(&self, root: usize) -> Option<String> {
        let grounds = self.grounds.borrow();
        Some(grounds.get(&root)?.real.to_string_lossy().into())
    }

    fn root_at(&self, path: &str) -> Option<usize> {
        let grounds = self.grounds.borrow();
        let mut known = grounds.iter();
        let found = known.find(|(_, ground)| ground.real.to_string_lossy() == path);
        found.map(|(root, _)| *root)
    }

    async fn look_up(&self, place: &Place, before: Option<Manner>) -> io::Result<Standing> {
        self.check_ground(place).await?;
        let (trees, looked_up) = (Arc::clone(&self.trees), place.clone());
        let shelf = self.shelf(place);
        let folder = self.disk.shelves().get(shelf);
        let look_up = move || trees.look_up(&looked_up, before, folder.descriptor());
        let lane = self.disk.lane(shelf);
        lane.look("look at a destination", look_up).await
    }

    async fn open_published(&self, place: &Place) -> io::Result<Option<(RingFile, ReplyStat)>> {
        self.check_ground(place).await?;
        let (trees, opened) = (Arc::clone(&self.trees), place.clone());
        let open = move || match trees.open_file(&opened)? {
            Some(opened) => disk::served(opened),
            None => Ok(None),
        };
        let shelf = self.shelf(place);
        let served = self
            .disk
            .lane(shelf)
            .look("open a file to be sent", open)
            .await?;
        Ok(served.map(|served| self.disk.to_be_sent(shelf, served)))
    }

    async fn publish(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        manner: Manner,
    ) -> io::Result<RingPublished> {
        self.check_ground(place).await?;
        let (lane, folder) = (self.disk.lane(shelf), self.disk.shelves().get(shelf));
        let from = folder.descriptor();
        let publish = publication::publish(&self.trees, &lane, from, name, place, manner);
        let published = counting::timed(DiskOp::Publish, publish).await;
        let published = published.map_err(|error| match self.shelf(place) == shelf {
            true => error,
            false => of_other_shelf(error, folder.path()),
        })?;
        for (what, error) in published.not_given() {
            self.emit(Event::NotGiven {
                path: place.path.as_str(),
                what,
                error,
            });
        }
        Ok(published)
    }

    async fn take_back(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        inode: u64,
    ) -> io::Result<bool> {
        self.check_ground(place).await?;
        let (lane, shelf) = (self.disk.lane(shelf), self.disk.shelves().get(shelf));
        let (trees, place, part) = (Arc::clone(&self.trees), place.clone(), name.to_owned());
        let take_back = move || {
            let folder = match trees.open_folder(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                opened => opened?,
            };
            let to = (&**shelf.descriptor(), &*part);
            publication::take_back(&folder, place.path.file_name(), to, inode)
        };
        // It moves the file. Nobody would take it back later.
        lane.go_on("take a file back", take_back).await
    }

    async fn sync_destination(&self, place: &Place) -> io::Result<()> {
        let (trees, synced) = (Arc::clone(&self.trees), place.clone());
        let open = move || trees.open_folder(&synced);
        let lane = self.disk.lane(self.shelf(place));
        let folder = lane.look("open a folder", open).await?;
        op::sync_folder(&folder).await
    }
}

/// What keeps a file out of a folder that its own shelf would not be kept out of: new settings have
/// given the location another disk.
fn of_other_shelf(error: io::Error, shelf: &Path) -> io::Error {
    let is_apart = match diagnosis::obstacle_in(&error) {
        Some(obstacle) => matches!(
            obstacle,
            Obstacle::OtherMount | Obstacle::Encrypted | Obstacle::Project
        ),
        None => error.kind() == io::ErrorKind::CrossesDevices,
    };
    match is_apart {
        true => io::Error::other(LeftOnOtherDisk(shelf.display().to_string())),
        false => error,
    }
}
