//! End-to-end tests.

/// The supervisor core, scene by scene, in a small text language.
mod script;
