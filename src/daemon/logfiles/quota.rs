//! The limit for all log files together: `[output] disk`.
//!
//! ```text
//!   set x.log   x.log ◀─ current      x.log.1   x.log.2  ┐ the oldest of all goes first,
//!   set y.log   y.log                 y.log.1            ┘
//!   set z-7     z-7   ◀─ over: the run of {run} has ended, so it counts as rotated
//!               └ only these are left: the largest is emptied
//! ```
//!
//! k1s knows the files that it found when it opened the first of a set, and what it has done since.
//! Nothing here touches a file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::os::logfile::Found;
use crate::supervisor::LogFileOwner;
use crate::time::Wall;

/// All log files that k1s knows.
#[derive(Debug)]
pub(super) struct Quota {
    /// In bytes.
    limit: u64,
    used: u64,
    sets: BTreeMap<Rc<str>, Set>,
    /// When the oldest rotated file of each set was last written to.
    by_age: BTreeSet<(Wall, Rc<str>)>,
    /// The sizes of current files that are not empty.
    by_size: BTreeSet<(u64, Rc<str>)>,
    /// When sets that are no longer written to were last written to.
    closed: BTreeSet<(Wall, Rc<str>)>,
}

/// The current file at a path, and those that were rotated.
#[derive(Debug)]
struct Set {
    /// By their numbers: the current one, `.1`, `.2` and so on.
    files: VecDeque<Found>,
    owner: LogFileOwner,
    /// The current one is written to.
    is_open: bool,
    /// It will never be written to again.
    is_over: bool,
    was_emptied: bool,
}

/// A file to remove or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) path: Rc<str>,
    pub(super) owner: LogFileOwner,
    /// The number of the rotated file, or 0.
    pub(super) number: usize,
    /// It is the current file of its set, to be emptied.
    pub(super) is_current: bool,
    pub(super) size: u64,
}

impl Quota {
    /// A quota of so many bytes, without files yet.
    pub(super) fn new(limit: u64) -> Quota {
        Quota {
            limit,
            used: 0,
            sets: BTreeMap::new(),
            by_age: BTreeSet::new(),
            by_size: BTreeSet::new(),
            closed: BTreeSet::new(),
        }
    }

    /// From now on there may be so many bytes.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// The most that a current file may take before it is rotated: a set that is alone then always
    /// keeps three quarters of the quota.
    pub(super) fn largest_file(&self) -> u64 {
        self.limit / 4
    }

    /// The files at this path, which is written to.
    pub(super) fn open(&mut self, path: &Rc<str>, owner: &LogFileOwner, files: Vec<Found>) {
        let was_emptied = self.take(path).is_some_and(|set| set.was_emptied);
        let (files, owner) = (files.into(), owner.clone());
        self.put(path, Set { files, owner, is_open: true, is_over: false, was_emptied });
    }

    /// Sets the size of the current file, which was written to now.
    pub(super) fn set_size(&mut self, path: &Rc<str>, size: u64, now: Wall) {
        self.change(path, |set| {
            if let Some(current) = set.files.front_mut() {
                *current = Found { size, modified: now };
            }
        });
    }

    /// The files were rotated, and at most so many are left.
    pub(super) fn rotate(&mut self, path: &Rc<str>, max_files: usize) {
        self.change(path, |set| {
            set.files.push_front(Found::default());
            set.files.truncate(max_files);
        });
    }

    /// The current file is no longer written to; `is_over`: it never will be. If there are too many
    /// such sets, those that may be written to again are forgotten.
    pub(super) fn close(&mut self, path: &Rc<str>, is_over: bool) {
        self.change(path, |set| (set.is_open, set.is_over) = (false, is_over));
        while let Some(path) = self.surplus().filter(|path| !self.is_over(path)).cloned() {
            self.take(&path);
        }
    }

    /// The file to remove or empty before so many more bytes are written.
    pub(super) fn victim(&self, more: u64) -> Option<Victim> {
        let is_exceeded = self.used.saturating_add(more) > self.limit;
        let oldest = self.by_age.first().filter(|_| is_exceeded).map(|(_, path)| path);
        let surplus = || self.surplus().filter(|path| self.is_over(path));
        let largest = || self.by_size.last().filter(|_| is_exceeded).map(|(_, path)| path);
        let (path, is_current) = match oldest.or_else(surplus) {
            Some(path) => (path, false),
            None => (largest()?, true),
        };
        let set = self.sets.get(path)?;
        let number = if is_current { 0 } else { set.files.len().checked_sub(1)? };
        let size = set.files.get(number)?.size;
        let (path, owner) = (path.clone(), set.owner.clone());
        Some(Victim { path, owner, number, is_current, size })
    }

