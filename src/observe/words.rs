//! What things are called in the log.

use crate::bits::session::Ending;
use crate::event::DiskOp;

pub(super) fn ending_in_words(ending: Ending, by_administrator: bool) -> &'static str {
    match ending {
        Ending::Cancelled if by_administrator => "cancelled by the administrator",
        Ending::Expired if by_administrator => "expired by the administrator",
        Ending::Published => "published",
        Ending::Delivered => "taken by the application",
        Ending::Denied => "refused by the application",
        Ending::Incomplete => "closed incomplete",
        Ending::Cancelled => "cancelled",
        Ending::Expired => "expired",
        Ending::Poisoned => "poisoned",
    }
}

pub(super) fn disk_op_in_words(op: DiskOp) -> &'static str {
    match op {
        DiskOp::Create => "create a file",
        DiskOp::Open => "open a file",
        DiskOp::Read => "read",
        DiskOp::Allocate => "reserve space",
        DiskOp::Write => "write a fragment",
        DiskOp::Record => "write a session record",
        DiskOp::Sync => "sync a file",
        DiskOp::SyncDirectory => "sync a directory",
        DiskOp::SyncRecords => "sync the session records",
        DiskOp::SyncDestination => "sync the folder of a destination",
        DiskOp::LookUp => "look up the destination",
        DiskOp::Publish => "publish a file",
        DiskOp::Reply => "keep a reply",
        DiskOp::Remove => "remove a file",
        DiskOp::Truncate => "truncate a file",
        DiskOp::Ledger => "write the custody ledger",
        DiskOp::DigestFile => "make a digest file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels;
    use crate::vault::ending_words::ENDINGS;

    #[test]
    fn the_page_of_the_log_has_every_ending_by_all_its_names() {
        let page = include_str!("../../docs/logging.md");
        let endings = ENDINGS.iter();
        for (ending, by_administrator) in endings.flat_map(|one| [(*one, false), (*one, true)]) {
            let row = format!(
                "\n| `{}` | `{}` | `{}` | ",
                ending_in_words(ending, by_administrator),
                ending.word(),
                labels::ENDINGS[labels::ending((ending, by_administrator))]
            );
            assert!(page.contains(&row), "{row}");
        }
    }
}
