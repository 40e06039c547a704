//! What each source may take of one turn of the loop: the one table of shares.
//!
//! A share bounds work (bytes, lines, processes looked at), not events. What is left over when a
//! share is used up is marked ready, and goes on in the next turn, before the loop waits.
//! Together they keep a turn at some 10 ms at the most, and at a tenth of that as a rule.

use std::time::Duration;

/// What may still be read in this turn of the pipes that jobs write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    reads: usize,
    bytes: usize,
    lines: usize,
}

impl Reading {
    /// The share of a turn, for all pipes together.
    pub(super) const A_TURN: Reading =
        Reading { reads: READS_A_TURN, bytes: PIPE_BYTES_A_TURN, lines: LINES_A_TURN };

    /// Whether another read fits. The last one may take a buffer more than the share.
    pub(super) fn is_left(self) -> bool {
        self.reads > 0 && self.bytes > 0 && self.lines > 0
    }

    /// One read was made, of so many bytes; so many lines of them were passed on.
    pub(super) fn take(&mut self, bytes: usize, lines: usize) {
        self.reads = self.reads.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.lines = self.lines.saturating_sub(lines);
    }
}

/// A read and what comes with it take 2 µs, however little was there.
const READS_A_TURN: usize = 256;
/// To keep them and pass them on raw takes 0.1 ms.
const PIPE_BYTES_A_TURN: usize = 512 * 1024;
/// A line takes 0.04 µs with a prefix and 0.13 µs as JSON, and most lines are longer than none.
const LINES_A_TURN: usize = 16 * 1024;
/// Of a pipe, at a time: with [`LINES_A_TURN`], a turn passes on at most so many empty lines more.
pub(super) const PIPE_BUFFER_BYTES: usize = 16 * 1024;

/// The loop stands still until the child has called execve(2): half a millisecond, or three on a
/// busy machine. A turn drains twice.
pub(super) const SPAWNS_A_DRAIN: usize = 2;
/// Things that are done to processes at a time: a signal or a question, each takes some µs.
pub(super) const ACTIONS_A_DRAIN: usize = 512;
/// Stops of them: each is a group that is signalled and a look at what is
/// below its leader.
pub(super) const STOPS_A_DRAIN: usize = 32;
/// Answers to those who wait for a look, at a time: each may end a job or have it start its next run.
pub(super) const ANSWERS_A_DRAIN: usize = 512;
/// Processes below those that are stopped or looked at.
pub(super) const LOOKED_AT_A_TURN: usize = 4096;
/// Children of k1s that are looked at while what forks is chased: some thirty looks at few. What
/// forks for ever is found again by the next survey.
pub(super) const CHASED_A_TURN: usize = 1024;
/// Processes whose memory and CPU time are read: some 20 µs each.
pub(super) const MEASURED_A_TURN: usize = 16;
/// Processes whose parents were read after them.
pub(super) const PLACED_A_TURN: usize = 256;
/// Descriptors of k1s itself that are counted: a microsecond each.
pub(super) const COUNTED_A_TURN: usize = 256;
/// Runs whose sums are reported to the supervisor.
pub(super) const REPORTED_A_TURN: usize = 256;
/// Processes that have ended and are reaped; what their runs have written is read in shares of its own.
pub(super) const REAPED_A_TURN: usize = 32;
/// While orphans come one upon another they are reaped so often.
pub(super) const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// Events that are taken from the poll at once.
pub(super) const EVENTS_A_TURN: usize = 256;
