//! Reads a config a share at a time, so that k1s can read it again while it supervises.
//!
//! ```text
//!   the main file ─▶ its jobs, a share each ─▶ an included file ─▶ its jobs, … ─▶ Settings
//! ```
//!
//! What cannot be shared out is the syntax of one file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::declared::{Declared, File, JOB_TABLES};
use super::document::Document;
use super::{ConfigError, Environment, Given, LARGEST_FILE, Settings, depend, include};
use crate::job::fields::FieldError;
use crate::job::{Defaults, Value};

/// A config that is being read.
pub struct Reading {
    environment: Environment,
    /// Those of the main file, without jobs.
    settings: Settings,
    declared: Declared,
    /// The file whose jobs are being read.
    file: Option<File>,
    /// The files that are still to be read.
    waiting: VecDeque<Waiting>,
    /// How many bytes they may have.
    left: u64,
    /// The line with each pattern of `include`, as an error names it.
    patterns: Vec<String>,
}

/// An included file.
struct Waiting {
    /// The index of the pattern that matches it.
    pattern: usize,
    path: PathBuf,
}

/// What a share of the reading has come to.
#[expect(clippy::large_enum_variant, reason = "it is moved once a turn")]
pub enum Share {
    /// There is more to read.
    More(Reading),
    /// The config.
    All(Settings),
}

impl Reading {
    /// Begins with the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or as for `Reading::begin`.
    pub fn open(path: &Path, environment: &Environment) -> Result<Reading, ConfigError> {
        let file = path.display().to_string();
        let bytes = (environment.read_config)(path)
            .map_err(|error| ConfigError::new(&file, format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = super::line_of_error(error.as_bytes(), error.utf8_error());
            ConfigError::new(format!("{file}:{line}"), "is not UTF-8")
        })?;
        Reading::begin(text, &file, environment)
    }

    /// Begins with this text, in which all but the jobs is read.
    ///
    /// # Errors
    /// The first in it, or in the environment.
    pub(super) fn begin(
        text: String,
        file: &str,
        environment: &Environment,
    ) -> Result<Reading, ConfigError> {
        let given = Given::by(environment)?;
        super::check_state(environment)?;
        let document = Document::parse(file, text)?;
        let [jobs, _] = JOB_TABLES;
        let value = document.value_without(jobs).map_err(|error| document.error(error))?;
        let sources = super::sources(&document, &value, environment);
        let settings = super::settings(value, given, environment);
        let (settings, patterns) = settings.map_err(|error| document.error(error))?;
        let files = include::files(&patterns, file, environment);
        let waiting = files.map_err(|error| document.error(error))?.into_iter();
        let place = |index: usize| {
            let index = index.to_string();
            format!("{file}:{}: include.{index}", document.line(&["include", &index]))
        };
        let base = base(environment, &settings);
        Ok(Reading {
            environment: environment.clone(),
            declared: Declared::new(settings.live.max_jobs),
            waiting: waiting.map(|(pattern, path)| Waiting { pattern, path }).collect(),
            left: LARGEST_FILE,
            patterns: (0..patterns.len()).map(place).collect(),
            file: Some(File::new(document, base)?),
            settings: Settings { sources, ..settings },
        })
    }

    /// Reads about so many jobs more, or the next file.
    ///
    /// # Errors
    /// The first in what is read.
    pub fn go_on(mut self, share: usize) -> Result<Share, ConfigError> {
        let base = base(&self.environment, &self.settings);
        if let Some(mut file) = self.file.take() {
            let has_more = self.declared.add(&mut file, share, base)?;
            self.file = has_more.then_some(file);
        } else if let Some(Waiting { pattern, path }) = self.waiting.pop_front() {
            let text = include::text(&path, &mut self.left, &self.environment);
            let text = text.map_err(|message| {
                let place = self.patterns.get(pattern).cloned();
                ConfigError::new(place.unwrap_or_default(), message)
            })?;
            let document = Document::parse(&path.display().to_string(), text)?;
            refuse_settings(&document)?;
            self.file = Some(File::new(document, base)?);
        } else {
            let jobs = self.declared.jobs();
            depend::check(&jobs)?;
            return Ok(Share::All(Settings { jobs, ..self.settings }));
        }
        Ok(Share::More(self))
    }

    /// Reads all that is left.
    pub(super) fn finish(mut self) -> Result<Settings, ConfigError> {
        loop {
            match self.go_on(usize::MAX)? {
                Share::More(reading) => self = reading,
                Share::All(settings) => return Ok(settings),
            }
        }
    }
}

fn base<'a>(environment: &'a Environment, settings: &'a Settings) -> Defaults<'a> {
    Defaults { directory: &environment.directory, time_zone: &settings.live.time_zone }
}

/// An included file holds jobs alone.
fn refuse_settings(document: &Document) -> Result<(), ConfigError> {
    let [jobs, defaults] = JOB_TABLES;
    let value = document.value_without(jobs).map_err(|error| document.error(error))?;
    let Value::Table(entries) = value else { return Ok(()) };
    match entries.iter().find(|(name, _)| name != defaults) {
        None => Ok(()),
        Some((name, _)) => Err(document.error(FieldError::new(
            name,
            "an included file holds [job.ID] and [defaults] alone; this belongs into the file that \
             includes it, if anywhere",
        ))),
    }
}
