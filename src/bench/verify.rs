//! Reads back what a run stored.

use std::io::{self, Read};
use std::path::Path;

use super::content::Content;
use super::conversation::Script;
use super::fault::Fault;
use crate::named_file;

/// Compares file number `file` below `folder` with what was sent.
///
/// # Errors
/// [`Fault::Unreadable`] or [`Fault::Stored`].
pub fn verify(content: &Content, folder: &Path, script: &Script, file: u64) -> Result<(), Fault> {
    let name = || script.file_name(file);
    let unreadable = |source: io::Error| Fault::Unreadable {
        name: name(),
        source,
    };
    let mut stored = named_file::open(&folder.join(name())).map_err(unreadable)?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    loop {
        let read = match stored.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        if let Some(offset) = content.first_difference(file, offset, &block[..read]) {
            return Err(Fault::Stored {
                name: name(),
                offset,
            });
        }
        offset += read as u64;
    }
    if offset == script.file_bytes {
        Ok(())
    } else {
        let offset = offset.min(script.file_bytes);
        Err(Fault::Stored {
            name: name(),
            offset,
        })
    }
}

const BLOCK_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::conversation::{End, Mode};

    #[test]
    fn a_wrong_byte_and_a_wrong_length_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::new();
        let mut slices = Vec::new();
        content.slices(5, 0, 2_000_000, &mut slices);
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let path = folder.path().join("bench-5.bin");
        let script = Script {
            mode: Mode::Bits,
            folder: "http://h/".parse().unwrap(),
            file_bytes: 2_000_000,
            fragment_bytes: 1_000_000,
            prefix: "bench".to_owned(),
            end: End::Close,
            credentials: None,
        };
        let check = || verify(&content, folder.path(), &script, 5);
        assert!(matches!(check(), Err(Fault::Unreadable { name, .. }) if name == "bench-5.bin"));
        std::fs::write(&path, &bytes).unwrap();
        assert!(check().is_ok());
        std::fs::write(&path, &bytes[..1_999_999]).unwrap();
        let short = check();
        assert!(
            matches!(
                short,
                Err(Fault::Stored {
                    offset: 1_999_999,
                    ..
                })
            ),
            "{short:?}"
        );
        bytes[1_200_000] ^= 0x80;
        std::fs::write(&path, &bytes).unwrap();
        let wrong = check();
        assert!(
            matches!(
                wrong,
                Err(Fault::Stored {
                    offset: 1_200_000,
                    ..
                })
            ),
            "{wrong:?}"
        );
    }
}
