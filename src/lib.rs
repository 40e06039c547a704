//! k1s: a process supervisor with a REST API.

pub mod job;
pub mod os;
pub mod schedule;
pub mod time;
pub mod timer;
