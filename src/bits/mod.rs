//! BITS without I/O.

pub mod packet;
pub mod range;
pub mod reply;
pub mod session;
pub mod session_id;
