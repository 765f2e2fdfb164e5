//! The digest file beside a file: `NAME.sha256`, as `sha256sum` writes it and reads it with `-c`.
//!
//! It gets its name after the file has its own, in one step as well: who finds it knows that the
//! file is whole, and no digest file speaks of a file that is not there. After a crash in between
//! it is made by the next start ([`super::custody`]), where the record says that the file is: new
//! settings may lead elsewhere. Its name is the server's: no client may upload to it.
//!
//! Where files may be replaced, two uploads of one name may each give the file its name before
//! either has its digest file. So each writes what is kept with the file that stands there, and
//! looks again afterwards: whoever is the last to write has seen the last file.

use std::io;
use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use crate::bits::reply::{Obstacle, Refusal};
use crate::config::Durability;
use crate::diagnosis::{self, Heals};
use crate::event::{self, DiskOp, Event};
use crate::http::digest::Hex;
use crate::vault::destination;
use crate::vault::disk::{Block as _, File as _, Place, Published as _, Readable as _};
use crate::vault::error::StoreError;
use crate::vault::names;

/// How often a digest file is written anew because the file was replaced meanwhile.
const TRIES_MAX: usize = 8;

/// A digest file is written until it is that of the file which stands there.
#[derive(Debug, Default)]
struct Rewrites {
    written: Option<[u8; 32]>,
    tries: usize,
}

/// What is to be done with a digest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rewrite {
    /// It is that of the file.
    Done,
    Write,
    /// The file is replaced quicker than it can be written.
    Never,
}

impl Rewrites {
    /// Now that the file which stands there has this digest.
    fn next(&mut self, standing: [u8; 32]) -> Rewrite {
        if self.written.replace(standing) == Some(standing) {
            return Rewrite::Done;
        }
        self.tries += 1;
        match self.tries > TRIES_MAX {
            true => Rewrite::Never,
            false => Rewrite::Write,
        }
    }
}

/// What came of a digest file that was written.
#[derive(Debug)]
enum Naming {
    Given,
    /// Something has its name, or keeps it from getting it, and waiting would not help.
    NotGiven(io::Error),
}

/// Whether waiting would not help where no file can get a name in the folder of the destination.
fn is_for_good(error: &io::Error) -> bool {
    diagnosis::diagnose(DiskOp::Publish, error).heals == Heals::Never
}

impl<W: World> Held<W> {
    /// Whether the file is to have one.
    pub(super) fn has_digest_file(&mut self) -> bool {
        let location = self.location();
        location.policy.digest_file && location.objects.is_none() && self.keep().has_digests()
    }

    /// Makes it, unless it stands there.
    ///
    /// # Errors
    /// What the client hears; it comes back. Where another file has taken the name meanwhile, that
    /// stays, and the log says so.
    pub(super) async fn place_digest_file(&mut self) -> Result<(), Refusal> {
        let location = self.location();
        // Of records of before it was written the settings say where the file is.
        let is_in_folder = location.objects.is_none() || self.keep().record().life.place.is_some();
        let is_wanted = location.policy.digest_file && is_in_folder && !self.keep().is_object();
        let (Some(digests), true) = (self.keep().digests(), is_wanted) else {
            return Ok(());
        };
        let file = self.place();
        let places = file.and_then(|file| Some((destination::digest_file(&file).ok()?, file)));
        let Some((place, file)) = places else {
            // The setting came after the upload, and the name is too long, say.
            self.tell_not_given(io::ErrorKind::InvalidFilename.into());
            return Ok(());
        };
        if file.root == destination::NO_ROOT {
            self.tell_not_given(io::Error::other(ROOT_GONE));
            return Ok(());
        }
        let mut rewrites = Rewrites::default();
        loop {
            let sha256 = self.standing(&file).await.unwrap_or(digests.sha256);
            match rewrites.next(sha256) {
                Rewrite::Done => break,
                Rewrite::Write => {}
                Rewrite::Never => {
                    self.tell_not_given(io::Error::other(REPLACED));
                    break;
                }
            }
            let text = format!("{}  {}\n", Hex(&sha256), self.path().file_name()).into_bytes();
            match self.write_digest_file(&place, &text).await {
                Ok(Naming::Given) => {}
                Ok(Naming::NotGiven(error)) => {
                    if !self.stands_there(&place, &text).await {
                        self.tell_not_given(error);
                    }
                    break;
                }
                Err(source) => {
                    let op = DiskOp::DigestFile;
                    return Err(self.fail(StoreError { op, source }).await);
                }
            }
        }
        Ok(())
    }

    /// The digest of the file that has the name now: another upload may have replaced ours, even
    /// before ours was told of. None where no digest is kept with it.
    async fn standing(&mut self, file: &Place) -> Option<[u8; 32]> {
        let shard = Rc::clone(&self.shard);
        let opened = shard.world.open_published(file).await.ok()?;
        opened?.1.sha256
    }

