//! One budget for all captured output.
//!
//! All runs that hold output are in one queue: finished runs first, the oldest at the front, then
//! live runs. When the budget is exceeded, the run at the front loses all of its output that was
//! kept, and its record says that it is truncated.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::RunKey;

/// Which run holds how much output.
#[derive(Debug)]
pub(super) struct OutputMemory {
    budget: usize,
    used: usize,
    holders: BTreeMap<Place, Holder>,
    last_place: NonZeroU64,
}

/// A place in the queue: finished runs before live ones, then in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(NonZeroU64);

#[derive(Debug)]
struct Holder {
    run: RunKey,
    bytes: usize,
}

impl Place {
    fn new(is_live: bool, order: NonZeroU64) -> Place {
        Place(if is_live { order | LIVE } else { order })
    }

    fn is_live(self) -> bool {
        self.0.get() & LIVE != 0
    }
}

impl OutputMemory {
    pub(super) fn new(budget: usize) -> OutputMemory {
        OutputMemory { budget, used: 0, holders: BTreeMap::new(), last_place: NonZeroU64::MIN }
    }

    /// From now on there may be so many bytes.
    pub(super) fn limit(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// The bytes that are held.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// If the budget is exceeded, takes the first run out of the queue, which must drop its output.
    pub(super) fn evict(&mut self) -> Option<RunKey> {
        if self.used <= self.budget {
            return None;
        }
        let (_, holder) = self.holders.pop_first()?;
        self.used -= holder.bytes;
        Some(holder.run)
    }

    /// The run holds `bytes` now. Takes its place in the queue, and returns its new one; a run
    /// without output has none.
    pub(super) fn hold(
        &mut self,
        place: Option<Place>,
        run: RunKey,
        is_live: bool,
        bytes: usize,
    ) -> Option<Place> {
        if let Some(holder) = place
            .filter(|p| p.is_live() == is_live && bytes > 0)
            .and_then(|p| self.holders.get_mut(&p))
        {
            self.used = self.used - holder.bytes + bytes;
            holder.bytes = bytes;
            return place;
        }
        self.release(place);
        if bytes == 0 {
            return None;
        }
        self.last_place = self.last_place.saturating_add(1);
        let place = Place::new(is_live, self.last_place);
        self.holders.insert(place, Holder { run, bytes });
        self.used += bytes;
        Some(place)
    }

    /// The run at this place holds no output any more.
    pub(super) fn release(&mut self, place: Option<Place>) {
        if let Some(holder) = place.and_then(|place| self.holders.remove(&place)) {
            self.used -= holder.bytes;
        }
    }
}

/// The bit of live runs.
const LIVE: u64 = 1 << 63;
