//! Probes in the simulation: attempts are answered at random or never, runs say at random how they
//! are, and what the core makes of it is held against that.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::JobSpec;
use crate::job::notice::Notice;
use crate::job::spec::{Check, Probe, ProbeRole};
use crate::supervisor::{Job, JobKey, ProbeKey, RunKey, State};

use super::{Sim, rng::Rng};

/// The attempts that are to be answered.
#[derive(Default)]
pub(super) struct Probes {
    asked: BTreeMap<RunKey, ProbeKey>,
    /// Those that ask what is no longer in the specification.
    outdated: BTreeSet<RunKey>,
}

/// What is known about the health of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs {
    /// Something may have made it ready.
    pub(super) good: bool,
    /// Attempts in a row of its liveness that have surely failed, and that may have.
    failures: u32,
    most_failures: u32,
    /// It has asked to be treated as silent, or has said that it is about to end, which it may only
    /// be for some time.
    is_triggered: bool,
}

/// The least patience that the specifications of a job have ever had.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    failures: Option<u32>,
    watchdog: Option<u64>,
    start: Option<u64>,
}

impl Signs {
    /// An attempt of its liveness has succeeded, or may count as failed.
    pub(super) fn note_attempt(&mut self, is_good: bool) {
        match is_good {
            true => (self.failures, self.most_failures) = (0, 0),
            false => self.most_failures += 1,
        }
    }
}

impl Patience {
    pub(super) fn learn(&mut self, spec: &JobSpec) {
        let least = |old: Option<u64>, new: Option<u64>| [old, new].into_iter().flatten().min();
        let liveness = spec.liveness.as_deref();
        let is_watchdog = |probe: &&Probe| probe.check == Check::Notify;
        let watchdog = liveness.filter(is_watchdog).map(|it| it.watchdog().as_millis() as u64);
        self.watchdog = least(self.watchdog, watchdog);
        let start = spec.start_timeout.map(|timeout| timeout.as_millis() as u64);
        self.start = least(self.start, start);
        let failures = liveness.map(|probe| probe.failure_threshold);
        self.failures = [self.failures, failures].into_iter().flatten().min();
    }

    /// Whether a run with these signs, which has lived so long, may be taken for unhealthy.
    pub(super) fn may_be_over(&self, signs: &Signs, lived: u64) -> bool {
        signs.is_triggered
            || self.failures.is_some_and(|most| signs.most_failures >= most)
            || self.watchdog.is_some_and(|time| lived >= time)
            || self.start.is_some_and(|time| lived >= time)
    }
}

impl Sim {
    /// An attempt begins: the only one of its run, whose first process lives.
    pub(super) fn begin_attempt(&mut self, key: ProbeKey, check: &Check) {
        self.tally.count("attempt");
        let before = self.probes.asked.insert(key.run, key);
        assert_eq!(before, None, "two attempts at once: {key:?}");
        // It may have ended since this was asked for, and then the attempt is given up at once.
        let has_ended = self.runs[&key.run].is_over || self.is_draining(key.run);
        assert!(self.has_leader(key.run) || has_ended, "{key:?} asks about nobody");
        // Also one that is removed with others, as long as its turn to be stopped has not come.
        let (job, _) = self.supervisor.followed(key.run.job).expect("one that is there");
        let is_current = job.spec().probe(key.role).is_some_and(|probe| &probe.check == check);
        assert!(!self.has_probe_command(key.run), "{key:?} beside a command");
        if !is_current {
            // The specification has changed since this was asked for: it is given up in this turn.
            self.probes.outdated.insert(key.run);
        } else if self.rng.percent(60) {
            self.answer(key);
        }
    }

    pub(super) fn end_attempt(&mut self, key: ProbeKey) {
        self.tally.count("attempt given up");
        // It may have been answered since.
        let before = self.probes.asked.remove(&key.run);
        self.probes.outdated.remove(&key.run);
        assert!(before.is_none_or(|before| before == key), "{before:?} is asked, not {key:?}");
        self.runs.get_mut(&key.run).unwrap().signs.most_failures +=
            u32::from(key.role == ProbeRole::Liveness);
    }

    /// Whether an attempt is to be answered.
    pub(super) fn asks(&self, run: RunKey) -> bool {
        self.probes.asked.contains_key(&run)
    }

    /// An attempt is answered, or a run says something.
    pub(super) fn hear(&mut self) {
        let attempts: Vec<ProbeKey> = self.probes.asked.values().copied().collect();
        if !attempts.is_empty() && self.rng.percent(70) {
            let key = self.rng.pick(&attempts);
            return self.answer(key);
        }
        let leaders: Vec<RunKey> =
            self.leaders.iter().map(|pid| self.world.get(pid.0).run).collect();
        if leaders.is_empty() {
            return;
        }
        let run = self.rng.pick(&leaders);
        let notice = something(&mut self.rng);
        let signs = &mut self.runs.get_mut(&run).unwrap().signs;
        signs.good |= matches!(notice, Notice::Ready | Notice::Newline);
        signs.is_triggered |= matches!(notice, Notice::WatchdogTrigger | Notice::Stopping);
        self.note("notice", |_| format!("{run:?} {notice:?}"));
        self.supervisor.handle_notice(run, notice, self.now);
        self.notice_shutdown();
    }

