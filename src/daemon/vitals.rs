//! Figures of k1s itself: the durations of its turns, and the resources that it holds.

use std::time::Duration;

use super::Daemon;
use super::meter::Over;
use crate::os;
use crate::supervisor::{Histogram, TURN_BOUNDS, Vitals};
use crate::time::Wall;

/// The durations of the turns of the loop, from the return of a poll to the next wait. This needs
/// no clock readings of its own: a turn ends when the loop computes how long to wait, or, if it
/// does not wait, when the next turn begins.
#[derive(Debug)]
pub(super) struct Turns {
    /// When k1s was started.
    since: Wall,
    /// When the current turn began, in elapsed time.
    began: Option<Duration>,
    taken: Histogram<{ TURN_BOUNDS.len() }>,
    longest: Duration,
}

impl Turns {
    /// No turns yet; k1s was started at `since`.
    pub(super) fn since(since: Wall) -> Turns {
        Turns { since, began: None, taken: Histogram::default(), longest: Duration::ZERO }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self, at: Duration) {
        self.end(at);
        self.began = Some(at);
    }

    /// The current turn ends, if there is one.
    pub(super) fn end(&mut self, at: Duration) {
        let Some(began) = self.began.take() else { return };
        let took = at.saturating_sub(began);
        self.taken.observe(&TURN_BOUNDS, took);
        self.longest = self.longest.max(took);
    }
}

impl Daemon {
    /// Continues a measurement; at its end, reports the figures of k1s itself.
    pub(super) fn measure(&mut self) {
        if let Some(over) = self.processes.measure(&mut self.supervisor) {
            let vitals = self.vitals(over);
            self.supervisor.handle_measured(vitals);
        }
    }

    fn vitals(&self, over: Over) -> Vitals {
        let own = os::own_usage();
        Vitals {
            started: self.turns.since,
            cpu_time: own.cpu_time,
            resident_bytes: own.resident_bytes,
            virtual_bytes: own.virtual_bytes,
            heap_bytes: os::memory::in_use() as u64,
            open_descriptors: over.open_descriptors,
            max_descriptors: self.peers.max_descriptors() as u64,
            turns: self.turns.taken,
            longest_turn: self.turns.longest,
            timers: self.peers.timers() as u64,
            connections: self.peers.connections() as u64,
            accepted: self.peers.accepted(),
            connection_bytes: self.peers.buffer_bytes() as u64,
            console_bytes: self.console.waiting_bytes() as u64,
            failing_files: self.outputs.files.failing() as u64,
            missing_bytes: self.outputs.files.missing_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_where_the_loop_waits_or_the_next_begins() {
        let at = Duration::from_micros;
        let mut turns = Turns::since(Wall(0));
        turns.end(at(5));
        turns.begin(at(10));
        turns.end(at(60));
        turns.end(at(100_000));
        turns.begin(at(200_000));
        turns.begin(at(200_500));
        assert_eq!(turns.taken.count(), 2, "waiting does not count");
        assert_eq!((turns.taken.sum(), turns.longest), (at(550), at(500)));
    }
}
