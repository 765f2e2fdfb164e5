//! The name of a session: 128 bits, unguessable, and telling which shard owns it.
//!
//! To a client it is opaque. Whoever knows it may write to the session, so it comes from the
//! system's randomness, and 114 to 122 of its bits nobody can guess (the more shards, the fewer):
//! six are the version's, and to us its first byte also names the owner. So any shard finds the
//! owner of any session without a shared map, and still finds one after a restart with fewer
//! shards.
//!
//! We write it in one way, with braces and in upper case, as IIS does. We read it in any case, with
//! or without braces (protocol.md 1.6, 1.7).

use std::fmt;

use uuid::Uuid;
use uuid::fmt::{Braced, Hyphenated};

/// A session id: a version 4 UUID whose first byte also names the owning shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Bytes of the text form: 32 digits, 4 hyphens, 2 braces.
    pub const TEXT_LEN: usize = Braced::LENGTH;

    /// Makes an id owned by `shard` of `shards` from 16 random bytes. `shards` is 1..=256 and
    /// `shard < shards`.
    ///
    /// The first byte of the id is nearly uniform over the bytes that name the shard; the rest is
    /// `random` but for the six version bits.
    ///
    /// # Panics
    /// If `shards` or `shard` is out of its bounds.
    pub fn mint(mut random: [u8; 16], shard: usize, shards: usize) -> Self {
        assert!(
            (1..=SHARDS_MAX).contains(&shards) && shard < shards,
            "no shard {shard} of {shards}"
        );
        // The owner's bytes are shard, shard + shards, ..: the random byte picks one of them.
        let owned = (SHARDS_MAX - 1 - shard) / shards + 1;
        let picked = shard + usize::from(random[0]) * owned / SHARDS_MAX * shards;
        random[0] = u8::try_from(picked).expect("shard + (owned - 1) * shards <= 255");
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The owner among `shards` shards: the first byte modulo `shards`. Any id has one, minted here
    /// or not.
    ///
    /// # Panics
    /// If `shards` is not 1..=256.
    pub fn shard(self, shards: usize) -> usize {
        assert!(
            (1..=SHARDS_MAX).contains(&shards),
            "an id cannot tell {shards} shards apart"
        );
        usize::from(self.0.as_bytes()[0]) % shards
    }

    /// Reads what a client sends: any case, with or without braces. `None` if it is no GUID (then
    /// it is no session of ours).
    ///
    /// The other forms of a UUID (without hyphens, or as a URN) are nobody's spelling here, and
    /// refused.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let plain = match text {
            [b'{', plain @ .., b'}'] => plain,
            plain => plain,
        };
        // At this length only the hyphenated form is possible.
        if plain.len() != Hyphenated::LENGTH {
            return None;
        }
        Uuid::try_parse_ascii(plain).ok().map(Self)
    }

    /// The text on the wire, written into a buffer of the caller: for answers, which do not
    /// allocate.
    pub fn encode(self, buffer: &mut [u8; Self::TEXT_LEN]) -> &str {
        self.0.braced().encode_upper(buffer)
    }

    /// Upper case without braces: for file names.
    pub fn plain(self) -> impl fmt::Display {
        Plain(self.0.hyphenated())
    }

    /// Reads what [`SessionId::plain`] writes, and no other spelling.
    pub fn parse_plain(text: &str) -> Option<Self> {
        let id = Self::parse(text.as_bytes())?;
        let is_exact = (id.0.hyphenated()).encode_upper(&mut [0; Hyphenated::LENGTH]) == text;
        is_exact.then_some(id)
    }

    /// The id as a number, most significant byte first: for records.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads back what [`SessionId::as_u128`] gave.
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

/// On the wire: braced, upper case.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; Self::TEXT_LEN]))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Plain(Hyphenated);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.encode_upper(&mut [0; Hyphenated::LENGTH]))
    }
}

