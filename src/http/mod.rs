//! HTTP/1.1 without I/O.

pub mod chunked;
pub mod head;
pub mod path;
pub mod response;
