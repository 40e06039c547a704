//! Which job waits for which: the graph of `dependsOn`.
//!
//! ```text
//!              db: a new standing                        Job: do my conditions hold?
//!   db ─────────────────────────────► Dependencies ◄──────────────────────────────── web
//!      whenever db has changed             │    by id: who depends on it, and how
//!                                          │    far it has come, by which run
//!                                          ▼
//!                     news: its dependents look again, a share of them in each turn
//! ```
//!
//! It is about ids, not jobs: the job of an id may not be there yet, and one that is removed may
//! come back. A change takes time in proportion to the dependencies of that job. Its dependents,
//! which may be many, are told in shares of a turn; until then the old standing counts for nobody,
//! because whoever starts looks at the new one: before a run is queued, and again before it is
//! spawned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display, Formatter};
use std::ops::Bound;

use super::{Job, JobKey, RunKey, Supervisor};
use crate::access::Visible;
use crate::job::spec::{Condition, Dependency};
use crate::job::{Circle, JobId, JobSpec};
use crate::time::Now;

/// What a job depends on, as in its specification.
type DependsOn = BTreeMap<JobId, Dependency>;

/// The runs of other jobs that a run was started upon, for those with `restart`.
pub(super) type Bases = Vec<(JobId, RunKey)>;

/// Who depends on whom, and how far those have come that others depend on.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// By the id of a job that others depend on, whether there is one or not.
    awaited: BTreeMap<JobId, Awaited>,
    /// The ids of those whose dependents are still to be told.
    news: VecDeque<JobId>,
    /// Runs that were to be spawned while a condition did not hold.
    withheld: VecDeque<RunKey>,
}

/// A job that others depend on.
#[derive(Debug, Default)]
struct Awaited {
    dependents: BTreeSet<JobKey>,
    standing: Standing,
    telling: Telling,
}

/// How far a job has come: what it has reached, and with which run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) started: Option<RunKey>,
    pub(super) ready: Option<RunKey>,
    pub(super) succeeded: Option<RunKey>,
    pub(super) ended: Option<RunKey>,
}

/// How far dependents have been told of a standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telling {
    /// All know.
    #[default]
    Done,
    /// Those after this one are still to be told; and then all anew, if it has changed meanwhile.
    From { after: Option<JobKey>, again: bool },
}

/// Why a job cannot depend on what it is to depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tangle {
    /// It would wait for itself.
    Circle(Circle),
    /// So many jobs depend on each other that k1s does not look whether there is a circle.
    TooManyJobs,
}

impl Supervisor {
    /// What keeps a job of this id from depending on what `spec` says; `None`: nothing. Looks at
    /// `LOOKED_AT` dependencies, and those of one more job.
    pub fn tangle(&self, id: &JobId, spec: &JobSpec) -> Option<Tangle> {
        if spec.depends_on.contains_key(id) {
            return Some(Tangle::Circle(Circle(vec![id.clone(), id.clone()])));
        }
        let forth = |at: &JobId| {
            let spec = self.ids.get(at).and_then(|key| self.jobs.get(key)).map(|job| job.spec());
            spec.into_iter().flat_map(|spec| spec.depends_on.keys())
        };
        let back = |at: &JobId| {
            let dependents = self.core.dependencies.dependents(at);
            dependents.filter_map(|key| self.jobs.get(&key)).map(|job| job.id())
        };
        // From both ends at the same time: a job is mostly new to one of them.
        let (mut ahead, mut behind) = (Search::default(), Search::default());
        spec.depends_on.keys().for_each(|next| ahead.reach(next, id));
        back(id).for_each(|next| behind.reach(next, id));
        while ahead.looked_at + behind.looked_at <= LOOKED_AT {
            let at = ahead.next()?;
            if at == *id {
                let mut circle = ahead.way_to(id);
                circle.reverse();
                return Some(Tangle::Circle(Circle(circle)));
            }
            forth(&at).for_each(|next| ahead.reach(next, &at));
            let at = behind.next()?;
            if spec.depends_on.contains_key(&at) {
                let mut circle = vec![id.clone()];
                circle.extend(behind.way_to(&at));
                return Some(Tangle::Circle(Circle(circle)));
            }
            back(&at).for_each(|next| behind.reach(next, &at));
        }
        Some(Tangle::TooManyJobs)
    }

