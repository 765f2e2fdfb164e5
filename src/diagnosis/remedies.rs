//! What helps, where several rows of the table say the same, or the log says it without a row.

pub const FREE_SPACE: &str =
    "the disk is full: free some space (`df -h`, `df -i`); clients retry by themselves";
pub const REMOUNT: &str = "the file system is read-only: check it, and remount it writable";
pub const CHECK_DEVICE: &str =
    "the device reports errors: look at `dmesg` and the health of the disk";
pub const GRANT_DESTINATION: &str = "grant the server's user the right to write into the folder of the \
     destination, and to read it: it is synced";
pub const KEEP_OUT: &str = "keep other programs out of the work directory";
pub const BRING_DISK: &str =
    "mount the disk that the line shelf_missing names, and restart bitsd: the upload goes on then";
pub const SEE_BEFORE: &str = "see what the line before says of the disk";
