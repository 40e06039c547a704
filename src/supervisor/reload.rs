//! Requests to read the config again, which the caller does one after the other: it reads the
//! files, has [`Supervisor::declare`] apply what they declare, and says what came of it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Chore, Declared, Refusal, Supervisor, Topic};
use crate::time::Now;

/// A request to read the config again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Its number: 1, 2, 3 and so on.
    pub number: u64,
    /// Only says what would be done.
    pub is_dry_run: bool,
}

/// What came of it.
pub type Reloaded = Result<Changes, ReloadError>;

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// About the jobs.
    pub jobs: Declared,
    /// The keys of the config whose new values count after a restart of k1s.
    pub needs_restart: Vec<&'static str>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// What is wrong with the config, with file, line and key.
    Config(String),
    /// The jobs are refused.
    Refused(Refusal),
}

#[derive(Debug, Default)]
pub(super) struct Reloads {
    last: u64,
    waiting: VecDeque<Reload>,
    /// The newest, with the numbers of their requests.
    outcomes: VecDeque<(u64, Rc<Reloaded>)>,
}

impl Supervisor {
    /// Has the config read again. Returns the number of this request, which
    /// [`Supervisor::reloaded`] takes.
    ///
    /// # Errors
    /// `Busy`: as many requests wait as may, and one of them reads what there is now.
    pub fn reload(&mut self, is_dry_run: bool, now: Now) -> Result<u64, Refusal> {
        let reloads = &mut self.core.reloads;
        let is_done = is_dry_run || reloads.waiting.iter().any(|waiting| !waiting.is_dry_run);
        if reloads.waiting.len() >= MOST_WAITING && is_done {
            return Err(Refusal::Busy);
        }
        reloads.last += 1;
        let number = reloads.last;
        reloads.waiting.push_back(Reload { number, is_dry_run });
        if !is_dry_run {
            self.core.tell_of_chore(Chore::Reload, now);
        }
        Ok(number)
    }

    /// The next request. [`Supervisor::handle_reloaded`] answers it, before this is asked again.
    pub fn poll_reload(&mut self) -> Option<Reload> {
        self.core.reloads.waiting.pop_front()
    }

    /// Whether requests wait.
    pub fn has_reloads(&self) -> bool {
        !self.core.reloads.waiting.is_empty()
    }

    /// The answer to a request.
    pub fn handle_reloaded(&mut self, number: u64, outcome: Reloaded) {
        let outcomes = &mut self.core.reloads.outcomes;
        outcomes.push_back((number, Rc::new(outcome)));
        if outcomes.len() > MOST_OUTCOMES {
            outcomes.pop_front();
        }
        self.core.changed.note(Topic::Reloaded);
    }

    /// What came of a request, once it is done. [`Topic::Reloaded`] changes with that. Of a request
    /// that is long past it is what came of the oldest that is known.
    pub fn reloaded(&self, number: u64) -> Option<Rc<Reloaded>> {
        let known = self.core.reloads.outcomes.iter().find(|(known, _)| *known >= number);
        known.map(|(_, outcome)| outcome.clone())
    }
}

const MOST_WAITING: usize = 16;
/// An answer reads its own in the turn after it, before so many more can be done.
const MOST_OUTCOMES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Settings;

    /// SIGHUP counted as done by those that wait, which only said what they would do.
    #[test]
    fn a_reload_is_not_lost_behind_dry_runs() {
        let settings = Settings::for_tests();
        let mut supervisor = Supervisor::new(settings, Now::default());
        for _ in 0..MOST_WAITING {
            assert!(supervisor.reload(true, Now::default()).is_ok());
        }
        assert_eq!(supervisor.reload(true, Now::default()), Err(Refusal::Busy));
        assert!(supervisor.reload(false, Now::default()).is_ok());
        assert_eq!(supervisor.reload(false, Now::default()), Err(Refusal::Busy));
        let waiting = std::iter::from_fn(|| supervisor.poll_reload());
        assert_eq!(waiting.filter(|reload| !reload.is_dry_run).count(), 1);
    }
}
