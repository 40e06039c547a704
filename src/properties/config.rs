//! The config: what [`crate::config::parse`] accepts means what `k1s check` shows, and starts.

use std::path::Path;

use crate::config::{self, Environment, Settings};
use crate::job::HIDDEN;
use crate::supervisor::{self, Supervisor};
use crate::time::Now;

/// An accepted text is described as TOML that means the same, and all of its jobs can be created.
/// The error for a refused one is a line that names a line of the text.
pub(super) fn check_config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data.get(..LONGEST).unwrap_or(data)) else {
        return;
    };
    match config::parse(text, FILE, &environment()) {
        Ok(settings) => {
            check_described(&settings);
            check_starts(settings);
        }
        Err(error) => check_place(text, &error.to_string()),
    }
}

/// The description means the same as the settings, without the token and secrets.
fn check_described(settings: &Settings) {
    let described = config::describe(settings);
    let again = config::parse(&described, FILE, &environment());
    let Ok(mut again) = again else {
        unreachable!("{again:?}\n{described}");
    };
    if settings.http.token_origin == config::TokenOrigin::Key {
        assert!(!described.contains("auth_token ="), "{described}");
        again.http.token = settings.http.token.clone();
        again.http.token_origin = settings.http.token_origin.clone();
    }
    let mut expected = settings.clone();
    for (_, spec) in &mut expected.jobs {
        for name in &spec.secret_environment {
            if let Some(value) = spec.command.environment.get_mut(name) {
                *value = HIDDEN.to_owned();
            }
        }
    }
    assert_eq!(again, expected, "{described}");
}

fn check_starts(settings: Settings) {
    let now = Now::default();
    let mut supervisor = Supervisor::new(
        supervisor::Settings {
            instance: "k".into(),
            job_limit: settings.max_jobs,
            output_memory: settings.output_memory_bytes,
            shutdown_timeout: settings.shutdown_timeout,
            main: None,
        },
        now,
    );
    for (id, spec) in settings.jobs {
        assert_eq!(supervisor.create(id, spec, now), Ok(()));
    }
    while supervisor.poll_spawn().is_some() {}
}

/// The error is `FILE:LINE: what`, and the text has such a line.
fn check_place(text: &str, error: &str) {
    let place = error.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
    let line = place.and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
    let lines = 1 + text.matches('\n').count();
    assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "of {lines} lines: {error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

/// An environment in which every file contains a token.
fn environment() -> Environment {
    let read = |_: &Path| Ok(b"secret\n".to_vec());
    Environment { port: None, token: None, time_zone: None, directory: "/srv".into(), read }
}

const FILE: &str = "k1s.toml";
/// Longer texts find nothing new.
const LONGEST: usize = 4096;
