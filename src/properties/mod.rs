//! Properties that hold for any bytes, whoever sends them.
//!
//! ```text
//!   fuzz/ (libFuzzer, new bytes) ──┐
//!                                  ├─▶ ALL ─▶ head, connection, chunked, answer (http::properties)
//!   cargo test (fuzz/corpus) ──────┘          cron                              (schedule::properties)
//!                                             api, config, job, notices, query, state,
//!                                             supervisor,
//!                                             variables (here)
//! ```
//!
//! A property panics when it does not hold, which nothing else may do. Those of this room use
//! several other rooms; those that look inside of a room are in that room. k1s itself calls none:
//! they are built only with the feature `properties`, which dev-dependencies and `fuzz/` switch on.

mod api;
mod config;
pub mod exposition;
mod job;
mod notice;
mod query;
mod service;
pub mod sim;
mod state;
mod variables;

/// A property of bytes: panics when it does not hold for these.
pub type Property = fn(&[u8]);

/// All properties, by the name of their fuzz target, corpus and dictionary.
pub const ALL: [(&str, Property); 13] = [
    ("answer", crate::http::properties::check_answer),
    ("api", api::check_api),
    ("chunked", crate::http::properties::check_chunked),
    ("config", config::check_config),
    ("connection", crate::http::properties::check_connection),
    ("cron", crate::schedule::properties::check_cron),
    ("head", crate::http::properties::check_head),
    ("job", job::check_job),
    ("notices", notice::check_notices),
    ("query", query::check_query),
    ("state", state::check_state),
    ("supervisor", sim::check_supervisor),
    ("variables", variables::check_variables),
];

/// Checks the property with this name.
///
/// # Panics
/// When it does not hold, or when there is no such property.
pub fn check(name: &str, data: &[u8]) {
    let property = ALL.iter().find(|(known, _)| *known == name);
    assert!(property.is_some(), "there is no property {name}");
    if let Some((_, property)) = property {
        property(data);
    }
}
