//! Leftovers: finds processes that a run has left outside of its group, tells which run they are
//! of, and stops them.
//!
//! ```text
//!   stops ──► descendants of each leader ──► groups ──► orphans: k1s's children that lead no run
//!                     signalled              signalled    signalled, with their descendants
//!   all surveys that wait ──► one look at the orphans ──► nothing, something, unseen
//! ```
//!
//! The mark of an orphan says which run it is of. It is read once, because a child keeps its pid
//! until k1s reaps it. An orphan that has lost its mark is known if it is in the session of the
//! run, or was seen before as a descendant of the run. Processes that were not there at the first
//! signal get it when they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shares::{CHASED_A_TURN, LOOKED_AT_A_TURN};
use crate::job::tag::RunTag;
use crate::job::{Pid, Signal};
use crate::os::{self, Family, Look, Origin, Proc, Stat, Tags, signalling};
use crate::supervisor::{Left, Owner, RunKey, Supervisor, Target};

/// What is known about leftovers.
#[derive(Debug)]
pub(super) struct Leftovers {
    tags: Tags,
    /// k1s's children that lead no run, until they are reaped.
    orphans: BTreeMap<Pid, (Proc, Origin)>,
    /// The trees that are being stopped.
    stops: BTreeMap<Key, Ongoing>,
    /// Those of them whose orphans have not been signalled yet.
    unasked: BTreeSet<Key>,
    /// How many children k1s had at the last look.
    children: usize,
}

/// A tree to be stopped, and by which signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) leader: Option<Pid>,
    pub(super) owner: Owner,
    pub(super) signal: Signal,
}

/// An owner, as marks name it: a job, or one run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    job: u64,
    run: Option<u64>,
}

/// A tree that is being stopped.
#[derive(Debug)]
struct Ongoing {
    signal: Signal,
    leader: Option<Pid>,
    /// Processes that were seen outside of the group.
    known: BTreeSet<Proc>,
    /// Those of them that were signalled.
    asked: BTreeSet<Proc>,
    /// How many looks in a row found nothing but may have missed something.
    unsure: u32,
}

/// What a look has found.
enum Seen {
    Orphans(Family),
    Short,
    Blind,
}

impl Leftovers {
    pub(super) fn new(instance: &str) -> Leftovers {
        let tags = Tags::new(instance);
        Leftovers {
            tags,
            orphans: BTreeMap::new(),
            stops: BTreeMap::new(),
            unasked: BTreeSet::new(),
            children: 0,
        }
    }

    /// The tags by which k1s recognizes processes of its runs.
    pub(super) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The number that marks the processes of a run.
    pub(super) fn mark(&self, run: RunKey) -> Option<u64> {
        self.tags.mark(run.tag())
    }

