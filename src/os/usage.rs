//! Memory, CPU time and descriptors: of all processes in `/proc`, and of k1s itself.
//!
//! To list a process in `/proc` and read its `stat` takes some 20 µs, so a walk can pause after
//! each process.

use std::sync::OnceLock;
use std::time::Duration;

use nix::libc;

use super::listing::Listing;
use super::looking::sees_own_namespace;
use super::proc::{Stat, known, own_pid};
use super::reap::cpu_time;
use crate::job::Pid;

/// A walk over all processes that can pause. It holds a descriptor.
#[derive(Debug)]
pub struct Walk(Listing);

/// One step of a walk.
#[derive(Debug)]
pub enum Met {
    /// A process.
    Process(Stat),
    /// An entry that is no process, or a process that has ended meanwhile.
    Nobody,
    /// The end.
    End,
    /// Out of descriptors or memory: the walk would be incomplete.
    Short,
}

/// Counts the descriptors that k1s has open. A running job takes two.
#[derive(Debug)]
pub struct Descriptors {
    rest: Listing,
    counted: u64,
}

/// Memory and CPU time of k1s itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnUsage {
    /// CPU time.
    pub cpu_time: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
}

impl Walk {
    /// Starts one. `None` without a `/proc` of k1s's own pid namespace, or without a descriptor.
    pub fn begin() -> Option<Walk> {
        sees_own_namespace().then(|| Listing::open("/proc").ok().map(Walk)).flatten()
    }

    /// The next step. Processes come in the order of their ids, so a parent usually comes before
    /// its children.
    pub fn step(&mut self) -> Met {
        let name = match self.0.next() {
            Ok(Some(name)) => name,
            Ok(None) => return Met::End,
            Err(_) => return Met::Short,
        };
        let Some(pid) = str::from_utf8(name).ok().and_then(|name| name.parse().ok()).map(Pid)
        else {
            return Met::Nobody;
        };
        match known(Stat::read(pid)) {
            Some(Some(stat)) => Met::Process(stat),
            Some(None) => Met::Nobody,
            None => Met::Short,
        }
    }
}

impl Descriptors {
    /// Starts to count; `None` when that is impossible.
    pub fn begin() -> Option<Descriptors> {
        Listing::open("/proc/self/fd").ok().map(|rest| Descriptors { rest, counted: 0 })
    }

    /// Counts up to `most` more. Returns their number at the end.
    pub fn step(&mut self, most: usize) -> Option<u64> {
        for _ in 0..most {
            match self.rest.next() {
                Ok(Some(b"." | b"..")) => {}
                Ok(Some(_)) => self.counted += 1,
                // One is that of this directory.
                Ok(None) | Err(_) => return Some(self.counted.saturating_sub(1)),
            }
        }
        None
    }
}

impl Stat {
    /// Its CPU time, including that of children it has waited for.
    pub fn cpu_time(&self) -> Duration {
        static A_SECOND: OnceLock<u64> = OnceLock::new();
        let a_second = *A_SECOND.get_or_init(|| configured(libc::_SC_CLK_TCK, 100));
        let rest = self.ticks % a_second;
        Duration::from_secs(self.ticks / a_second)
            + Duration::from_micros(rest * 1_000_000 / a_second)
    }

    /// Resident memory in bytes, including what it shares with others.
    pub fn resident_bytes(&self) -> u64 {
        static PAGE: OnceLock<u64> = OnceLock::new();
        self.resident_pages
            .saturating_mul(*PAGE.get_or_init(|| configured(libc::_SC_PAGESIZE, 4096)))
    }
}

/// Memory and CPU time of k1s itself, without its children. Memory is 0 without `/proc`.
pub fn own_usage() -> OwnUsage {
    let mut used = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `used` is an rusage to write to, all numbers, and zeroed.
    let used = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, used.as_mut_ptr());
        used.assume_init()
    };
    let stat = Stat::read(own_pid()).ok();
    OwnUsage {
        cpu_time: cpu_time(&used),
        resident_bytes: stat.map_or(0, |stat| stat.resident_bytes()),
        virtual_bytes: stat.map_or(0, |stat| stat.virtual_bytes),
    }
}

