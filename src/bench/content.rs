//! The content of the generator's files: a function of file number and offset, and cheap to send.
//!
//! One page of mixed bytes is laid end to end, and each file begins somewhere else in it. The
//! length of the page is a prime, and the page fits a core's cache. So copying it costs the
//! generator little, and bytes that were stored at a wrong multiple of any block are seen, because
//! no block or fragment size is a multiple of it.

use std::io::IoSlice;

/// The page all files are made of.
#[derive(Debug)]
pub struct Content {
    page: Vec<u8>,
}

impl Content {
    pub fn new() -> Self {
        let page = (0..PAGE_BYTES).map(|at| mix(at).to_le_bytes()[0]).collect();
        Self { page }
    }

    /// Appends to `slices` what stands in `file` from `offset` on: up to `bytes` bytes, in whole
    /// slices of the page. Returns how many bytes were appended.
    pub fn slices<'p>(
        &'p self,
        file: u64,
        offset: u64,
        bytes: u64,
        slices: &mut Vec<IoSlice<'p>>,
    ) -> u64 {
        let mut done = 0;
        while done < bytes {
            let piece = self.piece(file, offset + done, bytes - done);
            slices.push(IoSlice::new(piece));
            done += piece.len() as u64;
        }
        done
    }

    /// The first offset at which `stored`, read from `file` at `offset`, is not what was sent.
    pub fn first_difference(&self, file: u64, offset: u64, stored: &[u8]) -> Option<u64> {
        let mut done = 0;
        while done < stored.len() {
            let rest = &stored[done..];
            let piece = self.piece(file, offset + done as u64, rest.len() as u64);
            let rest = &rest[..piece.len()];
            if rest != piece {
                let same = rest.iter().zip(piece).take_while(|(a, b)| a == b).count();
                return Some(offset + (done + same) as u64);
            }
            done += piece.len();
        }
        None
    }

    /// The bytes from `offset` to the end of the page there, at most `bytes`.
    fn piece(&self, file: u64, offset: u64, bytes: u64) -> &[u8] {
        let start = (mix(file) % PAGE_BYTES + offset % PAGE_BYTES) % PAGE_BYTES;
        let end = PAGE_BYTES.min(start.saturating_add(bytes));
        let place = |at: u64| usize::try_from(at).expect("not beyond the page, which is in memory");
        &self.page[place(start)..place(end)]
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

/// A well mixed word for each input (the finisher of splitmix64).
fn mix(input: u64) -> u64 {
    let mut z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 2^19 - 1, the largest prime below 512 KiB.
const PAGE_BYTES: u64 = 524_287;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content, file: u64, offset: u64, length: u64) -> Vec<u8> {
        let mut slices = Vec::new();
        assert_eq!(content.slices(file, offset, length, &mut slices), length);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let content = Content::new();
        let whole = bytes(&content, 7, 0, 3 * PAGE_BYTES);
        for (offset, length) in [(0, 1), (PAGE_BYTES - 1, 2), (600_000, 900_000), (5, 0)] {
            let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
            assert_eq!(bytes(&content, 7, offset, length), &whole[range]);
        }
    }

    #[test]
    fn the_right_bytes_are_recognised_and_one_wrong_byte_is_found() {
        let content = Content::new();
        let mut stored = bytes(&content, 3, 1_000, 2_000_000);
        assert_eq!(content.first_difference(3, 1_000, &stored), None);
        stored[1_500_000] ^= 1;
        assert_eq!(content.first_difference(3, 1_000, &stored), Some(1_501_000));
    }

    #[test]
    fn other_files_and_other_blocks_differ() {
        let content = Content::new();
        let stored = bytes(&content, 1, 0, 4096);
        for (file, offset) in [(0, 0), (2, 0), (1, 4096), (1, 65_536), (1, 4 << 20)] {
            assert!(content.first_difference(file, offset, &stored).is_some());
        }
    }
}
