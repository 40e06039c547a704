//! What happens in the simulation, counted.

use std::collections::BTreeMap;

/// How often each kind of event has happened.
#[derive(Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn count(&mut self, event: &'static str) {
        *self.0.entry(event).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Tally) {
        for (event, count) in &other.0 {
            *self.0.entry(event).or_default() += count;
        }
    }
}

/// All of these must happen in a run of many seeds, or it has not tested everything.
pub const EVENTS: &[&str] = &[
    "action",
    "answer",
    "ask all",
    "attempt",
    "attempt given up",
    "blocked",
    "call refused",
    "called",
    "collected",
    "command",
    "command cut short",
    "command deferred",
    "command ended",
    "command failed",
    "create",
    "cut",
    "declare",
    "deferred",
    "ended",
    "event read",
    "exit",
    "follow events",
    "follow log",
    "followed to the end",
    "gave up",
    "in order",
    "kill",
    "line read",
    "look not whole",
    "lost told",
    "measure",
    "notice",
    "orphans",
    "pass",
    "put",
    "ready",
    "reload",
    "remove",
    "renewed",
    "restart",
    "resume events",
    "reused pids",
    "run",
    "shutdown",
    "signal",
    "spawn",
    "spawn failed",
    "start",
    "step",
    "survey",
    "tangled",
    "together",
    "unhealthy",
    "unknown orphan",
    "waits",
];
