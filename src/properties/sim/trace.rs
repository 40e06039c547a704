//! The last events, told when the seed fails.

use std::collections::VecDeque;

/// The last events, told when the seed fails.
pub(super) struct Trace {
    pub(super) seed: u64,
    pub(super) is_on: bool,
    pub(super) lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn push(&mut self, line: String) {
        if self.lines.len() == TRACED {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.is_on && std::thread::panicking() {
            for line in &self.lines {
                eprintln!("{line}");
            }
            eprintln!("to play it again: K1S_SIM_SEED={}", self.seed);
        }
    }
}

const TRACED: usize = 150;
