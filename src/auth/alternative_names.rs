//! The names in a certificate's subjectAltName (RFC 5280 4.2.1.6), each read by itself: one that
//! breaks the rules, as a mail address with an umlaut does, takes nothing away from the others.

use x509_cert::Certificate;
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{Decode as _, Error, Reader as _, SliceReader};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The tag of an otherName: context-specific, constructed, 0.
const OTHER_NAME: u8 = 0xA0;
/// The tag of a dNSName: context-specific, primitive, 2.
const DNS_NAME: u8 = 0x82;

/// One of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// It is as its kind has to be.
    Read(GeneralName),
    /// It says that it is one of a kind of its own, and cannot be read.
    BadOtherName,
    /// It says that it is a name of DNS, and cannot be read.
    BadDnsName,
    /// One of another kind that cannot be read.
    Bad,
}

/// All of them, in their order; none where there is no such extension.
///
/// # Errors
/// The extension is no list.
pub fn of(certificate: &Certificate) -> Result<Vec<AlternativeName>, Error> {
    let extensions = certificate.tbs_certificate().extensions();
    let extension = extensions
        .into_iter()
        .flatten()
        .find(|extension| extension.extn_id == SubjectAltName::OID);
    let Some(extension) = extension else {
        return Ok(Vec::new());
    };
    let mut reader = SliceReader::new(extension.extn_value.as_bytes())?;
    reader.sequence::<_, _, Error>(|list| {
        let mut names = Vec::new();
        while !list.is_finished() {
            let bytes = list.tlv_bytes()?;
            names.push(match (GeneralName::from_der(bytes), bytes.first()) {
                (Ok(name), _) => AlternativeName::Read(name),
                (Err(_), Some(&OTHER_NAME)) => AlternativeName::BadOtherName,
                (Err(_), Some(&DNS_NAME)) => AlternativeName::BadDnsName,
                (Err(_), _) => AlternativeName::Bad,
            });
        }
        Ok(names)
    })
}
