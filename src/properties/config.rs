//! The config: what [`crate::config::parse`] accepts means what `k1s check` shows, and starts.

use std::path::Path;
use std::rc::Rc;

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
    let mut described = config::describe(settings);
    // Who has seen the description alone does not know the token: each gets another.
    for number in 0..settings.live.token_tables.len() {
        let other = format!("token = \"another-{number}\"");
        described = described.replacen("# token: as given, not shown", &other, 1);
    }
    let again = config::parse(&described, FILE, &environment());
    let Ok(mut again) = again else {
        unreachable!("{again:?}\n{described}");
    };
    again.live.tokens = settings.live.tokens.clone();
    if settings.live.token_origin == config::TokenOrigin::Key {
        assert!(!described.contains("auth_token ="), "{described}");
        again.live.token = settings.live.token.clone();
        again.live.token_origin = settings.live.token_origin.clone();
    }
    let mut expected = settings.clone();
    for spec in expected.jobs.iter_mut().map(|job| Rc::make_mut(&mut job.spec)) {
        for name in &spec.secret_environment {
            if let Some(value) = spec.command.environment.get_mut(name) {
                *value = HIDDEN.to_owned();
            }
        }
    }
    assert_eq!(again.without_places(), expected.without_places(), "{described}");
}

fn check_starts(settings: Settings) {
    let now = Now::default();
    let mut supervisor = Supervisor::new(
        supervisor::Settings {
            instance: "k".into(),
            job_limit: settings.live.max_jobs,
            output_memory: settings.live.output_memory_bytes,
            shutdown_timeout: settings.live.shutdown_timeout,
            main: None,
        },
        now,
    );
    for job in settings.jobs {
        assert_eq!(supervisor.create(job.id, Rc::unwrap_or_clone(job.spec), now), Ok(()));
    }
    while supervisor.poll_spawn().is_some() {}
}

/// The error is `FILE:LINE: what`, and that file has such a line.
fn check_place(text: &str, error: &str) {
    assert!(!error.contains(char::is_control), "{error:?}");
    let lines = |text: &str| 1 + text.matches('\n').count();
    let is_at = |place: &str, lines: usize| {
        let line = place.split(':').next().and_then(|line| line.parse::<usize>().ok());
        line.is_some_and(|line| (1..=lines).contains(&line))
    };
    let place = error.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
    let is_here = place.is_some_and(|place| is_at(place, lines(text)));
    // Or it is in an included file, whose path may be any.
    let is_elsewhere = || {
        let mut places = error.match_indices(':').map(|(colon, _)| &error[colon + 1..]);
        text.contains("include") && places.any(|place| is_at(place, lines(INCLUDED)))
    };
    assert!(is_here || is_elsewhere(), "of {} lines: {error}", lines(text));
}

/// An environment in which every directory has the same files, each contains a token, and those in
/// `inc/` are configs.
fn environment() -> Environment {
    let read = |path: &Path| match path.starts_with("inc") {
        true => Ok(INCLUDED.as_bytes().to_vec()),
        false => Ok(b"secret\n".to_vec()),
    };
    let list = |_: &Path| Ok(vec!["a.toml".into(), "b".into()]);
    let directory = "/srv".into();
    let read_config = read;
    Environment {
        port: None,
        token: None,
        time_zone: None,
        state: None,
        socket: None,
        default_socket: None,
        directory,
        read_config,
        read,
        list,
    }
}

const INCLUDED: &str = "[defaults]\nuser = \"app\"\n[job.included]\ntype = \"continuous\"\n\
                        executable = \"x\"\ninstances = 2\n";

const FILE: &str = "k1s.toml";
/// Longer texts find nothing new.
const LONGEST: usize = 4096;
