//! The protocol that is spoken: one there is, and it has one name.

/// "BITS 1.5 Upload Protocol", the only one there is (MC-BUP 1.7.1). Spelled as IIS answers it.
pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";
