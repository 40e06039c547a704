//! Leftovers: finds processes that a run has left outside of its group, tells which run they are
//! of, and stops them.
//!
//! ```text
//!   stop ──► descendants of the leader ──► its group ──► those that have left the group
//!                 found                    signalled          signalled
//!   survey ─┐                                       ┌──► nothing, something, unseen
//!           ├─► a look at the orphans ──► census ───┤
//!   stop ───┘  (k1s's children that lead no run)    └──► orphans and their descendants
//!                                                             signalled
//! ```
//!
//! The mark of an orphan says which run it is of. It is read once, because a child keeps its pid
//! until k1s reaps it. `census` knows how else to tell. Processes that were not there at the first
//! signal get it when they are found.
//!
//! All of this may take several turns, each with a share of processes that it looks at. A look
//! answers the surveys that waited when it began, and no others, because it shows that moment. An
//! orphan that is reaped during the look counts as left: it may have left others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::census::{Census, Key, Tree, groups_of};
use super::shares::{CHASED_A_STOP, LOOKED_AT_A_TURN};
use crate::job::{Pid, Signal};
use crate::os::{
    self, ChildState, Descent, Family, Look, Membership, Proc, Search, Stat, Step, Tags, signalling,
};
use crate::supervisor::{Left, Owner, RunKey, Supervisor, Target};

/// What is known about leftovers.
#[derive(Debug)]
pub(super) struct Leftovers {
    tags: Tags,
    /// k1s's children that lead no run, until they are reaped.
    orphans: BTreeMap<Pid, (Proc, Membership)>,
    /// The trees that are being stopped.
    stops: BTreeMap<Key, Ongoing>,
    /// Stops whose groups have not been signalled yet.
    begun: VecDeque<Begun>,
    /// Processes to be signalled, whose descendants are to be found.
    asks: VecDeque<Ask>,
    /// Trees whose orphans are to be signalled after the next look.
    unasked: BTreeSet<Key>,
    /// Trees in which a process was new, or has ended, since the last look: there may be more.
    restless: BTreeSet<Key>,
    /// The look that is under way.
    look: Option<Looking>,
    /// What the last look has found.
    family: Family,
}

/// A tree to be stopped, and by which signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) leader: Option<Pid>,
    pub(super) owner: Owner,
    pub(super) signal: Signal,
}

/// A stop, while the descendants of the leader are being found.
#[derive(Debug)]
struct Begun {
    stop: Stop,
    descent: Option<Descent>,
    found: Vec<Stat>,
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
    /// How many children of k1s were looked at to find new processes, since the last stop or
    /// survey.
    chased: usize,
}

/// A signal to be sent.
#[derive(Debug)]
enum Ask {
    Process(Key, Stat),
    Orphan(Key, Pid),
    Descendants(Key, Descent),
}

/// A look that is under way.
#[derive(Debug)]
struct Looking {
    /// How many surveys it answers: the first of those that wait.
    surveys: usize,
    stage: Stage,
    /// Orphans that were reaped since it began.
    reaped: Vec<(Proc, Membership)>,
}

#[derive(Debug)]
enum Stage {
    /// There are no lists of children, so all processes are looked at.
    Searching(Search),
    /// The marks of these orphans are to be read.
    Reading(BTreeSet<Pid>),
    /// A group exists, but no orphan is in it: its living members are looked for.
    Descending {
        census: Census,
        descents: Vec<Descent>,
        groups: BTreeSet<Pid>,
    },
    /// The end: orphans, and the groups that have living members.
    Over {
        census: Census,
        groups: BTreeSet<Pid>,
    },
    Short,
    Blind,
}

