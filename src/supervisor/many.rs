//! Requests for many jobs at once.
//!
//! ```text
//!   ask_all ─► jobs are chosen in order of creation ─► each is asked ─► Batch: those that complied
//!                 (a share a turn)                       (a share a turn)
//! ```
//!
//! A request is done whether its client waits for the answer or not. All jobs are chosen before any
//! is asked, so that what is done to one does not decide on another. One request follows the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Job, JobKey, Refusal, Supervisor, Together, Topic};
use crate::access::{Asker, Visible};
use crate::job::{JobId, Signal, type_name};
use crate::time::Now;

/// Which jobs are meant. One that says nothing means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// A label, by name and value.
    pub label: Option<(String, String)>,
    /// The name of a state.
    pub state: Option<&'static str>,
    /// The name of a type.
    pub job_type: Option<&'static str>,
    /// Only jobs that are there for who asks. That says nothing of which are meant.
    pub visible: Visible,
}

/// What can be asked of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the requests of the API")]
pub enum Verb {
    Kill,
    Start,
    Restart,
    Run,
    Reload,
    Signal {
        signal: Signal,
        /// To the whole groups.
        group: bool,
    },
}

/// A request for many jobs, shared by the supervisor, which does it, and by who waits for it.
#[derive(Debug, Default)]
pub struct Batch(RefCell<Option<Vec<JobId>>>);

/// The requests that are still to be done, oldest first.
#[derive(Debug, Default)]
pub(super) struct Batches(VecDeque<Work>);

#[derive(Debug)]
struct Work {
    batch: Rc<Batch>,
    asker: Option<Asker>,
    verb: Verb,
    selection: Selection,
    stage: Stage,
    /// Those that were chosen, and not asked yet.
    chosen: VecDeque<JobKey>,
    /// Those that complied.
    done: Vec<JobId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Jobs after `at` up to `last` are still to be looked at.
    Choosing {
        at: Option<JobKey>,
        last: JobKey,
    },
    Asking,
}

impl Selection {
    /// Whether the job is meant.
    pub fn has(&self, job: &Job) -> bool {
        let spec = job.spec();
        self.visible.has(job.id().as_str())
            && self.state.is_none_or(|state| state == job.state().name())
            && self.job_type.is_none_or(|job_type| job_type == type_name(&spec.kind))
            && self.label.as_ref().is_none_or(|(name, value)| spec.labels.get(name) == Some(value))
    }

    /// Whether all jobs are meant.
    pub fn is_of_all(&self) -> bool {
        self.label.is_none() && self.state.is_none() && self.job_type.is_none()
    }
}

impl Batch {
    /// Whether all jobs were asked. [`Topic::Batches`] changes with that.
    pub fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// One of the jobs that complied, in the order in which they were asked.
    pub fn job_at(&self, index: usize) -> Option<JobId> {
        self.0.borrow().as_ref()?.get(index).cloned()
    }
}

impl Batches {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Supervisor {
    /// Asks all jobs of a selection that there are now. Those that refuse are left out.
    ///
    /// # Errors
    /// `ShuttingDown`, when something is to be started; `TooManyBatches`.
    pub fn ask_all(
        &mut self,
        selection: Selection,
        verb: Verb,
        now: Now,
    ) -> Result<Rc<Batch>, Refusal> {
        match verb {
            Verb::Start | Verb::Restart | Verb::Run if self.is_shutting_down() => {
                return Err(Refusal::ShuttingDown);
            }
            Verb::Kill
            | Verb::Start
            | Verb::Restart
            | Verb::Run
            | Verb::Reload
            | Verb::Signal { .. } => {}
        }
        if self.core.batches.0.len() >= MOST_BATCHES {
            return Err(Refusal::TooManyBatches);
        }
        let batch = Rc::new(Batch::default());
        self.core.batches.0.push_back(Work {
            batch: batch.clone(),
            asker: self.core.asker.clone(),
            verb,
            selection,
            stage: Stage::Choosing { at: None, last: JobKey(self.last_key) },
            chosen: VecDeque::new(),
            done: Vec::new(),
        });
        // Few jobs are asked at once.
        if self.core.batches.0.len() == 1 {
            self.go_on_with_batches(now);
        }
        Ok(batch)
    }

