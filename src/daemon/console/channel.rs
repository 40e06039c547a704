//! One file that k1s writes to, and whether it can be written.
//!
//! ```text
//!            ┌── WouldBlock ──▶ Blocked ── poll event: writable ──┐
//!   Open ◀───┼────────────────────────────────────────────────────┘
//!     ▲      └── EPIPE, ENOSPC … ──▶ Broken: everything is dropped and counted
//!     └────────── tried again with a notice, in the first turn after a second
//! ```
//!
//! It is registered with the poll only while it is blocked and something is queued.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::queue::{Lost, Queue};
use crate::os;
use crate::time::Mono;

/// A queue, and the file that it is written to.
#[derive(Debug)]
pub(super) struct Channel {
    file: os::OwnStream,
    token: Token,
    queue: Queue,
    health: Health,
    is_registered: bool,
    /// What has gone wrong and was not reported yet.
    trouble: Option<Trouble>,
}

/// What people should know about a channel.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Writing fails.
    Broken(io::Error),
    /// So much was dropped; writing works again.
    Lost(Lost),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Open,
    /// It is full; an event will say when it can be written again.
    Blocked,
    /// Writing fails.
    Broken {
        again: Mono,
    },
}

impl Channel {
    pub(super) fn new(file: os::OwnStream, token: Token) -> Channel {
        let queue = Queue::default();
        Channel { file, token, queue, health: Health::Open, is_registered: false, trouble: None }
    }

    /// The token of its events.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Queues a whole line, including its newline, for the next [`Channel::flush`].
    pub(super) fn push_line(&mut self, parts: &[&[u8]]) {
        self.queue.push_line(parts);
    }

    /// Writes bytes as they are, at once. What the file does not take is queued: all of it if
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

    /// Whether so much is queued that it should be written before the end of the turn.
    pub(super) fn is_flush_due(&self) -> bool {
        self.health == Health::Open && self.queue.len() >= BATCH_BYTES
    }

    /// How many bytes are queued.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.queue.len()
    }

    /// Whether anything is queued until the file can be written again.
    pub(super) fn is_waiting(&self) -> bool {
        self.health == Health::Blocked && self.queue.len() > 0
    }

    /// Whether so much is queued that writers with backpressure should wait.
    pub(super) fn is_backed_up(&self) -> bool {
        self.is_waiting() && self.queue.len() >= BACKED_UP_BYTES
    }

    /// The file can be written again, or has an error.
    pub(super) fn handle_event(&mut self) {
        if self.health == Health::Blocked {
            self.health = Health::Open;
        }
    }

    /// Writes what is queued, as far as the file takes it. `notice` is the line that says what was
    /// dropped, in its place.
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

    /// What has gone wrong since this was last asked.
    pub(super) fn poll_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Registers with the poll while there is something to wait for, and deregisters otherwise.
    pub(super) fn settle(&mut self, registry: &Registry) {
        let is_waiting = self.is_waiting();
        let Some(fd) = self.file.pollable().filter(|_| is_waiting != self.is_registered) else {
            return;
        };
        // If it cannot be registered, every later turn tries again.
        let done = match is_waiting {
            true => registry.register(&mut SourceFd(&fd), self.token, Interest::WRITABLE),
            false => registry.deregister(&mut SourceFd(&fd)),
        };
        self.is_registered = if is_waiting { done.is_ok() } else { false };
    }

    /// Tries a broken file again, with the notice of what was dropped.
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

    /// Updates the state after a write; returns how many bytes were written.
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

/// Half of what the queue may hold. As much again may come at once when a run ends, or more if it
/// has filled two pipes or made one larger (fcntl(2), `F_SETPIPE_SZ`).
const BACKED_UP_BYTES: usize = 128 * 1024;

const BATCH_BYTES: usize = 32 * 1024;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