    /// A child was reaped: another process may get its pid from now on.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.orphans.remove(&pid);
    }

    /// Sends each signal to a group and to the descendants of its leader that have left it. The
    /// next [`Leftovers::survey`] sends it to orphans.
    pub(super) fn stop(&mut self, stops: &[Stop], supervisor: &Supervisor) {
        let mut most = LOOKED_AT_A_TURN;
        for stop in stops {
            let group = group_number(stop.leader, supervisor);
            let mut found = Vec::new();
            if let Some(leader) = group.filter(|leader| supervisor.is_leader(*leader)) {
                found = Family::unlooked().below(leader, &mut most);
                found.retain(|stat| stat.group != leader);
            }
            if let Some(group) = group {
                signalling::stop_group(group, stop.signal);
            }
            let key = Key::of(stop.owner);
            let ongoing = self.stops.entry(key).or_insert_with(|| Ongoing::new(stop));
            ongoing.signal = stop.signal;
            ongoing.leader = stop.leader;
            ongoing.asked.clear();
            ongoing.unsure = 0;
            for stat in found {
                ongoing.ask(&stat, false);
            }
            self.unasked.insert(key);
        }
    }

    /// Whether there are trees whose orphans have not been signalled yet.
    pub(super) fn has_unasked(&self) -> bool {
        !self.unasked.is_empty()
    }

    /// How long to wait before the next look, so that looks take a quarter of the time at most. The
    /// kernel needs nearly a microsecond for each child of k1s, living or not.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis((self.children / CHILDREN_A_MILLISECOND) as u64)
    }

    /// Says what is left of each target, and signals processes of trees being stopped that were not
    /// signalled yet. One look serves all.
    pub(super) fn survey(
        &mut self,
        surveys: &[(RunKey, Target)],
        supervisor: &Supervisor,
    ) -> Vec<Left> {
        let seen = self.look(supervisor);
        let signed: BTreeSet<Key> = self
            .orphans
            .values()
            .filter_map(|(_, origin)| match origin {
                Origin::Run(tag) => Some(Key::both(*tag)),
                Origin::Unknown | Origin::Hidden => None,
            })
            .flatten()
            .collect();
        let mut unasked = std::mem::take(&mut self.unasked);
        let mut answers = Vec::new();
        for (_, target) in surveys {
            let left = match target {
                Target::Process(leader) | Target::Group(leader) => {
                    self.left_of_group(Some(*leader), &seen, supervisor)
                }
                Target::Tree { leader, owner } => {
                    let left = self.left_of_tree(*leader, *owner, &seen, &signed, supervisor);
                    if left == Left::Something {
                        unasked.insert(Key::of(*owner));
                    } else {
                        self.stops.remove(&Key::of(*owner));
                    }
                    left
                }
            };
            answers.push(left);
        }
        unasked.retain(|key| self.stops.contains_key(key));
        if let Seen::Orphans(family) = seen
            && !unasked.is_empty()
        {
            self.chase(&unasked, family, supervisor);
        }
        answers
    }

    /// Signals orphans and their descendants until no new ones are found, so that processes that
    /// fork meanwhile are not missed.
    fn chase(&mut self, keys: &BTreeSet<Key>, family: Family, supervisor: &Supervisor) {
        let mut most = LOOKED_AT_A_TURN;
        let mut family = family;
        let mut looked = 0;
        loop {
            looked += family.own.len() + 1;
            if !self.ask_orphans(keys, &family, &mut most, supervisor) || looked > CHASED_A_TURN {
                return;
            }
            match self.look(supervisor) {
                Seen::Orphans(next) => family = next,
                Seen::Short | Seen::Blind => return,
            }
        }
    }

    /// Signals orphans once. Returns whether there was a new one.
    fn ask_orphans(
        &mut self,
        keys: &BTreeSet<Key>,
        family: &Family,
        most: &mut usize,
        supervisor: &Supervisor,
    ) -> bool {
        let mut found = Vec::new();
        for (process, origin) in self.orphans.values() {
            let keys = self.keys_of(*process, *origin, keys, supervisor);
            found.extend(keys.into_iter().map(|key| (key, *process)));
        }
        let mut has_new = false;
        for (key, process) in found {
            let Some(ongoing) = self.stops.get_mut(&key) else { continue };
            let group = group_number(ongoing.leader, supervisor);
            let Some(orphan) = os::stat_of(process.pid).filter(|stat| !stat.is_dead) else {
                // It has ended since the look, and may have left others behind.
                has_new = true;
                continue;
            };
            let below = family.below(process.pid, most);
            for stat in std::iter::once(orphan).chain(below) {
                if Some(stat.group) != group {
                    has_new |= ongoing.ask(&stat, stat.process == process);
                }
            }
        }
        has_new
    }

    fn left_of_tree(
        &mut self,
        leader: Option<Pid>,
        owner: Owner,
        seen: &Seen,
        signed: &BTreeSet<Key>,
        supervisor: &Supervisor,
    ) -> Left {
        let group = self.left_of_group(leader, seen, supervisor);
        let key = Key::of(owner);
        let family = match seen {
            Seen::Short => return Left::Something,
            Seen::Blind if group == Left::Nothing => return Left::Unseen,
            Seen::Blind => return group,
            Seen::Orphans(family) => family,
        };
        let keys = BTreeSet::from([key]);
        let mut is_hidden = false;
        let is_left = group != Left::Nothing
            || signed.contains(&key)
            || self.orphans.values().any(|(process, origin)| match origin {
                Origin::Run(_) => false,
                Origin::Unknown | Origin::Hidden => {
                    let is_ours = !self.keys_of(*process, *origin, &keys, supervisor).is_empty()
                        || is_in_session(*process, group_number(leader, supervisor));
                    is_hidden |= !is_ours && *origin == Origin::Hidden;
                    is_ours
                }
            });
        let unsure = self.stops.get_mut(&key).map(|ongoing| &mut ongoing.unsure);
        if is_left {
            unsure.into_iter().for_each(|unsure| *unsure = 0);
            return Left::Something;
        }
        if !is_hidden && family.is_exact() {
            return Left::Nothing;
        }
        let Some(unsure) = unsure else {
            let stop = Stop { leader, owner, signal: Signal::CONT };
            self.stops.insert(key, Ongoing { unsure: 1, ..Ongoing::new(&stop) });
            return Left::Something;
        };
        *unsure += 1;
        match is_hidden {
            _ if *unsure < LOOKS_IN_A_ROW => Left::Something,
            false => Left::Nothing,
            true if *unsure < MOST_UNSURE => Left::Something,
            true => Left::Unseen,
        }
    }

    /// Whether the group has a member that is not a zombie. A zombie does not count: it may be
    /// waiting for a parent outside of the group that never collects it.
    fn left_of_group(&self, leader: Option<Pid>, seen: &Seen, supervisor: &Supervisor) -> Left {
        let Some(group) = group_number(leader, supervisor) else { return Left::Nothing };
        if !signalling::group_is_there(group) {
            return Left::Nothing;
        }
        let Seen::Orphans(family) = seen else { return Left::Something };
        let mut most = LOOKED_AT_A_TURN;
        let is_member = |stat: &Stat| stat.group == group && !stat.is_dead;
        let is_left = self.orphans.keys().any(|pid| {
            os::stat_of(*pid).is_none_or(|stat| is_member(&stat))
                || family.below(*pid, &mut most).iter().any(is_member)
        });
        if is_left || most == 0 { Left::Something } else { Left::Nothing }
    }

    /// Looks for orphans, and reads the marks of new ones.
    fn look(&mut self, supervisor: &Supervisor) -> Seen {
        let family = match Family::look() {
            Look::Taken(family) => family,
            Look::Short => return Seen::Short,
            Look::Blind => return Seen::Blind,
        };
        self.children = family.own.len();
        let mut before = std::mem::take(&mut self.orphans);
        for pid in family.own.iter().filter(|pid| !supervisor.is_leader(**pid)) {
            let known = before.remove(pid).filter(|(_, origin)| *origin != Origin::Hidden);
            let orphan = known.unwrap_or_else(|| match os::stat_of(*pid) {
                Some(stat) => (stat.process, self.tags.read(&stat)),
                None => (Proc { pid: *pid, start_time: 0 }, Origin::Hidden),
            });
            self.orphans.insert(*pid, orphan);
        }
        Seen::Orphans(family)
    }

    /// Which trees an orphan belongs to.
    fn keys_of(
        &self,
        process: Proc,
        origin: Origin,
        keys: &BTreeSet<Key>,
        supervisor: &Supervisor,
    ) -> Vec<Key> {
        if let Origin::Run(tag) = origin {
            return Key::both(tag).into_iter().filter(|key| keys.contains(key)).collect();
        }
        let is_of = |key: &&Key| {
            let known = self.stops.iter().filter(|(other, _)| key.covers(**other));
            let mut known = known.map(|(_, ongoing)| ongoing);
            known.any(|ongoing| {
                ongoing.known.contains(&process)
                    || is_in_session(process, group_number(ongoing.leader, supervisor))
            })
        };
        keys.iter().filter(is_of).copied().collect()
    }
}