    /// # Errors
    /// What may heal while a client waits. What stands in the way of the name, or forbids it, is
    /// none: the file is published, and its client would hear of trouble for weeks, or that its
    /// upload was refused.
    async fn write_digest_file(&mut self, place: &Place, text: &[u8]) -> io::Result<Naming> {
        let shard = Rc::clone(&self.shard);
        let (disk, policy) = (&*shard.world, &self.location().policy);
        // The file may be on another disk than that of its upload's shelf, which is let go of.
        let (shelf, name) = (disk.shelf(place), names::digest_name(self.id()));
        // What a crash has left.
        disk.remove(shelf, &name).await?;
        let written = async {
            let file = disk.create(shelf, &name).await?;
            write_all(&*shard.world, &file, text).await?;
            if policy.durability != Durability::None {
                file.sync_data().await?;
            }
            drop(file);
            let manner = destination::manner(policy, place);
            let published = match disk.publish(shelf, &name, place, manner).await {
                Ok(published) => published,
                Err(error) if is_for_good(&error) => return Ok(Naming::NotGiven(error)),
                Err(error) => return Err(error),
            };
            match policy.durability {
                Durability::None => {}
                Durability::Upload | Durability::Fragment => published.sync().await?,
            }
            Ok(Naming::Given)
        };
        let written = written.await;
        if !matches!(written, Ok(Naming::Given)) {
            // If that fails too, the next start removes it.
            let _left = disk.remove(shelf, &name).await;
        }
        written
    }

    /// Whether it was made before: by whoever was here before a crash.
    async fn stands_there(&mut self, place: &Place, text: &[u8]) -> bool {
        let shard = Rc::clone(&self.shard);
        let Ok(Some((file, stat))) = shard.world.open_published(place).await else {
            return false;
        };
        let block = shard.world.spare_block();
        if stat.bytes != text.len() as u64 || text.len() > block.bytes().len() {
            return false;
        }
        let (mut block, mut at) = (block, 0);
        while at < text.len() {
            let (read, back) = file.read_at(block, at..text.len(), at as u64).await;
            block = back;
            match read {
                Ok(read @ 1..) => at += read,
                _ => return false,
            }
        }
        block.bytes()[..at] == *text
    }

    fn tell_not_given(&mut self, error: io::Error) {
        let shard = Rc::clone(&self.shard);
        let path = self.path().as_str();
        let (what, error) = (event::DIGEST_FILE, &error);
        (shard.world).emit(Event::NotGiven { path, what, error });
    }
}

/// Why no digest file is made where the settings lead now.
const ROOT_GONE: &str = "the settings do not name the root any more in which the file stands: make \
                         it there with sha256sum";

/// Why a digest file may be that of another file.
const REPLACED: &str = "the file was replaced again and again meanwhile, and it may be that of \
                        another one";

async fn write_all<W: World>(world: &W, file: &W::File, text: &[u8]) -> io::Result<()> {
    let (mut block, mut at) = (world.spare_block(), 0);
    // A name has 255 bytes, and a head block more than twice as many.
    let room = block.bytes_mut().get_mut(..text.len());
    room.ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(text);
    while at < text.len() {
        let (written, back) = file.write_at(block, at..text.len(), at as u64).await;
        block = back;
        at += match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
    }
    Ok(())
}

/// Whether an upload to `place` leaves the name of a digest file alone, and can have one of its
/// own.
///
/// # Errors
/// What the client hears.
pub(super) async fn check<W: World>(
    world: &W,
    location: &crate::config::Location,
    place: &Place,
) -> Result<Result<(), Refusal>, StoreError> {
    if !location.policy.digest_file {
        return Ok(Ok(()));
    }
    match destination::digest_file(place) {
        Ok(beside) => {
            let looked_at =
                destination::check_destination(world, &location.policy, &beside).await?;
            // The client has not named what stands there.
            Ok(looked_at.map_err(|why| match why {
                Refusal::TargetExists | Refusal::TargetIsDirectory => {
                    Refusal::Obstructed(Obstacle::DigestFile)
                }
                why => why,
            }))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_until_it_is_that_of_the_file_and_given_up_some_time() {
        let mut rewrites = Rewrites::default();
        assert_eq!(rewrites.next([1; 32]), Rewrite::Write);
        assert_eq!(rewrites.next([1; 32]), Rewrite::Done);
        let mut rewrites = Rewrites::default();
        for n in (0..u8::MAX).take(TRIES_MAX) {
            assert_eq!(rewrites.next([n; 32]), Rewrite::Write, "{n}");
        }
        assert_eq!(rewrites.next([u8::MAX; 32]), Rewrite::Never);
        // The last one that may be written can be the right one.
        let mut rewrites = Rewrites {
            tries: TRIES_MAX,
            written: Some([8; 32]),
        };
        assert_eq!(rewrites.next([8; 32]), Rewrite::Done);
    }
}
