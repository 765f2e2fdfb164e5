//! What an administrator should know of certificates, authorities and revocations: something works,
//! but not for everybody, or not for long.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A certificate that expires within this time is warned of.
pub const SOON: Duration = Duration::from_secs(30 * DAY_S);

/// Seconds of a day.
pub const DAY_S: u64 = 86_400;

/// Why a certificate does not hold, or not for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// It expires in so many days.
    ExpiresSoon(u64),
}

impl Age {
    /// Of one that is valid from the one moment to the other; all in seconds since 1970.
    pub fn of(not_before_s: u64, not_after_s: u64, now_s: u64) -> Option<Self> {
        match not_after_s.saturating_sub(now_s) {
            0 => Some(Self::Expired),
            _ if now_s < not_before_s => Some(Self::NotYet),
            left_s if left_s < SOON.as_secs() => Some(Self::ExpiresSoon(left_s / DAY_S)),
            _ => None,
        }
    }
}

/// Something that works, but that an administrator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A certificate does not hold, or not for long; one that has expired has done so since it was
    /// read.
    Aged {
        /// Its file.
        chain: PathBuf,
        /// What is to be known.
        age: Age,
    },
    /// There is no name in a certificate.
    Nameless {
        /// Its file.
        chain: PathBuf,
    },
    /// A certificate may not be used by servers.
    NotForServers {
        /// Its file.
        chain: PathBuf,
    },
    /// Something is wrong with the rest of a chain.
    Behind {
        /// Its file.
        chain: PathBuf,
        /// What is to be known.
        what: OfChain,
    },
    /// Old clients of Windows cannot connect, or none where there is no RSA certificate either.
    NoEcdsa {
        /// There is one.
        has_rsa: bool,
    },
    /// Certificates of an authority do not count, or will not for long.
    Trust {
        /// The file of the authority, or of its list.
        file: PathBuf,
        /// The name of the authority.
        whose: String,
        /// What is to be known.
        what: OfTrust,
    },
}

/// What is to be known of what stands behind the first certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfChain {
    /// Some stand there, and none of them is this one, which has signed the first.
    Broken(String),
    /// None stands there any more; this one, which has signed the first, did before a reload.
    Shortened(String),
    /// This one does not hold, or not for long.
    Aged(String, Age),
}

/// What is to be known of an authority that vouches for clients, or of its list of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfTrust {
    /// It is no authority: its certificate signs no others.
    NoAuthority,
    /// Its certificate expires in so many days.
    ExpiresSoon(u64),
    /// Its certificate has expired.
    Expired,
    /// There is no list of its revocations.
    NoList,
    /// The list that has its name is not signed with its key.
    ForeignList,
    /// Its list expires in so many hours.
    ListExpiresSoon(u64),
    /// Its list has expired so many days ago.
    ListExpired(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aged { chain, age } => {
                let chain = chain.display();
                match age {
                    Age::ExpiresSoon(days) => {
                        let days = days_in_words(*days, "from now");
                        write!(
                            f,
                            "the certificate {chain} expires {days}: renew it, then `systemctl reload bitsd`"
                        )
                    }
                    Age::Expired => write!(
                        f,
                        "the certificate {chain} has expired, and clients refuse it: renew it, then `systemctl reload \
                         bitsd`"
                    ),
                    Age::NotYet => write!(
                        f,
                        "the certificate {chain} is not valid yet, and clients refuse it: look at the clock of this machine"
                    ),
                }
            }
            Self::Nameless { chain } => write!(
                f,
                "the certificate {} names no host (subjectAltName), and clients refuse it",
                chain.display()
            ),
            Self::NotForServers { chain } => write!(
                f,
                "the certificate {} is not one for servers (no serverAuth in its extendedKeyUsage), and clients refuse it",
                chain.display()
            ),
            Self::Behind { chain, what } => what.write(f, &chain.display()),
            Self::NoEcdsa { has_rsa } => write!(
                f,
                "{} cannot connect. Add an ECDSA certificate (P-256) beside, as docs/tls.md shows",
                match has_rsa {
                    true => "no certificate is an ECDSA one: Windows 7, 8.1 and Server 2012 R2",
                    false => "all certificates are Ed25519 ones: Windows",
                }
            ),
            Self::Trust { file, whose, what } => what.write(f, &file.display(), whose),
        }
    }
}

