//! Making room for what comes, and giving back what was reserved for what never came (the rules are
//! those of [`crate::vault::space`]).

use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use crate::bits::session::State;
use crate::event::DiskOp;
use crate::vault::disk::File as _;
use crate::vault::error::StoreError;
use crate::vault::space::{Reservation, ReserveBounds};

/// Body blocks that are received before space is reserved; below that the call costs more than it
/// tells.
const BLOCKS_MIN: u64 = 2;

impl<W: World> Held<W> {
    /// Reserves space for a write of so many bytes at the watermark, if it is time.
    ///
    /// # Errors
    /// [`StoreError`] if no file can be so long. Where there is no space, the write itself will say
    /// so, and keep what fits.
    pub(super) async fn make_room(
        &mut self,
        file: &W::File,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let shard = Rc::clone(&self.shard);
        let State::Receiving {
            received,
            total: Some(total),
        } = self.state()
        else {
            return Ok(());
        };
        let limits = &shard.config.limits;
        let bounds = ReserveBounds {
            step_bytes_min: BLOCKS_MIN * limits.block_bytes as u64,
            share: limits.reserve_share_max,
        };
        if total <= bounds.step_bytes_min || received < bounds.step_bytes_min {
            return Ok(());
        }
        let id = self.id();
        let shelf = self.keep().shelf();
        let reservation = (self.work().reservation)
            .get_or_insert_with(|| Box::new(Reservation::none(shard.world.space(shelf), received)));
        let end = received + bytes as u64;
        let Some(range) = reservation.extend(received, end, total, bounds) else {
            return Ok(());
        };
        shard.note_reservation(id);
        let Err(source) = file.allocate(range).await else {
            return Ok(());
        };
        if let Some(reservation) = &mut self.work().reservation {
            reservation.refused();
        }
        match source.kind() {
            std::io::ErrorKind::FileTooLarge => Err(StoreError {
                op: DiskOp::Allocate,
                source,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn adopt_reservation(&mut self, bytes: u64) {
        let shard = Rc::clone(&self.shard);
        let State::Receiving { received, .. } = self.state() else {
            return;
        };
        // File systems round up, and keep books of their own.
        if bytes < BLOCKS_MIN * shard.config.limits.block_bytes as u64 {
            return;
        }
        let shelf = self.keep().shelf();
        let left = Reservation::left(shard.world.space(shelf), received, bytes);
        self.work().reservation = Some(Box::new(left));
        shard.note_reservation(self.id());
    }

    /// Gives back what is reserved and not received; `false` if the disk refuses. Then it is still
    /// held and counted, and is given back later.
    pub(super) async fn give_back(&mut self) -> bool {
        let State::Receiving { received, .. } = self.state() else {
            return true;
        };
        if self.work().reservation.is_none() {
            return true;
        }
        let is_as_left = self.is_as_left().await;
        let given_back = match self.file().await {
            Ok(file) => (file.give_back(received).await).map_err(|source| StoreError {
                op: DiskOp::Truncate,
                source,
            }),
            Err(error) => Err(error),
        };
        match given_back {
            Ok(()) => {
                self.work().reservation = None;
                if is_as_left {
                    self.note_left().await;
                }
                true
            }
            Err(error) => {
                self.report(&error);
                false
            }
        }
    }
}