    fn answer(&mut self, key: ProbeKey) {
        self.probes.asked.remove(&key.run);
        if self.rng.percent(10) {
            // It counts neither as a success nor as a failure.
            self.note("deferred", |_| format!("{key:?}"));
            self.supervisor.handle_probe_deferred(key, self.now);
            return self.notice_shutdown();
        }
        let is_good = self.rng.percent(60);
        let signs = &mut self.runs.get_mut(&key.run).unwrap().signs;
        match (key.role, is_good) {
            (ProbeRole::Readiness, good) => signs.good |= good,
            (ProbeRole::Liveness, true) => (signs.failures, signs.most_failures) = (0, 0),
            (ProbeRole::Liveness, false) => {
                signs.failures += 1;
                signs.most_failures += 1;
            }
        }
        let failures = signs.failures;
        self.note("answer", |_| format!("{key:?} {is_good}"));
        let answer = if is_good { Ok("well".to_owned()) } else { Err("ill".to_owned()) };
        self.supervisor.handle_probe(key, answer, self.now);
        self.notice_shutdown();
        let Some(job) = self.supervisor.job_of(key.run.job) else { return };
        let most = job.spec().probe(key.role).map_or(u32::MAX, |probe| probe.failure_threshold);
        // What is said of a first process that was collected says nothing any more.
        if key.role == ProbeRole::Liveness && failures >= most && !self.is_draining(key.run) {
            assert_ne!(job.state(), State::Running, "{key:?} has failed {failures} times");
            self.tally.count("unhealthy");
        }
    }

    /// Its specification was changed in place: attempts count anew.
    pub(super) fn forget_failures(&mut self, job: JobKey) {
        let runs = self.runs.iter_mut().filter(|(run, _)| run.job == job);
        runs.for_each(|(_, run)| run.signs.failures = 0);
    }

    /// Nobody asks about a run whose first process has ended, and a run is not ready unless
    /// something has made it so.
    pub(super) fn check_health(&mut self) {
        assert!(self.probes.outdated.is_empty(), "{:?} are still asked", self.probes.outdated);
        for key in self.probes.asked.values() {
            assert!(self.has_leader(key.run), "{key:?} still asks");
        }
        for pid in &self.leaders {
            let run = self.world.get(pid.0).run;
            let Some(job) = self.supervisor.job_of(run.job) else { continue };
            let is_ready = job.pid() == Some(*pid) && job.ready() == Some(true);
            if is_ready && job.spec().readiness.is_some() {
                assert!(self.runs[&run].signs.good, "{run:?} is ready without a reason");
                self.tally.count("ready");
            }
        }
        let mut jobs = self.ids.iter().filter_map(|id| self.supervisor.job(id));
        let is_waiting = |job: &Job| {
            job.spec().readiness.is_some()
                && job.ready() != Some(true)
                && matches!(job.state(), State::Starting | State::Running | State::Backoff)
        };
        let is_ready = self.supervisor.is_ready();
        assert!(!is_ready || !jobs.any(|job| is_waiting(job) && job.pid().is_some()));
    }

    fn is_draining(&self, run: RunKey) -> bool {
        self.draining.iter().any(|(draining, ..)| *draining == run)
    }

    fn has_leader(&self, run: RunKey) -> bool {
        self.leaders.iter().any(|pid| self.world.get(pid.0).run == run)
    }
}

fn something(rng: &mut Rng) -> Notice {
    match rng.below(20) {
        0..=5 => Notice::Ready,
        6..=8 => Notice::Newline,
        9..=12 => Notice::Watchdog,
        13 => Notice::WatchdogTrigger,
        14 => Notice::Reloading,
        15 => Notice::Stopping,
        _ => Notice::Status("busy".to_owned()),
    }
}

/// A random probe, or none.
pub(super) fn random(role: ProbeRole, rng: &mut Rng) -> Option<String> {
    let name = if role == ProbeRole::Readiness { "readiness" } else { "liveness" };
    let kind = match (rng.below(10), role) {
        (8 | 9, _) => r#""exec":["probe"]"#,
        (0, _) => r#""http":{"url":"http://localhost:1/"}"#,
        (1, _) => r#""tcp":{"address":"127.0.0.1:1"}"#,
        (2, ProbeRole::Readiness) => return Some(format!(r#""{name}":{{"log":"{SIGN}"}}"#)),
        (3, ProbeRole::Readiness) => return Some(format!(r#""{name}":{{"notify":true}}"#)),
        (4, ProbeRole::Readiness) => return Some(format!(r#""{name}":{{"fd":3}}"#)),
        (2, ProbeRole::Liveness) => {
            let period = rng.pick(&["0.1", "10"]);
            return Some(format!(r#""{name}":{{"notify":true,"periodSeconds":{period}}}"#));
        }
        _ => return None,
    };
    let successes = match role {
        ProbeRole::Readiness => format!(r#","successThreshold":{}"#, 1 + rng.below(2)),
        ProbeRole::Liveness => String::new(),
    };
    Some(format!(
        r#""{name}":{{{kind},"initialDelaySeconds":{},"periodSeconds":{},"timeoutSeconds":{},
        "failureThreshold":{}{successes}}}"#,
        rng.pick(&["0", "0.2"]),
        rng.pick(&["0.1", "1", "10"]),
        rng.pick(&["0.05", "1"]),
        1 + rng.below(3),
    ))
}

/// What runs write now and then.
pub(super) const SIGN: &str = " goes on";
