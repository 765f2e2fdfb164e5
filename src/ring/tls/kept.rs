//! What a TLS session has to keep in between: bytes that are no whole record yet, and what a reader
//! had no room for.
//!
//! An idle connection keeps neither, and there are many: then it is one empty pointer.

use std::mem;

/// Both kinds of bytes.
#[derive(Default)]
pub struct KeptBytes(Option<Box<Both>>);

#[derive(Default)]
struct Both {
    cipher: Vec<u8>,
    /// Not read yet from `plain_read` on.
    plain: Vec<u8>,
    plain_read: usize,
}

impl KeptBytes {
    /// Whether something is decrypted and was not read.
    pub fn has_plain(&self) -> bool {
        (self.0.as_ref()).is_some_and(|bytes| bytes.plain_read < bytes.plain.len())
    }

    /// Whether a record has begun and not come to its end.
    pub fn has_cipher(&self) -> bool {
        (self.0.as_ref()).is_some_and(|bytes| !bytes.cipher.is_empty())
    }

    /// Keeps more that was decrypted.
    pub fn add_plain(&mut self, plain: &[u8]) {
        if !plain.is_empty() {
            let kept = self.0.get_or_insert_default();
            kept.plain.extend_from_slice(plain);
        }
    }

    /// Gives decrypted bytes to a reader, and says how many.
    pub fn read_plain(&mut self, memory: &mut [u8]) -> usize {
        let Some(kept) = &mut self.0 else {
            return 0;
        };
        let left = &kept.plain[kept.plain_read..];
        let bytes = left.len().min(memory.len());
        memory[..bytes].copy_from_slice(&left[..bytes]);
        kept.plain_read += bytes;
        if kept.plain_read == kept.plain.len() {
            kept.plain = Vec::new();
            kept.plain_read = 0;
        }
        self.let_go();
        bytes
    }

    /// Keeps these bytes of records, and no others.
    pub fn set_cipher(&mut self, cipher: Vec<u8>) {
        if !cipher.is_empty() || self.has_cipher() {
            self.0.get_or_insert_default().cipher = cipher;
            self.let_go();
        }
    }

    /// The bytes of records, which are kept no more.
    pub fn take_cipher(&mut self) -> Vec<u8> {
        let cipher = (self.0.as_mut()).map(|bytes| mem::take(&mut bytes.cipher));
        self.let_go();
        cipher.unwrap_or_default()
    }

    fn let_go(&mut self) {
        (self.0).take_if(|bytes| bytes.cipher.is_empty() && bytes.plain.is_empty());
    }
}

/// Where decrypted bytes go: into the reader's memory, and what does not fit is kept.
pub struct PlainSink<'b> {
    memory: &'b mut [u8],
    filled: usize,
}

impl<'b> PlainSink<'b> {
    /// With nothing in the memory yet.
    pub fn new(memory: &'b mut [u8]) -> Self {
        Self { memory, filled: 0 }
    }

    /// Takes what one record holds.
    pub fn take(&mut self, bytes: &[u8], kept: &mut KeptBytes) {
        let fits = bytes.len().min(self.memory.len() - self.filled);
        let (here, rest) = bytes.split_at(fits);
        self.memory[self.filled..self.filled + fits].copy_from_slice(here);
        self.filled += fits;
        kept.add_plain(rest);
    }

    /// Both in the memory.
    pub fn filled(&self) -> usize {
        self.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_leaves_nothing_behind() {
        let mut kept = KeptBytes::default();
        kept.add_plain(b"");
        kept.set_cipher(Vec::new());
        assert!(kept.0.is_none());
        kept.add_plain(b"abc");
        kept.set_cipher(b"record".to_vec());
        kept.add_plain(b"def");
        let mut memory = [0; 4];
        assert_eq!(kept.read_plain(&mut memory), 4);
        assert_eq!(&memory, b"abcd");
        assert!(kept.has_plain() && kept.has_cipher());
        assert_eq!(kept.take_cipher(), b"record");
        assert!(kept.has_plain() && !kept.has_cipher());
        assert_eq!(kept.read_plain(&mut memory), 2);
        assert_eq!(&memory[..2], b"ef");
        assert!(kept.0.is_none());
        assert_eq!(kept.read_plain(&mut memory), 0);
        assert_eq!(kept.take_cipher(), b"");
    }

    #[test]
    fn what_does_not_fit_is_kept() {
        let mut kept = KeptBytes::default();
        let mut memory = [0; 5];
        let mut sink = PlainSink::new(&mut memory);
        sink.take(b"abc", &mut kept);
        assert!(!kept.has_plain());
        sink.take(b"defg", &mut kept);
        sink.take(b"h", &mut kept);
        assert_eq!(sink.filled(), 5);
        assert_eq!(&memory, b"abcde");
        let mut rest = [0; 5];
        assert_eq!(kept.read_plain(&mut rest), 3);
        assert_eq!(&rest[..3], b"fgh");
    }
}