    /// What the job waits for, if it waits for what it depends on; by id.
    pub fn waiting_for<'a>(
        &'a self,
        job: &'a Job,
    ) -> impl Iterator<Item = (&'a JobId, Condition)> + use<'a> {
        let unmet = job.is_waiting().then(|| self.core.dependencies.unmet(&job.spec.depends_on));
        unmet.into_iter().flatten()
    }

    /// A job depends on others from now on.
    pub(super) fn link(&mut self, key: JobKey, depends_on: &DependsOn, now: Now) {
        for id in depends_on.keys() {
            let job = self.ids.get(id).and_then(|key| self.jobs.get(key));
            let standing = || job.map(|job| job.standing()).unwrap_or_default();
            let awaited = self.core.dependencies.awaited.entry(id.clone());
            let awaited =
                awaited.or_insert_with(|| Awaited { standing: standing(), ..Awaited::default() });
            awaited.dependents.insert(key);
        }
        self.tell_awaited(depends_on, now);
    }

    /// A job depends on others no more.
    pub(super) fn unlink(&mut self, key: JobKey, depends_on: &DependsOn, now: Now) {
        self.core.dependencies.unlink(key, depends_on);
        self.tell_awaited(depends_on, now);
    }

    /// Tells jobs that another depends on them, or does no more.
    fn tell_awaited(&mut self, depends_on: &DependsOn, now: Now) {
        for key in depends_on.keys().filter_map(|id| self.ids.get(id)) {
            if let Some(job) = self.jobs.get(key) {
                job.handle_dependents(&mut self.core, now);
            }
        }
    }

    /// A job has changed, and may have come further.
    pub(super) fn learn_standing(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get(&key)
            && let Some(awaited) = self.core.dependencies.awaited.get_mut(job.id())
            && self.ids.get(job.id()) == Some(&key)
            && awaited.learn(job.standing())
        {
            self.core.dependencies.news.push_back(job.id().clone());
        }
    }

    /// Tells a share of those that depend on jobs that have come further.
    pub(super) fn tell_dependents(&mut self, now: Now) {
        let withheld = self.core.dependencies.withheld.len().min(TOLD_A_TURN);
        let withheld: Vec<_> = self.core.dependencies.withheld.drain(..withheld).collect();
        for run in withheld {
            self.update(run.job, now, |job, core| job.handle_withheld(run, core, now));
        }
        for key in self.core.dependencies.share() {
            if self.jobs.get(&key).is_some_and(|job| job.heeds_dependencies()) {
                self.update(key, now, |job, core| job.handle_dependencies(core, now));
            }
        }
    }
}

impl Dependencies {
    /// Whether no job depends on another.
    pub(super) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether a job depends on this one.
    pub(super) fn has_dependents(&self, id: &JobId) -> bool {
        self.awaited.contains_key(id)
    }

    /// Whether all conditions hold.
    pub(super) fn hold(&self, depends_on: &DependsOn) -> bool {
        self.unmet(depends_on).next().is_none()
    }