impl Leftovers {
    pub(super) fn new(instance: &str) -> Leftovers {
        Leftovers {
            tags: Tags::new(instance),
            orphans: BTreeMap::new(),
            stops: BTreeMap::new(),
            begun: VecDeque::new(),
            asks: VecDeque::new(),
            unasked: BTreeSet::new(),
            restless: BTreeSet::new(),
            look: None,
            family: Family::unlooked(),
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
        let mut orphan = self.orphans.remove(&pid);
        if let Some(look) = &mut self.look {
            if let Stage::Reading(unread) = &mut look.stage
                && unread.remove(&pid)
            {
                orphan.get_or_insert((Proc { pid, start_time: 0 }, Membership::Hidden));
            }
            look.reaped.extend(orphan);
        }
    }

    /// Sends a signal to a group, to the descendants of its leader that have left it, and to
    /// orphans. [`Leftovers::go_on`] does it.
    pub(super) fn stop(&mut self, stop: Stop) {
        self.begun.push_back(Begun { stop, descent: None, found: Vec::new() });
    }

    /// Whether [`Leftovers::go_on`] has something to do now.
    pub(super) fn has_more(&self) -> bool {
        !self.begun.is_empty() || !self.asks.is_empty() || self.look.is_some()
    }

    /// Whether a look is needed without a survey.
    pub(super) fn wants_look(&self) -> bool {
        !self.unasked.is_empty()
    }

    /// How long to wait before the next look, so that looks take a quarter of the time at most. The
    /// kernel needs nearly a microsecond for each child of k1s, living or not.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis((self.family.own.len() / CHILDREN_A_MILLISECOND) as u64)
    }

    /// Goes on, up to the share of a turn. Returns answers to the first of the surveys that wait,
    /// once there are any. `may_look` says whether a new look may begin.
    pub(super) fn go_on(
        &mut self,
        surveys: &[(RunKey, Target)],
        may_look: bool,
        supervisor: &Supervisor,
    ) -> Vec<Left> {
        self.go_on_by(&mut { LOOKED_AT_A_TURN }, surveys, may_look, supervisor)
    }

    /// Goes on until `share` processes were looked at.
    fn go_on_by(
        &mut self,
        share: &mut usize,
        surveys: &[(RunKey, Target)],
        may_look: bool,
        supervisor: &Supervisor,
    ) -> Vec<Left> {
        let mut answers = Vec::new();
        loop {
            self.signal_begun(share, supervisor);
            self.signal_asked(share, supervisor);
            if *share == 0 || !self.begun.is_empty() || !self.asks.is_empty() {
                return answers;
            }
            if self.look.is_none() {
                let waiting = if answers.is_empty() { surveys.len() } else { 0 };
                if !may_look || waiting == 0 && self.unasked.is_empty() {
                    return answers;
                }
                self.begin_look(waiting, share, supervisor);
            }
            self.go_on_looking(share, surveys, supervisor);
            let is_over = |look: &mut Looking| {
                matches!(look.stage, Stage::Over { .. } | Stage::Short | Stage::Blind)
            };
            let Some(look) = self.look.take_if(is_over) else { return answers };
            answers.extend(self.conclude(look, surveys, supervisor));
        }
    }

    /// Finds the descendants of leaders, and then signals their groups.
    fn signal_begun(&mut self, share: &mut usize, supervisor: &Supervisor) {
        while let Some(begun) = self.begun.front_mut() {
            let Some(left) = share.checked_sub(1) else { return };
            *share = left;
            let leader = begun.stop.leader.filter(|leader| supervisor.is_leader(*leader));
            let step = match (&mut begun.descent, leader) {
                (_, None) => Step::Done,
                (Some(descent), Some(_)) => descent.step(&self.family),
                (None, Some(leader)) => match os::stat_of(leader) {
                    Some(stat) => {
                        begun.descent = Some(Descent::below(stat.process));
                        continue;
                    }
                    None => Step::Done,
                },
            };
            match step {
                Step::Found(stat) if Some(stat.group) != leader => begun.found.push(stat),
                Step::Found(_) | Step::Nothing => {}
                Step::Done => self.signal_first(supervisor),
            }
            if self.begun.front().is_some_and(|begun| begun.found.len() >= MOST_BELOW) {
                self.signal_first(supervisor);
            }
        }
    }

    /// Signals the group of the first stop. Processes that have left it are signalled next.
    fn signal_first(&mut self, supervisor: &Supervisor) {
        let Some(Begun { stop, found, .. }) = self.begun.pop_front() else { return };
        if let Some(group) = group_number(stop.leader, supervisor) {
            signalling::stop_group(group, stop.signal);
        }
        let key = Key::of(stop.owner);
        let ongoing = self.stops.entry(key).or_insert_with(|| Ongoing::new(&stop));
        ongoing.signal = stop.signal;
        ongoing.leader = stop.leader;
        ongoing.asked.clear();
        ongoing.chased = 0;
        self.asks.extend(found.into_iter().map(|stat| Ask::Process(key, stat)));
        self.unasked.insert(key);
    }

