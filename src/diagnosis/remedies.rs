//! What helps, where several rows of the table say the same, or the log says it without a row.

use crate::bits::reply::Scarce;

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
pub const RAISE_TASKS: &str = "the limit of processes and threads is reached: raise TasksMax= of the service (of a \
     container: --pids-limit)";
pub const RAISE_FILES: &str =
    "too many open files: raise LimitNOFILE= of the service, or `ulimit -n`";
pub const RAISE_SYSTEM_FILES: &str =
    "too many open files in the whole system: raise the sysctl fs.file-max";
pub const GIVE_MEMORY: &str = "give the server more memory (MemoryMax=; the line bounds_lowered tells whether it has less than the settings \
     ask for), or lower the numbers in [limits]";
pub const LOOK_AT_LEASES: &str = "clients retry by themselves, and the kernel ends a lease within a minute; if it comes often, see who \
     shares or renames what lies beneath root (`/proc/locks` shows leases)";
pub const LOOK_AT_ITS_SERVER: &str =
    "clients retry by themselves; if it comes often, look at its server (FUSE, NFS)";

/// What helps where there is too little of this.
pub const fn of_scarce(scarce: Scarce) -> &'static str {
    match scarce {
        Scarce::Sessions => {
            "raise limits.sessions_per_shard_max; if the line bounds_lowered tells of it, give the server more memory"
        }
        Scarce::Records => {
            "the records of unfinished uploads are a quarter of limits.journal_bytes_max, or of LimitFSIZE= \
             (`ulimit -f`) where that is less: raise it"
        }
        Scarce::Connections => {
            "raise limits.connections_per_shard_max; if the line bounds_lowered tells of it, give the server more memory"
        }
        Scarce::Letters => "raise limits.mailbox_max",
        Scarce::Logins => {
            "clients come back by themselves; if it comes often, see who sends so many passwords or tickets"
        }
        Scarce::Notifications => {
            "raise notifications_in_flight_max, or see why the application takes so long"
        }
        Scarce::Threads => RAISE_TASKS,
        Scarce::Files => RAISE_FILES,
        Scarce::SystemFiles => RAISE_SYSTEM_FILES,
        Scarce::Memory => GIVE_MEMORY,
        Scarce::FileSystem => LOOK_AT_ITS_SERVER,
        Scarce::File => "see the line before: it says who has the file",
    }
}
