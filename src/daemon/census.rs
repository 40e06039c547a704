//! Tells which runs the orphans belong to that a look has found.
//!
//! The mark of an orphan says it. An orphan that has lost its mark is known if it is in the session
//! of a run that is being stopped, or was seen before as a descendant of one. The orphans are
//! sorted once for each look, because thousands of stops may wait for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::gather::gather;
use crate::job::Pid;
use crate::job::tag::RunTag;
use crate::os::{self, ChildState, Membership, Proc, Tags};
use crate::supervisor::Owner;

/// An owner, as marks name it: a job, or one run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    job: u64,
    run: Option<u64>,
}

/// The orphans that one look has found.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// The orphans of each owner. Empty if all of them were reaped since the look.
    owned: BTreeMap<Key, Vec<Pid>>,
    /// Orphans that belong to no known run.
    others: Vec<Pid>,
    /// The sessions of orphans without a mark.
    sessions: BTreeSet<Pid>,
    /// Whether the mark of one of them cannot be read now.
    pub(super) has_hidden: bool,
}

/// A tree that is being stopped, and how its processes are known without a mark.
pub(super) struct Tree<'a> {
    pub(super) key: Key,
    /// Its session, unless another process has that id now.
    pub(super) session: Option<Pid>,
    /// Processes that were seen outside of its group.
    pub(super) known: &'a BTreeSet<Proc>,
}

impl Key {
    pub(super) fn of(owner: Owner) -> Key {
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

    /// This key, and if it is that of a run, the key of its job.
    fn and_job(self) -> impl Iterator<Item = Key> {
        let job = self.run.map(|_| Key { run: None, ..self });
        std::iter::once(self).chain(job)
    }
}

impl Census {
    /// Sorts the orphans that the look has found, and of them those that were `reaped` since.
    /// `trees` is called only if there are orphans without a mark.
    pub(super) fn take<'a, T: Iterator<Item = Tree<'a>>>(
        orphans: impl Iterator<Item = (Proc, Membership)>,
        reaped: &[(Proc, Membership)],
        trees: impl FnOnce() -> T,
    ) -> Census {
        let mut census = Census::default();
        let mut unmarked = BTreeMap::new();
        for (process, membership) in orphans {
            match membership {
                Membership::Run(tag) => census.add(Key::both(tag), Some(process.pid)),
                Membership::Unknown | Membership::Hidden => {
                    census.has_hidden |= membership == Membership::Hidden;
                    unmarked.insert(process, true);
                }
            }
        }
        for (process, membership) in reaped {
            match membership {
                Membership::Run(tag) => census.add(Key::both(*tag), None),
                Membership::Unknown | Membership::Hidden => {
                    census.has_hidden |= *membership == Membership::Hidden;
                    unmarked.insert(*process, false);
                }
            }
        }
        if !unmarked.is_empty() {
            census.sort_unmarked(&unmarked, trees());
        }
        census
    }

    /// The orphans of an owner; `None` if the look has found none.
    pub(super) fn orphans_of(&self, key: Key) -> Option<&[Pid]> {
        self.owned.get(&key).map(Vec::as_slice)
    }

    /// The orphans that belong to no known run.
    pub(super) fn others(&self) -> &[Pid] {
        &self.others
    }

    /// Whether an orphan without a mark is in this session.
    pub(super) fn is_in_session(&self, session: Pid) -> bool {
        self.sessions.contains(&session)
    }

    fn add(&mut self, keys: impl IntoIterator<Item = Key>, pid: Option<Pid>) {
        for key in keys {
            self.owned.entry(key).or_default().extend(pid);
        }
    }

    /// Sorts orphans without a mark; `true` means that it was not reaped since.
    fn sort_unmarked<'a>(
        &mut self,
        unmarked: &BTreeMap<Proc, bool>,
        trees: impl Iterator<Item = Tree<'a>>,
    ) {
        let mut in_session = BTreeMap::<Pid, Vec<Proc>>::new();
        for (process, is_there) in unmarked {
            if *is_there && let Some(session) = os::session_of(process.pid) {
                in_session.entry(session).or_default().push(*process);
            }
        }
        let mut told = BTreeSet::new();
        for tree in trees {
            let seen = tree.known.iter().filter(|process| unmarked.contains_key(process));
            let session = tree.session.and_then(|session| in_session.get(&session));
            let ours: BTreeSet<Proc> = gather(seen.chain(session.into_iter().flatten()).copied());
            for process in &ours {
                let is_there = unmarked.get(process) == Some(&true);
                self.add(tree.key.and_job(), is_there.then_some(process.pid));
            }
            told.extend(ours);
        }
        let others =
            unmarked.iter().filter(|(process, is_there)| **is_there && !told.contains(process));
        self.others = others.map(|(process, _)| process.pid).collect();
        self.sessions = in_session.into_keys().collect();
    }
}

/// The process groups of these children of k1s, except those that have ended.
pub(super) fn groups_of(children: impl Iterator<Item = Pid>) -> BTreeSet<Pid> {
    let living = children.filter(|pid| os::child_state(*pid) == ChildState::Alive);
    living.filter_map(os::group_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Proc = Proc { pid: Pid(1 << 30), start_time: 1 };
    const STRANGER: Proc = Proc { pid: Pid((1 << 30) + 1), start_time: 2 };
    const MARKED: Proc = Proc { pid: Pid((1 << 30) + 2), start_time: 3 };

    #[test]
    fn orphans_are_known_by_mark_and_by_where_they_were_seen() {
        let tag = RunTag { job: 7, run: 2 };
        let [job, run] = Key::both(tag);
        let (other, other_job) = (Key { job: 8, run: Some(1) }, Key { job: 8, run: None });
        let known = BTreeSet::from([KNOWN]);
        let tree = || std::iter::once(Tree { key: other, session: None, known: &known });
        let marked = (MARKED, Membership::Run(tag));
        let [known, stranger] = [(KNOWN, Membership::Unknown), (STRANGER, Membership::Hidden)];

        let census = Census::take([marked, known, stranger].into_iter(), &[], tree);
        for (key, pid) in [(job, MARKED), (run, MARKED), (other, KNOWN), (other_job, KNOWN)] {
            assert_eq!(census.orphans_of(key), Some(&[pid.pid][..]), "{key:?}");
        }
        assert_eq!(census.orphans_of(Key { job: 7, run: Some(1) }), None);
        assert_eq!(census.others(), [STRANGER.pid]);
        assert!(census.has_hidden);

        // An orphan that was reaped since may have left others, but is not to be signalled.
        let census = Census::take([].into_iter(), &[marked, known], tree);
        for key in [job, run, other, other_job] {
            assert_eq!(census.orphans_of(key), Some(&[][..]), "{key:?}");
        }
        assert!(census.others().is_empty() && !census.has_hidden);
    }
}
