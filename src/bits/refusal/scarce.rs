//! What there is too little of, for a while.

/// What a client has to wait for, since others have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// As many sessions as a shard may have.
    Sessions,
    /// Room in the journal for the record of another session.
    Records,
    /// Connections of a shard.
    Connections,
    /// Connections that wait for their shard.
    Letters,
    /// Passwords and tickets that are looked at at a time.
    Logins,
    /// Notifications that are on their way at a time.
    Notifications,
    /// Threads of the process, also those that the kernel begins for it.
    Threads,
    /// Open files of the process.
    Files,
    /// Open files of the whole system.
    SystemFiles,
    /// Memory of the kernel or of the process.
    Memory,
    /// The file system did not come to an end.
    FileSystem,
    /// Somebody else has the file just now.
    File,
}

impl Scarce {
    /// All that there are.
    pub const ALL: [Self; 12] = [
        Self::Sessions,
        Self::Records,
        Self::Connections,
        Self::Letters,
        Self::Logins,
        Self::Notifications,
        Self::Threads,
        Self::Files,
        Self::SystemFiles,
        Self::Memory,
        Self::FileSystem,
        Self::File,
    ];
}
