//! What helps, where several rows of the table say the same, or the log says it without a row.

use crate::bits::reply::{Obstacle, Scarce};

pub const FREE_SPACE: &str =
    "the disk is full: free some space (`df -h`, `df -i`); clients retry by themselves";
pub const LET_FIT: &str = "if such files are meant to fit: a larger file system, or a higher LimitFSIZE= of the service (`ulimit \
     -f`)";
pub const RAISE_FILE_SIZE: &str = "raise LimitFSIZE= of the service (`ulimit -f`)";
pub const RAISE_QUOTA: &str = "raise the disk quota of the server's user (`quota`, `repquota`), or free some space; clients retry by \
     themselves";
pub const CLOSE_FILES: &str = "see whether anybody has changed anything in the work directory; if nobody has, give it back and close it (`chown \
     -R`, `chmod -R go-w`): what stands in it is published with the server's rights";
pub const LOOK_UP: &str = "look up the error together with the operation; please report this line";
pub const REMOUNT: &str = "the file system is read-only: check it, and remount it writable";
pub const CHECK_DEVICE: &str =
    "the device reports errors: look at `dmesg` and the health of the disk";
pub const GRANT_DESTINATION: &str = "grant the server's user the right to write into the folder of the \
     destination, and to read it: it is synced";
pub const KEEP_OUT: &str = "keep other programs out of the work directory";
pub const BRING_BYTES_BACK: &str = "put the bytes that came back into its file in the work directory (`ID.part`), from a copy or from whoever sent \
     them: it goes to its store then; and keep other programs out of the work directory";
pub const BRING_DISK: &str =
    "mount the disk that the line shelf_missing names, and restart bitsd: the upload goes on then";
pub const BRING_LOCATION_BACK: &str = "give the location the `root` back that it had, until its client has closed the upload; or end it (`bitsd sessions \
     cancel`): its client begins anew then";
pub const BRING_ROOT_BACK: &str = "give the location the `root` back that it had, and reload; or end it (`bitsd sessions cancel`): the file stays \
     where it is";
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

/// What helps where this stands in the way of a destination.
pub const fn of_obstacle(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::OtherMount => {
            "a mount (also a bind mount), a subvolume or a project quota parts them: give that folder a [[location]] \
             whose `root` it is, with unfinished uploads of its own; one that was begun before begins anew when it is ended \
             (`bitsd sessions cancel`)"
        }
        Obstacle::Encrypted => {
            "give that folder a [[location]] whose `root` it is: unfinished uploads are encrypted in \
             it then (a file cannot be moved into an encrypted folder)"
        }
        Obstacle::Project => {
            "give that folder a [[location]] whose `root` it is: unfinished uploads are counted in it \
             then (in a user namespace, as of a rootless container, nobody may change the project of \
             a file)"
        }
        Obstacle::LinkLeadsOut => {
            "let the link lead to a folder beneath the root (a relative link), or replace it by a \
             [[location]] with its own root"
        }
        Obstacle::LinkIntoWork => "remove the link",
        Obstacle::LinkDangles => "make the folder that the link leads to, or remove the link",
        Obstacle::LinkLoop => "mend or remove the links",
        Obstacle::NoFolder => "move the file away, or upload into another folder",
        Obstacle::Sticky => {
            "give the server's user the file or the folder, or take the sticky bit off (`chmod -t`); in a user namespace, \
             as of a rootless container, its root is the owner only of files whose user and group have a number there"
        }
        Obstacle::AppendOnly => "take the attribute off (`lsattr -d`, `chattr -a`)",
        Obstacle::Immutable => "take the attribute off (`lsattr -d`, `chattr -i`)",
        Obstacle::Kept => {
            "look at `ls -ld` and `lsattr -d` of the folder of the destination: in a sticky \
             one only the owner's files give way, `chattr -i -a` takes the attributes off; a swap file in use \
             (`swapon`) gives way to nothing"
        }
        Obstacle::NoFile => "remove it, or upload under another name",
        Obstacle::InUse => "unmount it, or upload under another name",
        Obstacle::Swap => "`swapoff` it, or upload under another name",
        Obstacle::NameRefused => {
            "use a Linux file system beneath root (ext4, XFS, btrfs), or another name"
        }
        Obstacle::FolderFull => "spread the uploads over more folders",
        Obstacle::DigestFile => {
            "move away what has the name with .sha256 behind it, or set digest_file = false"
        }
    }
}