    /// The conditions that do not hold, by id.
    pub(super) fn unmet<'a>(
        &'a self,
        depends_on: &'a DependsOn,
    ) -> impl Iterator<Item = (&'a JobId, Condition)> + use<'a> {
        let conditions = depends_on.iter().map(|(id, on)| (id, on.condition));
        conditions.filter(|(id, condition)| self.met(id, *condition).is_none())
    }

    /// The runs that meet those conditions that have `restart`; `None` if any condition does not
    /// hold.
    pub(super) fn bases(&self, depends_on: &DependsOn) -> Option<Bases> {
        let mut bases = Bases::new();
        for (id, on) in depends_on {
            let run = self.met(id, on.condition)?;
            if on.restart {
                bases.push((id.clone(), run));
            }
        }
        Some(bases)
    }

    /// The first job with `restart` of which another run meets the condition than the one in
    /// `bases`. What is not there yet is added.
    pub(super) fn renewed(&self, depends_on: &DependsOn, bases: &mut Bases) -> Option<JobId> {
        for (id, on) in depends_on.iter().filter(|(_, on)| on.restart) {
            let Some(run) = self.met(id, on.condition) else { continue };
            match bases.iter().find(|(known, _)| known == id) {
                None => bases.push((id.clone(), run)),
                Some((_, base)) if *base != run => return Some(id.clone()),
                Some(_) => {}
            }
        }
        None
    }

    /// Sets a run aside that was to be spawned while a condition did not hold.
    pub(super) fn withhold(&mut self, run: RunKey) {
        self.withheld.push_back(run);
    }

    /// Whether there is anything to tell.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty() || !self.withheld.is_empty()
    }

    /// A job depends on others no more.
    fn unlink(&mut self, key: JobKey, depends_on: &DependsOn) {
        for id in depends_on.keys() {
            let Some(awaited) = self.awaited.get_mut(id) else { continue };
            awaited.dependents.remove(&key);
            if awaited.dependents.is_empty() {
                self.awaited.remove(id);
            }
        }
    }

    /// There is no job of this id any more.
    pub(super) fn forget_standing(&mut self, id: &JobId) {
        if let Some(awaited) = self.awaited.get_mut(id) {
            awaited.standing = Standing::default();
        }
    }

    /// Those that depend on this id.
    fn dependents<'a>(&'a self, id: &JobId) -> impl Iterator<Item = JobKey> + use<'a> {
        self.awaited.get(id).into_iter().flat_map(|awaited| awaited.dependents.iter().copied())
    }

    /// The run with which the job of this id has met the condition, if it has.
    fn met(&self, id: &JobId, condition: Condition) -> Option<RunKey> {
        let standing = self.awaited.get(id)?.standing;
        match condition {
            Condition::Started => standing.started,
            Condition::Ready => standing.ready,
            Condition::Succeeded => standing.succeeded,
            Condition::Ended => standing.ended,
        }
    }

    /// The next jobs to tell, `TOLD_A_TURN` at most; a job may be among them twice.
    fn share(&mut self) -> Vec<JobKey> {
        let mut share = Vec::new();
        for _ in 0..self.news.len().min(TOLD_A_TURN) {
            let Some(id) = self.news.pop_front() else { break };
            let Some(awaited) = self.awaited.get_mut(&id) else { continue };
            awaited.take_share(&mut share);
            if awaited.telling != Telling::Done {
                self.news.push_back(id);
            }
            if share.len() >= TOLD_A_TURN {
                break;
            }
        }
        share
    }
}

impl Awaited {
    /// Learns how far the job has come. Returns whether its dependents are to be told, and are not
    /// being told already. What it has lost concerns nobody: only a start depends on it.
    fn learn(&mut self, standing: Standing) -> bool {
        let old = std::mem::replace(&mut self.standing, standing);
        if !standing.is_further_than(&old) {
            return false;
        }
        match &mut self.telling {
            Telling::Done => {
                self.telling = Telling::From { after: None, again: false };
                true
            }
            Telling::From { after, again } => {
                *again |= after.is_some();
                false
            }
        }
    }

    /// Adds those that are to be told next, as many as there is room for.
    fn take_share(&mut self, share: &mut Vec<JobKey>) {
        let Telling::From { after, again } = self.telling else { return };
        let room = TOLD_A_TURN.saturating_sub(share.len());
        let rest = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let before = share.len();
        share.extend(self.dependents.range(rest).take(room));
        self.telling = match again {
            _ if share.len() - before == room => {
                Telling::From { after: share.last().copied().or(after), again }
            }
            true => Telling::From { after: None, again: false },
            false => Telling::Done,
        };
    }
}

impl Standing {
    /// Whether it meets a condition that the old one does not meet, or meets it by another run.
    fn is_further_than(&self, old: &Standing) -> bool {
        let is_new = |new: Option<RunKey>, old| new.is_some() && new != old;
        is_new(self.started, old.started)
            || is_new(self.ready, old.ready)
            || is_new(self.succeeded, old.succeeded)
            || is_new(self.ended, old.ended)
    }
}

