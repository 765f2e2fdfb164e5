//! The outer shape of a Negotiate token (RFC 4559, RFC 4178, RFC 2743 3.1), looked at before a
//! library in C sees it.
//!
//! Only tokens of Kerberos pass. With one of NTLM an unauthenticated client could make the GSSAPI
//! of some distributions end the process: the plug-in for NTLM that may be installed there reads
//! beyond its memory. The library is told to take Kerberos only as well; this is the other lock.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The first of a conversation.
    First,
    /// A further one, which goes on with what was begun.
    Further,
}

/// A token that no library is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// NTLM, by itself or within SPNEGO: Windows falls back to it where it has no ticket.
    Ntlm,
    /// It offers other mechanisms, and no Kerberos.
    OtherMechanism,
    /// It is no token, or has bytes too many or too few.
    Malformed,
}

/// Looks at a token.
///
/// # Errors
/// [`BadToken`]
pub fn inspect(token: &[u8]) -> Result<Shape, BadToken> {
    if token.starts_with(NTLM) {
        return Err(BadToken::Ntlm);
    }
    let (tag, content, rest) = element(token)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    match tag {
        // [APPLICATION 0]: the mechanism's OID, then its own token.
        0x60 => {
            let (mechanism, inner) = expect(content, OID)?;
            if mechanism == KERBEROS {
                return Ok(Shape::First);
            }
            if mechanism != SPNEGO {
                return Err(BadToken::OtherMechanism);
            }
            first(inner)
        }
        // [1] NegTokenResp.
        0xa1 => further(content),
        _ => Err(BadToken::Malformed),
    }
}

/// NegTokenInit: what the client offers, best first, and a token of the first of them.
fn first(bytes: &[u8]) -> Result<Shape, BadToken> {
    let (choice, rest) = expect(bytes, 0xa0)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    let (mut fields, rest) = expect(choice, SEQUENCE)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    let mut offers_kerberos = false;
    while !fields.is_empty() {
        let (tag, field, rest) = element(fields)?;
        fields = rest;
        match tag {
            0xa0 => offers_kerberos = has_kerberos(field)?,
            0xa2 => refuse_ntlm(field)?,
            // Flags, a check of the list, hints.
            0xa1 | 0xa3 | 0xa4 => {}
            _ => return Err(BadToken::Malformed),
        }
    }
    match offers_kerberos {
        true => Ok(Shape::First),
        false => Err(BadToken::OtherMechanism),
    }
}

/// NegTokenResp: the state, what was agreed on, a token, a check of the list.
fn further(bytes: &[u8]) -> Result<Shape, BadToken> {
    let (mut fields, rest) = expect(bytes, SEQUENCE)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    while !fields.is_empty() {
        let (tag, field, rest) = element(fields)?;
        fields = rest;
        match tag {
            0xa2 => refuse_ntlm(field)?,
            0xa0 | 0xa1 | 0xa3 => {}
            _ => return Err(BadToken::Malformed),
        }
    }
    Ok(Shape::Further)
}

fn has_kerberos(field: &[u8]) -> Result<bool, BadToken> {
    let (mut list, rest) = expect(field, SEQUENCE)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    let mut found = false;
    while !list.is_empty() {
        let (mechanism, rest) = expect(list, OID)?;
        list = rest;
        found |= mechanism == KERBEROS || mechanism == KERBEROS_OF_MICROSOFT;
    }
    Ok(found)
}

fn refuse_ntlm(field: &[u8]) -> Result<(), BadToken> {
    let (token, rest) = expect(field, OCTETS)?;
    if !rest.is_empty() {
        return Err(BadToken::Malformed);
    }
    match token.starts_with(NTLM) {
        true => Err(BadToken::Ntlm),
        false => Ok(()),
    }
}

fn expect(bytes: &[u8], expected: u8) -> Result<(&[u8], &[u8]), BadToken> {
    match element(bytes)? {
        (tag, content, rest) if tag == expected => Ok((content, rest)),
        _ => Err(BadToken::Malformed),
    }
}

