//! What stands in the way of a name, whoever uploads.

use std::fmt;

/// Why no file can get this name, whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is on another mount than the work directory, or in another subvolume: a file cannot move
    /// there in one step.
    OtherMount,
    /// The folder is encrypted (fscrypt), and the work directory is not, or otherwise.
    Encrypted,
    /// The folder counts its files for a project, which they cannot be given here.
    Project,
    /// A link on the way leads out of the root, or is not relative.
    LinkLeadsOut,
    /// A link on the way leads into the work directory.
    LinkIntoWork,
    /// A link on the way leads to nothing.
    LinkDangles,
    LinkLoop,
    /// Something that is no folder stands where one has to be on the way.
    NoFolder,
    /// The folder is sticky, and what stands there is somebody else's.
    Sticky,
    /// The folder, or what stands there, is append-only.
    AppendOnly,
    /// The folder, or what stands there, is immutable.
    Immutable,
    /// The kernel forbids it whatever the rights are: one of those three, mostly.
    Kept,
    /// What stands there is no file: a pipe, a socket or a device.
    NoFile,
    /// Something is mounted on it.
    InUse,
    /// The kernel swaps to it.
    Swap,
    /// Its file system takes no such name.
    NameRefused,
    /// A folder on the way cannot hold another folder.
    FolderFull,
    /// Something has the name of the digest file that would stand beside it.
    DigestFile,
}

impl Obstacle {
    pub const ALL: [Self; 18] = [
        Self::OtherMount,
        Self::Encrypted,
        Self::Project,
        Self::LinkLeadsOut,
        Self::LinkIntoWork,
        Self::LinkDangles,
        Self::LinkLoop,
        Self::NoFolder,
        Self::Sticky,
        Self::AppendOnly,
        Self::Immutable,
        Self::Kept,
        Self::NoFile,
        Self::InUse,
        Self::Swap,
        Self::NameRefused,
        Self::FolderFull,
        Self::DigestFile,
    ];

    pub const fn words(self) -> &'static str {
        match self {
            Self::OtherMount => "the destination is on another mount, or in another subvolume",
            Self::Encrypted => {
                "the folder of the destination is encrypted otherwise than the work directory"
            }
            Self::Project => {
                "the folder of the destination counts its files for a project, which they cannot \
                 be given here"
            }
            Self::LinkLeadsOut => "a link on the way to the destination leads out of the root",
            Self::LinkIntoWork => {
                "a link on the way to the destination leads into the work directory"
            }
            Self::LinkDangles => "a link on the way to the destination leads to nothing",
            Self::LinkLoop => "the links on the way to the destination go in circles",
            Self::NoFolder => "a file stands where a folder of the destination should be",
            Self::Sticky => "the folder is sticky, and the file there is somebody else's",
            Self::AppendOnly => "the folder of the destination, or the file there, is append-only",
            Self::Immutable => "the folder of the destination, or the file there, is immutable",
            Self::Kept => {
                "the folder of the destination, or the file there, is sticky, append-only or immutable"
            }
            Self::NoFile => "a pipe, a socket or a device stands at the destination",
            Self::InUse => "something is mounted on the destination",
            Self::Swap => "the file there is a swap file in use",
            Self::NameRefused => "the file system of the destination takes no such name",
            Self::FolderFull => "a folder on the way to the destination can hold no more folders",
            Self::DigestFile => {
                "the name of the digest file beside the destination is taken (digest_file)"
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Obstacle {}
