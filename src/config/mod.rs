//! Flags and settings file in, one resolved `Config` out; every setting and its default.
//!
//! Each setting is declared once, in `keys.rs`, whose head says how to add one: key,
//! default, bounds, meaning, where it may stand, whether a reload changes it. From that row come
//! its field, reading, flag, printing, documentation, schema and reload.
//!
//! The settings file is TOML, every key is optional, and flags win over it. What is wrong is
//! refused before anything starts, with file, line, column and what is allowed. Relative paths, in
//! flags and in the file, are relative to the directory `bitsd` is started in. What holds for an
//! upload may differ by the prefix of its URL ([`Location`]); a flag sets the global value, from
//! which a location may still depart. [`adopt`] says what a running server takes over from a file
//! that was read again.
//!
//! What is ours and what is not: `toml` parses, and gives each key and value with its place. Its
//! tree is walked by our rows instead of serde's derive, which stops at the first mistake in words
//! about variants and maps. `humantime` reads durations, `fluent-uri` URLs (strictly, unlike
//! `url`), `strsim` finds the key that was meant. `schemars` derives from types, which know neither
//! bounds nor units: the schema is made from the rows, by `serde_json`. Sizes are ours (`quantity`
//! says why); `thiserror` sets the messages.
//!
//! The arrows: `quantity`, `url`, `words`, `section` <- `shown` <- `complaint` <- `meant`,
//! `address` <- `form` <- `error` <- `secret` <- `table` <- `keys` <- `given` <- `file` <-
//! `resolve` <- `print`, `reference`, `reload`, `doubt`; tests/house.rs holds them.

mod address;
mod complaint;
mod doubt;
mod error;
mod file;
mod foreign;
mod form;
mod given;
mod keys;
mod listening;
mod location;
mod meant;
mod named;
mod object_store;
mod passed_over;
mod permissions;
mod print;
pub mod quantity;
mod reference;
mod reload;
mod resolve;
mod secret;
mod section;
mod shown;
mod table;
mod text;
mod url;
mod utf8;
mod words;

pub use error::ConfigError;
pub use file::{FILE_BYTES_MAX, SettingsFile};
pub use given::Flags;
pub use keys::{
    Access, AccountSettings, Certificate, Config, EventSettings, FREE_BYTES_MIN, Host, Limits,
    Listener, Location, Notification, ObjectStore, Policy, default_of, rows,
};
pub use permissions::Permissions;
pub use reference::{instead_of_iis, setting_like, settings_schema};
pub use reload::{CERTIFICATE, adopt, opens_old_addresses};
pub use resolve::Settled;
pub use secret::{ACCOUNTS_BYTES_MAX, Secret};
pub use section::Scope;
pub use table::Row;
pub use url::without_secrets;
pub use words::{
    ChannelBinding, Download, Durability, EmptyFile, Io, LogFormat, LogLevel, NoReplace,
    NotificationType, Persist, PrefixCase, ProxyProtocol, Publish, StoreAck, StoreKind, TlsVersion,
};

#[cfg(test)]
mod tests;
