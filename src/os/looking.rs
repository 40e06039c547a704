//! Finds the descendants of k1s, and the run that each belongs to.
//!
//! ```text
//!  k1s ─┬─ leader ─┬─ …            the group of the run
//!       │          └─ setsid ─ …   found as a descendant of the leader
//!       └─ orphan ─ …              found as a child of k1s, and identified by its mark
//! ```
//!
//! Every process of a run is a descendant of k1s, which inherits processes that lose their parent.
//! When the leader is gone, each process that is left is a child of k1s or descends from one.
//! `/proc/PID/task/TID/children` lists children (proc_tid_children(5)). In the file of k1s itself,
//! inherited ones are added at the end, and none is removed until k1s reaps it. So one read of the
//! whole file is exact: it shows all children at the moment when its end was read. If the kernel
//! has no such files (CONFIG_PROC_CHILDREN), k1s searches all of `/proc`, over several turns. That
//! is not exact, so it takes several looks in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::OnceLock;

use nix::errno::Errno;

use super::mark::{Marks, RUN_MASK};
use super::proc::{self, Found, Proc, Stat, known, list, own_pid};
use super::{limits, random};
use crate::job::Pid;
use crate::job::tag::RunTag;

/// The outcome of a look.
#[derive(Debug)]
pub enum Look {
    /// These processes were found.
    Taken(Family),
    /// There are no `children` files: all of `/proc` is being searched.
    Searching(Search),
    /// A shortage of descriptors or memory: try again.
    Short,
    /// There is no `/proc`, or it is that of another pid namespace.
    Blind,
}

impl Look {
    /// Looks for the children of k1s.
    pub fn begin() -> Look {
        if !sees_own_namespace() {
            return Look::Blind;
        }
        match children(own_pid()) {
            Ok(own) => Look::Taken(Family { own, searched: None, has_missed: false }),
            Err(error) if super::is_shortage(super::errno_of(&error)) => Look::Short,
            Err(_) => Search::begin(),
        }
    }
}

/// A search through all of `/proc` that can pause.
#[derive(Debug)]
pub struct Search {
    listed: Vec<Pid>,
    found: BTreeMap<Pid, Vec<Stat>>,
    has_missed: bool,
}

impl Search {
    fn begin() -> Look {
        let Some(Some(own)) = known(Stat::read(own_pid())) else { return Look::Blind };
        let Some(Some(listed)) = known(list()) else { return Look::Short };
        if own.process.pid != own_pid() {
            return Look::Blind;
        }
        Look::Searching(Search { listed, found: BTreeMap::new(), has_missed: false })
    }

    /// Looks at `share` processes at most, and reduces it by their number.
    pub fn go_on(mut self, share: &mut usize) -> Look {
        while let Some(pid) = self.listed.pop() {
            let Some(left) = share.checked_sub(1) else {
                self.listed.push(pid);
                return Look::Searching(self);
            };
            *share = left;
            match known(Stat::read(pid)) {
                Some(Some(stat)) => self.found.entry(stat.parent).or_default().push(stat),
                // Its children may have been born after the list was made.
                Some(None) => self.has_missed = true,
                None => return Look::Short,
            }
        }
        let own = self.found.get(&own_pid()).into_iter().flatten();
        let own = own.map(|stat| stat.process.pid).collect();
        Look::Taken(Family { own, searched: Some(self.found), has_missed: self.has_missed })
    }
}

/// Children and descendants.
#[derive(Debug)]
pub struct Family {
    /// The children of k1s, including zombies, in the order of their ids.
    pub own: Vec<Pid>,
    /// All of `/proc`, if there are no `children` files.
    searched: Option<BTreeMap<Pid, Vec<Stat>>>,
    has_missed: bool,
}

impl Family {
    /// Without the children of k1s: to look for the descendants of one process only.
    pub fn unlooked() -> Family {
        Family { own: Vec::new(), searched: None, has_missed: false }
    }

    /// Whether [`own`](Family::own) shows all children at one moment.
    pub fn is_exact(&self) -> bool {
        self.searched.is_none()
    }

