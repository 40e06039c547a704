//! Time passes, and clocks are set.

use std::collections::BTreeMap;

use crate::supervisor::JobKey;
use crate::time::{Mono, Now, Wall};

use super::{START, Sim, specs};

impl Sim {
    pub(super) fn pass_time(&mut self) {
        let now = self.now.mono.0;
        let timer = self.supervisor.poll_timeout().map(|at| at.0);
        let next = [timer, self.world.next_end()].into_iter().flatten().min();
        let to_next = next.map_or(0, |at| at.saturating_sub(now)).min(LONGEST_SLEEP);
        let millis = match self.rng.below(20) {
            0..=3 => 0,
            4..=6 => self.rng.below(50),
            7..=15 => to_next,
            16..=18 => to_next + self.rng.below(3_000),
            _ => to_next + self.rng.below(120_000),
        };
        self.now = Now { mono: Mono(now + millis), wall: Wall(self.now.wall.0 + millis as i64) };
        self.world.pass(self.now.mono.0);
        if millis > 0 {
            self.note("pass", |_| format!("{millis} ms"));
        }
    }

    pub(super) fn step_clock(&mut self) {
        let step = self.rng.pick(&STEPS) * if self.rng.percent(50) { 1 } else { -1 };
        // Otherwise the clock would leave the calendar in the end.
        let step = if (self.now.wall.0 - START + step).abs() > FARTHEST { -step } else { step };
        let (before, old) = (self.next_runs(), self.now.wall);
        self.now.wall.0 += step;
        self.jobs.values_mut().for_each(|job| job.reasons += 1);
        self.note("step", |_| format!("{step} ms"));
        let was_seen = !self.is_step_unseen;
        self.is_step_unseen = self.rng.percent(20);
        if self.is_step_unseen {
            return;
        }
        self.supervisor.handle_clock_step(self.now);
        let after = self.next_runs();
        let now = self.now.wall;
        // What is still to come stays; a clock that was set back adds only what comes before.
        let to_come = |next: &Wall| was_seen && *next > now.max(old);
        for (key, before) in before.into_iter().filter(|(_, next)| to_come(next)) {
            let after = after[&key];
            assert!(now < after && after <= before, "{before:?}, now {after:?}, at {now:?}");
            assert!(step < 0 || after == before, "{before:?}, now {after:?}");
        }
    }

    /// The next runs by the calendar.
    fn next_runs(&self) -> BTreeMap<JobKey, Wall> {
        let keys = self.ids.iter().filter_map(|id| self.supervisor.job(id));
        keys.filter(|job| specs::is_by_calendar(job.spec()))
            .filter_map(|job| Some((job.key(), job.next_run_at(self.now)?)))
            .collect()
    }
}

const STEPS: [i64; 6] = [1, 1_000, 3_600_000, 86_400_000, 10 * 365 * 86_400_000, 3 * 3_600_000 + 1];
const FARTHEST: i64 = 30 * 365 * 86_400_000;
const LONGEST_SLEEP: u64 = 86_400_000;
