//! Passwords that were found to be right a moment ago.
//!
//! An upload of 1 GiB comes in 258 requests, each with the same password. Compared with a hash of
//! bcrypt that would be half a minute of a core, which is why others remember successes too
//! (Apache's `mod_authn_socache`). What is kept is a keyed digest of name, password and hash: who
//! reads this memory cannot tell the password, and a line that changes in the users file is another
//! one at once. Failures are never kept.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::hash::PasswordHash;

/// Successes that are kept at the most. Beyond them one goes that chance chooses: keys are digests.
pub const KEPT_MAX: usize = 4_096;

/// What was right, and until when that is believed.
pub struct Memory {
    /// Made at start, and never told.
    secret: [u8; 32],
    until_ms: BTreeMap<[u8; 32], u64>,
}

/// A name and password, tried against a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim([u8; 32]);

impl Memory {
    /// An empty one, with 32 bytes that nobody knows.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            until_ms: BTreeMap::new(),
        }
    }

    /// What is asked and remembered.
    pub fn claim(&self, user: &str, password: &[u8], hash: &PasswordHash) -> Claim {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length will do");
        // Otherwise whoever knows a long one would know many that are right and not remembered.
        let password = hash.looks_at(password);
        // Neither a name nor a hash holds a zero, and of a password the length is told.
        for part in [user.as_bytes(), hash.as_str().as_bytes()] {
            mac.update(part);
            mac.update(&[0]);
        }
        mac.update(&password.len().to_le_bytes());
        mac.update(password);
        Claim(mac.finalize().into_bytes().into())
    }

    /// Whether this was right, not longer ago than it is believed.
    pub fn knows(&self, claim: Claim, now_ms: u64) -> bool {
        (self.until_ms.get(&claim.0)).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// This is right, and believed until then.
    pub fn keep(&mut self, claim: Claim, until_ms: u64) {
        self.until_ms.insert(claim.0, until_ms);
        while self.until_ms.len() > KEPT_MAX {
            self.until_ms.pop_first();
        }
    }

    /// Lets go of what is believed no more.
    pub fn clean_up(&mut self, now_ms: u64) {
        self.until_ms.retain(|_, until_ms| now_ms < *until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(salt: &str) -> PasswordHash {
        PasswordHash::parse(&format!(
            "$5${salt}$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0"
        ))
        .unwrap()
    }

    #[test]
    fn only_the_same_password_of_the_same_user_and_line_is_known() {
        let mut memory = Memory::new([7; 32]);
        let right = memory.claim("anna", b"sesame", &hash("a"));
        assert!(!memory.knows(right, 0));
        memory.keep(right, 100);
        assert!(memory.knows(right, 99) && !memory.knows(right, 100));
        for other in [
            memory.claim("bert", b"sesame", &hash("a")),
            memory.claim("anna", b"Sesame", &hash("a")),
            memory.claim("anna", b"sesame", &hash("b")),
            memory.claim("ann", b"asesame", &hash("a")),
            Memory::new([8; 32]).claim("anna", b"sesame", &hash("a")),
        ] {
            assert!(!memory.knows(other, 0));
        }
        memory.clean_up(100);
        assert!(memory.until_ms.is_empty());
    }

    #[test]
    fn what_the_hash_does_not_look_at_is_nothing_new() {
        let memory = Memory::new([7; 32]);
        let bcrypt = format!("$2y$04${}", "x".repeat(53));
        let bcrypt = PasswordHash::parse(&bcrypt).unwrap();
        let claim = |bytes: usize, hash| memory.claim("anna", &b"x".repeat(bytes), hash);
        assert_eq!(claim(72, &bcrypt), claim(73, &bcrypt));
        assert_ne!(claim(71, &bcrypt), claim(72, &bcrypt));
        assert_ne!(claim(72, &hash("a")), claim(73, &hash("a")));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut memory = Memory::new([7; 32]);
        for number in 0..2 * KEPT_MAX {
            let claim = memory.claim(&number.to_string(), b"x", &hash("a"));
            memory.keep(claim, 100);
        }
        assert_eq!(memory.until_ms.len(), KEPT_MAX);
    }
}
