//! The order of stops: jobs that are stopped together stop before what they depend on.
//!
//! ```text
//!   web ─▶ app ─▶ db (─▶: depends on), and log, on which nothing depends
//!
//!   begin      stage 1        │      stage 2        │      stage 3        │ end
//!   web, log: asked           │                     │                     │
//!             app: asked when web is gone, or now   │                     │
//!                             │     db: asked when app is gone, or now    │
//!                        web: killed           app: killed        db, log: killed
//! ```
//!
//! The time is divided into as many equal stages as there are levels of jobs with processes. A job
//! is killed at the end of its stage, and earlier if its own grace period is shorter. It is asked
//! to end as soon as those are gone that depend on it, and at the latest a little after the
//! beginning of its stage, when they were killed: so a job that hangs leaves all behind it a whole
//! stage, and what is gone early leaves them its time, too. What depends on nothing is asked at
//! once.
//!
//! A stage is not shorter than `SHORTEST_STAGE`. If there are more levels than the time has room
//! for, the outermost share the first stage. So everything ends in its time, however long the
//! chain.
//!
//! A job that has no process holds up nobody, and is stopped at once; but its dependents are gone
//! before what it depends on is asked. A job whose turn has not come is `stopping` already: nothing
//! of it is started any more, and its runs go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Core, Happened, JobKey, Refusal, Request, Settings, Supervisor, Timer};
use crate::gather::gather;
use crate::job::JobId;
use crate::time::{Mono, Now};

/// What is asked of several jobs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the requests of the API")]
pub enum Together {
    Kill,
    Restart,
    Remove,
}

/// How a job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// In a shutdown.
    ForGood,
    /// By request.
    Asked(Together),
}

/// The jobs that are being stopped together, until each is gone and so are those before it.
#[derive(Debug, Default)]
pub(super) struct Stops {
    places: BTreeMap<JobKey, Place>,
    /// Those whose turn has not come, by when it comes at the latest.
    held: BTreeSet<(Mono, JobKey)>,
}

/// The place of a job in the order.
#[derive(Debug)]
struct Place {
    /// How many jobs are to be gone first.
    before: usize,
    /// The jobs for which it is to be gone first.
    behind: BTreeSet<JobKey>,
    /// The number of its newest run: it is gone when all up to this one are.
    last_run: u64,
    /// When it is asked to end at the latest.
    latest: Mono,
    /// When it is killed at the latest.
    kill_by: Option<Mono>,
}

impl Stops {
    /// Those that were held and have a place again are held still.
    fn replace(&mut self, places: impl Iterator<Item = (JobKey, Place)>) {
        let held: BTreeSet<JobKey> = gather(self.held.iter().map(|(_, key)| *key));
        self.places = gather(places);
        let held = self.places.iter().filter(|(key, _)| held.contains(key));
        self.held = gather(held.map(|(key, place)| (place.latest, *key)));
    }
}

/// A job that is to be stopped, while the order is made.
struct Member {
    is_live: bool,
    last_run: u64,
    before: Vec<JobKey>,
    behind: BTreeSet<JobKey>,
    /// How many levels of jobs with processes come after it.
    level: u32,
}