    /// The victim was removed or emptied. Returns whether to report that: when the current file of
    /// this set was emptied for the first time.
    pub(super) fn handle_gone(&mut self, victim: &Victim) -> bool {
        let mut is_news = false;
        self.change(&victim.path, |set| match (victim.is_current, set.files.front_mut()) {
            (true, Some(current)) => {
                current.size = 0;
                is_news = !std::mem::replace(&mut set.was_emptied, true);
            }
            (true, None) | (false, _) => {
                set.files.pop_back();
            }
        });
        is_news
    }

    /// No longer counts the files of the set.
    pub(super) fn forget(&mut self, path: &Rc<str>) {
        self.take(path);
    }

    /// The oldest set that is no longer written to, if there are too many.
    fn surplus(&self) -> Option<&Rc<str>> {
        let is_crowded = self.closed.len() > MOST_CLOSED;
        self.closed.first().filter(|_| is_crowded).map(|(_, path)| path)
    }

    fn is_over(&self, path: &Rc<str>) -> bool {
        self.sets.get(path).is_some_and(|set| set.is_over)
    }

    fn change(&mut self, path: &Rc<str>, change: impl FnOnce(&mut Set)) {
        if let Some(mut set) = self.take(path) {
            change(&mut set);
            if set.is_open || set.size() > 0 {
                self.put(path, set);
            }
        }
    }

    fn take(&mut self, path: &Rc<str>) -> Option<Set> {
        let set = self.sets.remove(path)?;
        self.used = self.used.saturating_sub(set.size());
        set.oldest().map(|at| self.by_age.remove(&(at, path.clone())));
        set.current().map(|size| self.by_size.remove(&(size, path.clone())));
        set.closed().map(|at| self.closed.remove(&(at, path.clone())));
        Some(set)
    }

    fn put(&mut self, path: &Rc<str>, set: Set) {
        self.used += set.size();
        set.oldest().map(|at| self.by_age.insert((at, path.clone())));
        set.current().map(|size| self.by_size.insert((size, path.clone())));
        set.closed().map(|at| self.closed.insert((at, path.clone())));
        self.sets.insert(path.clone(), set);
    }
}

impl Set {
    fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// When its oldest rotated file was last written to.
    fn oldest(&self) -> Option<Wall> {
        let rotated = self.files.len() > 1 || self.is_over;
        self.files.back().filter(|_| rotated).map(|file| file.modified)
    }

    /// When it was last written to, if it is no longer.
    fn closed(&self) -> Option<Wall> {
        self.files.front().filter(|_| !self.is_open).map(|file| file.modified)
    }

    /// The size of its current file, unless that is empty.
    fn current(&self) -> Option<u64> {
        let current = self.files.front().filter(|_| !self.is_over);
        current.map(|file| file.size).filter(|size| *size > 0)
    }
}

