//! What the core wants is done to the world: signals, surveys, measurements and the exit.

use std::time::Duration;

use crate::job::Signal;
use crate::supervisor::{Action, Left, Owner, RunKey, Target, Usage, Vitals};

use super::{GIVE_UP, Sim};

impl Sim {
    pub(super) fn drain(&mut self) {
        self.notice_shutdown();
        let most = if self.is_winding_up { u64::MAX } else { self.rng.pick(&[0, 1, 2, 100, 100]) };
        let mut spawns = 0;
        loop {
            while let Some(action) = self.supervisor.poll_action().filter(|_| !self.exited) {
                self.act(action);
            }
            if spawns == most || self.exited {
                return;
            }
            spawns += 1;
            let Some(launch) = self.supervisor.poll_spawn() else {
                return;
            };
            self.spawn(launch);
            self.notice_shutdown();
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.note("action", |_| format!("{action:?}"));
        match action {
            Action::Signal { target, signal } => self.signal(&target, signal),
            Action::Stop { target, signal } => {
                if let Target::Group(leader) = target {
                    self.cut_command(leader);
                }
                if signal != Signal::KILL {
                    let members = self.world.members(&target, &self.leaders);
                    members.into_iter().for_each(|pid| self.check_order(pid));
                }
                self.signal(&target, signal);
                if signal != Signal::KILL {
                    self.signal(&target, Signal::CONT);
                }
            }
            Action::Survey { run, target } => {
                let members = self.world.members(&target, &self.leaders);
                for pid in &members {
                    let owner = self.world.get(*pid).run.job;
                    assert_eq!(owner, run.job, "{run:?} waits for {pid}, which is not its own");
                }
                // A look may be incomplete, and then cannot say that nothing is left.
                let is_whole = self.is_winding_up || self.rng.percent(80);
                let left = match (members.is_empty(), is_whole) {
                    (true, true) => Left::Nothing,
                    (false, _) | (_, false) => Left::Something,
                };
                if !is_whole {
                    self.tally.count("look not whole");
                }
                self.supervisor.handle_survey(run, left, self.now);
                self.notice_shutdown();
                self.note("survey", |_| format!("{run:?}: {members:?}"));
            }
            Action::Glance { run, leader } => {
                if self.world.members(&Target::Group(leader), &self.leaders).is_empty() {
                    self.supervisor.handle_group_gone(run, self.now);
                    self.notice_shutdown();
                }
            }
            Action::Probe { key, check } => self.begin_attempt(key, &check),
            Action::EndProbe { key } => self.end_attempt(key),
            Action::Rest { .. } => panic!("k1s is not the first process"),
            Action::Measure => self.tell_usage(),
            Action::ReopenLogFiles { number } => {
                self.supervisor.handle_log_files_reopened(number, 0);
            }
            Action::Exit { .. } => self.exit(),
        }
    }

    /// A process may end while it is looked up, and its time be missing in the sum once.
    fn tell_usage(&mut self) {
        let before = self.supervisor.measured();
        for pid in self.leaders.clone() {
            let key = self.world.get(pid.0).run;
            let run = self.runs.get_mut(&key).unwrap();
            run.used += self.rng.below(1000);
            let is_part = !run.was_part && self.rng.percent(20);
            run.was_part = is_part;
            let told = if is_part { self.rng.below(run.used + 1) } else { run.used };
            let job = self.jobs.get_mut(&key.job).unwrap();
            job.used += told.saturating_sub(run.told);
            run.told = run.told.max(told);
            let cpu_time = Duration::from_millis(told);
            let usage = Usage { processes: 1, resident_bytes: 4096, cpu_time };
            self.supervisor.handle_usage(Owner::Run(key), usage);
        }
        self.supervisor.handle_measured(Vitals::default());
        assert_eq!(self.supervisor.measured(), before + 1);
        self.note("measure", |_| String::new());
    }

    pub(super) fn signal(&mut self, target: &Target, signal: Signal) {
        let now = self.now.mono.0;
        for pid in self.world.members(target, &self.leaders) {
            let process = self.world.get(pid);
            assert!(
                self.is_signalled || self.may_be_ended(process.run) || process.is_beside(target),
                "{signal} for {pid} of {:?}, which nobody wants to end",
                process.run,
            );
            if let Target::Tree { owner, .. } = target {
                assert!(owner.covers(process.run), "{pid} of {:?} for {owner:?}", process.run);
            }
            let process = self.world.get_mut(pid);
            if signal == Signal::KILL {
                process.killed_at.get_or_insert(now);
            } else if !self.is_signalled {
                process.asked_at.get_or_insert(now);
            }
            self.world.signal(pid, signal, now, &mut self.rng);
        }
        self.world.pass(now);
    }

    /// Whether there is a reason to signal a run.
    pub(super) fn may_be_ended(&self, run: RunKey) -> bool {
        self.runs[&run].is_asked || self.may_be_ended_unasked(run)
    }

    /// Whether there is another than that a user has asked for it.
    pub(super) fn may_be_ended_unasked(&self, run: RunKey) -> bool {
        let (model, job) = (&self.runs[&run], &self.jobs[&run.job]);
        let lived = self.now.mono.0 - model.started;
        model.is_over
            || job.replaces
            || job.renews
            || job.timeout.is_some_and(|timeout| lived >= timeout)
            || job.patience.may_be_over(&model.signs, lived)
    }

    pub(super) fn exit(&mut self) {
        assert!(!self.exited, "a second exit");
        self.exited = true;
        let shutdown = self.shutdown.as_ref().expect("a shutdown");
        let gave_up = shutdown.killed_at.is_some_and(|at| self.now.mono.0 >= at + GIVE_UP);
        for (pid, process) in self.world.findable() {
            assert!(gave_up, "{pid} of {:?} outlives k1s", process.run);
            assert!(process.killed_at.is_some(), "{pid} of {:?} was not killed", process.run);
        }
        assert!(gave_up || self.draining.is_empty(), "an end was not reported");
        self.tally.count(if gave_up { "gave up" } else { "ended" });
    }
}
