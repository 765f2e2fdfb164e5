//! Whose fault it is that a Kerberos ticket is not taken. 401 ends a job of BITS until a person
//! comes, so it is said only where the client is at fault.

use rustix::io::Errno;

/// Whether a client can do nothing about an error, of a status and in words: a replay cache that
/// cannot be written, keys that are older or younger than the ticket, no memory.
///
/// GSSAPI gives numbers of its own to what Kerberos says, so it is known by its words, which are
/// those of the locale C as long as nobody asks for another. Who makes up a ticket with such words
/// in it hears 503, and has won nothing.
pub fn is_ours(status: u32, why: &str) -> bool {
    let is_about_keys = matches!(status, NO_CRED | DEFECTIVE_CREDENTIAL);
    let is_of_the_system = OF_THE_SYSTEM.iter().any(|errno| {
        let words = std::io::Error::from(*errno).to_string();
        words
            .split(" (")
            .next()
            .is_some_and(|words| why.starts_with(words))
    });
    is_about_keys || is_of_the_system || OF_KERBEROS.iter().any(|words| why.contains(words))
}

// Of gssapi.h.
const NO_CRED: u32 = 7 << 16;
const DEFECTIVE_CREDENTIAL: u32 = 10 << 16;
/// What the replay cache and its folder may say.
const OF_THE_SYSTEM: [Errno; 10] = [
    Errno::PERM,
    Errno::NOENT,
    Errno::IO,
    Errno::NOMEM,
    Errno::ACCESS,
    Errno::NFILE,
    Errno::MFILE,
    Errno::NOSPC,
    Errno::ROFS,
    Errno::DQUOT,
];
/// The same by Kerberos, and what it says of a key that is not the one of the ticket.
const OF_KERBEROS: [&str; 3] = [
    "replay cache",
    "replay information",
    "is likely out of date",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_cannot_help_is_ours() {
        const FAILURE: u32 = 13 << 16;
        for (status, why, expected) in [
            (FAILURE, "Request is a replay", false),
            (FAILURE, "Clock skew too great", false),
            (FAILURE, "Ticket expired", false),
            (1 << 16, "An unsupported mechanism was requested", false),
            (NO_CRED, "No key table entry found", true),
            (FAILURE, "No such file or directory (filename: /x)", true),
            (FAILURE, "Permission denied", true),
            (FAILURE, "Cannot open Permission denied@X", false),
            (FAILURE, "Permission denied in replay cache code", true),
            (
                FAILURE,
                "Request ticket server HTTP/h@R kvno 3 not found in keytab; keytab is likely out of date",
                true,
            ),
        ] {
            assert_eq!(is_ours(status, why), expected, "{why}");
        }
    }
}
