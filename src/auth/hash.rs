//! Hashes of passwords, as `htpasswd` writes them.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash as Phc;
use sha_crypt::ShaCrypt;
use zeroize::Zeroizing;

/// Rounds that bcrypt may have, as a power of two: 2^16 take some ten seconds.
const BCRYPT_COST_MAX: u32 = 16;
/// Bytes of a password that bcrypt looks at.
const BCRYPT_BYTES_MAX: usize = 72;
/// Memory that one attempt with argon2 may take, in KiB, and its passes.
const ARGON2_KIB_MAX: u32 = 256 << 10;
const ARGON2_PASSES_MAX: u32 = 100;
/// Rounds that SHA-crypt may have; ten times what is usual for a high number.
const SHA_ROUNDS_MAX: u32 = 5_000_000;

/// A hash that passwords can be tried against.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: String,
    kind: Kind,
    /// What an attempt costs, roughly in milliseconds.
    cost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Argon2,
    Sha,
}

/// A password, to be tried against a hash.
#[derive(Debug)]
pub struct Attempt {
    /// The password.
    pub password: Zeroizing<Vec<u8>>,
    /// The hash.
    pub hash: PasswordHash,
}

/// As many attempts wait as may; nothing is known about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts;

/// Why a hash is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHash {
    /// MD5 of Apache.
    Md5,
    /// SHA-1 without salt.
    Sha1,
    /// It begins as none that we know: a plain password, or crypt(3).
    Unknown,
    /// It begins as one, and goes on otherwise.
    Malformed,
    /// An attempt would take too long, or too much memory.
    TooCostly,
}

impl fmt::Display for BadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "the hash is MD5 ($apr1$), which is guessed too fast: `htpasswd -B` makes a good one",
            Self::Sha1 => "the hash is SHA-1 ({SHA}), which is guessed too fast: `htpasswd -B` makes a good one",
            Self::Unknown => {
                "there is no hash of bcrypt, argon2id or SHA-crypt behind the name: `htpasswd -B` makes one"
            }
            Self::Malformed => "the hash is damaged: `htpasswd -B` makes a new one",
            Self::TooCostly => "the hash takes too long or too much memory to compare with: `htpasswd -B -C 10` makes one that does not",
        })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl PasswordHash {
    /// Reads one: `$2y$..` (bcrypt), `$argon2id$..`, `$5$..` and `$6$..` (SHA-crypt).
    ///
    /// # Errors
    /// [`BadHash`]
    pub fn parse(text: &str) -> Result<Self, BadHash> {
        let (kind, cost) = if text.starts_with("$apr1$") {
            return Err(BadHash::Md5);
        } else if text.starts_with("{SHA}") {
            return Err(BadHash::Sha1);
        } else if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|id| text.starts_with(id))
        {
            (Kind::Bcrypt, bcrypt_cost(text)?)
        } else if text.starts_with("$argon2id$") {
            (Kind::Argon2, argon2_cost(text)?)
        } else if text.starts_with("$5$") || text.starts_with("$6$") {
            (Kind::Sha, sha_cost(text)?)
        } else {
            return Err(BadHash::Unknown);
        };
        let text = text.to_owned();
        Ok(Self { text, kind, cost })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What an attempt costs, compared with those of other hashes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// What of a password an attempt looks at: the rest of it may be anything.
    pub fn looks_at<'a>(&self, password: &'a [u8]) -> &'a [u8] {
        let bytes_max = match self.kind {
            Kind::Bcrypt => BCRYPT_BYTES_MAX,
            Kind::Argon2 | Kind::Sha => usize::MAX,
        };
        &password[..password.len().min(bytes_max)]
    }

    /// Whether this is the password. Takes milliseconds to seconds: not for a shard.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self.kind {
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Argon2 => {
                (Argon2::default().verify_password(password, self.text.as_str())).is_ok()
            }
            Kind::Sha => {
                (ShaCrypt::default().verify_password(password, self.text.as_str())).is_ok()
            }
        }
    }
}

/// Of the 64 digits that bcrypt and SHA-crypt write hashes with, each in an order of its own.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"./".contains(&byte)
}

/// `$2y$10$`, then 53 characters of salt and hash.
fn bcrypt_cost(text: &str) -> Result<u64, BadHash> {
    let rest = text.get(4..).ok_or(BadHash::Malformed)?;
    let (cost, hash) = rest.split_once('$').ok_or(BadHash::Malformed)?;
    if cost.len() != 2 || hash.len() != 53 || !hash.bytes().all(is_digit) {
        return Err(BadHash::Malformed);
    }
    match cost.parse::<u32>() {
        // 2^10 rounds take about 100 ms.
        Ok(cost @ 4..=BCRYPT_COST_MAX) => Ok((1 << cost) / 10),
        Ok(_) => Err(BadHash::TooCostly),
        Err(_) => Err(BadHash::Malformed),
    }
}

fn argon2_cost(text: &str) -> Result<u64, BadHash> {
    let hash = Phc::new(text).map_err(|_| BadHash::Malformed)?;
    let params = argon2::Params::try_from(&hash).map_err(|_| BadHash::Malformed)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(BadHash::Malformed);
    }
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory > ARGON2_KIB_MAX || passes > ARGON2_PASSES_MAX {
        return Err(BadHash::TooCostly);
    }
    // 19 MiB and two passes take about 30 ms.
    Ok(u64::from(memory) * u64::from(passes) / 1_300 + 1)
}