    /// Whether a process ended during the look: its children may not have been seen.
    pub fn has_missed(&self) -> bool {
        self.has_missed
    }
}

/// The living descendants of a process, found step by step. The children of one that has ended
/// meanwhile are children of k1s now, and found by the next look.
#[derive(Debug)]
pub struct Descent {
    todo: Vec<Todo>,
}

#[derive(Debug)]
enum Todo {
    ChildrenOf(Proc),
    Child { pid: Pid, parent: Pid },
    Seen(Stat),
}

/// What a step of a [`Descent`] has found.
#[derive(Debug)]
pub enum Step {
    /// A descendant.
    Found(Stat),
    /// No new one.
    Nothing,
    /// The end.
    Done,
}

impl Descent {
    /// Of the descendants of `root`.
    pub fn below(root: Proc) -> Descent {
        Descent { todo: vec![Todo::ChildrenOf(root)] }
    }

    /// The next step: reads about one process, or lists the children of one.
    pub fn step(&mut self, family: &Family) -> Step {
        match self.todo.pop() {
            None => Step::Done,
            Some(Todo::ChildrenOf(parent)) => {
                match &family.searched {
                    None => self.add_children_of(parent),
                    Some(searched) => {
                        let children = searched.get(&parent.pid).into_iter().flatten();
                        self.todo.extend(children.copied().map(Todo::Seen));
                    }
                }
                Step::Nothing
            }
            Some(Todo::Child { pid, parent }) => match Stat::read(pid) {
                Ok(stat) if stat.parent == parent => self.descend_to(stat),
                Ok(_) | Err(_) => Step::Nothing,
            },
            Some(Todo::Seen(stat)) => self.descend_to(stat),
        }
    }

    /// Lists children, unless another process has the id of `parent` meanwhile.
    fn add_children_of(&mut self, parent: Proc) {
        if !sees_own_namespace() {
            return;
        }
        let children = children(parent.pid).unwrap_or_default();
        let is_it = || Stat::read(parent.pid).is_ok_and(|stat| stat.process == parent);
        if !children.is_empty() && is_it() {
            let children = children.into_iter();
            self.todo.extend(children.map(|pid| Todo::Child { pid, parent: parent.pid }));
        }
    }

    fn descend_to(&mut self, stat: Stat) -> Step {
        if stat.is_dead {
            return Step::Nothing;
        }
        self.todo.push(Todo::ChildrenOf(stat.process));
        Step::Found(stat)
    }
}

/// The children of all threads of a process. A thread that ends leaves its children to another
/// thread, which may have been read before. Then all are read again.
fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = BTreeSet::new();
    for _ in 0..CHILDREN_LOOKS {
        if children_at_once(parent, &mut found)? {
            break;
        }
    }
    Ok(found.into_iter().collect())
}

/// Adds the children of each thread; returns whether no thread ended meanwhile. Needs one
/// descriptor at a time.
fn children_at_once(parent: Pid, found: &mut BTreeSet<Pid>) -> io::Result<bool> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/task", parent.0))? {
        threads.push(entry?.path());
    }
    let (mut text, mut gone) = (Vec::with_capacity(READ_BYTES), None);
    for thread in &threads {
        // `take` keeps std from asking for the size, which is 0.
        let read = std::fs::File::open(thread.join("children"))
            .and_then(|file| file.take(u64::MAX).read_to_end(&mut text));
        match read {
            Ok(_) => text.push(b' '),
            Err(error) if is_gone(&error) => gone = Some(error),
            Err(error) => return Err(error),
        }
    }
    // If the file of the only thread is missing, the kernel may have no such files.
    if let Some(error) = gone.take_if(|_| threads.len() == 1) {
        return Err(error);
    }
    let numbers = text.split(u8::is_ascii_whitespace);
    let numbers = numbers.filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    found.extend(numbers.map(Pid));
    Ok(gone.is_none())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(super::errno_of(error), Errno::ENOENT | Errno::ESRCH)
}