impl Supervisor {
    /// Kills, restarts or removes jobs, in the order of their dependencies: those that hold up
    /// others within the time of a shutdown, the last with their own grace period. Returns for each
    /// whether it is done; takes time in proportion to the jobs and their dependencies.
    pub fn stop_together(
        &mut self,
        together: Together,
        ids: &[JobId],
        now: Now,
    ) -> Vec<Result<(), Refusal>> {
        let (mut keys, mut ends_main) = (BTreeSet::new(), false);
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let key = self.may_stop(together, id);
            let is_main = self.is_main(id.as_str());
            if let Ok(key) = key
                && !(is_main && together == Together::Remove)
                && keys.insert(key)
                && let Some(job) = self.jobs.get(&key)
            {
                job.tell(Happened::Asked(together.request()), &mut self.core, now);
            }
            ends_main |= is_main && key.is_ok() && together != Together::Restart;
            answers.push(key.map(drop));
        }
        if ends_main && !self.is_shutting_down() {
            self.begin_shutdown(0, None, now);
        }
        self.stop_in_order(How::Asked(together), &keys, now);
        self.settle(now);
        answers
    }

    fn may_stop(&self, together: Together, id: &JobId) -> Result<JobKey, Refusal> {
        if together == Together::Restart && self.is_shutting_down() {
            return Err(Refusal::ShuttingDown);
        }
        let key = self.ids.get(id).copied().ok_or(Refusal::NotFound)?;
        self.jobs.get(&key).ok_or(Refusal::NotFound)?.may(together.request())?;
        Ok(key)
    }

    /// Stops all jobs for a shutdown that has begun. The caller settles.
    pub(super) fn stop_all_in_order(&mut self, now: Now) {
        let keys = gather(self.jobs.keys().copied());
        self.stop_in_order(How::ForGood, &keys, now);
    }

    /// Stops jobs together with those that are being stopped already: they get new places in one
    /// order. The caller settles.
    fn stop_in_order(&mut self, how: How, keys: &BTreeSet<JobKey>, now: Now) {
        let members = self.members(keys);
        let stages = Stages::new(&members, self.shutdown_deadline(), &self.core.settings, now);
        self.core.stops.replace(members.into_iter().map(|(key, it)| (key, stages.place(it))));
        let others = self.core.stops.places.keys().filter(|key| !keys.contains(key));
        for key in others.copied().collect::<Vec<_>>() {
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            let stays_held = self.core.is_held(key) && self.core.is_early(key, now);
            if !stays_held && !job.runs.is_empty() {
                // Asks it to end, or makes its time shorter.
                job.stop_held(&mut self.core, now);
                self.core.note_change(key);
            }
        }
        for key in keys {
            if how == How::Asked(Together::Remove) {
                self.detach(*key, now);
            }
            let Some(job) = self.jobs.get_mut(key) else { continue };
            let is_again = how == How::Asked(Together::Kill) && job.is_being_killed();
            if self.core.is_early(*key, now) && job.has_unasked_run() && !is_again {
                self.core.hold(*key);
                job.hold(how, &mut self.core, now);
            } else {
                job.stop_as(how, &mut self.core, now);
            }
            self.core.note_change(*key);
        }
        self.core.arm_stops();
    }

    /// Those of the jobs that have a place in the order, and those that have one already, with their
    /// neighbours and levels.
    fn members(&self, keys: &BTreeSet<JobKey>) -> BTreeMap<JobKey, Member> {
        let places = &self.core.stops.places;
        if self.core.dependencies.is_empty() && places.is_empty() {
            return BTreeMap::new();
        }
        let is_member = |key: &JobKey| keys.contains(key) || places.contains_key(key);
        let all: BTreeSet<JobKey> = gather(keys.iter().chain(places.keys()).copied());
        let mut members = BTreeMap::new();
        for job in all.iter().filter_map(|key| self.jobs.get(key)) {
            let place = places.get(&job.key);
            let known = place.into_iter().flat_map(|place| place.behind.iter().copied());
            let depends_on = job.spec.depends_on.keys().filter_map(|id| self.ids.get(id).copied());
            let behind: BTreeSet<_> = gather(known.chain(depends_on).filter(is_member));
            let last_run = match place {
                Some(place) if !keys.contains(&job.key) => place.last_run,
                Some(_) | None => job.last_run(),
            };
            let is_live = !job.runs.is_empty();
            let member = Member { is_live, last_run, before: Vec::new(), behind, level: 0 };
            members.insert(job.key, member);
        }
        let edges = members.iter().flat_map(|(key, member)| {
            member.behind.iter().map(|behind| (*key, *behind)).collect::<Vec<_>>()
        });
        for (before, behind) in edges.collect::<Vec<_>>() {
            if let Some(member) = members.get_mut(&behind) {
                member.before.push(before);
            }
        }
        set_levels(&mut members);
        members
    }

    /// A job has changed: if it is gone, and all before it, those behind it have one less to wait
    /// for.
    pub(super) fn settle_stop(&mut self, key: JobKey, now: Now) {
        let Some(place) = self.core.stops.places.get(&key) else { return };
        let job = self.jobs.get(&key);
        let is_gone =
            job.is_none_or(|job| job.runs.iter().all(|run| run.key.number > place.last_run));
        if !is_gone || place.before > 0 {
            return;
        }
        self.core.release(key);
        let behind = self.core.stops.places.remove(&key).map(|place| place.behind);
        for next in behind.unwrap_or_default() {
            let Some(place) = self.core.stops.places.get_mut(&next) else { continue };
            place.before = place.before.saturating_sub(1);
            if place.before == 0 {
                self.stop_held(next, now);
                self.core.note_change(next);
            }
        }
    }

    /// The turn of some jobs has come, although others are still there.
    pub(super) fn handle_stops_due(&mut self, now: Now) {
        for _ in 0..STOPPED_A_TURN {
            match self.core.stops.held.first() {
                Some((latest, key)) if *latest <= now.mono => {
                    let key = *key;
                    self.stop_held(key, now);
                    self.core.note_change(key);
                }
                Some(_) | None => break,
            }
        }
        self.core.arm_stops();
        self.settle(now);
    }

    fn stop_held(&mut self, key: JobKey, now: Now) {
        if self.core.release(key)
            && let Some(job) = self.jobs.get_mut(&key)
        {
            job.stop_held(&mut self.core, now);
        }
    }
}

impl Together {
    fn request(self) -> Request {
        match self {
            Together::Kill => Request::Kill,
            Together::Restart => Request::Restart,
            Together::Remove => Request::Remove,
        }
    }
}

impl Core {
    /// Whether the job is to be stopped, and its turn has not come.
    pub(super) fn is_held(&self, key: JobKey) -> bool {
        self.latest_stop(key).is_some()
    }

