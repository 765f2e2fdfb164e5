//! Which build this is.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from and that commit's date, as far as `build.rs` found out.
pub const BUILD: &str = env!("BITSD_BUILD");
/// Both, and what is in it beside the server, for `bitsd --version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("BITSD_BUILD"),
    "; with ",
    env!("BITSD_FEATURES"),
    ")"
);