/// How many sets are known that are no longer written to. Of more than that, the oldest are removed
/// if they are over, and otherwise forgotten.
const MOST_CLOSED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Spelling, Value, parse};
    use crate::supervisor::{Settings, Supervisor};
    use crate::time::Now;

    fn owner() -> LogFileOwner {
        let settings = Settings::for_tests();
        let mut supervisor = Supervisor::new(settings, Now::default());
        let fields = [("type", "one-off"), ("executable", "x")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        let spec = parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap();
        let id = JobId::parse("x").unwrap();
        supervisor.create(id.clone(), spec.clone(), Now::default()).unwrap();
        LogFileOwner::new(supervisor.poll_spawn().unwrap().run, &id, &spec)
    }

    fn found(files: &[(u64, i64)]) -> Vec<Found> {
        files.iter().map(|(size, at)| Found { size: *size, modified: Wall(*at) }).collect()
    }

    /// Removes victims until there is room; returns them: `x.log.2`, or `x.log, emptied`.
    fn make_room(quota: &mut Quota, more: u64) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some(victim) = quota.victim(more) {
            let is_news = quota.handle_gone(&victim);
            let Victim { path, number, is_current, .. } = victim;
            gone.push(match (number, is_current, is_news) {
                (0, true, true) => format!("{path}, emptied"),
                (0, true, false) => format!("{path}, again"),
                (0, false, false) => path.to_string(),
                (number, _, _) => format!("{path}.{number}"),
            });
        }
        gone
    }

    #[test]
    fn the_oldest_rotated_file_goes_first_and_then_the_largest_current_one_is_emptied() {
        let mut quota = Quota::new(100);
        let [x, y, z]: [Rc<str>; 3] = ["x", "y", "z"].map(Rc::from);
        let owner = owner();
        quota.open(&x, &owner, found(&[(10, 90), (10, 50), (10, 30)]));
        quota.open(&y, &owner, found(&[(20, 10), (10, 40), (10, 20)]));
        quota.open(&z, &owner, found(&[(30, 60)]));
        assert_eq!(quota.used, 100);
        assert_eq!(make_room(&mut quota, 0), [""; 0]);
        assert_eq!(make_room(&mut quota, 1), ["y.2"]);
        assert_eq!(make_room(&mut quota, 21), ["x.2", "y.1"]);
        quota.set_size(&z, 40, Wall(70));
        assert_eq!(make_room(&mut quota, 21), ["x.1"]);
        assert_eq!(quota.used, 70);
        assert_eq!(make_room(&mut quota, 50), ["z, emptied"]);
        assert_eq!(make_room(&mut quota, 71), ["y, emptied"]);
        quota.set_size(&z, 95, Wall(80));
        assert_eq!(make_room(&mut quota, 0), ["z, again"]);
        assert_eq!((quota.used, quota.by_age.len(), quota.by_size.len()), (10, 0, 1));
        assert_eq!(make_room(&mut quota, 1000), ["x, emptied"], "and there is an end");
    }

    #[test]
    fn rotated_files_count_by_the_time_they_were_last_written_to() {
        let mut quota = Quota::new(100);
        let [x, y]: [Rc<str>; 2] = ["x", "y"].map(Rc::from);
        let owner = owner();
        quota.open(&x, &owner, found(&[(0, 0)]));
        quota.open(&y, &owner, found(&[(0, 0)]));
        for (path, at) in [(&x, 1), (&y, 2), (&x, 3), (&y, 4), (&x, 5), (&x, 6)] {
            quota.set_size(path, 10, Wall(at));
            quota.rotate(path, 4);
        }
        assert_eq!(quota.used, 50, "four files are the most: the first of x is gone");
        assert_eq!(make_room(&mut quota, 100), ["y.2", "x.3", "y.1", "x.2", "x.1"]);
        quota.set_size(&x, 10, Wall(7));
        quota.rotate(&x, 1);
        assert_eq!(quota.used, 0);
    }

    #[test]
    fn a_file_of_a_run_that_is_over_counts_as_rotated() {
        let mut quota = Quota::new(100);
        let [run, job, empty]: [Rc<str>; 3] = ["run-7", "job", "empty"].map(Rc::from);
        let owner = owner();
        quota.open(&run, &owner, found(&[(10, 20), (10, 10)]));
        quota.open(&job, &owner, found(&[(50, 5)]));
        quota.open(&empty, &owner, found(&[(0, 0)]));
        quota.close(&run, true);
        quota.close(&job, false);
        quota.close(&empty, true);
        assert_eq!(quota.sets.len(), 2, "a file that is not there takes no memory");
        assert_eq!(make_room(&mut quota, 45), ["run-7.1", "run-7"]);
        assert_eq!(make_room(&mut quota, 51), ["job, emptied"]);
        assert!(quota.sets.is_empty() && quota.closed.is_empty());
    }

    #[test]
    fn of_files_that_nobody_writes_to_no_more_are_known_than_the_limit() {
        let mut quota = Quota::new(u64::MAX);
        let owner = owner();
        let open = |quota: &mut Quota, name: &str, at: usize| {
            let path: Rc<str> = format!("{name}{at}").into();
            quota.open(&path, &owner, found(&[(1, at as i64)]));
            path
        };
        for at in 0..MOST_CLOSED + 5 {
            let path = open(&mut quota, "job", at);
            quota.close(&path, false);
        }
        assert_eq!(quota.sets.len(), MOST_CLOSED);
        assert_eq!((make_room(&mut quota, 0), quota.victim(0)), (Vec::new(), None));
        for at in 0..2 {
            let path = open(&mut quota, "run", at);
            quota.close(&path, true);
        }
        assert_eq!(make_room(&mut quota, 0), ["run0", "run1"]);
        for at in 0..5 {
            open(&mut quota, "open", at);
        }
        assert_eq!(quota.sets.len(), MOST_CLOSED + 5);
        assert_eq!(quota.used, MOST_CLOSED as u64 + 5);
    }
}