/// `$6$`, perhaps `rounds=N$`, salt, `$`, hash.
fn sha_cost(text: &str) -> Result<u64, BadHash> {
    let parts: Vec<_> = text[3..].split('$').collect();
    let (rounds, salt, hash) = match *parts {
        [salt, hash] => (5_000, salt, hash),
        [rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").ok_or(BadHash::Malformed)?;
            (rounds.parse().map_err(|_| BadHash::Malformed)?, salt, hash)
        }
        _ => return Err(BadHash::Malformed),
    };
    let hash_len = if text.starts_with("$5$") { 43 } else { 86 };
    if salt.len() > 16 || hash.len() != hash_len || !hash.bytes().all(is_digit) {
        return Err(BadHash::Malformed);
    }
    if rounds > SHA_ROUNDS_MAX {
        return Err(BadHash::TooCostly);
    }
    // 5,000 rounds take about 1.3 ms.
    Ok(u64::from(rounds) / 4_000 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `sesame`, made by Apache's htpasswd (`-nbB -C 4`, `-nb5`, `-nb2`) and by argon2(1).
    pub const BCRYPT: &str = "$2y$04$/FLdgVBgKbHKQmjZY1JisOCmDrrqFxKdodD7DQfqTT9PalXLnPMyO";
    pub const SHA512: &str = "$6$SDix/.VDlskym7vb$2pBzWH52X2.e.oz4HzudKHKY/nva3qSOWMvrWSc6apME6n8X01g8k/.pCRfQWlEaxeahPNCEgJPOl9dCZSQxA.";
    pub const SHA256: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";
    pub const ARGON2: &str =
        "$argon2id$v=19$m=4096,t=3,p=1$c2FsdHNhbHQ$bC5tdD2B6Wf26jfFOrpjTMyzu/nhCcksYusCwFD9nRQ";

    #[test]
    fn passwords_are_tried() {
        for text in [BCRYPT, SHA256, SHA512, ARGON2] {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.verify(b"sesame"), "{text}");
            assert!(!hash.verify(b"Sesame") && !hash.verify(b""), "{text}");
            assert!(!format!("{hash:?}").contains("04$"), "a hash is not shown");
        }
    }

    #[test]
    fn what_a_hash_does_not_look_at_may_be_anything() {
        let long = [b'x'; BCRYPT_BYTES_MAX];
        let longer = [&long[..], b"1"].concat();
        let bcrypt = PasswordHash::parse(&bcrypt::hash(long, 4).unwrap()).unwrap();
        assert!(bcrypt.verify(&long) && bcrypt.verify(&longer) && !bcrypt.verify(&long[1..]));
        assert_eq!(bcrypt.looks_at(&longer), long);
        assert_eq!(bcrypt.looks_at(b"sesame"), b"sesame");
        for text in [SHA256, SHA512, ARGON2] {
            let hash = PasswordHash::parse(text).unwrap();
            assert_eq!(hash.looks_at(&longer), longer, "{text}");
        }
    }

    #[test]
    fn weak_hashes_and_damaged_ones_are_refused() {
        let argon2_of =
            |memory, passes| ARGON2.replacen("m=4096,t=3", &format!("m={memory},t={passes}"), 1);
        for (text, why) in [
            ("$apr1$salt$0123456789012345678901", BadHash::Md5),
            ("{SHA}IRRjboXT92QSYXm8lpGPCZUvU1E=", BadHash::Sha1),
            ("sesame", BadHash::Unknown),
            ("rqXexS6ZhobKA", BadHash::Unknown),
            ("", BadHash::Unknown),
            ("$2x$10$", BadHash::Unknown),
            (
                "$argon2i$v=19$m=4096,t=3,p=1$c2FsdHNhbHQ$aGFzaA",
                BadHash::Unknown,
            ),
            ("$2y$", BadHash::Malformed),
            (&BCRYPT[..BCRYPT.len() - 1], BadHash::Malformed),
            (&BCRYPT.replacen("$04$", "$4$", 1), BadHash::Malformed),
            (&BCRYPT.replacen("$04$", "$17$", 1), BadHash::TooCostly),
            (&BCRYPT.replacen("$04$", "$03$", 1), BadHash::TooCostly),
            ("$argon2id$v=19$m=4096,t=3,p=1", BadHash::Malformed),
            (&argon2_of(1 << 20, 3), BadHash::TooCostly),
            (&argon2_of(4096, 1000), BadHash::TooCostly),
            ("$6$salt", BadHash::Malformed),
            ("$6$salt$short", BadHash::Malformed),
            (
                &SHA512.replacen("$6$", "$6$round=1$", 1),
                BadHash::Malformed,
            ),
            (
                &SHA512.replacen("$6$", "$6$rounds=999999999$", 1),
                BadHash::TooCostly,
            ),
        ] {
            assert_eq!(PasswordHash::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn what_takes_longer_costs_more() {
        let cost = |text: &str| PasswordHash::parse(text).unwrap().cost();
        assert!(
            cost(&BCRYPT.replacen("$04$", "$12$", 1)) > cost(&BCRYPT.replacen("$04$", "$10$", 1))
        );
        assert!(cost(&BCRYPT.replacen("$04$", "$10$", 1)) > cost(SHA512));
    }
}
