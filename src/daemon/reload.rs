//! Reads the config again, a share a turn, one request after the other.
//!
//! ```text
//!   SIGHUP, POST /reload ─▶ Supervisor ─▶ Reloader: config::Reading ─▶ Settings, or what is wrong
//! ```
//!
//! Nothing is changed until all of it was read.

use std::fmt::{self, Display};
use std::path::PathBuf;

use super::log::Log;
use super::{Daemon, api, init};
use crate::config::{
    self, Environment, Fixed, Forward, Live, LogLevel, ReadFile, Reading, Settings, Share,
    TokenOrigin,
};
use crate::job::JobId;
use crate::os;
use crate::supervisor::{Changes, Declared, Refusal, Reload, ReloadError, Reloaded};

/// Where the config is, and what was read of it.
pub(super) struct Reloader {
    /// `None`: k1s was started without one.
    source: Option<(PathBuf, Environment)>,
    current: Option<(Reload, Share)>,
    /// What k1s was started with.
    fixed: Fixed,
    /// Where the token comes from that is in use.
    token_origin: TokenOrigin,
}

/// A request, and the settings to apply.
pub(super) type Finished = (Reload, Result<Settings, ReloadError>);

impl Reloader {
    pub(super) fn new(settings: &Settings) -> Reloader {
        Reloader {
            source: None,
            current: None,
            fixed: settings.fixed.clone(),
            token_origin: settings.live.token_origin.clone(),
        }
    }

    /// The config is the file at this path.
    pub(super) fn read_from(&mut self, path: PathBuf, environment: Environment) {
        // Nothing here may wait.
        let read: ReadFile = |path| os::file::read_now(path, LARGEST_FILE);
        self.source = Some((path, Environment { read_config: read, read, ..environment }));
    }

    /// Whether a config is being read.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Reads the next share, of this request if none is in progress.
    pub(super) fn go_on(&mut self, next: impl FnOnce() -> Option<Reload>) -> Option<Finished> {
        let (request, share) = match self.current.take() {
            Some((request, Share::More(reading))) => (request, reading.go_on(JOBS_A_TURN)),
            Some((request, Share::All(settings))) => return Some((request, self.check(settings))),
            None => {
                let request = next()?;
                let Some((path, environment)) = &self.source else {
                    return Some((request, Err(ReloadError::Config(NO_CONFIG.to_owned()))));
                };
                (request, Reading::open(path, environment).map(Share::More))
            }
        };
        match share {
            Ok(share) => {
                self.current = Some((request, share));
                None
            }
            Err(error) => Some((request, Err(ReloadError::Config(error.to_string())))),
        }
    }

    /// Whoever loses the line with the token must not open k1s to everyone.
    fn check(&self, settings: Settings) -> Result<Settings, ReloadError> {
        let (old, new) = (&self.token_origin, &settings.live.token_origin);
        if *new == TokenOrigin::Default && *old != TokenOrigin::Default {
            return Err(ReloadError::Config(NO_TOKEN.to_owned()));
        }
        Ok(settings)
    }
}

impl Daemon {
    /// SIGHUP: reads the config again, and reopens log files.
    pub(super) fn handle_hangup(&mut self) {
        self.supervisor.reopen_log_files(self.now);
        let what = match self.reloader.source {
            Some(_) => "reading the config again, and reopening log files",
            None => "reopening log files; there is no config to read again",
        };
        self.console.note(LogLevel::Info, &format_args!("received SIGHUP: {what}"), self.now);
        if self.reloader.source.is_some() {
            // When too many requests wait already, one of them does this.
            let _ = self.supervisor.reload(false, self.now);
        }
    }

    /// Reads the next share of the config, and applies it when all of it was read.
    pub(super) fn reload(&mut self) {
        let Daemon { reloader, supervisor, .. } = self;
        let Some((request, read)) = reloader.go_on(|| supervisor.poll_reload()) else { return };
        let outcome = read.and_then(|settings| self.apply(settings, request.is_dry_run));
        if !request.is_dry_run {
            let level = if outcome.is_ok() { LogLevel::Info } else { LogLevel::Error };
            self.console.note(level, &Said(&outcome), self.now);
        }
        self.supervisor.handle_reloaded(request.number, outcome);
    }