/// Which run a process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// This one; only the lower bits of its number may be known: [`Tags::short`].
    Run(RunTag),
    /// No run of this k1s, as far as can be seen.
    Unknown,
    /// It cannot be seen now: there is a shortage of descriptors or memory, or the process is just
    /// executing a program, or has ended.
    Hidden,
}

/// Tells which run a process belongs to: by its mark or its environment.
#[derive(Debug)]
pub struct Tags {
    instance: String,
    marks: Option<Marks>,
}

impl Tags {
    /// Uses marks if k1s's own limit leaves room for them.
    pub fn new(instance: &str) -> Tags {
        let hard = limits::locks(None).map(|limit| limit.rlim_max);
        let marks = hard.ok().and_then(|hard| Marks::below(hard, random::number()));
        Tags { instance: instance.to_owned(), marks }
    }

    /// The mark of a run: the value of RLIMIT_LOCKS in its processes.
    pub fn mark(&self, tag: RunTag) -> Option<u64> {
        self.marks.and_then(|marks| marks.of(tag))
    }

    /// The part of a run's number that its mark contains.
    pub fn short(tag: RunTag) -> RunTag {
        RunTag { run: tag.run & RUN_MASK, ..tag }
    }

    /// Which run a child of k1s belongs to, by its mark, or by `K1S_RUN` in the environment that it
    /// was started with.
    pub fn read(&self, stat: &Stat) -> Membership {
        let pid = stat.process.pid;
        let limit = self.marks.and_then(|marks| Some((marks, mark_of(pid)?)));
        if let Some(tag) = limit.and_then(|(marks, mark)| marks.read(mark)) {
            return Membership::Run(tag);
        }
        match proc::run_tag(pid) {
            Found::Text(text) => match RunTag::parse(&self.instance, &text) {
                Some(tag) => Membership::Run(Tags::short(tag)),
                None => Membership::Unknown,
            },
            Found::None if stat.is_dead && limit.is_none() => Membership::Hidden,
            Found::None => Membership::Unknown,
            Found::Hidden => Membership::Hidden,
        }
    }
}

/// Reads RLIMIT_LOCKS: by prlimit(2), which needs no descriptor, but the same user or
/// CAP_SYS_RESOURCE; otherwise from `/proc/PID/limits`, which everyone may read.
fn mark_of(pid: Pid) -> Option<u64> {
    match limits::locks(Some(pid)) {
        Ok(limit) => Some(limit.rlim_cur),
        Err(Errno::ESRCH) => None,
        Err(_) => proc::locks_limit(pid),
    }
}

/// The session of a process, unless it is gone.
pub fn session_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.0))).ok().map(|id| Pid(id.as_raw()))
}

/// The process group of a process, unless that is gone.
pub fn group_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.0))).ok().map(|id| Pid(id.as_raw()))
}

/// What `/proc` says about a child of k1s; `None` when that cannot be seen now.
pub fn stat_of(pid: Pid) -> Option<Stat> {
    known(Stat::read(pid)).flatten()
}

/// What keeps k1s from finding all leftovers, for people: `/proc` is missing, or belongs to another
/// pid namespace, or hides processes of other users.
pub fn obstacle() -> Option<String> {
    let obstacle = if std::fs::read_link("/proc/self").is_err() {
        "/proc is not there"
    } else if !sees_own_namespace() {
        "/proc is that of another pid namespace"
    } else if is_hiding() {
        "/proc hides the processes of other users (hidepid)"
    } else {
        return None;
    };
    Some(format!("{obstacle}: what leaves its run's process group may not be found"))
}

/// Whether the pids in `/proc` are those of k1s's own pid namespace. Otherwise they name other
/// processes, which must not be signalled. Checked once.
pub(super) fn sees_own_namespace() -> bool {
    static SEES: OnceLock<bool> = OnceLock::new();
    *SEES.get_or_init(|| {
        let link = std::fs::read_link("/proc/self");
        link.is_ok_and(|link| link.to_str() == Some(&own_pid().0.to_string()))
    })
}