/// sysconf(3).
fn configured(name: libc::c_int, usual: u64) -> u64 {
    // SAFETY: takes a number.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, Signal};
    use crate::os::reap::{Reaped, reap};
    use crate::os::signalling::signal_process;
    use crate::os::testing::*;

    #[test]
    fn a_walk_finds_each_process_once() {
        let spawned = spawn(&mut spawner(), &command("sleep", &["1000"])).unwrap();
        let mut walk = Walk::begin().unwrap();
        let mut met = Vec::new();
        loop {
            match walk.step() {
                Met::Process(stat) => met.push(stat),
                Met::Nobody => {}
                Met::End => break,
                Met::Short => unreachable!("nothing is short"),
            }
        }
        assert!(signal_process(spawned.pid, Signal::KILL));
        wait(spawned.pid);
        let of = |pid: Pid| met.iter().filter(move |stat| stat.process.pid == pid);
        assert_eq!(of(spawned.pid).count(), 1);
        assert_eq!(of(spawned.pid).next().unwrap().parent, own_pid());
        let own = of(own_pid()).next().unwrap();
        let told = std::fs::read_to_string("/proc/self/status").unwrap();
        let told = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let told: u64 = told.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let pages = own.resident_bytes() as i64 - (told * 1024) as i64;
        assert!(pages.abs() < 16 << 20, "{} and {told} kB", own.resident_bytes());
    }

    #[test]
    fn a_reaped_child_comes_with_its_cpu_time() {
        let name = "os::usage::tests::a_reaped_child_comes_with_its_cpu_time";
        in_own_process(name, || {
            // The inner shell does the work, and is waited for by the outer one.
            let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
            let spawned =
                spawn(&mut spawner(), &shell(&format!("sh -c '{busy}'; exit 3"))).unwrap();
            wait_for_zombie(spawned.pid);
            let stat = Stat::read(spawned.pid).unwrap();
            let Some(Reaped { pid, status, cpu_time }) = reap() else { unreachable!("a zombie") };
            assert_eq!((pid, status), (spawned.pid, ExitStatus::Code(3)));
            let tick = Duration::from_millis(10);
            assert!(cpu_time >= 3 * tick, "{cpu_time:?}");
            let (least, most) = (stat.cpu_time(), stat.cpu_time() + 5 * tick);
            assert!((least..=most).contains(&cpu_time), "{cpu_time:?}, {:?}", stat.cpu_time());
            assert_eq!(reap(), None);
        });
    }

    #[test]
    fn own_descriptors_are_counted_in_steps() {
        let name = "os::usage::tests::own_descriptors_are_counted_in_steps";
        in_own_process(name, || {
            // With the one that the list is read from.
            let wanted = open_descriptors().len() as u64 - 1;
            let mut descriptors = Descriptors::begin().unwrap();
            let mut steps = 0;
            let counted = loop {
                steps += 1;
                if let Some(counted) = descriptors.step(1) {
                    break counted;
                }
            };
            assert_eq!((counted, steps), (wanted, wanted + 4), "with two dots, and the end");
        });
    }

    #[test]
    fn own_usage_is_this_process_s() {
        let name = "os::usage::tests::own_usage_is_this_process_s";
        in_own_process(name, || {
            let before = own_usage();
            let block = std::hint::black_box(vec![1u8; 64 << 20]);
            let after = own_usage();
            drop(block);
            assert!(after.resident_bytes >= before.resident_bytes + (60 << 20));
            assert!(after.virtual_bytes >= after.resident_bytes);
            assert!(after.cpu_time > before.cpu_time);
        });
    }
}
