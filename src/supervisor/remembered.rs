//! What is remembered of a job when k1s starts again, as plain data.
//!
//! ```text
//!   Job ─▶ spec, life, results ─▶ (state: bytes, a file) ─▶ Remembered ─▶ restore ─▶ Job
//! ```
//!
//! A job's [`Life`] is small and changes with each run; its specification and its results do not
//! change once they are there. So each is stored when it changes, and not with the others.
//!
//! A run that was going is lost: it gets a result, and what follows from that is decided like after
//! any failure. What a job was about to do is its [`Stage`].

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::due::Skipped;
use super::handler::Call;
use super::{Finished, JobKey, Origin};
use crate::job::{Ending, JobId, JobSpec, LogPlace, Pid, Trigger};
use crate::time::{Mono, Now, Wall};

/// A job as it was.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its key, which it keeps.
    pub key: JobKey,
    /// Its id.
    pub id: JobId,
    /// Who has registered it.
    pub origin: Origin,
    /// When.
    pub created: Now,
    /// Its specification.
    pub spec: Rc<JobSpec>,
    /// What has become of it.
    pub life: Life,
    /// The results that are kept, oldest first.
    pub results: VecDeque<Finished>,
}

/// What has become of a job, besides its results.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// The number of its newest run.
    pub last_run: u64,
    /// How many results it has ever had.
    pub finished: u64,
    /// How many of those are not kept any more.
    pub forgotten: u64,
    /// When its newest run was started.
    pub last_started: Option<Wall>,
    /// How its newest finished run ended.
    pub last: Option<Ending>,
    /// How many restarts there were in a row, how many failures, and whether one was reported.
    pub streak: (u32, u32, bool),
    /// How often it was restarted.
    pub restarts: u64,
    /// Whether a user has killed it.
    pub kill_requested: bool,
    /// Which scheduled runs were not started.
    pub skipped: Skipped,
    /// Where its log ends.
    pub log_end: LogPlace,
    /// Up to which time of its schedule runs have been dealt with.
    pub kept: Option<i64>,
    /// What comes next.
    pub stage: Stage,
    /// For a handler: the failure that it runs for, and the newest that came meanwhile.
    pub calls: (Option<Rc<Call>>, Option<Rc<Call>>),
    /// Runs that are not over.
    pub runs: Vec<LiveRun>,
    /// First processes of runs, which may be gone, while others of their groups may not.
    pub leaders: Vec<Pid>,
}

/// A run that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRun {
    /// Its number.
    pub number: u64,
    /// Why it is started.
    pub trigger: Trigger,
    /// When it was started.
    pub started: Now,
    /// Whether it may have a process; otherwise it was still to be spawned.
    pub is_launched: bool,
}

/// How a job has ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the states of the API")]
pub enum Outcome {
    Succeeded,
    Failed,
    Killed,
}

/// What a job does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is started only by request; why one more run is to be started.
    Idle(Option<Trigger>),
    /// It starts.
    Begins(Trigger),
    /// A run is going; what follows depends on its end.
    Runs,
    /// It waits before it starts again.
    BacksOff(Mono),
    /// It waits for its next scheduled run: its nominal time and when it is due.
    Scheduled {
        /// Both times, of the clock that the schedule follows.
        due: Option<(i64, i64)>,
        /// Why one more run is to be started.
        pending: Option<Trigger>,
    },
    /// It is over.
    Ended(Outcome, Mono),
    /// It was removed, and only its processes are left.
    Leaves,
}

/// What a k1s that starts is to go on with.
#[derive(Debug, Default)]
pub struct Heritage {
    /// The jobs, in order of their keys.
    pub jobs: Vec<Remembered>,
    /// The largest key that was ever used.
    pub last_key: u64,
    /// The ids of jobs of which processes are left. They start when
    /// [`super::Supervisor::handle_former_gone`] says that those are gone.
    pub left: BTreeSet<JobId>,
}

impl Outcome {
    /// Each of them once.
    pub const ALL: [Outcome; 3] = [Outcome::Succeeded, Outcome::Failed, Outcome::Killed];
}

impl JobKey {
    /// The key with this number.
    pub fn from_number(number: u64) -> JobKey {
        JobKey(number)
    }
}

impl Life {
    /// As [`Remembered::shift`], for a job with this specification.
    pub fn shift(&mut self, spec: &JobSpec, by: i64) {
        for run in &mut self.runs {
            run.started.mono = later(run.started.mono, by);
        }
        let is_elapsed = super::due::follows_elapsed_time(spec);
        let moment = |at: i64| if is_elapsed { at.saturating_add(by) } else { at };
        self.kept = self.kept.map(moment);
        self.stage = match self.stage {
            Stage::BacksOff(until) => Stage::BacksOff(later(until, by)),
            Stage::Ended(outcome, since) => Stage::Ended(outcome, later(since, by)),
            Stage::Scheduled { due, pending } => {
                let due = due.map(|(nominal, at)| (moment(nominal), moment(at)));
                Stage::Scheduled { due, pending }
            }
            stage @ (Stage::Idle(_) | Stage::Begins(_) | Stage::Runs | Stage::Leaves) => stage,
        };
    }
}

/// A time after so many milliseconds were added to elapsed time.
pub fn later(Mono(at): Mono, by: i64) -> Mono {
    Mono(at.saturating_add_signed(by))
}

impl Remembered {
    /// The same after so many milliseconds were added to elapsed time: it was remembered before the
    /// machine was started again.
    pub fn shift(&mut self, by: i64) {
        self.created.mono = later(self.created.mono, by);
        self.life.shift(&self.spec, by);
    }
}