impl Ongoing {
    fn new(stop: &Stop) -> Ongoing {
        Ongoing {
            signal: stop.signal,
            leader: stop.leader,
            known: BTreeSet::new(),
            asked: BTreeSet::new(),
            unsure: 0,
        }
    }

    /// Signals a process unless that was done before; returns whether it is new. The pid of a child
    /// of k1s cannot have been used again.
    fn ask(&mut self, stat: &Stat, is_child: bool) -> bool {
        self.known.insert(stat.process);
        let is_new = self.asked.insert(stat.process);
        if is_new && is_child {
            signalling::stop_process(stat.process.pid, self.signal);
        } else if is_new {
            signalling::stop_exactly(stat.process, self.signal);
        }
        is_new
    }
}

impl Key {
    fn of(owner: Owner) -> Key {
        match owner {
            Owner::Run(run) => Key { job: run.job.number(), run: Some(Tags::short(run.tag()).run) },
            Owner::Job(job) => Key { job: job.number(), run: None },
        }
    }

    /// The keys that the processes of a run belong to.
    fn both(tag: RunTag) -> [Key; 2] {
        let RunTag { job, run } = Tags::short(tag);
        [Key { job, run: None }, Key { job, run: Some(run) }]
    }

    /// Whether this key includes the processes of `other`.
    fn covers(self, other: Key) -> bool {
        self == other || self.run.is_none() && self.job == other.job
    }
}

/// The id of the group and session of a run. `None` when the leader has been collected and another
/// process has its pid, because then nothing is left of the group and the session.
pub(super) fn group_number(leader: Option<Pid>, supervisor: &Supervisor) -> Option<Pid> {
    leader.filter(|leader| supervisor.is_leader(*leader) || !signalling::is_there(*leader))
}

fn is_in_session(process: Proc, session: Option<Pid>) -> bool {
    session.is_some() && os::session_of(process.pid) == session
}

const CHILDREN_A_MILLISECOND: usize = 400;
/// How many looks in a row must find nothing, since processes may come and go during a look.
const LOOKS_IN_A_ROW: u32 = 3;
/// How many looks may be unsure, in about a second, before an orphan whose mark cannot be read no
/// longer delays the stop of runs that it may not belong to.
const MOST_UNSURE: u32 = 8;
