//! Measures the memory and CPU time of runs: reads all of `/proc`, a share each turn, and reports
//! the sum of each run.
//!
//! ```text
//!   begin ─▶ Walking: each process ─▶ its owner: by session, by parent, for an orphan by its mark
//!                │
//!                ▼
//!            Placing the processes that came before their parents
//!                ▼
//!            Counting k1s's own descriptors ─▶ Reporting the sum of each run ─▶ done
//! ```
//!
//! One walk serves all runs and all requests that came meanwhile. Processes start and end while it
//! goes on. Where k1s cannot read `/proc`, it reports nothing.

use std::collections::BTreeMap;

use super::shares::{COUNTED_A_TURN, MEASURED_A_TURN, PLACED_A_TURN, REPORTED_A_TURN};
use crate::job::Pid;
use crate::job::tag::RunTag;
use crate::os::{self, Descriptors, Membership, Met, Stat, Tags, Walk};
use crate::supervisor::{Owner, Supervisor, Usage};

/// The measurement in progress.
#[derive(Debug, Default)]
pub(super) struct Meter {
    phase: Phase,
    /// The owner of each process so far; `None` for processes of no run.
    met: BTreeMap<Pid, Option<Owner>>,
    /// Processes whose parents were not read yet.
    unplaced: BTreeMap<Pid, Stat>,
    sums: BTreeMap<Owner, Usage>,
    open_descriptors: Option<u64>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Walking(Walk),
    Placing,
    Counting(Descriptors),
    Reporting,
}

/// The measurement is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// How many descriptors k1s has open, if it can count them.
    pub(super) open_descriptors: Option<u64>,
}

impl Meter {
    /// Starts a measurement.
    pub(super) fn begin(&mut self) {
        *self = Meter::default();
        match Walk::begin() {
            Some(walk) => self.phase = Phase::Walking(walk),
            None => self.count_descriptors(),
        }
    }

    /// Whether a measurement is in progress.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Does the share of a turn.
    pub(super) fn go_on(&mut self, tags: &Tags, supervisor: &mut Supervisor) -> Option<Over> {
        match &mut self.phase {
            Phase::Idle => None,
            Phase::Walking(_) => self.walk(tags, supervisor),
            Phase::Placing => self.place(),
            Phase::Counting(descriptors) => {
                self.open_descriptors = descriptors.step(COUNTED_A_TURN);
                if self.open_descriptors.is_some() {
                    self.phase = Phase::Reporting;
                }
                None
            }
            Phase::Reporting => self.report(supervisor),
        }
    }

    fn walk(&mut self, tags: &Tags, supervisor: &Supervisor) -> Option<Over> {
        for _ in 0..MEASURED_A_TURN {
            let Phase::Walking(walk) = &mut self.phase else { break };
            match walk.step() {
                Met::Process(stat) => self.meet(stat, tags, supervisor),
                Met::Nobody => {}
                Met::End => self.phase = Phase::Placing,
                // Incomplete sums would be too small.
                Met::Short => {
                    *self = Meter::default();
                    self.count_descriptors();
                }
            }
        }
        None
    }

    /// Usually the parent was read before.
    fn meet(&mut self, stat: Stat, tags: &Tags, supervisor: &Supervisor) {
        let leader = [stat.process.pid, stat.session].into_iter();
        if let Some(run) = leader.filter_map(|leader| supervisor.run_of(leader)).next() {
            self.add(&stat, Some(Owner::Run(run)));
        } else if stat.parent == os::own_pid() {
            let owner = match tags.read(&stat) {
                Membership::Run(tag) => owner_of(tag, supervisor),
                Membership::Unknown | Membership::Hidden => None,
            };
            self.add(&stat, owner);
        } else if let Some(owner) = self.met.get(&stat.parent).copied() {
            self.add(&stat, owner);
        } else {
            self.unplaced.insert(stat.process.pid, stat);
        }
    }

    /// Process ids wrap around: then a child may come before its parent.
    fn place(&mut self) -> Option<Over> {
        for _ in 0..PLACED_A_TURN {
            let Some((_, stat)) = self.unplaced.pop_first() else {
                self.met.clear();
                self.count_descriptors();
                break;
            };
            let (mut line, mut parent) = (vec![stat], stat.parent);
            while let Some(above) = self.unplaced.remove(&parent) {
                line.push(above);
                parent = above.parent;
            }
            let owner = self.met.get(&parent).copied().flatten();
            for stat in line {
                self.add(&stat, owner);
            }
        }
        None
    }

