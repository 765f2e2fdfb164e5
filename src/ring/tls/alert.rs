//! What a peer hears that broke a rule where rustls has no word for it: an alert that no key has
//! sealed.

use rustls::{AlertDescription, Error, InvalidMessage};

/// The type of a record that holds an alert (RFC 8446 5.1).
pub const CONTENT_TYPE: u8 = 21;
/// The level of an alert after which nothing follows (RFC 8446 6).
const FATAL: u8 = 2;

/// A record with a fatal alert: its version is that of TLS 1.2, its length 2.
pub fn record(description: AlertDescription) -> [u8; 7] {
    [CONTENT_TYPE, 3, 3, 0, 2, FATAL, description.into()]
}

/// The alert for an error (RFC 8446 6.2), unless it is one of the peer's own, which is not
/// answered.
pub fn of(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::AlertReceived(_) => return None,
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => AlertDescription::RecordOverflow,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerMisbehaved(_) => AlertDescription::IllegalParameter,
        _ => AlertDescription::HandshakeFailure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_rfc_8446_has_it() {
        assert_eq!(
            record(AlertDescription::DecodeError),
            [21, 3, 3, 0, 2, 2, 50]
        );
    }

    #[test]
    fn an_alert_is_not_answered_and_all_else_is() {
        let received = Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert_eq!(of(&received), None);
        let empty = Error::InvalidMessage(InvalidMessage::IllegalEmptyValue);
        assert_eq!(of(&empty), Some(AlertDescription::DecodeError));
        let long = Error::InvalidMessage(InvalidMessage::MessageTooLarge);
        assert_eq!(of(&long), Some(AlertDescription::RecordOverflow));
        assert_eq!(
            of(&Error::General("x".into())),
            Some(AlertDescription::HandshakeFailure)
        );
    }
}
