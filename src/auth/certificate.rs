//! From a client's certificate to the name of a user. The certificate was proven before (RFC 8446
//! 4.4.3), and an authority that is trusted has said whose it is; here it is only read.

use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::name::GeneralName;

use super::accounts::{Accounts, is_name};
use super::alternative_names::{self, AlternativeName};
use super::identity;

/// Where in a certificate a user's name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The user principal name that Active Directory writes into a user's certificate.
    SanUpn,
    /// The first name of DNS, as in a machine's certificate.
    SanDns,
    /// The common name of the subject.
    Cn,
    /// The whole certificate, which a file names a user for.
    Fingerprint,
}

impl Rule {
    /// Every one, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::SanUpn, Self::SanDns, Self::Cn, Self::Fingerprint];
    /// Their words.
    pub const WORDS: &[&str] = &[
        Self::SanUpn.word(),
        Self::SanDns.word(),
        Self::Cn.word(),
        Self::Fingerprint.word(),
    ];

    /// As it stands in the settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SanUpn => "san-upn",
            Self::SanDns => "san-dns",
            Self::Cn => "cn",
            Self::Fingerprint => "fingerprint",
        }
    }

    /// The one that is called so.
    pub fn from_word(word: &str) -> Option<Self> {
        (Self::ALL.into_iter()).find(|rule| rule.word() == word)
    }
}

/// Characters of a subject that are kept: clients choose how long theirs are.
const SUBJECT_CHARS_MAX: usize = 256;

/// SHA-256 of a certificate (DER).
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The subject of a certificate (DER), in the words of RFC 4514; empty if it has none.
pub fn subject_of(certificate: &[u8]) -> String {
    let parsed = Certificate::from_der(certificate);
    let subject = parsed.map(|parsed| parsed.tbs_certificate().subject().to_string());
    let subject = subject.unwrap_or_default();
    subject.chars().take(SUBJECT_CHARS_MAX).collect()
}

/// What stands where a rule looks, if anything does.
enum Found {
    /// A name.
    Name(String),
    /// Something that cannot be read as one: whose it is is not known, so no other place is asked.
    Unusable,
}

/// The user of a certificate (DER), by the first rule that finds something; `None` if that is no
/// name. Of a UPN the realm is left out where it is one of ours, so that a user is called alike by
/// certificate and by ticket.
pub fn user_of(
    certificate: &[u8],
    rules: &[Rule],
    realms: &[impl AsRef<str>],
    accounts: &Accounts,
) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let names = alternative_names::of(&parsed);
    let find = |rule: &Rule| match rule {
        Rule::SanUpn | Rule::SanDns => {
            let Ok(names) = &names else {
                return Some(Found::Unusable);
            };
            names
                .iter()
                .find_map(|name| alternative(rule, name, realms))
        }
        Rule::Cn => match parsed.tbs_certificate().subject().common_name() {
            Ok(common) => common.map(|name| Found::Name(name.value().into_owned())),
            Err(_) => Some(Found::Unusable),
        },
        Rule::Fingerprint => {
            let owner = accounts.owner_of_certificate(&fingerprint(certificate));
            owner.map(|user| Found::Name(user.to_string()))
        }
    };
    match rules.iter().find_map(find)? {
        // A colon, say, would make it another name in the files.
        Found::Name(user) => is_name(&user).then_some(user),
        Found::Unusable => None,
    }
}

/// What one of the alternative names is to a rule.
fn alternative(rule: &Rule, name: &AlternativeName, realms: &[impl AsRef<str>]) -> Option<Found> {
    Some(match (rule, name) {
        (Rule::SanUpn, AlternativeName::Read(GeneralName::OtherName(other)))
            if other.type_id == UPN =>
        {
            let text = other.value.decode_as::<Utf8StringRef<'_>>().ok();
            let user = text.and_then(|text| identity::user_of(text.as_str(), realms));
            user.map_or(Found::Unusable, |user| Found::Name(user.to_owned()))
        }
        (Rule::SanDns, AlternativeName::Read(GeneralName::DnsName(name))) => {
            Found::Name(name.to_string())
        }
        (Rule::SanUpn, AlternativeName::BadOtherName)
        | (Rule::SanDns, AlternativeName::BadDnsName) => Found::Unusable,
        _ => return None,
    })
}