/// Reads the mount options: proc(5). A process with CAP_SYS_PTRACE sees everything; root may lack
/// it, as in most containers.
fn is_hiding() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut proc = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("proc"));
    let hides = proc.any(|line| {
        let mut options = line.split(' ').nth(3).unwrap_or_default().split(',');
        let is_hidepid =
            |o: &str| o.starts_with("hidepid=") && o != "hidepid=0" && o != "hidepid=off";
        line.split(' ').nth(1) == Some("/proc") && options.any(is_hidepid)
    });
    hides && !may_trace()
}

/// Whether CAP_SYS_PTRACE is among the effective capabilities: proc_pid_status(5).
fn may_trace() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> CAP_SYS_PTRACE & 1 == 1)
}

/// capabilities(7), linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;
/// How often the children of threads are read again because one has ended.
const CHILDREN_LOOKS: usize = 4;
/// Two pages; the kernel returns a page at a time, and starts its search anew for each.
const READ_BYTES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::in_own_process;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// When a thread of a process ended during the look, none of the children of the process were
    /// found, so those in their own session were not asked to end.
    #[test]
    fn a_thread_that_ends_hides_no_children() {
        let name = "os::looking::tests::a_thread_that_ends_hides_no_children";
        in_own_process(name, || {
            let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let pid = Pid(i32::try_from(child.id()).unwrap());
            let is_over = Arc::new(AtomicBool::new(false));
            let is_seen = is_over.clone();
            let threads = std::thread::spawn(move || {
                while !is_seen.load(Ordering::Relaxed) {
                    std::thread::spawn(|| {}).join().unwrap();
                }
            });
            let looks: Vec<_> = (0..2000).map(|_| children(own_pid())).collect();
            is_over.store(true, Ordering::Relaxed);
            threads.join().unwrap();
            drop(child.stdin.take());
            child.wait().unwrap();
            for look in looks {
                assert!(look.unwrap().contains(&pid));
            }
        });
    }

    /// A search through a large `/proc` took one turn, and held up all others.
    #[test]
    fn a_search_finds_what_lists_of_children_tell_in_shares() {
        let name = "os::looking::tests::a_search_finds_what_lists_of_children_tell_in_shares";
        in_own_process(name, || {
            let script = "sleep 1000 & echo; wait";
            let mut child =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let pid = Pid(i32::try_from(child.id()).unwrap());
            let mut line = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
            let (mut look, mut turns) = (Search::begin(), 0);
            let searched = loop {
                look = match look {
                    Look::Searching(search) => search.go_on(&mut 3),
                    Look::Taken(family) => break family,
                    Look::Short | Look::Blind => panic!("there is a /proc"),
                };
                turns += 1;
            };
            assert!(turns > 1 && !searched.is_exact());
            let Look::Taken(listed) = Look::begin() else { panic!("there are lists") };
            assert!(listed.is_exact() && searched.own == listed.own, "{searched:?}");
            let below = |family| {
                let mut descent = Descent::below(Stat::read(pid).unwrap().process);
                let mut found = Vec::new();
                loop {
                    match descent.step(family) {
                        Step::Found(stat) => found.push(stat.process),
                        Step::Nothing => {}
                        Step::Done => return found,
                    }
                }
            };
            assert_eq!(below(&searched).len(), 1);
            assert_eq!(below(&searched), below(&listed));
            for process in below(&listed) {
                crate::os::signalling::signal_process(process.pid, crate::job::Signal::KILL);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }

    /// Each look at a chain of forks found the last link gone, and nothing that was left.
    #[test]
    fn a_search_tells_that_a_process_was_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid(i32::try_from(child.id()).unwrap());
        let search = || Search { listed: vec![pid], found: BTreeMap::new(), has_missed: false };
        for is_there in [true, false] {
            let Look::Taken(family) = search().go_on(&mut 1) else { panic!("it was one") };
            assert_eq!(family.has_missed(), !is_there);
            child.wait().unwrap();
        }
    }
}