/// A search in breadth that knows the way to each id that it has reached.
#[derive(Default)]
struct Search {
    next: VecDeque<JobId>,
    /// From where each was reached first.
    from: BTreeMap<JobId, JobId>,
    looked_at: usize,
}

impl Search {
    fn reach(&mut self, id: &JobId, from: &JobId) {
        self.looked_at += 1;
        if !self.from.contains_key(id) {
            self.from.insert(id.clone(), from.clone());
            self.next.push_back(id.clone());
        }
    }

    fn next(&mut self) -> Option<JobId> {
        self.next.pop_front()
    }

    /// The way from an id back to where the search began, which may be that id.
    fn way_to(&self, id: &JobId) -> Vec<JobId> {
        let mut way = vec![id.clone()];
        while let Some(from) = way.last().and_then(|at| self.from.get(at)) {
            way.push(from.clone());
            if from == id {
                break;
            }
        }
        way
    }
}

impl Tangle {
    /// Whether it names no other jobs than these.
    pub fn names_only(&self, visible: &Visible) -> bool {
        match self {
            Tangle::Circle(Circle(ids)) => ids.iter().all(|id| visible.has(id.as_str())),
            Tangle::TooManyJobs => true,
        }
    }
}

impl Display for Tangle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Tangle::Circle(circle) => circle.fmt(f),
            Tangle::TooManyJobs => write!(
                f,
                "so many jobs depend on each other that k1s does not look for a circle among \
                 them: more than {LOOKED_AT}"
            ),
        }
    }
}

/// How many dependents are told at a time, and how many withheld runs are looked at.
const TOLD_A_TURN: usize = 250;