    /// When the turn of a held job comes at the latest.
    pub(super) fn latest_stop(&self, key: JobKey) -> Option<Mono> {
        let latest = self.stops.places.get(&key)?.latest;
        self.stops.held.contains(&(latest, key)).then_some(latest)
    }

    /// The turn of the job has come; returns whether it had not come before.
    pub(super) fn release(&mut self, key: JobKey) -> bool {
        let Some(place) = self.stops.places.get(&key) else { return false };
        let was_held = self.stops.held.remove(&(place.latest, key));
        if was_held {
            self.arm_stops();
        }
        was_held
    }

    /// Nothing is stopped in any order from now on.
    pub(super) fn forget_stops(&mut self) {
        self.stops = Stops::default();
        self.arm_stops();
    }

    /// Cuts a deadline short: no grace period outlasts the shutdown, or the stage of the job.
    pub(super) fn bound_grace(&self, job: JobKey, at: Mono) -> Mono {
        let kill_by = self.stops.places.get(&job).and_then(|place| place.kill_by);
        self.bound_by_shutdown(kill_by.map_or(at, |kill_by| at.min(kill_by)))
    }

    /// Whether others are to be gone before this one, and there is time to wait for that.
    fn is_early(&self, key: JobKey, now: Now) -> bool {
        let place = self.stops.places.get(&key);
        place.is_some_and(|place| place.before > 0 && place.latest > now.mono)
    }

    /// The caller sets the timer.
    fn hold(&mut self, key: JobKey) {
        if let Some(place) = self.stops.places.get(&key) {
            self.stops.held.insert((place.latest, key));
        }
    }

    fn arm_stops(&mut self) {
        match self.stops.held.first() {
            Some((latest, _)) => self.timers.set(Timer::Stops, *latest),
            None => {
                self.timers.cancel(&Timer::Stops);
            }
        }
    }
}

/// The time for a stop, in equal parts.
struct Stages {
    count: u32,
    length: Duration,
    begin: Mono,
    until: Mono,
    is_shutdown: bool,
}

impl Stages {
    /// Until the deadline of a shutdown, or for as long as one may take.
    fn new(
        members: &BTreeMap<JobKey, Member>,
        deadline: Option<Mono>,
        settings: &Settings,
        now: Now,
    ) -> Stages {
        let live = members.values().filter(|member| member.is_live);
        let levels = live.map(|member| member.level.saturating_add(1)).max().unwrap_or(1);
        let until = deadline.unwrap_or(now.mono + settings.shutdown_timeout);
        let time = until.since(now.mono);
        let room = time.as_millis() / SHORTEST_STAGE.as_millis();
        let count = levels.min(u32::try_from(room).unwrap_or(u32::MAX)).max(1);
        let is_shutdown = deadline.is_some();
        Stages { count, length: time / count, begin: now.mono, until, is_shutdown }
    }

    fn place(&self, member: Member) -> Place {
        let Member { before, behind, last_run, level, .. } = member;
        let (latest, kill_by) = (self.latest(level), self.kill_by(level));
        Place { before: before.len(), behind, last_run, latest, kill_by }
    }

    /// How many stages come after that of a job with so many levels after it.
    fn after(&self, level: u32) -> u32 {
        level.min(self.count.saturating_sub(1))
    }

    /// When a job is asked to end at the latest. Those before it were killed an eighth of a stage
    /// ago, and so are gone as a rule.
    fn latest(&self, level: u32) -> Mono {
        let stage = self.count.saturating_sub(1).saturating_sub(self.after(level));
        self.begin + self.length * stage + self.length / 8
    }

    /// When a job is killed at the latest. Outside of a shutdown nobody waits for the last.
    fn kill_by(&self, level: u32) -> Option<Mono> {
        match self.after(level) {
            0 if self.is_shutdown => Some(self.until),
            0 => None,
            after => Some(self.begin + self.length * self.count.saturating_sub(after)),
        }
    }
}

/// Sets how many levels come after each, from the last to the first. Without a circle, which there
/// is not, all are reached.
fn set_levels(members: &mut BTreeMap<JobKey, Member>) {
    let mut left: BTreeMap<JobKey, usize> =
        gather(members.iter().map(|(key, member)| (*key, member.behind.len())));
    let is_last = |(_, member): &(&JobKey, &Member)| member.behind.is_empty();
    let mut next: VecDeque<JobKey> = members.iter().filter(is_last).map(|(key, _)| *key).collect();
    while let Some(member) = next.pop_front().and_then(|key| members.get(&key)) {
        let level = member.level.saturating_add(u32::from(member.is_live));
        for key in member.before.clone() {
            let (Some(left), Some(before)) = (left.get_mut(&key), members.get_mut(&key)) else {
                continue;
            };
            before.level = before.level.max(level);
            *left = left.saturating_sub(1);
            if *left == 0 {
                next.push_back(key);
            }
        }
    }
}

/// The shortest time that a job gets to end if others wait for that.
const SHORTEST_STAGE: Duration = Duration::from_millis(100);

/// How many jobs are asked to end at a time because their turn has come.
const STOPPED_A_TURN: usize = 250;
