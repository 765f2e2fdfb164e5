//! Who may upload: files of users, groups and tokens in, a verdict out. Pure code.
//!
//! A request shows [`Credentials`](crate::http::authorization::Credentials). Tokens are looked up
//! by their digest, which costs next to nothing. A password must be tried against a hash that is
//! slow on purpose. That happens on threads of its own (`verify`), after [`memory`] was asked
//! whether the same was proven a moment ago, and [`throttle`] whether this client may try again.
//!
//! A ticket of Kerberos is looked at there too ([`negotiation`]); [`identity`] makes a user of the
//! name in it, and [`certificate`] of the one in a certificate.
//!
//! What the verdict is for a location stands in [`policy`]. The arrows: `accounts` <- `identity` <-
//! `certificate`, `policy`.
//!
//! From where somebody comes is for [`networks`] to judge, and for [`forwarded`] to find out where
//! proxies are in between.

pub mod accounts;
pub mod alternative_names;
pub mod certificate;
pub mod forwarded;
pub mod hash;
pub mod identity;
pub mod keytab;
pub mod memory;
pub mod negotiation;
pub mod networks;
pub mod policy;
pub mod throttle;
pub mod visitors;
