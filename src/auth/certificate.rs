//! From a client's certificate to the name of a user. The certificate was proven before (RFC 8446
//! 4.4.3), and an authority that is trusted has said whose it is; here it is only read.

use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::accounts::{Accounts, is_name};
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

/// The user of a certificate (DER), by the first rule that finds a name. Of a UPN the realm is left
/// out where it is one of ours, so that a user is called alike by certificate and by ticket.
pub fn user_of(
    certificate: &[u8],
    rules: &[Rule],
    realms: &[impl AsRef<str>],
    accounts: &Accounts,
) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let names = (parsed.tbs_certificate())
        .get_extension::<SubjectAltName>()
        .ok()
        .flatten()
        .map_or_else(Vec::new, |(_, names)| names.0);
    let find = |rule: &Rule| match rule {
        Rule::SanUpn => {
            let upn = names.iter().find_map(upn)?;
            identity::user_of(&upn, realms).map(str::to_owned)
        }
        Rule::SanDns => names.iter().find_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        }),
        Rule::Cn => {
            let common = parsed.tbs_certificate().subject().common_name();
            common.ok().flatten().map(|name| name.value().into_owned())
        }
        Rule::Fingerprint => {
            let fingerprint = fingerprint(certificate);
            accounts
                .owner_of_certificate(&fingerprint)
                .map(|user| user.to_string())
        }
    };
    let found = rules.iter().find_map(find);
    // A colon, say, would make it another name in the files.
    found.filter(|user| is_name(user))
}

fn upn(name: &GeneralName) -> Option<String> {
    let GeneralName::OtherName(other) = name else {
        return None;
    };
    let text = (other.type_id == UPN).then(|| other.value.decode_as::<Utf8StringRef<'_>>());
    text?.ok().map(|text| text.to_string())
}

/// szOID_NT_PRINCIPAL_NAME.
const UPN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.3");

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, OtherNameValue, SanType};

    use super::*;
    use crate::auth::accounts::render_digest;

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
        let bad = certificate(vec![upn("a:b")], Some("a\nb"));
        let line = format!(
            "listed:{}\n",
            render_digest(&Sha256::digest(&nobody).into())
        );
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
