//! How much of one turn of the loop each source may take: all shares in one table.
//!
//! A share bounds work (bytes, lines, processes looked at), not events. A source that has used up
//! its share is marked ready, and goes on in the next turn, before the loop waits. Together the
//! shares keep a turn at about 10 ms at most, and usually at a tenth of that.

use std::time::Duration;

use crate::time::Mono;

/// How much may still be read from the pipes of jobs in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    reads: usize,
    bytes: usize,
    lines: usize,
    file_bytes: usize,
    file_operations: usize,
}

impl Reading {
    /// The share of a turn for all pipes together.
    pub(super) const A_TURN: Reading = Reading {
        reads: READS_A_TURN,
        bytes: PIPE_BYTES_A_TURN,
        lines: LINES_A_TURN,
        file_bytes: FILE_BYTES_A_TURN,
        file_operations: FILE_OPERATIONS_A_TURN,
    };

    /// Whether another read is allowed. The last one may exceed the share by a buffer.
    pub(super) fn is_left(self) -> bool {
        let is_left_to_files = self.file_bytes > 0 && self.file_operations > 0;
        self.reads > 0 && self.bytes > 0 && self.lines > 0 && is_left_to_files
    }

    /// How many bytes were read.
    pub(super) fn taken(self) -> usize {
        PIPE_BYTES_A_TURN.saturating_sub(self.bytes)
    }

    /// Counts a read of so many bytes, of which so many lines were passed on.
    pub(super) fn take(&mut self, bytes: usize, lines: usize) {
        self.reads = self.reads.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.lines = self.lines.saturating_sub(lines);
    }

    /// Counts a write of so many bytes to a log file, and other operations on log files.
    pub(super) fn take_file(&mut self, bytes: usize, operations: usize) {
        self.file_bytes = self.file_bytes.saturating_sub(bytes);
        self.file_operations = self.file_operations.saturating_sub(operations);
    }
}

/// How fast jobs write, and how much that leaves for long answers and followers.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// When bytes were first counted in the current window.
    since: Mono,
    /// How many bytes were read in it, and in this turn.
    bytes: usize,
    taken: usize,
    is_heavy: bool,
}

impl Flow {
    /// Begins a turn.
    pub(super) fn begin_turn(&mut self, now: Mono) {
        let length = now.since(self.since);
        if length >= FLOW_WINDOW {
            self.is_heavy = self.bytes >= HEAVY_BYTES && length < 2 * FLOW_WINDOW;
            (self.since, self.bytes) = (now, 0);
        }
        self.taken = 0;
    }

    /// Counts bytes that were read.
    pub(super) fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.taken = bytes;
        self.is_heavy |= self.bytes >= HEAVY_BYTES;
    }

    /// How many bytes may be sent in this turn; `None`: no limit by this.
    pub(super) fn left_to_followers(&self) -> Option<usize> {
        self.is_heavy.then_some(self.taken / READ_FOR_EACH_BYTE_SENT)
    }
}

/// A read takes at least 2 µs, with all that comes with it.
const READS_A_TURN: usize = 256;
/// Keeping so many bytes and passing them on raw takes 0.1 ms.
const PIPE_BYTES_A_TURN: usize = 512 * 1024;
/// An empty line takes 0.04 µs with a prefix and 0.13 µs as JSON.
const LINES_A_TURN: usize = 16 * 1024;
/// How much is read from a pipe at a time; a turn may exceed [`LINES_A_TURN`] by as many lines.
pub(super) const PIPE_BUFFER_BYTES: usize = 16 * 1024;
/// Jobs that write more in this time, 100 MB/s, would wait for those who follow them, who are
/// therefore sent a byte for so many that are read, and lose the rest.
pub(super) const FLOW_WINDOW: Duration = Duration::from_millis(10);
const HEAVY_BYTES: usize = 1 << 20;
const READ_FOR_EACH_BYTE_SENT: usize = 32;

/// Writing so many bytes to log files takes 0.05 ms in memory, and 0.5 ms on a disk.
const FILE_BYTES_A_TURN: usize = 128 * 1024;
/// How many log files are opened, renamed or removed; each takes about 10 µs. The last rotation may
/// exceed the share.
pub(super) const FILE_OPERATIONS_A_TURN: usize = 64;

/// How many runs are spawned at a time; a turn drains twice. The loop stands still until each child
/// has called execve(2): 0.5 ms, or 3 ms on a machine under load.
pub(super) const SPAWNS_A_DRAIN: usize = 1;
/// How many actions on processes are done at a time; each takes a few µs.
pub(super) const ACTIONS_A_DRAIN: usize = 512;
/// How many surveys are answered. Each answer may end a job or start its next run.
pub(super) const ANSWERS_A_TURN: usize = 512;
/// How many processes are looked at when runs are stopped or surveyed. Each takes about 20 µs.
pub(super) const LOOKED_AT_A_TURN: usize = 256;
/// How many children of k1s are looked at after each stop or survey, in repeated looks for
/// processes that fork meanwhile. The next survey finds those that still fork.
pub(super) const CHASED_A_STOP: usize = 1024;
/// How many processes are measured, of which each takes about 20 µs.
pub(super) const MEASURED_A_TURN: usize = 8;
/// How many processes are assigned to their runs whose parents were read after them.
pub(super) const PLACED_A_TURN: usize = 256;
/// How many descriptors of k1s itself are counted; each takes a microsecond.
pub(super) const COUNTED_A_TURN: usize = 128;
/// For how many runs the sums are reported to the supervisor.
pub(super) const REPORTED_A_TURN: usize = 256;
/// How many notices of runs are read. Each takes 2 µs, or 20 µs to find out who has sent it.
pub(super) const NOTICES_A_TURN: usize = 64;
/// How many that have come before the end of a run are read after it: more than the kernel queues
/// (`net.unix.max_dgram_qlen`).
pub(super) const LAST_NOTICES: usize = 32;
/// How many attempts of probes are begun; each takes 30 µs.
pub(super) const PROBES_BEGUN_A_TURN: usize = 32;
/// How many steps of attempts are made, each a few system calls and 4 KiB at most.
pub(super) const PROBES_A_TURN: usize = 128;
/// How many processes are reaped. Their last output is read in shares of its own.
pub(super) const REAPED_A_TURN: usize = 32;
/// How long k1s waits before it reaps again, after it has reaped only orphans.
pub(super) const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// How much is written to the state at a time, which takes 0.1 ms, and of how many jobs.
pub(super) const STATE_BYTES_A_DRAIN: usize = 256 * 1024;
pub(super) const STATE_JOBS_A_DRAIN: usize = 500;
/// How many jobs are looked at that may have something in an old segment.
pub(super) const LOOKED_AT_FOR_STATE: usize = 2000;

/// How many events are taken from the poll at once.
pub(super) const EVENTS_A_TURN: usize = 256;
