//! What follows from what is found out about the health of a job's runs: events, and the stop of a
//! run that is unhealthy.

use super::Job;
use crate::job::Stream;
use crate::job::notice::Notice;
use crate::job::spec::ProbeRole;
use crate::supervisor::health::{Answer, Finding, Health, Verdict};
use crate::supervisor::run::{Leader, RunState};
use crate::supervisor::{Core, Happened, Owner, ProbeKey, RunKey};
use crate::time::Now;

impl Job {
    /// The run has a process.
    pub(super) fn begin_health(&mut self, key: RunKey, core: &mut Core, now: Now) {
        self.last_probe = None;
        let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else { return };
        run.health = Health::begin(key, &run.spec, &self.id, core, now);
    }

    /// Its runs have a new specification, which makes no difference to their processes.
    pub(super) fn take_over_health(&mut self, core: &mut Core, now: Now) {
        for key in self.runs.iter().map(|run| run.key).collect::<Vec<_>>() {
            let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else { continue };
            if !matches!(run.state, RunState::Running { .. }) || run.leader != Leader::Alive {
                continue;
            }
            let was_ready = run.is_ready();
            match &mut run.health {
                Some(health) => health.take_over(&run.spec, core, now),
                None => run.health = Health::begin(key, &run.spec, &self.id, core, now),
            }
            for (stream, bytes) in run.newest_output() {
                self.look_for_readiness(key, stream, &bytes, core, now);
            }
            let is_ready = self.runs.iter().any(|run| run.key == key && run.is_ready());
            if is_ready != was_ready && self.spec.readiness.is_none() {
                self.tell(Happened::Ready { run: key.number }, core, now);
            }
        }
    }

    pub(in crate::supervisor) fn handle_probe(
        &mut self,
        key: ProbeKey,
        answer: Result<String, String>,
        core: &mut Core,
        now: Now,
    ) {
        let answer = match answer {
            Ok(message) => Answer::Good(message),
            Err(message) => Answer::Bad(message),
        };
        self.conclude_attempt(key.run, key.role, answer, core, now);
    }

    /// An attempt has been answered. That of a command is over.
    pub(super) fn conclude_attempt(
        &mut self,
        run: RunKey,
        role: ProbeRole,
        answer: Answer,
        core: &mut Core,
        now: Now,
    ) {
        self.examine(run, core, now, |health, core| health.handle_answer(role, answer, core, now));
    }

    pub(in crate::supervisor) fn handle_probe_deferred(
        &mut self,
        key: ProbeKey,
        core: &mut Core,
        now: Now,
    ) {
        self.examine(key.run, core, now, |health, core| {
            health.handle_deferred(key.role, core, now);
            Finding::NOTHING
        });
    }

    pub(in crate::supervisor) fn handle_probe_timer(
        &mut self,
        key: ProbeKey,
        core: &mut Core,
        now: Now,
    ) {
        self.examine(key.run, core, now, |health, core| health.handle_timer(key.role, core, now));
    }

    pub(in crate::supervisor) fn handle_start_timeout(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        let last = self.last_probe.take();
        let last_probe = last.as_deref();
        self.examine(run, core, now, |health, _| health.handle_start_timeout(last_probe));
        self.last_probe = last;
    }

    pub(in crate::supervisor) fn handle_notice(
        &mut self,
        run: RunKey,
        notice: Notice,
        core: &mut Core,
        now: Now,
    ) {
        if let Notice::ExtendTimeout(more) = notice {
            if let Some(run) = self.run_mut(run) {
                run.extend(now.mono + more, core);
            }
            return;
        }
        self.examine(run, core, now, |health, core| health.handle_notice(notice, core, now));
    }

    /// Whether what was written makes the run ready.
    pub(super) fn look_for_readiness(
        &mut self,
        run: RunKey,
        stream: Stream,
        bytes: &[u8],
        core: &mut Core,
        now: Now,
    ) -> bool {
        self.examine(run, core, now, |health, core| health.handle_output(stream, bytes, core, now))
    }

    /// Finds out something about a run whose first process lives, and does what follows. Returns
    /// whether anything was found out.
    fn examine(
        &mut self,
        key: RunKey,
        core: &mut Core,
        now: Now,
        find_out: impl FnOnce(&mut Health, &mut Core) -> Finding,
    ) -> bool {
        let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else { return false };
        if !matches!(run.state, RunState::Running { .. }) || run.leader != Leader::Alive {
            return false;
        }
        let Some(health) = &mut run.health else { return false };
        let Finding { last, verdict } = find_out(health, core);
        if last.is_none() && verdict == Verdict::Nothing {
            return false;
        }
        if let Some(last) = last {
            self.last_probe = Some(Box::new(last));
        }
        let run = key.number;
        match verdict {
            Verdict::Nothing => {}
            Verdict::Ready => self.tell(Happened::Ready { run }, core, now),
            Verdict::Unready(why) => self.tell(Happened::Unready { run, why }, core, now),
            Verdict::Unhealthy(reason, why) => {
                self.tell(Happened::Unhealthy { run, why }, core, now);
                if let Some(run) = self.run_mut(key) {
                    run.stop(reason, Owner::Run(key), core, now);
                }
            }
        }
        true
    }
}
