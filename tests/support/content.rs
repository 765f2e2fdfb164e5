//! Contents of test files: a function of a seed and an offset, so that any byte can be checked
//! alone.

/// Bytes `start..end` of the file of `seed`.
pub fn content(seed: u64, start: u64, end: u64) -> Vec<u8> {
    (start..end).map(|offset| byte(seed, offset)).collect()
}

/// The byte at `offset` of the file of `seed`.
pub fn byte(seed: u64, offset: u64) -> u8 {
    let word = mix(seed ^ mix(offset / 8));
    word.to_le_bytes()[usize::try_from(offset % 8).unwrap()]
}

/// A well mixed word for each input (the finisher of splitmix64).
fn mix(input: u64) -> u64 {
    let mut z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
