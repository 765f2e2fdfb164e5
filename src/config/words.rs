//! Settings that are one of several words.

/// Makes enums from their variants and the words for these in settings and flags.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $about:literal])+ $variant:ident $word:literal)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $about])+ $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// The words of all values.
            pub(super) const WORDS: &[&str] = &[$($word),+];

            /// Its word in settings and flags.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    )+};
}

words! {
    /// Form of the log.
    LogFormat {
        /// Lines for people.
        Text "text"
        /// JSON objects, one a line.
        Json "json"
    }

    /// How much is logged.
    LogLevel {
        /// Only what needs attention.
        Warn "warn"
        /// And one line per session.
        Info "info"
        /// And one line per packet.
        Debug "debug"
    }

    /// How a block of a body reaches its file (what is chosen when, and why, stands in
    /// `ring/work_file.rs`).
    Io {
        /// Chosen for each file by its size and its file system.
        Auto "auto"
        /// Big files past the page cache by fixed writes of whole pages (O_DIRECT), the rest as by
        /// `inline`.
        Direct "direct"
        /// Fixed writes into the page cache.
        Ring "ring"
        /// Plain writes into the page cache, on the shard's own thread.
        Inline "inline"
    }

    /// Versions of TLS that there are still.
    TlsVersion {
        /// RFC 5246.
        Tls12 "1.2"
        /// RFC 8446.
        Tls13 "1.3"
    }

    /// Whether connections begin with the header of the PROXY protocol.
    ProxyProtocol {
        /// They do not.
        None "none"
        /// All of them, in either version.
        Required "required"
    }

    /// Whether a ticket must be bound to the TLS connection that it comes on (RFC 5929).
    ChannelBinding {
        /// Nobody looks.
        Off "off"
        /// Where the client has bound it, it must be to this connection.
        Check "check"
        /// It must be.
        Require "require"
    }

    /// For how long a client has shown who it is.
    Persist {
        /// As long as a connection with TLS lasts.
        Tls "tls"
        /// As long as any connection lasts.
        Connection "connection"
        /// For one request.
        Request "request"
    }

    /// What must be on stable storage before an Ack (the contract stands in `vault/mod.rs`).
    Durability {
        /// Nothing is ever synced: the process may die, the power may not.
        None "none"
        /// The whole file before its final fragment is acked.
        Upload "upload"
        /// Each fragment before it is acked.
        Fragment "fragment"
    }

    /// How the prefix of a location is compared with a URL.
    PrefixCase {
        /// As it is written, like names in the file system.
        Exact "exact"
        /// In any case, like names on Windows.
        Ignore "ignore"
    }

    /// What of a published file can be read by its URL.
    Download {
        /// Nothing: as if it were not there.
        None "none"
        /// Whether it is there, its size and its time.
        Head "head"
        /// Its bytes too.
        Get "get"
    }

    /// When a file appears at its destination (protocol.md 7.5).
    Publish {
        /// At Close-Session.
        Close "close"
        /// With its last fragment.
        LastFragment "last-fragment"
    }

    /// What Close-Session right after Create-Session means (protocol.md 4.7).
    EmptyFile {
        /// The upload was given up.
        Discard "discard"
        /// The file is empty.
        Create "create"
    }

    /// What kind of store files go into instead of a folder. The setting knows a second word,
    /// "none".
    StoreKind {
        /// Whatever speaks the protocol of Amazon S3.
        S3 "s3"
    }

    /// When Close-Session is acknowledged where files go into an object store.
    StoreAck {
        /// When the store has the object.
        Object "object"
        /// When the file is ours to keep: the server answers for the rest.
        Staged "staged"
    }

    /// How an object that is there is kept from being replaced.
    NoReplace {
        /// By the store, on condition (`If-None-Match`), which it must have shown to keep.
        Probe "probe"
        /// By a look before: others can still come between.
        Look "look"
    }

    /// How the server application gets the upload. The setting knows a third word, "none".
    NotificationType {
        /// As the paths of two files (type 1 of IIS).
        ByReference "by-reference"
        /// As the body of the request (type 2 of IIS).
        ByValue "by-value"
    }
}