    fn add(&mut self, stat: &Stat, owner: Option<Owner>) {
        self.met.insert(stat.process.pid, owner);
        let Some(owner) = owner else { return };
        let usage = Usage {
            processes: u64::from(!stat.is_dead),
            resident_bytes: stat.resident_bytes(),
            cpu_time: stat.cpu_time(),
        };
        let sum = self.sums.entry(owner).or_default();
        *sum = sum.and(usage);
    }

    fn count_descriptors(&mut self) {
        self.phase = Descriptors::begin().map_or(Phase::Reporting, Phase::Counting);
    }

    fn report(&mut self, supervisor: &mut Supervisor) -> Option<Over> {
        for _ in 0..REPORTED_A_TURN {
            let Some((owner, usage)) = self.sums.pop_first() else {
                let open_descriptors = self.open_descriptors;
                *self = Meter::default();
                return Some(Over { open_descriptors });
            };
            supervisor.handle_usage(owner, usage);
        }
        None
    }
}

/// The run whose mark an orphan carries, or its job when the run has ended.
fn owner_of(tag: RunTag, supervisor: &Supervisor) -> Option<Owner> {
    let job = supervisor.job_numbered(tag.job)?;
    let run = job.live_runs().find(|run| Tags::short(run.tag()) == tag);
    Some(run.map_or(Owner::Job(job.key()), Owner::Run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{self, JobId, Spelling, Value};
    use crate::os::testing::{in_own_process, refuse_descriptors, stat};
    use crate::supervisor::{RunKey, Settings};
    use crate::time::Now;
    use std::time::Duration;

    /// A supervisor with one running job, whose first process has this id.
    fn running(pid: i32) -> (Supervisor, RunKey) {
        let settings = Settings::for_tests();
        let mut supervisor = Supervisor::new(settings, Now::default());
        let fields = [("type", "one-off"), ("executable", "x")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        let spec = job::parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap();
        supervisor.create(JobId::parse("x").unwrap(), spec, Now::default()).unwrap();
        let launch = supervisor.poll_spawn().unwrap();
        let run = launch.run;
        supervisor.handle_spawned(launch, Pid(pid), Now::default());
        (supervisor, run)
    }

    /// Process ids wrap around, so a process may have a lower one than its parent.
    #[test]
    fn a_process_that_comes_before_its_parent_is_placed() {
        let (supervisor, run) = running(1000);
        let (mut meter, tags) = (Meter::default(), Tags::new("k"));
        for (pid, parent, session) in [
            (50, 60, 50),
            (55, 1, 55),
            (60, 1000, 60),
            (1000, 7, 1000),
            (1001, 50, 50),
            (1002, 55, 55),
        ] {
            meter.meet(stat(pid, parent, session), &tags, &supervisor);
        }
        assert_eq!(meter.sums[&Owner::Run(run)].processes, 1, "one is in its session");
        meter.phase = Phase::Placing;
        while matches!(meter.phase, Phase::Placing) {
            meter.place();
        }
        assert_eq!(meter.sums.len(), 1);
        let sum = meter.sums[&Owner::Run(run)];
        assert_eq!((sum.processes, sum.resident_bytes % 4096), (4, 0));
        assert_eq!(sum.cpu_time, Duration::from_secs(4));
    }

    /// Incomplete sums would be too small.
    #[test]
    fn without_descriptors_nothing_is_reported() {
        let name = "daemon::meter::tests::without_descriptors_nothing_is_reported";
        in_own_process(name, || {
            let (mut supervisor, run) = running(os::own_pid().0);
            let (mut meter, tags) = (Meter::default(), Tags::new("k"));
            meter.begin();
            meter.sums.insert(Owner::Run(run), Usage::default());
            refuse_descriptors();
            let over =
                std::iter::repeat_with(|| meter.go_on(&tags, &mut supervisor)).flatten().next();
            assert_eq!(over, Some(Over { open_descriptors: None }));
            assert_eq!(supervisor.job("x").unwrap().counts(), None);
            assert!(!meter.is_busy());
        });
    }

    #[test]
    fn a_mark_names_a_live_run_or_its_job() {
        let (supervisor, run) = running(1000);
        let tag = Tags::short(run.tag());
        assert_eq!(owner_of(tag, &supervisor), Some(Owner::Run(run)));
        let former = RunTag { run: tag.run + 7, ..tag };
        assert_eq!(owner_of(former, &supervisor), Some(Owner::Job(run.job)));
        assert_eq!(owner_of(RunTag { job: 99, ..tag }, &supervisor), None);
    }
}