impl Doubt {
    /// A word for its kind.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Aged { age, .. } => match age {
                Age::ExpiresSoon(_) => "certificate_expires_soon",
                Age::Expired => "certificate_expired",
                Age::NotYet => "certificate_not_yet_valid",
            },
            Self::Nameless { .. } => "certificate_without_name",
            Self::NotForServers { .. } => "certificate_not_for_servers",
            Self::Behind { what, .. } => match what {
                OfChain::Broken(_) => "chain_broken",
                OfChain::Shortened(_) => "chain_shortened",
                OfChain::Aged(_, Age::ExpiresSoon(_)) => "chain_expires_soon",
                OfChain::Aged(_, Age::Expired) => "chain_expired",
                OfChain::Aged(_, Age::NotYet) => "chain_not_yet_valid",
            },
            Self::NoEcdsa { .. } => "no_ecdsa_certificate",
            Self::Trust { what, .. } => match what {
                OfTrust::NoAuthority => "authority_is_none",
                OfTrust::ExpiresSoon(_) => "authority_expires_soon",
                OfTrust::Expired => "authority_expired",
                OfTrust::NoList => "revocations_missing",
                OfTrust::ForeignList => "revocations_foreign",
                OfTrust::ListExpiresSoon(_) => "revocations_expire_soon",
                OfTrust::ListExpired(_) => "revocations_expired",
            },
        }
    }
}

impl OfChain {
    fn write(&self, f: &mut fmt::Formatter<'_>, chain: &dyn fmt::Display) -> fmt::Result {
        match self {
            Self::Broken(issuer) => write!(
                f,
                "none of the certificates behind the first one in {chain} has signed it, and clients may refuse it: \
                 put that of {issuer} there"
            ),
            Self::Shortened(issuer) => write!(
                f,
                "{chain} had the certificates of authorities behind the first one, and has none now: clients that do not \
                 know that of {issuer} refuse it (of certbot: fullchain.pem, not cert.pem)"
            ),
            Self::Aged(subject, Age::ExpiresSoon(days)) => {
                let when = days_in_words(*days, "from now");
                write!(
                    f,
                    "the certificate of {subject}, behind the first one in {chain}, expires {when}: put the one there \
                     that the authority has now, then `systemctl reload bitsd`"
                )
            }
            Self::Aged(subject, Age::Expired) => write!(
                f,
                "the certificate of {subject}, behind the first one in {chain}, has expired, and clients may refuse the \
                 chain: put the one there that the authority has now, then `systemctl reload bitsd`"
            ),
            Self::Aged(subject, Age::NotYet) => write!(
                f,
                "the certificate of {subject}, behind the first one in {chain}, is not valid yet, and clients may refuse \
                 the chain: look at the clock of this machine"
            ),
        }
    }
}

impl OfTrust {
    fn write(
        self,
        f: &mut fmt::Formatter<'_>,
        file: &dyn fmt::Display,
        whose: &str,
    ) -> fmt::Result {
        let refused = "whoever comes with a certificate of it is refused";
        match self {
            Self::NoAuthority => write!(
                f,
                "{file} holds the certificate of {whose}, which signs no others: client_ca takes the authority's own"
            ),
            Self::ExpiresSoon(days) => {
                let when = days_in_words(days, "from now");
                write!(f, "the authority {whose} in {file} expires {when}")
            }
            Self::Expired => write!(
                f,
                "the authority {whose} in {file} has expired; certificates of it count here all the same: take it out if \
                 they should not"
            ),
            Self::NoList => write!(
                f,
                "{file} has no list of revocations of {whose}, and {refused}: append its list"
            ),
            Self::ForeignList => write!(
                f,
                "the list of revocations of {whose} in {file} is not signed with the key in client_ca, and {refused}: \
                 that authority has another certificate now, or the list is of a namesake"
            ),
            Self::ListExpiresSoon(hours) => {
                let when = match hours {
                    0 => "in less than an hour".to_owned(),
                    1 => "in one hour".to_owned(),
                    hours => format!("in {hours} hours"),
                };
                write!(
                    f,
                    "the list of revocations of {whose} in {file} expires {when}, and then {refused}: fetch the next one, \
                     then `systemctl reload bitsd`"
                )
            }
            Self::ListExpired(days) => write!(
                f,
                "the list of revocations of {whose} in {file} has expired {}, and {refused}: fetch the newest one, then \
                 `systemctl reload bitsd`",
                days_in_words(days, "ago")
            ),
        }
    }
}

/// "2 days ago", "one day from now".
pub fn days_in_words(days: u64, ago: &str) -> String {
    match days {
        0 => format!("less than a day {ago}"),
        1 => format!("one day {ago}"),
        days => format!("{days} days {ago}"),
    }
}