    /// Chooses jobs and asks them, up to the share of a turn.
    pub(super) fn go_on_with_batches(&mut self, now: Now) {
        let mut share = SHARE;
        while share > 0
            && let Some(mut work) = self.core.batches.0.pop_front()
        {
            let before = std::mem::replace(&mut self.core.asker, work.asker.clone());
            match work.stage {
                Stage::Choosing { at, last } => {
                    work.stage = self.choose(&mut work, at, last, &mut share);
                    if work.stage == Stage::Asking {
                        self.stop_linked(&mut work, now);
                    }
                }
                Stage::Asking => self.ask_chosen(&mut work, &mut share, now),
            }
            self.core.asker = before;
            if work.stage == Stage::Asking && work.chosen.is_empty() {
                *work.batch.0.borrow_mut() = Some(work.done);
                self.core.changed.note(Topic::Batches);
            } else {
                self.core.batches.0.push_front(work);
            }
        }
    }

    fn choose(
        &self,
        work: &mut Work,
        at: Option<JobKey>,
        last: JobKey,
        share: &mut usize,
    ) -> Stage {
        for job in self.jobs_after(at).take_while(|job| job.key() <= last) {
            if work.selection.has(job) {
                work.chosen.push_back(job.key());
            }
            *share = share.saturating_sub(1 + work.selection.visible.patterns().len());
            if *share == 0 {
                return Stage::Choosing { at: Some(job.key()), last };
            }
        }
        Stage::Asking
    }

    /// Jobs that depend on others, or that others depend on, are stopped together, in order. This is
    /// one step, because the order is that of all of them.
    fn stop_linked(&mut self, work: &mut Work, now: Now) {
        let together = match work.verb {
            Verb::Kill => Together::Kill,
            Verb::Restart => Together::Restart,
            Verb::Start | Verb::Run | Verb::Reload | Verb::Signal { .. } => return,
        };
        let is_linked = |job: &Job| {
            !job.spec().depends_on.is_empty() || self.core.dependencies.has_dependents(job.id())
        };
        let (mut linked, mut rest) = (Vec::new(), VecDeque::new());
        for key in std::mem::take(&mut work.chosen) {
            match self.job_of(key).filter(|job| is_linked(job)) {
                Some(job) => linked.push(job.id().clone()),
                None => rest.push_back(key),
            }
        }
        work.chosen = rest;
        let answers = self.stop_together(together, &linked, now);
        let complied = linked.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok());
        work.done.extend(complied.map(|(id, _)| id));
    }

    fn ask_chosen(&mut self, work: &mut Work, share: &mut usize, now: Now) {
        while *share > 0
            && let Some(key) = work.chosen.pop_front()
        {
            *share = share.saturating_sub(LOOKS_A_REQUEST);
            let Some(id) = self.job_of(key).map(|job| job.id().clone()) else { continue };
            if self.ask(id.as_str(), work.verb, now).is_ok() {
                work.done.push(id);
            }
        }
    }

    fn ask(&mut self, id: &str, verb: Verb, now: Now) -> Result<(), Refusal> {
        match verb {
            Verb::Kill => self.kill(id, now),
            Verb::Start => self.start(id, now),
            Verb::Restart => self.restart(id, now),
            Verb::Run => self.run(id, now),
            Verb::Reload => self.reload_job(id, now),
            Verb::Signal { signal, group } => self.signal(id, signal, group, now),
        }
    }
}

