//! Notifications to a server application: which kind, where to, and how long we wait (protocol section P9).

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::error::ConfigError;
use super::number::{
    NOTIFICATION_RETRIES, NOTIFICATION_TIMEOUT, NOTIFICATIONS_IN_FLIGHT_MAX, REPLY_BYTES_MAX,
    narrow,
};
use super::secret::Secret;
use super::settings_file::{RawShared, SettingsText};
use super::url::{NOTIFICATION_URL_TAKES, parse_notification_url};

/// How the server application gets the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationType {
    /// As the paths of two files (type 1 of IIS).
    ByReference,
    /// As the body of the request (type 2 of IIS).
    ByValue,
}

/// The server application that is notified of each upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// How it gets the upload.
    pub kind: NotificationType,
    /// An http or https URL, or one relative to the URL of the upload; at most 2,200 characters.
    pub url: String,
    /// From the first byte sent to the last one received.
    pub timeout: Duration,
    /// Further attempts after one that failed, before the client hears of it.
    pub retries: u32,
    /// What notifications are signed with.
    pub secret: Option<Secret>,
    /// Notifications on their way at the same time.
    pub in_flight_max: usize,
    /// Bytes of a reply.
    pub reply_bytes_max: u64,
}

impl Notification {
    /// `None` if the type is "none"; the other keys must be right nevertheless. The secret is read only where it is used.
    pub(super) fn resolve(
        raw: &RawShared,
        text: &SettingsText,
    ) -> Result<Option<Self>, ConfigError> {
        let url = text.parse(
            "notification_url",
            &raw.notification_url,
            parse_notification_url,
            NOTIFICATION_URL_TAKES,
        )?;
        let settings = Self {
            timeout: NOTIFICATION_TIMEOUT
                .resolve_duration(text.located(&raw.notification_timeout))?,
            retries: narrow(NOTIFICATION_RETRIES.resolve(text.located(&raw.notification_retries))?),
            in_flight_max: narrow(
                NOTIFICATIONS_IN_FLIGHT_MAX
                    .resolve(text.located(&raw.notifications_in_flight_max))?,
            ),
            reply_bytes_max: REPLY_BYTES_MAX.resolve(text.located(&raw.reply_bytes_max))?,
            ..Self::unused()
        };
        let Some((origin, word)) = text.located(&raw.notification_type) else {
            return Ok(None);
        };
        let Some(kind) = word.kind() else {
            return Ok(None);
        };
        let Some(url) = url else {
            let value = word.name();
            return Err(ConfigError::NoNotificationUrl { origin, value });
        };
        let secret = match text.located(&raw.notification_secret_file) {
            Some((origin, path)) if path != Path::new("") => Some(Secret::read(origin, path)?),
            _ => None,
        };
        Ok(Some(Self {
            kind,
            url,
            secret,
            ..settings
        }))
    }

    /// The defaults of the keys beside the type; what `bitsd check` shows where nobody is notified.
    pub(super) fn unused() -> Self {
        Self {
            kind: NotificationType::ByReference,
            url: String::new(),
            timeout: Duration::from_millis(NOTIFICATION_TIMEOUT.default),
            retries: narrow(NOTIFICATION_RETRIES.default),
            secret: None,
            in_flight_max: narrow(NOTIFICATIONS_IN_FLIGHT_MAX.default),
            reply_bytes_max: REPLY_BYTES_MAX.default,
        }
    }
}

/// `notification_type` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NotificationWord {
    None,
    ByReference,
    ByValue,
}

impl NotificationWord {
    /// Every value, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::None, Self::ByReference, Self::ByValue];

    /// The word of a location.
    pub fn of(notification: Option<&Notification>) -> Self {
        match notification.map(|notification| notification.kind) {
            None => Self::None,
            Some(NotificationType::ByReference) => Self::ByReference,
            Some(NotificationType::ByValue) => Self::ByValue,
        }
    }

    /// As it stands in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ByReference => "by-reference",
            Self::ByValue => "by-value",
        }
    }

    fn kind(self) -> Option<NotificationType> {
        match self {
            Self::None => None,
            Self::ByReference => Some(NotificationType::ByReference),
            Self::ByValue => Some(NotificationType::ByValue),
        }
    }
}
