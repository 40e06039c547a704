//! One file that k1s writes to, and how it fares.
//!
//! ```text
//!            ┌── WouldBlock ──▶ Blocked ── the poll: there is room ──┐
//!   Open ◀───┼───────────────────────────────────────────────────────┘
//!     ▲      └── EPIPE, ENOSPC … ──▶ Broken: all is dropped and counted
//!     └────────── tried again with a notice, a second later at the soonest, when k1s is awake
//! ```
//!
//! It is registered with the poll only while it is blocked and something waits.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::queue::{Lost, Queue};
use crate::os;
use crate::time::Mono;

/// A queue, and the file that it goes to.
#[derive(Debug)]
pub(super) struct Channel {
    file: os::Console,
    token: Token,
    queue: Queue,
    health: Health,
    is_registered: bool,
    /// What has gone wrong and has not been told yet.
    trouble: Option<Trouble>,
}

/// What people should know.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing can be written any more.
    Broken(io::Error),
    /// This much was dropped; what comes now is written again.
    Lost(Lost),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Open,
    /// An event will say when there is room.
    Blocked,
    /// Each write fails.
    Broken {
        again: Mono,
    },
}

impl Channel {
    pub(super) fn new(file: os::Console, token: Token) -> Channel {
        let queue = Queue::default();
        Channel { file, token, queue, health: Health::Open, is_registered: false, trouble: None }
    }

    /// The token of its events.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Takes a whole line, newline included; it is written with the next [`Channel::flush`].
    pub(super) fn push_line(&mut self, parts: &[&[u8]]) {
        self.queue.push_line(parts);
    }

    /// Writes bytes as they are, at once; what the file does not take waits, all of it when
    /// nothing may be dropped.
    pub(super) fn push_raw(&mut self, mut bytes: &[u8], may_drop: bool, now: Mono) {
        while self.health == Health::Open && self.queue.is_idle() && !bytes.is_empty() {
            let result = self.file.write(bytes);
            let (written, rest) = bytes.split_at(self.judge(result, now).min(bytes.len()));
            self.queue.note_written(written);
            bytes = rest;
        }
        if may_drop {
            self.queue.push_raw(bytes);
        } else {
            self.queue.push_all(bytes);
        }
        self.drop_if_broken();
    }

    /// Whether so much waits that it is better written now than at the end of the turn.
    pub(super) fn is_flush_due(&self) -> bool {
        self.health == Health::Open && self.queue.len() >= BATCH_BYTES
    }

    /// How many bytes are queued.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.queue.len()
    }

    /// Whether anything waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.health == Health::Blocked && self.queue.len() > 0
    }

    /// Whether so much waits that writers with backpressure should wait too.
    pub(super) fn is_backed_up(&self) -> bool {
        self.is_waiting() && self.queue.len() >= BACKED_UP_BYTES
    }

    /// There is room again, or an error to be found.
    pub(super) fn handle_event(&mut self) {
        if self.health == Health::Blocked {
            self.health = Health::Open;
        }
    }

    /// Writes what waits, as far as the file takes it. `notice` says in place what is missing.
    pub(super) fn flush(&mut self, notice: impl Fn(Lost) -> Vec<u8>, now: Mono) {
        self.try_again(&notice, now);
        while self.health == Health::Open {
            if self.queue.is_gap_over() {
                self.close_gap(&notice);
            }
            if self.queue.len() == 0 {
                return;
            }
            self.write_front(now);
        }
        self.drop_if_broken();
    }

    /// What has gone wrong since it was last asked.
    pub(super) fn poll_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Registers with the poll, or takes itself off, as there is something to wait for or not.
    pub(super) fn settle(&mut self, registry: &Registry) {
        let is_waiting = self.is_waiting();
        let Some(fd) = self.file.pollable().filter(|_| is_waiting != self.is_registered) else {
            return;
        };
        // When it cannot be registered, each turn that comes for other reasons tries again.
        let done = match is_waiting {
            true => registry.register(&mut SourceFd(&fd), self.token, Interest::WRITABLE),
            false => registry.deregister(&mut SourceFd(&fd)),
        };
        self.is_registered = if is_waiting { done.is_ok() } else { false };
    }

    /// A broken file is tried with the notice of what it has missed.
    fn try_again(&mut self, notice: &impl Fn(Lost) -> Vec<u8>, now: Mono) {
        let Health::Broken { again } = self.health else { return };
        if again > now || self.queue.lost() == Lost::default() {
            return;
        }
        let lost = self.queue.lost();
        self.queue.close_gap(&notice(lost));
        self.write_front(now);
        match self.health {
            Health::Broken { .. } => self.queue.reopen_gap(lost),
            Health::Open | Health::Blocked => self.trouble = Some(Trouble::Lost(lost)),
        }
    }

    fn write_front(&mut self, now: Mono) {
        let result = self.file.write(self.queue.front());
        let count = self.judge(result, now);
        self.queue.consume(count);
    }

    /// What a write says of the file; returns how many bytes were written.
    fn judge(&mut self, result: io::Result<usize>, now: Mono) -> usize {
        let error = match result {
            Ok(count) if count > 0 => {
                self.health = Health::Open;
                return count;
            }
            Ok(_) => ErrorKind::WriteZero.into(),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::WouldBlock => self.health = Health::Blocked,
            ErrorKind::Interrupted => {}
            _ => {
                if !matches!(self.health, Health::Broken { .. }) {
                    self.trouble = Some(Trouble::Broken(error));
                }
                self.health = Health::Broken { again: now + TRY_AGAIN_AFTER };
            }
        }
        0
    }

    fn close_gap(&mut self, notice: &impl Fn(Lost) -> Vec<u8>) {
        let lost = self.queue.lost();
        self.queue.close_gap(&notice(lost));
        self.trouble = Some(Trouble::Lost(lost));
    }

    fn drop_if_broken(&mut self) {
        if let Health::Broken { .. } = self.health {
            self.queue.discard();
        }
    }
}

/// Half of what the queue holds: as much again may come at once when a run ends, or more if it has
/// made its pipe larger (fcntl(2), `F_SETPIPE_SZ`) or filled two of them.
const BACKED_UP_BYTES: usize = 128 * 1024;

const BATCH_BYTES: usize = 32 * 1024;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
