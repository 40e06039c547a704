//! What holds for any bytes at all, whoever sends them.
//!
//! ```text
//!   fuzz/ (libFuzzer, new bytes) ──┐
//!                                  ├─▶ ALL ─▶ head, connection, chunked   (http::properties)
//!   cargo test (fuzz/corpus) ──────┘          cron                        (schedule::properties)
//!                                             api, config, job, supervisor (here)
//! ```
//!
//! A property panics when it does not hold, which nothing else in the house may do. The ones of
//! this room see several rooms at once; those that look inside of one live there. None is called
//! by k1s itself: they are built with the feature `properties` alone, which dev-dependencies and
//! `fuzz/` switch on.

mod api;
mod config;
pub mod exposition;
mod job;
mod service;
pub mod sim;

/// A property of bytes: panics when it does not hold for these.
pub type Property = fn(&[u8]);

/// Every property by the name of its fuzz target, its corpus and its dictionary.
pub const ALL: [(&str, Property); 8] = [
    ("api", api::check_api),
    ("chunked", crate::http::properties::check_chunked),
    ("config", config::check_config),
    ("connection", crate::http::properties::check_connection),
    ("cron", crate::schedule::properties::check_cron),
    ("head", crate::http::properties::check_head),
    ("job", job::check_job),
    ("supervisor", sim::check_supervisor),
];

/// Checks the property of this name.
///
/// # Panics
/// When it does not hold, or when there is none.
pub fn check(name: &str, data: &[u8]) {
    let property = ALL.iter().find(|(known, _)| *known == name);
    assert!(property.is_some(), "there is no property {name}");
    if let Some((_, property)) = property {
        property(data);
    }
}
