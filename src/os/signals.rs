//! The signals that are sent to k1s.
//!
//! ```text
//! prepare() ── all blocked, nothing is lost ──► install() ── handlers installed ──► unblocked
//!                                         CHLD, PIPE and XFSZ stay blocked: a signalfd
//! ```
//!
//! Several pending signals with the same number count as one, as always: signal(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as NixSignal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd as NixSignalFd};
use signal_hook_mio::v1_0::Signals as HookSignals;

use crate::job::Signal;

/// Signals that come through handlers: an event source for the loop ([`HookSignals`] registers
/// with mio), read by [`drain`].
pub type Signals = HookSignals;

/// Which signals k1s handles, by its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// `k1s`: TERM, INT, QUIT, HUP, USR1, USR2, ALRM.
    Daemon,
    /// `k1s init`: every signal that can be passed on to the main job. Not KILL and STOP, which
    /// cannot be caught; nor CHLD, PIPE and XFSZ, which the signalfd reads; nor ABRT, BUS, FPE,
    /// ILL, SEGV, SYS and TRAP, which report a bug of k1s itself (tini leaves out the same).
    Init,
}

/// Installs handlers for the signals of `audience`, then unblocks all signals except CHLD, PIPE
/// and XFSZ, also those that were blocked when k1s was started. Signals that came since
/// [`prepare`](super::prepare) are delivered now.
///
/// # Errors
/// Those of socketpair(2) and sigaction(2): no descriptor is free.
pub fn install(audience: Audience) -> std::io::Result<Signals> {
    let signals = HookSignals::new(numbers(audience))?;
    through_signalfd().thread_set_mask()?;
    Ok(signals)
}

/// The signals that came through handlers since the last call, each once, in the order of their
/// numbers.
pub fn drain(signals: &mut Signals) -> Vec<Signal> {
    let mut came: Vec<Signal> = signals.pending().filter_map(Signal::from_number).collect();
    came.sort_unstable();
    came
}

/// INT, TERM and HUP, which a command holds back to ask for an end in its own way.
#[derive(Debug)]
pub struct Interrupts(SigSet);

impl Interrupts {
    /// Blocks them in this thread, and in those that it starts from now on.
    ///
    /// # Errors
    /// Those of pthread_sigmask(3).
    pub fn hold() -> std::io::Result<Interrupts> {
        let signals = [NixSignal::SIGINT, NixSignal::SIGTERM, NixSignal::SIGHUP];
        let signals: SigSet = signals.into_iter().collect();
        signals.thread_block()?;
        Ok(Interrupts(signals))
    }

    /// Waits for the next one, in a thread that takes no other signal: sigwait(3).
    pub fn wait(&self) -> Option<Interrupt> {
        let _ = SigSet::all().thread_block();
        self.0.wait().ok().map(Interrupt)
    }
}

/// One that came.
#[derive(Debug)]
pub struct Interrupt(NixSignal);

impl Interrupt {
    /// Lets it end this process after all, as it does by default.
    pub fn obey(self) {
        let _ = raise(self.0);
        let _ = SigSet::from(self.0).thread_unblock();
    }
}

/// CHLD, PIPE and XFSZ, through a signalfd: signalfd(2). Non-blocking, close-on-exec.
#[derive(Debug)]
pub struct SignalFd(NixSignalFd);

impl SignalFd {
    /// Creates it for these signals, which [`prepare`](super::prepare) has blocked.
    ///
    /// # Errors
    /// Those of signalfd(2): no descriptor is free, or there is no memory.
    pub fn new() -> std::io::Result<SignalFd> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(SignalFd(NixSignalFd::with_flags(&through_signalfd(), flags)?))
    }

    /// Reads all signals that are pending, at most one of each, in one call. Returns those except
    /// SIGCHLD that another process has sent. SIGPIPE for writing to a closed pipe and SIGXFSZ for
    /// exceeding RLIMIT_FSIZE come from k1s itself; the write has failed as well.
    pub fn drain(&self) -> Vec<Signal> {
        let mut buffer = [0; 3 * INFO_BYTES];
        let count = loop {
            match nix::unistd::read(&self.0, &mut buffer) {
                // Try again, because no other event would come.
                Err(Errno::EINTR) => {}
                result => break result.unwrap_or(0),
            }
        };
        let infos = buffer.get(..count).unwrap_or_default().chunks_exact(INFO_BYTES);
        let foreign = infos.filter(|info| number_at(info, SENDER) != Some(std::process::id()));
        let numbers = foreign.filter_map(|info| i32::try_from(number_at(info, SIGNO)?).ok());
        let numbers = numbers.filter(|number| *number != NixSignal::SIGCHLD as i32);
        numbers.filter_map(Signal::from_number).collect()
    }
}

