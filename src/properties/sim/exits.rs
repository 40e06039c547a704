//! Processes end, in bursts, and write before that.

use std::time::Duration;

use crate::job::{ExitStatus, Pid};
use crate::supervisor::{ProcessKey, RunKey};

use super::probes::SIGN;
use super::{STREAMS, Sim, written};

impl Sim {
    /// A burst of exits: some or all of the zombies, in any order.
    pub(super) fn reap(&mut self) {
        let mut zombies = self.world.zombies();
        let most = if self.rng.percent(70) { zombies.len() as u64 } else { self.rng.below(3) };
        let mut has_orphans = false;
        for _ in 0..most.min(zombies.len() as u64) {
            let pid = zombies.swap_remove(self.rng.below(zombies.len() as u64) as usize);
            let run = self.world.get(pid).run;
            let status = self.world.reap(pid);
            let is_leader = self.leaders.remove(&Pid(pid));
            if is_leader {
                let model = self.runs.get_mut(&run).unwrap();
                let job = self.jobs.get_mut(&run.job).unwrap();
                job.used += model.used - model.told;
                self.supervisor.handle_cpu_time(run, Duration::from_millis(model.used));
                self.draining.push((run, Pid(pid), status));
            }
            let command = self.take_command(Pid(pid));
            let told = self.supervisor.handle_collected(Pid(pid));
            let own = is_leader.then_some(ProcessKey::Run(run));
            assert_eq!(told, own.or(command.map(ProcessKey::Command)), "whose was {pid}?");
            assert!(!self.supervisor.is_leader(Pid(pid)), "{pid} is gone");
            has_orphans |= told.is_none();
            self.note("collected", |_| format!("{pid}, {told:?}"));
            if let Some(command) = command {
                self.end_command(command, Pid(pid), status);
            }
        }
        if has_orphans {
            self.supervisor.handle_orphans_reaped(self.now);
            self.note("orphans", |_| String::new());
        }
        // Most runs have no more output than can be read at once.
        if self.is_winding_up || self.rng.percent(60) {
            self.report_ends();
        }
    }

    /// The output of some or all runs that have ended is read.
    pub(super) fn report_ends(&mut self) {
        let all = self.draining.len() as u64;
        let is_all = self.is_winding_up || self.rng.percent(70);
        let most = if is_all { all } else { self.rng.below(3).min(all) };
        for _ in 0..most {
            let next = self.rng.below(self.draining.len() as u64) as usize;
            let (run, pid, status) = self.draining.swap_remove(next);
            let has_group = self.world.has_group(pid);
            self.supervisor.handle_run_ended(run, status, has_group, self.now);
            self.note("exit", |_| format!("{pid:?} {status:?}, group {has_group}, {run:?}"));
            self.runs.get_mut(&run).unwrap().is_over = true;
            self.record(run, exit_code(status));
            self.heed_calls();
            self.notice_shutdown();
        }
    }

    pub(super) fn record(&mut self, run: RunKey, code: u8) {
        let job = self.jobs.get_mut(&run.job).unwrap();
        job.results.push_back((run.number, code));
        job.ended += 1;
        job.output.end(run.number, self.now);
    }

    pub(super) fn write(&mut self) {
        let live = self.leaders.iter().map(|pid| self.world.get(pid.0).run);
        let runs: Vec<RunKey> = live.chain(self.draining.iter().map(|(run, ..)| *run)).collect();
        if runs.is_empty() {
            return;
        }
        let run = self.rng.pick(&runs);
        let bytes = written::something(&mut self.writes, &mut self.rng);
        let stream = self.rng.pick(&STREAMS);
        let text = String::from_utf8_lossy(&bytes);
        self.runs.get_mut(&run).unwrap().signs.good |= text.contains(SIGN);
        self.supervisor.handle_output(run, stream, &bytes, self.now);
        let job = self.jobs.get_mut(&run.job).unwrap();
        job.written += bytes.len() as u64;
        job.output.add(run.number, stream, &bytes, self.now);
        self.note("write", |_| format!("{run:?} {}", bytes.len()));
        assert!(self.supervisor.output_memory() <= self.settings.output_memory);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal.number() as u8,
    }
}