/// How many dependencies are looked at to find a circle, which takes some tens of milliseconds.
const LOOKED_AT: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{ExitStatus, Pid, Spelling, Value, parse};
    use crate::supervisor::{Action, Owner, Settings, Target};
    use crate::time::Mono;

    /// Jobs `j0`, `j1`…, and a shell that starts and ends what it is asked to.
    struct Stage {
        supervisor: Supervisor,
        now: Now,
        pids: BTreeMap<JobKey, Pid>,
        /// Which job has started, and which was asked to end, in order.
        started: Vec<u64>,
        asked: Vec<u64>,
        exited: bool,
    }

    impl Stage {
        /// `on` says on which other each depends; they are created in this order.
        fn new(order: impl Iterator<Item = usize>, on: impl Fn(usize) -> Option<usize>) -> Stage {
            let settings = Settings {
                instance: "k".to_owned(),
                job_limit: COUNT,
                output_memory: 1 << 20,
                shutdown_timeout: Duration::from_secs(9),
                main: None,
            };
            let now = Now::default();
            let mut supervisor = Supervisor::new(settings, now);
            for number in order {
                let id = JobId::parse(&format!("j{number}")).unwrap();
                let on = on(number).map_or(String::new(), |on| format!(r#""j{on}":"ready""#));
                let json = r#"{"type":"continuous","executable":"x","dependsOn":{ON}}"#;
                let value: Value = serde_json::from_str(&json.replace("ON", &on)).unwrap();
                let spec = parse(value, "/", Spelling::Camel).unwrap();
                supervisor.create(id, spec, now).unwrap();
            }
            let (started, asked) = (Vec::new(), Vec::new());
            let pids = BTreeMap::new();
            Stage { supervisor, now, pids, started, asked, exited: false }
        }

        fn number(&self, key: JobKey) -> u64 {
            self.supervisor.jobs[&key].id().as_str()[1..].parse().unwrap()
        }

        /// A turn of the loop: what was asked is done, one process is started, timers expire.
        /// Returns whether there is more to do now.
        fn turn(&mut self) -> bool {
            let mut is_busy = false;
            for _ in 0..64 {
                let Some(action) = self.supervisor.poll_action() else { break };
                is_busy = true;
                self.act(action);
            }
            if let Some(launch) = self.supervisor.poll_spawn() {
                is_busy = true;
                let pid = Pid(self.started.len() as i32 + 2);
                self.pids.insert(launch.run.job, pid);
                self.started.push(self.number(launch.run.job));
                self.supervisor.handle_spawned(launch, pid, self.now);
            }
            if self.supervisor.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                is_busy = true;
                self.supervisor.handle_timeout(self.now);
            }
            is_busy
        }

        fn act(&mut self, action: Action) {
            match action {
                Action::Stop { target: Target::Tree { owner: Owner::Job(key), .. }, .. } => {
                    let Some(pid) = self.pids.remove(&key) else { return };
                    self.asked.push(self.number(key));
                    self.supervisor.handle_exit(pid, ExitStatus::Code(0), false, self.now);
                }
                Action::Survey { run, .. } => {
                    self.supervisor.handle_survey(run, crate::supervisor::Left::Nothing, self.now);
                }
                Action::Exit { .. } => self.exited = true,
                other => panic!("{other:?}"),
            }
        }

        fn settle(&mut self) {
            while self.turn() {}
        }

        /// Everything starts and is stopped.
        fn play(&mut self) {
            self.settle();
            assert_eq!(self.started.len(), COUNT);
            self.supervisor.shutdown(0, self.now);
            while !self.exited {
                self.settle();
                if let Some(at) = self.supervisor.poll_timeout().filter(|_| !self.exited) {
                    self.now.mono = at.max(self.now.mono);
                }
            }
            assert!(self.now.mono <= Mono(9_000), "{:?}", self.now.mono);
            assert_eq!(self.asked.len(), COUNT, "each was asked to end");
        }
    }

    #[test]
    fn ten_thousand_jobs_in_a_chain_start_and_stop_in_order() {
        let before = |number: usize| number.checked_sub(1);
        let mut chain = Stage::new(0..COUNT, before);
        chain.play();
        assert!(chain.started.is_sorted());
        // There is no time for so many stages: the last of them are in order.
        let last = &chain.asked[COUNT - 40..];
        assert!(last.iter().rev().is_sorted(), "{last:?}");
        let mut from_the_end = Stage::new((0..COUNT).rev(), before);
        from_the_end.play();
        assert!(from_the_end.started.is_sorted());
    }

    #[test]
    fn ten_thousand_jobs_in_a_star_start_and_stop_in_order() {
        let mut star = Stage::new(0..COUNT, |number| (number > 0).then_some(0));
        star.play();
        assert_eq!((star.started[0], star.asked[COUNT - 1]), (0, 0));
        // A share of its dependents is told in each turn.
        let mut late = Stage::new((0..COUNT).rev(), |number| (number > 0).then_some(0));
        let spokes = late.supervisor.jobs.values().filter(|job| job.is_waiting()).count();
        assert_eq!(spokes, COUNT - 1);
        assert!(late.turn(), "the hub is started");
        assert!(late.supervisor.core.starts.len() <= TOLD_A_TURN);
        assert_eq!(late.supervisor.poll_timeout(), Some(Mono(0)), "there is more to tell");
        late.play();
        assert_eq!((late.started[0], late.asked[COUNT - 1]), (0, 0));
    }

    #[test]
    fn a_circle_of_any_length_is_found_from_either_end() {
        let stage = Stage::new(0..COUNT, |number| number.checked_sub(1));
        let last = stage.supervisor.job(&format!("j{}", COUNT - 1)).unwrap();
        let id = JobId::parse("j0").unwrap();
        let mut spec = stage.supervisor.job("j0").unwrap().spec().clone();
        let on = Dependency { condition: Condition::Ready, restart: false };
        spec.depends_on.insert(last.id().clone(), on);
        let Some(Tangle::Circle(Circle(ids))) = stage.supervisor.tangle(&id, &spec) else {
            panic!("there is a circle");
        };
        assert_eq!((ids.len(), &ids[0], &ids[COUNT]), (COUNT + 1, &id, &id));
        assert_eq!(ids[1], *last.id());
    }

    const COUNT: usize = 10_000;
}