/// As many as one byte can name.
const SHARDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IIS: &str = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}";

    #[test]
    fn the_wire_form_is_braced_and_upper_case_and_a_file_name_is_not_braced() {
        let id = SessionId::parse(IIS.to_lowercase().as_bytes()).unwrap();
        assert_eq!(id.to_string(), IIS);
        assert_eq!(id.encode(&mut [0; SessionId::TEXT_LEN]), IIS);
        assert_eq!(format!("{id:?}"), IIS);
        assert_eq!(
            id.plain().to_string(),
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A67"
        );
        assert_eq!(id.as_u128(), 0xA0FF_5911_4144_45B3_BF27_27AF_C8EC_8A67);
    }

    #[test]
    fn any_case_is_read_with_both_braces_or_none() {
        let id = SessionId::parse(IIS.as_bytes());
        assert!(id.is_some());
        for text in [
            "{a0ff5911-4144-45b3-bf27-27afc8ec8a67}",
            "{a0FF5911-4144-45B3-bf27-27AFC8ec8a67}",
            "a0ff5911-4144-45b3-bf27-27afc8ec8a67",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
        ] {
            assert_eq!(SessionId::parse(text.as_bytes()), id, "{text}");
        }
    }

    #[test]
    fn other_forms_of_a_uuid_are_no_session_of_ours() {
        for text in [
            "",
            "{}",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A67}",
            "{{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}}",
            "}A0FF5911-4144-45B3-BF27-27AFC8EC8A67{",
            "(A0FF5911-4144-45B3-BF27-27AFC8EC8A67)",
            "A0FF5911414445B3BF2727AFC8EC8A67",
            "{A0FF5911414445B3BF2727AFC8EC8A67}",
            "urn:uuid:A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "A0FF59114-144-45B3-BF27-27AFC8EC8A67",
            "A0FF5911-4144-45B3-BF2727-AFC8EC8A67",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A6",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A678",
            "G0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67} ",
            "+0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A\u{e9}",
        ] {
            assert_eq!(SessionId::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    /// Every first byte, shard and number of shards there is.
    #[test]
    fn a_minted_id_is_owned_by_its_shard_and_may_take_every_byte_of_that_shard() {
        for shards in 1..=256 {
            for shard in 0..shards {
                let mut taken = [0u32; 256];
                for first in 0..=255 {
                    let mut random = [0; 16];
                    random[0] = first;
                    let id = SessionId::mint(random, shard, shards);
                    assert_eq!(id.shard(shards), shard);
                    taken[usize::from(id.0.as_bytes()[0])] += 1;
                }
                let owned: Vec<u32> = taken.into_iter().skip(shard).step_by(shards).collect();
                let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
                assert_eq!(owned.iter().sum::<u32>(), 256);
                assert!(
                    *least >= 1 && most - least <= 1,
                    "uneven: shard {shard} of {shards}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "no shard 2 of 2")]
    fn a_shard_that_does_not_exist_owns_nothing() {
        SessionId::mint([0; 16], 2, 2);
    }

    #[test]
    #[should_panic(expected = "no shard 0 of 257")]
    fn more_shards_than_a_byte_can_name_are_a_mistake() {
        SessionId::mint([0; 16], 0, 257);
    }

    #[test]
    #[should_panic(expected = "cannot tell 0 shards apart")]
    fn no_shards_are_a_mistake() {
        SessionId::from_u128(0).shard(0);
    }

    fn is_a_guid(text: &[u8]) -> bool {
        let braced = text.len() == 38 && text[0] == b'{' && text[37] == b'}';
        let plain = if braced { &text[1..37] } else { text };
        plain.len() == 36
            && plain.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => b"0123456789abcdefABCDEF".contains(byte),
            })
    }

    proptest! {
        #[test]
        fn a_minted_id_is_a_version_4_uuid_and_keeps_the_other_random_bits(random: [u8; 16], shards in 1usize..=256, n: usize) {
            let id = SessionId::mint(random, n % shards, shards);
            let bytes = id.0.into_bytes();
            prop_assert_eq!(bytes[6] >> 4, 4);
            prop_assert_eq!(bytes[8] >> 6, 0b10);
            prop_assert_eq!(bytes[6] & 0x0F, random[6] & 0x0F);
            prop_assert_eq!(bytes[8] & 0x3F, random[8] & 0x3F);
            prop_assert_eq!(&bytes[1..6], &random[1..6]);
            prop_assert_eq!(bytes[7], random[7]);
            prop_assert_eq!(&bytes[9..], &random[9..]);
        }

        #[test]
        fn what_is_written_is_read_back(number: u128) {
            let id = SessionId::from_u128(number);
            prop_assert_eq!(SessionId::parse(id.to_string().as_bytes()), Some(id));
            prop_assert_eq!(SessionId::parse(id.plain().to_string().as_bytes()), Some(id));
            prop_assert_eq!(id.as_u128(), number);
        }

        #[test]
        fn arbitrary_bytes_are_an_id_only_if_they_are_a_guid(text: Vec<u8>) {
            prop_assert_eq!(SessionId::parse(&text).is_some(), is_a_guid(&text));
        }

        #[test]
        fn near_guids_are_an_id_only_if_they_are_a_guid(
            text in "\\{?[0-9A-Fa-f]{8}-?[0-9a-g]{4}-[0-9A-F]{4}-?[0-9A-F]{4}-[0-9A-F]{11,12}\\}?",
        ) {
            prop_assert_eq!(SessionId::parse(text.as_bytes()).is_some(), is_a_guid(text.as_bytes()));
        }
    }
}
