//! A keytab as MIT Kerberos writes it: whose keys are in it. The keys themselves are skipped; it is
//! the library that uses them.
//!
//! The format stands in MIT's documentation ("Keytab file format", version 2): after `05 02` come
//! entries, each behind its length as a signed number of four bytes, big end first. A negative
//! length is a hole where an entry was removed.

use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

/// Bytes of a keytab; an entry has about a hundred.
pub const KEYTAB_BYTES_MAX: usize = 1 << 20;

/// The keys of this server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keytab {
    content: Zeroizing<Vec<u8>>,
    entries: BTreeSet<Key>,
}

/// Whose key an entry holds, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `HTTP/host.example@EXAMPLE`.
    pub principal: String,
    /// What stands behind the `@`.
    pub realm: String,
    /// The number of the key: each change of a password counts it up.
    pub version: u32,
}

/// What is no keytab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKeytab {
    /// It does not begin as one.
    NotOne,
    /// It ends within an entry, or an entry within a name.
    Cut,
    /// It holds no key.
    Empty,
}

impl fmt::Display for BadKeytab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOne => "it is no keytab, which begins with the bytes 05 02",
            Self::Cut => "it is damaged: it ends where more should come",
            Self::Empty => "there is no key in it",
        })
    }
}

impl fmt::Debug for Keytab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

impl Keytab {
    /// Reads one.
    ///
    /// # Errors
    /// [`BadKeytab`]
    pub fn parse(content: Zeroizing<Vec<u8>>) -> Result<Self, BadKeytab> {
        let mut rest = content.strip_prefix(b"\x05\x02").ok_or(BadKeytab::NotOne)?;
        let mut entries = BTreeSet::new();
        while !rest.is_empty() {
            let mut reader = Reader(rest);
            let length = i32::from_be_bytes(reader.take_array()?);
            if length == 0 {
                // What follows was never used.
                break;
            }
            let bytes = usize::try_from(length.unsigned_abs()).map_err(|_| BadKeytab::Cut)?;
            let entry = reader.take(bytes)?;
            if length > 0 {
                entries.insert(read_entry(entry)?);
            }
            rest = reader.0;
        }
        match entries.is_empty() {
            true => Err(BadKeytab::Empty),
            false => Ok(Self { content, entries }),
        }
    }

    /// As it was read, for the library.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Whose keys there are; each once for each version.
    pub fn entries(&self) -> impl Iterator<Item = &Key> {
        self.entries.iter()
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The realms that the keys are of.
    pub fn realms(&self) -> BTreeSet<&str> {
        (self.entries.iter())
            .map(|entry| entry.realm.as_str())
            .collect()
    }

    /// Whether a client that calls a URL of this server can have a ticket for one of the keys.
    pub fn has_http(&self) -> bool {
        (self.entries.iter()).any(|entry| {
            let service = entry.principal.split('/').next().unwrap_or_default();
            service.eq_ignore_ascii_case("HTTP") && entry.principal.contains('/')
        })
    }
}

/// Components, realm, type of the name, time, version, key, and perhaps a wider version.
fn read_entry(bytes: &[u8]) -> Result<Key, BadKeytab> {
    let mut reader = Reader(bytes);
    let components = u16::from_be_bytes(reader.take_array()?);
    let realm = reader.text()?;
    let mut names = Vec::new();
    for _ in 0..components {
        names.push(reader.text()?);
    }
    let _type_and_time = reader.take(8)?;
    let [version] = reader.take_array()?;
    let _cipher = reader.take(2)?;
    let key = u16::from_be_bytes(reader.take_array()?);
    reader.take(usize::from(key))?;
    // Where there are four more bytes and they are not zero, they count.
    let wide = (reader.take_array()).map_or(0, u32::from_be_bytes);
    Ok(Key {
        principal: format!("{}@{realm}", names.join("/")),
        realm,
        version: match wide {
            0 => u32::from(version),
            wide => wide,
        },
    })
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, bytes: usize) -> Result<&'b [u8], BadKeytab> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(BadKeytab::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], BadKeytab> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadKeytab::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn text(&mut self) -> Result<String, BadKeytab> {
        let bytes = u16::from_be_bytes(self.take_array()?);
        let text = self.take(usize::from(bytes))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap();
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    }

    fn entry(names: &[&str], realm: &str, version: u8, wide: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(names.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(text(realm));
        names.iter().for_each(|name| bytes.extend(text(name)));
        bytes.extend([0, 0, 0, 1, 1, 2, 3, 4, version, 0, 18]);
        bytes.extend(text("a key of a test"));
        bytes.extend(wide);
        bytes
    }

    fn file(entries: &[Vec<u8>]) -> Zeroizing<Vec<u8>> {
        let mut bytes = vec![5, 2];
        for entry in entries {
            bytes.extend(i32::try_from(entry.len()).unwrap().to_be_bytes());
            bytes.extend(entry);
        }
        bytes.into()
    }

    #[test]
    fn it_says_whose_keys_it_holds() {
        let mut content = file(&[
            entry(&["HTTP", "bits.example"], "EXAMPLE", 3, b""),
            entry(&["HTTP", "bits.example"], "EXAMPLE", 4, b"\0\0\x01\x04"),
            entry(&["PC1$"], "OTHER", 1, b"\0\0\0\0"),
        ]);
        // A hole, and room behind the end.
        content.extend((-5_i32).to_be_bytes());
        content.extend([9; 5]);
        content.extend([0; 40]);
        let keytab = Keytab::parse(content.clone()).unwrap();
        let told: Vec<_> = keytab
            .entries()
            .map(|entry| (entry.principal.as_str(), entry.version))
            .collect();
        assert_eq!(
            told,
            [
                ("HTTP/bits.example@EXAMPLE", 3),
                ("HTTP/bits.example@EXAMPLE", 0x104),
                ("PC1$@OTHER", 1)
            ]
        );
        assert_eq!(keytab.realms(), BTreeSet::from(["EXAMPLE", "OTHER"]));
        assert!(keytab.has_http() && keytab.content() == &content[..]);
        assert!(!format!("{keytab:?}").contains("a key"));
        let other = file(&[entry(&["host", "bits.example"], "EXAMPLE", 3, b"")]);
        assert!(!Keytab::parse(other).unwrap().has_http());
    }

    #[test]
    fn what_is_none_is_refused() {
        let whole = file(&[entry(&["HTTP", "h"], "R", 3, b"")]);
        for end in 2..whole.len() {
            let cut = Zeroizing::new(whole[..end].to_vec());
            let why = if end == 2 {
                BadKeytab::Empty
            } else {
                BadKeytab::Cut
            };
            assert_eq!(Keytab::parse(cut), Err(why), "{end}");
        }
        for (content, why) in [
            (&b""[..], BadKeytab::NotOne),
            (b"\x05\x01\0\0\0\0", BadKeytab::NotOne),
            (b"-----BEGIN", BadKeytab::NotOne),
            (b"\x05\x02", BadKeytab::Empty),
            (b"\x05\x02\x7f\xff\xff\xff", BadKeytab::Cut),
            (b"\x05\x02\x80\x00\x00\x00", BadKeytab::Cut),
            (b"\x05\x02\x00\x00\x00\x02\xff\xff", BadKeytab::Cut),
        ] {
            let content = Zeroizing::new(content.to_vec());
            assert_eq!(Keytab::parse(content.clone()), Err(why), "{content:02x?}");
        }
    }
}