/// A field of a `signalfd_siginfo`: signalfd(2).
fn number_at(info: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(offset..)?.first_chunk()?))
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The offsets of `ssi_signo` and `ssi_pid` in a `signalfd_siginfo`.
const SIGNO: usize = 0;
const SENDER: usize = 12;
const INFO_BYTES: usize = size_of::<nix::libc::signalfd_siginfo>();

/// They stay blocked in k1s.
fn through_signalfd() -> SigSet {
    [NixSignal::SIGCHLD, NixSignal::SIGPIPE, NixSignal::SIGXFSZ].into_iter().collect()
}

fn numbers(audience: Audience) -> Vec<i32> {
    let named: &[NixSignal] = match audience {
        Audience::Daemon => &DAEMON,
        Audience::Init => {
            let other = (1..=64).filter_map(Signal::from_number).map(Signal::number);
            return other.filter(|n| !NOT_FORWARDED.contains(n)).collect();
        }
    };
    named.iter().map(|signal| *signal as i32).collect()
}

const DAEMON: [NixSignal; 7] = [
    NixSignal::SIGTERM,
    NixSignal::SIGINT,
    NixSignal::SIGQUIT,
    NixSignal::SIGHUP,
    NixSignal::SIGUSR1,
    NixSignal::SIGUSR2,
    NixSignal::SIGALRM,
];

/// 32 and 33 belong to the C library.
const NOT_FORWARDED: [i32; 14] = [
    NixSignal::SIGKILL as i32,
    NixSignal::SIGSTOP as i32,
    NixSignal::SIGCHLD as i32,
    NixSignal::SIGPIPE as i32,
    NixSignal::SIGXFSZ as i32,
    NixSignal::SIGABRT as i32,
    NixSignal::SIGBUS as i32,
    NixSignal::SIGFPE as i32,
    NixSignal::SIGILL as i32,
    NixSignal::SIGSEGV as i32,
    NixSignal::SIGSYS as i32,
    NixSignal::SIGTRAP as i32,
    32,
    33,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::prepare;
    use crate::os::testing::{in_own_process, shell, spawn, spawner, wait};
    use nix::libc;

    fn named(names: &[&str]) -> Vec<Signal> {
        names.iter().map(|name| Signal::from_name(name).unwrap()).collect()
    }

    #[test]
    fn what_comes_before_the_handlers_stand_is_not_lost() {
        let name = "os::signals::tests::what_comes_before_the_handlers_stand_is_not_lost";
        in_own_process(name, || {
            // Blocked by the process that started k1s, and sent while it was blocked.
            SigSet::from(NixSignal::SIGTERM).thread_block().unwrap();
            raise(NixSignal::SIGTERM).unwrap();
            prepare();
            raise(NixSignal::SIGHUP).unwrap();
            raise(NixSignal::SIGINT).unwrap();
            let mut signals = install(Audience::Daemon).unwrap();
            assert_eq!(drain(&mut signals), named(&["HUP", "INT", "TERM"]));
            raise(NixSignal::SIGTERM).unwrap();
            assert_eq!(drain(&mut signals), named(&["TERM"]));
            assert_eq!(drain(&mut signals), []);
            assert_eq!(SigSet::thread_get_mask().unwrap(), through_signalfd());
        });
    }

    #[test]
    fn init_hears_every_signal_that_can_be_passed_on() {
        let name = "os::signals::tests::init_hears_every_signal_that_can_be_passed_on";
        in_own_process(name, || {
            prepare();
            let mut signals = install(Audience::Init).unwrap();
            let heard: Vec<Signal> =
                numbers(Audience::Init).into_iter().filter_map(Signal::from_number).collect();
            assert_eq!(heard.len(), 64 - NOT_FORWARDED.len());
            for signal in &heard {
                // SAFETY: takes a number.
                unsafe { libc::raise(signal.number()) };
            }
            assert_eq!(drain(&mut signals), heard);
        });
    }

    #[test]
    fn the_signalfd_tells_of_foreign_signals_alone() {
        let name = "os::signals::tests::the_signalfd_tells_of_foreign_signals_alone";
        in_own_process(name, || {
            prepare();
            let _signals = install(Audience::Daemon).unwrap();
            let signalfd = SignalFd::new().unwrap();
            assert_eq!(signalfd.drain(), []);
            // Writing to a pipe that nobody reads, and to a file that is too large.
            raise(NixSignal::SIGPIPE).unwrap();
            raise(NixSignal::SIGXFSZ).unwrap();
            assert_eq!(signalfd.drain(), []);
            let own = std::process::id();
            let mut spawner = spawner();
            let child = spawn(&mut spawner, &shell(&format!("kill -PIPE {own}; kill -XFSZ {own}")))
                .unwrap();
            wait(child.pid);
            assert_eq!(signalfd.drain(), named(&["PIPE", "XFSZ"]), "and not the child's");
            assert_eq!(signalfd.drain(), []);
        });
    }
}
