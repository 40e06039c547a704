//! End-to-end tests.

/// The supervisor core, scene by scene, in a small text language.
mod script;
/// The supervisor core in a seeded world that does its worst.
mod sim;