/// How many requests may wait for those before them.
const MOST_BATCHES: usize = 64;
/// How many jobs are looked at in a turn.
const SHARE: usize = 8192;
/// To ask a job takes as long as to look at so many.
const LOOKS_A_REQUEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Spelling, parse};
    use crate::supervisor::{Settings, State};

    /// A supervisor with so many jobs, of which every other is labelled and idle.
    fn supervisor(jobs: usize) -> Supervisor {
        let settings = Settings { job_limit: 100_000, ..Settings::for_tests() };
        let mut supervisor = Supervisor::new(settings, Now::default());
        let spec = |fields: &str| {
            let json = format!(r#"{{"type":"one-off","executable":"x"{fields}}}"#);
            parse(serde_json::from_str(&json).unwrap(), "/", Spelling::Camel).unwrap()
        };
        let labelled = r#","autostart":false,"labels":{"a":"b"}"#;
        let specs = [spec(""), spec(labelled)];
        for number in 0..jobs {
            let id = JobId::parse(&format!("j{number}")).unwrap();
            supervisor.create(id, specs[number % 2].clone(), Now::default()).unwrap();
        }
        supervisor
    }

    fn labelled() -> Selection {
        Selection { label: Some(("a".into(), "b".into())), ..Selection::default() }
    }

    fn done(batch: &Batch) -> Vec<String> {
        (0..).map_while(|index| batch.job_at(index)).map(|id| id.to_string()).collect()
    }

    #[test]
    fn few_jobs_are_asked_at_once_and_those_that_refuse_are_left_out() {
        let (mut supervisor, now) = (supervisor(5), Now::default());
        let batch = supervisor.ask_all(labelled(), Verb::Run, now).unwrap();
        assert!(batch.is_done());
        assert_eq!(done(&batch), ["j1", "j3"]);
        assert_eq!(supervisor.job("j0").unwrap().state(), State::Starting);
        let batch = supervisor.ask_all(Selection::default(), Verb::Run, now).unwrap();
        assert!(batch.is_done() && done(&batch).is_empty(), "all have a run");
        let starting = Selection { state: Some("starting"), ..Selection::default() };
        let batch = supervisor.ask_all(starting, Verb::Kill, now).unwrap();
        assert_eq!(done(&batch), ["j0", "j1", "j2", "j3", "j4"]);
        let signal = Verb::Signal { signal: Signal::TERM, group: false };
        let batch = supervisor.ask_all(Selection::default(), signal, now).unwrap();
        assert!(batch.is_done() && done(&batch).is_empty(), "none has a process");
        let none = Selection { job_type: Some("cron"), ..Selection::default() };
        assert!(supervisor.ask_all(none, Verb::Kill, now).unwrap().is_done());
    }

    #[test]
    fn many_jobs_are_asked_in_shares_of_a_turn_one_request_after_the_other() {
        let (mut supervisor, now) = (supervisor(10_000), Now::default());
        let first = supervisor.ask_all(Selection::default(), Verb::Kill, now).unwrap();
        let second = supervisor.ask_all(labelled(), Verb::Start, now).unwrap();
        let late = JobId::parse("late").unwrap();
        let spec = supervisor.job("j1").unwrap().spec().clone();
        supervisor.create(late, spec, now).unwrap();
        supervisor.remove("j9999", now).unwrap();
        let killed = |supervisor: &Supervisor| {
            supervisor.jobs_after(None).filter(|job| job.is_kill_requested()).count()
        };
        let (mut turns, mut before) = (0, killed(&supervisor));
        while !first.is_done() {
            assert!(supervisor.poll_timeout().is_some_and(|at| at <= now.mono), "nothing wakes");
            supervisor.handle_timeout(now);
            turns += 1;
            let after = killed(&supervisor);
            assert!(after - before <= SHARE / LOOKS_A_REQUEST, "{} in a turn", after - before);
            before = after;
        }
        assert!(turns > 50, "{turns} turns");
        assert_eq!(done(&first).len(), 9_999);
        assert!(!second.is_done(), "it waits for the first");
        while !second.is_done() {
            supervisor.handle_timeout(now);
        }
        assert_eq!(done(&second).len(), 4_999, "all but the one that is gone");
        assert_eq!(supervisor.job("late").unwrap().state(), State::Idle, "it came later");
        assert_eq!(supervisor.poll_timeout(), None);
    }

    #[test]
    fn as_many_requests_wait_as_may() {
        let (mut supervisor, now) = (supervisor(10_000), Now::default());
        let mut ask = |verb| supervisor.ask_all(Selection::default(), verb, now).map(|_| ());
        for _ in 0..MOST_BATCHES {
            assert_eq!(ask(Verb::Start), Ok(()));
        }
        assert_eq!(ask(Verb::Start), Err(Refusal::TooManyBatches));
        supervisor.shutdown(0, now);
        let started = supervisor.ask_all(Selection::default(), Verb::Start, now);
        assert_eq!(started.map(|_| ()), Err(Refusal::ShuttingDown));
    }
}