/// szOID_NT_PRINCIPAL_NAME.
const UPN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.3");

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, OtherNameValue, SanType};

    use super::*;
    use crate::http::digest::Hex;

    fn certificate(names: Vec<SanType>, common: Option<&str>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        made.der().to_vec()
    }

    fn upn(name: &str) -> SanType {
        let oid = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
        SanType::OtherName((oid, OtherNameValue::Utf8String(name.to_owned())))
    }

    /// Other bytes in a certificate; nobody looks at the signature here.
    fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = memchr::memmem::find(&bytes, from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn the_first_rule_that_finds_a_name_counts() {
        use Rule::{Cn, Fingerprint, SanDns, SanUpn};
        let user = certificate(vec![dns("pc1.example"), upn("anna@EXAMPLE")], Some("Anna"));
        let machine = certificate(vec![dns("pc1.example"), dns("other")], Some("PC1"));
        let named = certificate(vec![], Some("Anna"));
        let nobody = certificate(vec![], None);
        let foreign = certificate(vec![upn("anna@other")], None);
        let odd = certificate(vec![upn("a@B"), dns("pc1.example")], Some("boss"));
        // An IA5String, where the principal name is a UTF8String.
        let odd = replaced(odd, b"\x0c\x03a@B", b"\x16\x03a@B");
        let mail = SanType::Rfc822Name("jarg@example".try_into().unwrap());
        let umlaut = certificate(
            vec![mail, upn("anna@EXAMPLE"), dns("pc1.example")],
            Some("boss"),
        );
        // As some authorities write it.
        let umlaut = replaced(umlaut, b"jarg@", b"j\xc3\xb6g@");
        let host = certificate(vec![dns("pcjarg.example"), upn("anna@EXAMPLE")], None);
        let host = replaced(host, b"jarg.", b"j\xc3\xb6g.");
        let bad = certificate(vec![upn("a:b")], Some("a\nb"));
        let line = format!("listed:{}\n", Hex(&Sha256::digest(&nobody)));
        let accounts = Accounts::default().with_certificates(&line).unwrap();
        for (certificate, rules, expected) in [
            (&user, &[SanUpn, SanDns, Cn][..], Some("anna")),
            (&user, &[SanDns, SanUpn], Some("pc1.example")),
            (&user, &[Cn], Some("Anna")),
            (&user, &[Fingerprint, Cn], Some("Anna")),
            (&machine, &[SanUpn, SanDns], Some("pc1.example")),
            (&named, &[SanUpn, SanDns], None),
            (&named, &[SanUpn, SanDns, Cn], Some("Anna")),
            (&nobody, &[SanUpn, SanDns, Cn], None),
            (&nobody, &[Cn, Fingerprint], Some("listed")),
            (&foreign, &[SanUpn], Some("anna@other")),
            (&bad, &[SanUpn], None),
            (&bad, &[Cn], None),
            // What cannot be a name is no reason to take the next place: it may be another's.
            (&bad, &[SanUpn, Cn], None),
            (&odd, &[SanUpn, Cn], None),
            (&odd, &[SanDns, Cn], Some("pc1.example")),
            // Of a kind that nobody asks for, it is.
            (&umlaut, &[SanUpn, SanDns, Cn], Some("anna")),
            (&umlaut, &[SanDns, Cn], Some("pc1.example")),
            (&host, &[SanUpn], Some("anna")),
            (&host, &[SanDns, SanUpn, Cn], None),
            (&b"no certificate".to_vec(), &Rule::ALL, None),
        ] {
            let found = user_of(certificate, rules, &["example"], &accounts);
            assert_eq!(found.as_deref(), expected, "{rules:?}");
        }
    }

    #[test]
    fn rules_have_words() {
        for (rule, word) in Rule::ALL.iter().zip(Rule::WORDS) {
            assert_eq!((rule.word(), Rule::from_word(word)), (*word, Some(*rule)));
        }
        assert_eq!(Rule::from_word("email"), None);
    }
}