/// Tag, content and what follows, with a definite length of at most four bytes (X.690 8.1.3).
fn element(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), BadToken> {
    let [tag, length, rest @ ..] = bytes else {
        return Err(BadToken::Malformed);
    };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let digits = usize::from(*length & 0x7f);
            let (digits, rest) = rest.split_at_checked(digits).ok_or(BadToken::Malformed)?;
            let length = digits
                .iter()
                .fold(0_u64, |length, digit| length << 8 | u64::from(*digit));
            let length = usize::try_from(length).map_err(|_| BadToken::Malformed)?;
            (length, rest)
        }
        _ => return Err(BadToken::Malformed),
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(BadToken::Malformed)?;
    Ok((*tag, content, rest))
}

const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const NTLM: &[u8] = b"NTLMSSP\0";
/// 1.3.6.1.5.5.2
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
/// 1.2.840.113554.1.2.2
const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// 1.2.840.48018.1.2.2: the same by a slip of Windows 2000, which all others repeat.
const KERBEROS_OF_MICROSOFT: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.3.6.1.4.1.311.2.2.10
    const NTLM_OID: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut bytes = vec![tag];
        match u8::try_from(content.len()) {
            Ok(short @ ..=0x7f) => bytes.push(short),
            _ => {
                bytes.push(0x82);
                bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend(content);
        bytes
    }

    fn init(mechanisms: &[&[u8]], token: &[u8]) -> Vec<u8> {
        let list: Vec<_> = mechanisms.iter().map(|oid| tlv(OID, &[oid])).collect();
        let list = tlv(0xa0, &[&tlv(SEQUENCE, &[&list.concat()])]);
        let token = match token {
            b"" => Vec::new(),
            token => tlv(0xa2, &[&tlv(OCTETS, &[token])]),
        };
        let choice = tlv(0xa0, &[&tlv(SEQUENCE, &[&list, &token])]);
        tlv(0x60, &[&tlv(OID, &[SPNEGO]), &choice])
    }

    fn response(token: &[u8]) -> Vec<u8> {
        let state = tlv(0xa0, &[b"\x0a\x01\x01"]);
        let token = tlv(0xa2, &[&tlv(OCTETS, &[token])]);
        tlv(0xa1, &[&tlv(SEQUENCE, &[&state, &token])])
    }

    #[test]
    fn tokens_of_kerberos_pass() {
        let ticket = vec![7; 1000];
        for token in [
            tlv(0x60, &[&tlv(OID, &[KERBEROS]), b"\x01\x00", &ticket]),
            init(&[KERBEROS], &ticket),
            // As Windows offers them.
            init(&[KERBEROS_OF_MICROSOFT, KERBEROS, NTLM_OID], &ticket),
            init(&[NTLM_OID, KERBEROS], b""),
        ] {
            assert_eq!(inspect(&token), Ok(Shape::First), "{token:02x?}");
        }
        assert_eq!(inspect(&response(&ticket)), Ok(Shape::Further));
    }

    #[test]
    fn ntlm_does_not_pass_in_whatever_it_is_wrapped() {
        let ntlm = b"NTLMSSP\0\x01\0\0\0";
        for token in [
            ntlm.to_vec(),
            init(&[NTLM_OID], ntlm),
            init(&[KERBEROS, NTLM_OID], ntlm),
            response(ntlm),
        ] {
            assert_eq!(inspect(&token), Err(BadToken::Ntlm), "{token:02x?}");
        }
        for token in [
            init(&[NTLM_OID], b""),
            init(&[], b"x"),
            tlv(0x60, &[&tlv(OID, &[NTLM_OID]), ntlm]),
        ] {
            assert_eq!(inspect(&token), Err(BadToken::OtherMechanism));
        }
    }

    #[test]
    fn what_is_cut_or_longer_than_it_says_is_none() {
        let whole = init(&[KERBEROS], &[7; 200]);
        for end in 0..whole.len() {
            assert_eq!(inspect(&whole[..end]), Err(BadToken::Malformed), "{end}");
        }
        let longer = [&whole[..], b"x"].concat();
        for token in [
            &longer[..],
            b"",
            b"\x60",
            b"\x60\x80\x00\x00",
            b"\x60\x85\x00\x00\x00\x00\x00",
            b"\x60\x84\xff\xff\xff\xff",
            b"\x6e\x00",
            b"\xa1\x02\x31\x00",
        ] {
            assert_eq!(inspect(token), Err(BadToken::Malformed), "{token:02x?}");
        }
    }
}