    /// Signals orphans and descendants. Another look follows for trees in which one was new, up to
    /// a limit, so that processes that fork meanwhile are not missed.
    fn signal_asked(&mut self, share: &mut usize, supervisor: &Supervisor) {
        while let Some(ask) = self.asks.pop_front() {
            let Some(left) = share.checked_sub(1) else { return self.asks.push_front(ask) };
            *share = left;
            let (Ask::Process(key, _) | Ask::Orphan(key, _) | Ask::Descendants(key, _)) = ask;
            let Some(ongoing) = self.stops.get_mut(&key) else { continue };
            let is_restless = match ask {
                Ask::Process(_, stat) => {
                    ongoing.ask(&stat, supervisor);
                    false
                }
                Ask::Orphan(_, pid) => match self.orphans.get(&pid) {
                    // It has ended since the look, and may have left others behind.
                    Some(_) if os::child_state(pid) != ChildState::Alive => true,
                    None => true,
                    Some((process, _)) => {
                        let descent = Descent::below(*process);
                        self.asks.push_front(Ask::Descendants(key, descent));
                        ongoing.ask_orphan(*process, supervisor)
                    }
                },
                Ask::Descendants(_, mut descent) => match descent.step(&self.family) {
                    Step::Done => false,
                    step => {
                        self.asks.push_front(Ask::Descendants(key, descent));
                        matches!(step, Step::Found(stat) if ongoing.ask(&stat, supervisor))
                    }
                },
            };
            if is_restless {
                self.restless.insert(key);
            }
        }
        for key in std::mem::take(&mut self.restless) {
            if self.stops.get(&key).is_some_and(|ongoing| ongoing.chased < CHASED_A_STOP) {
                self.unasked.insert(key);
            }
        }
    }

    /// Looks for the children of k1s.
    fn begin_look(&mut self, surveys: usize, share: &mut usize, supervisor: &Supervisor) {
        *share = share.saturating_sub(1 + self.family.own.len() / LISTED_AT_ONCE);
        let stage = self.stage_after(Look::begin(), supervisor);
        self.look = Some(Looking { surveys, stage, reaped: Vec::new() });
    }

    fn stage_after(&mut self, look: Look, supervisor: &Supervisor) -> Stage {
        match look {
            Look::Searching(search) => Stage::Searching(search),
            Look::Short => Stage::Short,
            Look::Blind => Stage::Blind,
            Look::Taken(family) => {
                self.orphans.retain(|pid, _| family.own.binary_search(pid).is_ok());
                let orphans = family.own.iter().filter(|pid| !supervisor.is_leader(**pid));
                let is_read = |pid: &Pid| {
                    self.orphans
                        .get(pid)
                        .is_some_and(|(_, membership)| *membership != Membership::Hidden)
                };
                let unread = orphans.filter(|pid| !is_read(pid)).copied().collect();
                self.family = family;
                Stage::Reading(unread)
            }
        }
    }

    fn go_on_looking(
        &mut self,
        share: &mut usize,
        surveys: &[(RunKey, Target)],
        supervisor: &Supervisor,
    ) {
        loop {
            let Some(mut look) = self.look.take() else { return };
            let (stage, is_done) = match look.stage {
                Stage::Searching(search) => {
                    let stage = self.stage_after(search.go_on(share), supervisor);
                    let is_done = matches!(stage, Stage::Searching(_));
                    (stage, is_done)
                }
                Stage::Reading(unread) => match self.read(unread, share) {
                    unread if !unread.is_empty() => (Stage::Reading(unread), true),
                    _ => {
                        let census = self.census(&look.reaped, supervisor);
                        let asked = surveys.get(..look.surveys).unwrap_or(surveys);
                        (self.stage_for(census, asked, supervisor), false)
                    }
                },
                Stage::Descending { census, mut descents, mut groups } => {
                    while let (Some(descent), true) = (descents.last_mut(), *share > 0) {
                        *share -= 1;
                        match descent.step(&self.family) {
                            Step::Found(stat) => drop(groups.insert(stat.group)),
                            Step::Nothing => {}
                            Step::Done => drop(descents.pop()),
                        }
                    }
                    match descents.is_empty() {
                        true => (Stage::Over { census, groups }, false),
                        false => (Stage::Descending { census, descents, groups }, true),
                    }
                }
                stage @ (Stage::Over { .. } | Stage::Short | Stage::Blind) => (stage, true),
            };
            look.stage = stage;
            self.look = Some(look);
            if is_done {
                return;
            }
        }
    }