    fn apply(&mut self, settings: Settings, is_dry_run: bool) -> Reloaded {
        let settings = match self.init {
            Some(_) => {
                init::refuse_main(&settings.jobs).map_err(ReloadError::Config)?;
                settings.for_init()
            }
            None => settings,
        };
        let needs_restart = self.reloader.fixed.changed_by(&settings.fixed);
        let (max_jobs, live) = (settings.live.max_jobs, settings.live);
        let jobs: Vec<_> = settings.jobs.into_iter().map(|job| (job.id, job.spec)).collect();
        let jobs = match is_dry_run {
            true => self.supervisor.preview(&jobs, max_jobs),
            false => self.supervisor.declare(jobs, max_jobs, self.now),
        };
        let jobs = jobs.map_err(ReloadError::Refused)?;
        if !is_dry_run {
            self.adopt(live);
        }
        Ok(Changes { jobs, needs_restart })
    }

    /// These settings count from now on.
    fn adopt(&mut self, live: Live) {
        self.supervisor.limit(live.output_memory_bytes, live.shutdown_timeout);
        let log = Log { format: live.log_format, level: live.log_level };
        self.console.adopt(log, live.forward.unwrap_or(Forward::Prefix));
        self.processes.forward(live.forward);
        self.outputs.forward(live.forward, &mut self.console, self.now);
        self.outputs.files.limit(live.output_disk_bytes);
        let directory = config::working_directory();
        self.peers.adopt(api(&live, directory), &live.http);
        self.reloader.token_origin = live.token_origin;
    }
}

/// What a reload did, for the log.
pub(super) struct Said<'a>(pub(super) &'a Reloaded);

impl Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(Changes { jobs, needs_restart }) => {
                f.write_str("the config was read again: ")?;
                let Declared { added, removed, replaced, updated, unchanged } = jobs;
                let lists = [
                    ("added", added),
                    ("removed", removed),
                    ("replaced", replaced),
                    ("updated", updated),
                ];
                for (what, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
                    write!(f, "{} {what} ({}), ", ids.len(), Names(ids))?;
                }
                write!(f, "{unchanged} unchanged")?;
                if !needs_restart.is_empty() {
                    write!(f, "; to change {}, restart k1s", needs_restart.join(" and "))?;
                }
                Ok(())
            }
            Err(ReloadError::Config(error)) => write!(f, "{UNCHANGED}: {error}"),
            Err(ReloadError::Refused(Refusal::TooManyJobs)) => {
                write!(f, "{UNCHANGED}: there would be more jobs than limits.jobs allows")
            }
            Err(ReloadError::Refused(Refusal::ShuttingDown)) => {
                write!(f, "{UNCHANGED}: k1s is shutting down")
            }
            Err(ReloadError::Refused(refusal)) => write!(f, "{UNCHANGED}: {refusal:?}"),
        }
    }
}

/// The first of some ids.
struct Names<'a>(&'a [JobId]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, id) in self.0.iter().take(MOST_NAMED).enumerate() {
            write!(f, "{}{id}", if index > 0 { ", " } else { "" })?;
        }
        if self.0.len() > MOST_NAMED { f.write_str(", …") } else { Ok(()) }
    }
}

/// The most that a file of the config may contain while k1s runs, in bytes: its syntax is read in
/// one turn, 50 ns a byte.
const LARGEST_FILE: u64 = 4 << 20;
/// How many jobs are read in a turn: 15 µs each.
const JOBS_A_TURN: usize = 200;
/// How many ids of each kind the log names.
const MOST_NAMED: usize = 10;
const NO_CONFIG: &str = "k1s was started without a config, so there is none to read again";
const NO_TOKEN: &str = "the config sets no token any more, and the default token, which everyone \
     knows, is only taken at a start: set http.auth_token, or restart k1s";
const UNCHANGED: &str = "the config was read again, and nothing is changed";
