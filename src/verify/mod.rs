//! What takes too long for a shard, on threads of its own: comparing a password with its hash takes
//! milliseconds to seconds, on purpose; looking at a Kerberos ticket writes a file.
//!
//! Two queues, so that a flood of wrong passwords does not hold up those who have tickets.
//!
//! The arrows: `fault` <- `gssapi`; `workers`, `gssapi` <- `tickets`.

pub mod fault;
pub mod gssapi;
pub mod tickets;
pub mod workers;

use std::io;

use crate::auth::hash::{Attempt, TooManyAttempts};
use crate::auth::keytab::Keytab;
use crate::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use tickets::{Acceptance, Tickets};
use workers::Workers;

/// The way to the threads.
#[derive(Clone, Debug)]
pub struct Verifier {
    hashes: Workers,
    tickets: Tickets,
}

impl Verifier {
    /// Without threads; whoever asks hears that too many do.
    pub fn idle() -> Self {
        Self {
            hashes: Workers::idle(),
            tickets: Tickets::new(Workers::idle()),
        }
    }

    /// Starts so many threads for each queue, in which so much may wait; they end with the last of
    /// the clones.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(threads: usize, queue_max: usize) -> io::Result<Self> {
        Ok(Self {
            hashes: Workers::start("verify", threads, queue_max)?,
            tickets: Tickets::new(Workers::start("tickets", threads, queue_max)?),
        })
    }

    /// Whether this is the password.
    ///
    /// # Errors
    /// [`TooManyAttempts`]
    pub async fn verify(&self, attempt: Attempt) -> Result<bool, TooManyAttempts> {
        let work = move || attempt.hash.verify(&attempt.password);
        self.hashes.run(work).await.map_err(|_| TooManyAttempts)
    }

    /// Whose ticket this is.
    ///
    /// # Errors
    /// [`NotNegotiated`]
    pub async fn negotiate(&self, leg: Leg) -> Result<Negotiated, NotNegotiated> {
        self.tickets.negotiate(leg).await
    }

    /// From now on tickets for these keys are taken; what cannot be done is told at the first
    /// ticket.
    pub fn accept_for(&self, acceptance: Acceptance) {
        self.tickets.accept_for(acceptance);
    }
}

/// Gets ready to take tickets for the keys of a keytab, which may be empty.
pub fn prepare(keytab: &Keytab) -> Acceptance {
    tickets::prepare(keytab)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use crate::auth::hash::PasswordHash;

    use super::*;

    /// Of `sesame`.
    const HASH: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";

    fn ask(verifier: &Verifier, password: &[u8]) -> Result<bool, TooManyAttempts> {
        let attempt = Attempt {
            password: Zeroizing::new(password.to_vec()),
            hash: PasswordHash::parse(HASH).unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(verifier.verify(attempt))
    }

    #[test]
    fn passwords_are_tried_elsewhere() {
        let verifier = Verifier::start(1, 8).unwrap();
        assert_eq!(ask(&verifier, b"sesame"), Ok(true));
        assert_eq!(ask(&verifier, b"other"), Ok(false));
        assert_eq!(ask(&Verifier::idle(), b"sesame"), Err(TooManyAttempts));
    }
}