    /// Reads marks, and returns the orphans whose mark was not read.
    fn read(&mut self, mut unread: BTreeSet<Pid>, share: &mut usize) -> BTreeSet<Pid> {
        while *share > 0
            && let Some(pid) = unread.pop_first()
        {
            *share -= 1;
            let orphan = match os::stat_of(pid) {
                Some(stat) => (stat.process, self.tags.read(&stat)),
                None => (Proc { pid, start_time: 0 }, Membership::Hidden),
            };
            self.orphans.insert(pid, orphan);
        }
        unread
    }

    fn census(&self, reaped: &[(Proc, Membership)], supervisor: &Supervisor) -> Census {
        let trees = || {
            self.stops.iter().map(|(key, ongoing)| Tree {
                key: *key,
                session: group_number(ongoing.leader, supervisor),
                known: &ongoing.known,
            })
        };
        Census::take(self.orphans.values().copied(), reaped, trees)
    }

    /// If a group exists but no orphan is in it, its members are zombies that their parents do not
    /// collect, or descendants of orphans: of the run's own, or of unknown ones.
    fn stage_for(
        &self,
        census: Census,
        surveys: &[(RunKey, Target)],
        supervisor: &Supervisor,
    ) -> Stage {
        let mut groups = None;
        let mut roots = BTreeSet::new();
        for (run, target) in surveys {
            let Some(group) = group_number(leader_of(target), supervisor) else { continue };
            if !signalling::group_is_there(group) {
                continue;
            }
            let groups = groups.get_or_insert_with(|| groups_of(self.orphans.keys().copied()));
            if !groups.contains(&group) {
                let own = census.orphans_of(Key::of(Owner::Run(*run))).unwrap_or_default();
                roots.extend(own.iter().chain(census.others()));
            }
        }
        let groups = groups.unwrap_or_default();
        let roots = roots.iter().filter_map(|pid| self.orphans.get(pid));
        let descents: Vec<_> = roots.map(|(process, _)| Descent::below(*process)).collect();
        Stage::Descending { census, descents, groups }
    }

    /// Answers the surveys, and begins to signal the orphans that were found.
    fn conclude(
        &mut self,
        look: Looking,
        surveys: &[(RunKey, Target)],
        supervisor: &Supervisor,
    ) -> Vec<Left> {
        let surveys = surveys.get(..look.surveys).unwrap_or(surveys);
        let answers = surveys.iter().map(|(_, target)| {
            let left = self.left_of(target, &look.stage, supervisor);
            if let Target::Tree { owner, .. } = target {
                let key = Key::of(*owner);
                match (left, self.stops.get_mut(&key)) {
                    (Left::Something, Some(ongoing)) => {
                        ongoing.chased = 0;
                        self.unasked.insert(key);
                    }
                    (Left::Something, None) => {}
                    (Left::Nothing | Left::Unseen, _) => drop(self.stops.remove(&key)),
                }
            }
            left
        });
        let answers = answers.collect();
        let unasked = std::mem::take(&mut self.unasked);
        if let Stage::Over { census, .. } = look.stage {
            for key in unasked {
                self.ask_orphans(key, &census, supervisor);
            }
        }
        answers
    }

    fn ask_orphans(&mut self, key: Key, census: &Census, supervisor: &Supervisor) {
        let Some(ongoing) = self.stops.get_mut(&key) else { return };
        ongoing.chased += self.family.own.len() + 1;
        let orphans = census.orphans_of(key).unwrap_or_default();
        self.asks.extend(orphans.iter().map(|pid| Ask::Orphan(key, *pid)));
        // Without lists of children, its descendants were not found before.
        let leader = ongoing.leader.filter(|leader| supervisor.is_leader(*leader));
        if let Some(leader) = leader.filter(|_| !self.family.is_exact())
            && let Some(stat) = os::stat_of(leader)
        {
            self.asks.push_back(Ask::Descendants(key, Descent::below(stat.process)));
        }
    }

