//! What must hold after every turn.

use crate::supervisor::{Job, RunOutcome, State};

use super::model::has_time_to_live;
use super::{GIVE_UP, STREAMS, Sim, depend};

impl Sim {
    pub(super) fn check(&mut self) {
        if self.exited {
            return;
        }
        for pid in &self.leaders {
            let run = self.world.get(pid.0).run;
            assert_eq!(self.supervisor.run_of(*pid), Some(run), "whose process is {pid:?}?");
        }
        assert!(self.supervisor.live_runs() >= self.leaders.len());
        assert!(self.supervisor.output_memory() <= self.settings.output_memory);
        self.check_jobs();
        self.check_health();
        self.check_commands();
        self.check_totals();
        self.check_grace();
        self.check_shutdown();
    }

    fn check_jobs(&mut self) {
        let (mut after, mut kept, mut is_pending) = (None, 0, self.supervisor.live_runs() > 0);
        self.heed_calls();
        while let Some(job) = self.supervisor.job_after(after) {
            self.calls.check(job);
            assert!(after.is_none_or(|after| job.key() > after), "the order of the list");
            after = Some(job.key());
            let model = self.jobs.get_mut(&job.key()).unwrap();
            assert!(!model.is_removed, "{} is listed", model.id);
            model.check(job, self.now, self.is_step_unseen);
            check_message(job, &self.supervisor.message(job, self.now));
            depend::check_waiting(&self.supervisor, job, self.now);
            assert!(self.shutdown.is_some() || model.may_be(job), "{} is over", model.id);
            kept +=
                job.results().map(|r| r.stdout.allocated() + r.stderr.allocated()).sum::<usize>();
            is_pending |= job.next_run_at(self.now).is_some();
            is_pending |= has_time_to_live(job) && !self.is_awaited(job.id());
        }
        assert!(kept <= self.supervisor.output_memory());
        is_pending |= self.shutdown.is_some();
        assert!(is_pending || self.supervisor.poll_timeout().is_none(), "a timer for nothing");
        if is_pending && self.supervisor.live_runs() == 0 {
            assert!(self.supervisor.poll_timeout().is_some(), "no timer for what is to come");
        }
    }

    /// What is counted of all jobs is what has happened to them, gone or not.
    fn check_totals(&self) {
        let totals = self.supervisor.totals();
        let ended: u64 = self.jobs.values().map(|job| job.ended).sum();
        let written: u64 = self.jobs.values().map(|job| job.written).sum();
        assert_eq!(RunOutcome::ALL.iter().map(|o| totals.runs(*o)).sum::<u64>(), ended);
        assert_eq!(STREAMS.iter().map(|stream| totals.output(*stream)).sum::<u64>(), written);
        let jobs = || self.ids.iter().filter_map(|id| self.supervisor.job(id));
        assert!(totals.restarts >= jobs().map(Job::restarts).sum());
        assert!(totals.skipped.missed >= jobs().map(|job| job.skipped().missed).sum());
    }

    /// A process that was asked to end was killed after its grace period.
    fn check_grace(&self) {
        let now = self.now.mono.0;
        for (pid, process) in self.world.findable() {
            let grace = self.jobs[&process.run.job].grace;
            let is_late = process.asked_at.is_some_and(|at| now > at + grace);
            assert!(!is_late || process.killed_at.is_some(), "{pid} of {:?}", process.run);
        }
    }

    fn check_shutdown(&self) {
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        assert!(self.supervisor.live_runs() > 0, "a shutdown waits for nothing");
        let is_late = shutdown.killed_at.is_some_and(|at| self.now.mono.0 >= at + GIVE_UP);
        assert!(!is_late, "the shutdown has no end");
    }
}

/// The message must be a sentence that fits the state.
fn check_message(job: &Job, message: &str) {
    let state = job.state();
    let says: &[&str] = match state {
        State::Idle => &["only by request"],
        State::Waiting => &["as soon as the removed job of the same id is gone", "waits for "],
        State::Starting => &["is about to be started", "cannot be started yet"],
        State::Running => &["has been running for", "the last of its output is being read"],
        State::Backoff => &["starts again in"],
        State::Scheduled => &["its next run is due in", "is suspended", "no more times"],
        State::Stopping => &["is being stopped", "leftovers", "had ended before", "beside it"],
        State::Succeeded => &["ended with exit code 0"],
        State::Failed => &["ended", "could not be started"],
        State::Killed => &["was stopped"],
    };
    assert!(says.iter().any(|text| message.contains(text)), "{}, {state:?}: {message}", job.id());
    let is_sentence = message.is_ascii() && message.len() < 400 && !message.ends_with(' ');
    assert!(is_sentence, "{}, {state:?}: {message:?}", job.id());
}
