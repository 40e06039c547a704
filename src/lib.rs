//! k1s: a process supervisor with a REST API.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
pub mod job;
pub mod os;
pub mod properties;
pub mod schedule;
pub mod supervisor;
pub mod time;
pub mod timer;