    fn left_of(&mut self, target: &Target, stage: &Stage, supervisor: &Supervisor) -> Left {
        let group = group_number(leader_of(target), supervisor);
        let group_is_there = group.is_some_and(signalling::group_is_there);
        let Target::Tree { leader, owner } = target else {
            let is_left = match stage {
                Stage::Over { groups, .. } => group.is_some_and(|group| groups.contains(&group)),
                _ => true,
            };
            return if group_is_there && is_left { Left::Something } else { Left::Nothing };
        };
        let (census, groups) = match stage {
            Stage::Over { census, groups } => (census, groups),
            Stage::Blind if !group_is_there => return Left::Unseen,
            Stage::Blind | Stage::Short => return Left::Something,
            Stage::Searching(_) | Stage::Reading(_) | Stage::Descending { .. } => {
                return Left::Something;
            }
        };
        let key = Key::of(*owner);
        let unsure = self.stops.get_mut(&key).map(|ongoing| &mut ongoing.unsure);
        let has_member = group.is_some_and(|group| groups.contains(&group));
        if group_is_there && has_member
            || census.orphans_of(key).is_some()
            || group.is_some_and(|session| census.is_in_session(session))
        {
            unsure.into_iter().for_each(|unsure| *unsure = 0);
            return Left::Something;
        }
        let may_be_ours = census.has_hidden || self.family.has_missed();
        if !may_be_ours && self.family.is_exact() {
            return Left::Nothing;
        }
        let Some(unsure) = unsure else {
            let stop = Stop { leader: *leader, owner: *owner, signal: Signal::CONT };
            self.stops.insert(key, Ongoing { unsure: 1, ..Ongoing::new(&stop) });
            return Left::Something;
        };
        *unsure += 1;
        match may_be_ours {
            _ if *unsure < LOOKS_IN_A_ROW => Left::Something,
            false => Left::Nothing,
            true if *unsure < MOST_UNSURE => Left::Something,
            true => Left::Unseen,
        }
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
            chased: 0,
        }
    }

    /// Signals a process outside of the group, unless that was done before. Returns whether it is
    /// new.
    fn ask(&mut self, stat: &Stat, supervisor: &Supervisor) -> bool {
        let is_new = self.is_new(stat.process, Some(stat.group), supervisor);
        if is_new {
            signalling::stop_exactly(stat.process, self.signal);
        }
        is_new
    }

    /// The same of a child of k1s: its pid cannot have been used again.
    fn ask_orphan(&mut self, process: Proc, supervisor: &Supervisor) -> bool {
        let is_new = self.is_new(process, os::group_of(process.pid), supervisor);
        if is_new {
            signalling::stop_process(process.pid, self.signal);
        }
        is_new
    }

    fn is_new(&mut self, process: Proc, group: Option<Pid>, supervisor: &Supervisor) -> bool {
        if group.is_some() && group == group_number(self.leader, supervisor) {
            return false;
        }
        self.known.insert(process);
        self.asked.insert(process)
    }
}

/// The id of the group and session of a run. `None` when the leader has been collected and another
/// process has its pid, because then nothing is left of the group and the session.
pub(super) fn group_number(leader: Option<Pid>, supervisor: &Supervisor) -> Option<Pid> {
    leader.filter(|leader| supervisor.is_leader(*leader) || !signalling::is_there(*leader))
}

fn leader_of(target: &Target) -> Option<Pid> {
    match target {
        Target::Process(leader) | Target::Group(leader) => Some(*leader),
        Target::Tree { leader, .. } => *leader,
    }
}

const CHILDREN_A_MILLISECOND: usize = 400;
/// The kernel lists so many children in the time that it takes to look at one process.
const LISTED_AT_ONCE: usize = 32;
/// How many descendants of a leader are found before its group is signalled. Some fork for ever.
const MOST_BELOW: usize = 4096;
/// How many looks in a row must find nothing, since processes may come and go during a look.
const LOOKS_IN_A_ROW: u32 = 3;
/// How many looks may be unsure, in about a second, before an orphan whose mark cannot be read no
/// longer delays the stop of runs that it may not belong to.
const MOST_UNSURE: u32 = 8;

#[cfg(test)]
mod tests;
