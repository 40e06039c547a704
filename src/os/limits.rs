//! Resource limits: names and numbers of a job, translated for the kernel.

use nix::libc;

use crate::job::Pid;
use crate::job::spec::{Resource, ResourceLimit};

/// A limit as prlimit(2) takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawLimit {
    /// `RLIMIT_…`.
    pub(super) resource: u32,
    /// Its name in the API.
    pub(super) name: &'static str,
    /// The soft and the hard limit.
    pub(super) value: libc::rlimit64,
}

/// The limits of a job: its own, and `nofile` as it was before k1s raised it, unless the job sets
/// that.
pub(super) fn of_job(limits: &[ResourceLimit], nofile: Option<libc::rlimit64>) -> Vec<RawLimit> {
    let mut raw: Vec<RawLimit> = limits.iter().map(to_raw).collect();
    if let Some(nofile) = nofile
        && !raw.iter().any(|l| l.resource == libc::RLIMIT_NOFILE)
    {
        let (resource, name) = number_and_name(Resource::Nofile);
        raw.push(RawLimit { resource, name, value: nofile });
    }
    raw
}

/// k1s's own `nofile` limit: getrlimit(2).
pub(super) fn nofile() -> nix::Result<libc::rlimit64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit64 to write to.
    let result = unsafe { libc::getrlimit64(libc::RLIMIT_NOFILE, &raw mut limit) };
    nix::errno::Errno::result(result).map(|_| limit)
}

/// RLIMIT_LOCKS of a process or of k1s itself: prlimit(2).
pub(super) fn locks(pid: Option<Pid>) -> nix::Result<libc::rlimit64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let pid = pid.map_or(0, |pid| pid.0);
    // SAFETY: a null pointer sets nothing; `limit` is an rlimit64 to write to.
    let result =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) };
    nix::errno::Errno::result(result).map(|_| limit)
}

/// Sets k1s's own `nofile` limit: setrlimit(2).
pub(super) fn set_nofile(limit: libc::rlimit64) -> nix::Result<()> {
    // SAFETY: `limit` is an rlimit64 to read from.
    let result = unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, &raw const limit) };
    nix::errno::Errno::result(result).map(drop)
}

fn to_raw(limit: &ResourceLimit) -> RawLimit {
    let (resource, name) = number_and_name(limit.resource);
    RawLimit {
        resource,
        name,
        value: libc::rlimit64 {
            rlim_cur: limit.soft.unwrap_or(libc::RLIM64_INFINITY),
            rlim_max: limit.hard.unwrap_or(libc::RLIM64_INFINITY),
        },
    }
}

fn number_and_name(resource: Resource) -> (u32, &'static str) {
    match resource {
        Resource::As => (libc::RLIMIT_AS, "as"),
        Resource::Core => (libc::RLIMIT_CORE, "core"),
        Resource::Cpu => (libc::RLIMIT_CPU, "cpu"),
        Resource::Data => (libc::RLIMIT_DATA, "data"),
        Resource::Fsize => (libc::RLIMIT_FSIZE, "fsize"),
        Resource::Memlock => (libc::RLIMIT_MEMLOCK, "memlock"),
        Resource::Msgqueue => (libc::RLIMIT_MSGQUEUE, "msgqueue"),
        Resource::Nice => (libc::RLIMIT_NICE, "nice"),
        Resource::Nofile => (libc::RLIMIT_NOFILE, "nofile"),
        Resource::Nproc => (libc::RLIMIT_NPROC, "nproc"),
        Resource::Rss => (libc::RLIMIT_RSS, "rss"),
        Resource::Rtprio => (libc::RLIMIT_RTPRIO, "rtprio"),
        Resource::Rttime => (libc::RLIMIT_RTTIME, "rttime"),
        Resource::Sigpending => (libc::RLIMIT_SIGPENDING, "sigpending"),
        Resource::Stack => (libc::RLIMIT_STACK, "stack"),
    }
}
