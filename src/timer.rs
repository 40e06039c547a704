//! The timer wheel: finds the next deadline, however many there are.
//!
//! ```text
//! level 0   64 slots of 1 ms      ▕░░░░█░░█░░░▏   a slot is one deadline: exact
//! level 1   64 slots of 64 ms     ▕░░░░░░█░░░░▏   ┐ when time enters a slot, its timers
//! level 2   64 slots of 4096 ms   ▕░░█░░░░░░░█▏   │ cascade to lower levels
//!   …                                             │
//! level 10  16 slots of 2^60 ms   ▕░░░░░░░░░░█▏   ┘
//! ```
//!
//! Write a deadline and the present as numbers of base 64: the position of the first digit that
//! differs is the timer's level, and the digit of the deadline there is its slot. So the place of a
//! timer follows from its deadline and the present, without storing it. Every timer of a lower
//! level is due before every timer of a higher one, and within a level the slots are in order of
//! time. A bitmap for each level finds the first slot. Eleven levels hold any 64-bit deadline, so
//! there is no overflow list.
//!
//! Timers in the same slot are a doubly linked list, in the order in which they were set. Setting
//! and cancelling are O(1); each timer cascades at most once a level. The nodes are dense in one
//! vector, so memory follows the number of timers.
//!
//! (G. Varghese, T. Lauck: Hashed and Hierarchical Timing Wheels, SOSP 1987, scheme 7.)
//!
//! Nothing here reads a clock.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use crate::time::Mono;

/// Deadlines by key, at most one for each key. At most `u32::MAX - 1` of them.
#[derive(Clone, Debug)]
pub struct TimerWheel<K> {
    /// The present: everything up to this moment has expired.
    present: u64,
    /// From the finest, as many as were needed so far.
    levels: Vec<Level>,
    nodes: Vec<Node<K>>,
    /// The node of each key. The hasher is fixed and the order of the map does not matter, so the
    /// same calls give the same results in every run.
    index: HashMap<K, u32, BuildHasherDefault<DefaultHasher>>,
}

impl<K: Copy + Eq + Hash> TimerWheel<K> {
    /// An empty wheel at `now`, which allocates nothing.
    pub fn new(now: Mono) -> TimerWheel<K> {
        TimerWheel {
            present: now.0,
            levels: Vec::new(),
            nodes: Vec::new(),
            index: HashMap::default(),
        }
    }

    /// Sets the timer of `key` to `at`, replacing its deadline, if any.
    ///
    /// A timer that is already due expires at the next [`expire`](Self::expire): a deadline before
    /// the last one that expired, or before the last `now` at which nothing was left, counts as
    /// that moment.
    pub fn set(&mut self, key: K, at: Mono) {
        let at = at.0.max(self.present);
        if let Some(&node) = self.index.get(&key) {
            self.unlink(node);
            self.nodes[node as usize].at = at;
            self.link(node);
            return;
        }
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { key, at, prev: NIL, next: NIL });
        self.index.insert(key, node);
        self.link(node);
    }

    /// Cancels the timer of `key`; returns whether it was set.
    pub fn cancel(&mut self, key: &K) -> bool {
        let node = self.index.get(key).copied();
        if let Some(node) = node {
            self.remove(node);
        }
        node.is_some()
    }

    /// When the timer of `key` is due; `None` when it is not set.
    pub fn deadline(&self, key: &K) -> Option<Mono> {
        let node = *self.index.get(key)?;
        Some(Mono(self.nodes[node as usize].at))
    }

    /// When to call [`expire`](Self::expire): the first deadline; `None` when there is none.
    ///
    /// It is never late. It is early only if the first timer of a slot was cancelled or set again.
    /// Waking then cascades the slot, so this happens at most once for each level and slot.
    pub fn next(&self) -> Option<Mono> {
        let place = self.first()?;
        Some(Mono(self.levels[place.level].slots[place.slot].earliest))
    }

    /// Removes a timer that is due at `now`: the one with the first deadline, and of several with
    /// the same deadline the one that was set first. `None` when nothing is due.
    ///
    /// To be called until it returns `None`. `now` never goes back, and may jump any distance.
    pub fn expire(&mut self, now: Mono) -> Option<K> {
        while let Some(place) = self.first() {
            let start = place.start(self.present);
            if start > now.0 {
                break;
            }
            self.present = start;
            if place.level == 0 {
                let head = self.levels[0].slots[place.slot].head;
                return Some(self.remove(head));
            }
            self.cascade(place);
        }
        self.present = self.present.max(now.0);
        None
    }

    /// How many timers are set.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no timer is set.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The first slot in time that has a timer.
    fn first(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        Some(Place { level, slot })
    }

    /// The present has reached the start of a slot: moves its timers to lower levels. Each goes to
    /// the end of its new list, so timers with the same deadline keep their order.
    fn cascade(&mut self, place: Place) {
        let level = &mut self.levels[place.level];
        level.occupied &= !(1 << place.slot);
        let mut node = std::mem::replace(&mut level.slots[place.slot], Slot::EMPTY).head;
        while node != NIL {
            let next = self.nodes[node as usize].next;
            self.link(node);
            node = next;
        }
    }

    /// Appends a node to the list for its deadline.
    fn link(&mut self, node: u32) {
        let at = self.nodes[node as usize].at;
        let place = Place::of(at, self.present);
        while self.levels.len() <= place.level {
            self.levels.push(Level::EMPTY);
        }
        let level = &mut self.levels[place.level];
        level.occupied |= 1 << place.slot;
        let slot = &mut level.slots[place.slot];
        let tail = std::mem::replace(&mut slot.tail, node);
        slot.earliest = slot.earliest.min(at);
        if tail == NIL {
            slot.head = node;
        } else {
            self.nodes[tail as usize].next = node;
        }
        let linked = &mut self.nodes[node as usize];
        linked.prev = tail;
        linked.next = NIL;
    }

    /// Removes a node from its list, but not from the nodes.
    fn unlink(&mut self, node: u32) {
        let Node { at, prev, next, .. } = self.nodes[node as usize];
        let place = Place::of(at, self.present);
        let level = &mut self.levels[place.level];
        let slot = &mut level.slots[place.slot];
        match prev {
            NIL => slot.head = next,
            _ => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => slot.tail = prev,
            _ => self.nodes[next as usize].prev = prev,
        }
        if slot.head == NIL {
            *slot = Slot::EMPTY;
            level.occupied &= !(1 << place.slot);
        }
    }

    /// Removes a timer. The last node takes its place, so the nodes stay dense.
    fn remove(&mut self, node: u32) -> K {
        self.unlink(node);
        let removed = self.nodes.swap_remove(node as usize);
        self.index.remove(&removed.key);
        if (node as usize) < self.nodes.len() {
            self.relocated(node);
        }
        self.give_back();
        removed.key
    }

    /// A linked node was moved to `node`: updates everything that points to it.
    fn relocated(&mut self, node: u32) {
        let Node { key, at, prev, next } = self.nodes[node as usize];
        self.index.insert(key, node);
        let place = Place::of(at, self.present);
        let slot = &mut self.levels[place.level].slots[place.slot];
        match prev {
            NIL => slot.head = node,
            _ => self.nodes[prev as usize].next = node,
        }
        match next {
            NIL => slot.tail = node,
            _ => self.nodes[next as usize].prev = node,
        }
    }

    /// Frees memory when three quarters of it are unused, so that the memory of a burst is not kept
    /// for ever; it costs as much as the removals before it.
    fn give_back(&mut self) {
        let roomy = self.nodes.len().saturating_mul(2).max(KEPT);
        if self.nodes.capacity() > roomy.saturating_mul(2) {
            self.nodes.shrink_to(roomy);
            self.index.shrink_to(roomy);
        }
    }
}

/// A timer, linked to the others in its slot.
#[derive(Clone, Copy, Debug)]
struct Node<K> {
    key: K,
    at: u64,
    prev: u32,
    next: u32,
}

#[derive(Clone, Debug)]
struct Level {
    /// Bit n: slot n has a timer.
    occupied: u64,
    slots: [Slot; SLOTS],
}

impl Level {
    const EMPTY: Level = Level { occupied: 0, slots: [Slot::EMPTY; SLOTS] };
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    head: u32,
    tail: u32,
    /// No timer in the slot is due earlier; the one that was due then may have been removed.
    earliest: u64,
}

impl Slot {
    const EMPTY: Slot = Slot { head: NIL, tail: NIL, earliest: u64::MAX };
}

/// The place of timers: see the picture of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    slot: usize,
}

impl Place {
    /// The place of a timer that is due at `at`, which is not before the present.
    fn of(at: u64, present: u64) -> Place {
        let level = (at ^ present).checked_ilog2().unwrap_or(0) / BITS;
        Place { level: level as usize, slot: (at >> (level * BITS)) as usize % SLOTS }
    }

    /// The first moment of the slot.
    fn start(self, present: u64) -> u64 {
        let shift = self.level as u32 * BITS;
        let above = shift + BITS;
        let prefix = present.checked_shr(above).map_or(0, |high| high << above);
        prefix | (self.slot as u64) << shift
    }
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// The end of a list.
const NIL: u32 = u32::MAX;
/// Memory for so many timers is never freed, so that a few that come and go cost nothing.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Sets each deadline with its index as key, and expires at each of `moments`.
    #[track_caller]
    fn check(deadlines: &[u64], moments: &[u64], popped: &[&[usize]]) {
        let mut wheel = TimerWheel::new(Mono(0));
        for (key, &at) in deadlines.iter().enumerate() {
            wheel.set(key, Mono(at));
        }
        let seen: Vec<Vec<usize>> = moments
            .iter()
            .map(|&now| std::iter::from_fn(|| wheel.expire(Mono(now))).collect())
            .collect();
        assert_eq!(seen, popped);
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        check(&[], &[0, u64::MAX], &[&[], &[]]);
        check(&[0], &[0], &[&[0]]);
        check(&[1], &[0, 1, 2], &[&[], &[0], &[]]);
        check(&[7, 7, 7], &[7], &[&[0, 1, 2]]);
        check(&[70, 3, 64, 63], &[62, 63, 64, 100], &[&[1], &[3], &[2], &[0]]);
        check(&[5000, 4096, 4095], &[4095, 4999, 5000], &[&[2], &[1], &[0]]);
        check(&[1 << 40, 1 << 20, 1], &[u64::MAX], &[&[2, 1, 0]]);
        check(
            &[u64::MAX, u64::MAX - 1, u64::MAX],
            &[u64::MAX - 2, u64::MAX - 1, u64::MAX],
            &[&[], &[1], &[0, 2]],
        );
    }

    #[test]
    fn next_is_exact_when_nothing_was_cancelled() {
        for at in [0, 1, 63, 64, 4095, 4096, 30_000, 1 << 36, u64::MAX] {
            let mut wheel = TimerWheel::new(Mono(0));
            assert_eq!(wheel.next(), None);
            wheel.set('a', Mono(at));
            wheel.set('b', Mono(at.saturating_add(1)));
            assert_eq!(wheel.next(), Some(Mono(at)));
            assert_eq!(wheel.expire(Mono(at)), Some('a'));
        }
    }

    #[test]
    fn next_is_early_only_until_the_slot_has_cascaded() {
        let mut wheel = TimerWheel::new(Mono(0));
        wheel.set('a', Mono(70));
        wheel.set('b', Mono(80));
        assert!(wheel.cancel(&'a'));
        assert_eq!(wheel.next(), Some(Mono(70)));
        assert_eq!(wheel.expire(Mono(70)), None);
        assert_eq!(wheel.next(), Some(Mono(80)));
    }

    #[test]
    fn a_deadline_that_has_passed_fires_at_the_next_expire() {
        let mut wheel = TimerWheel::new(Mono(100));
        wheel.set('a', Mono(5));
        assert_eq!(wheel.next(), Some(Mono(100)));
        assert_eq!(wheel.expire(Mono(100)), Some('a'));
        assert_eq!(wheel.expire(Mono(300)), None);
        wheel.set('b', Mono(300));
        wheel.set('c', Mono(299));
        assert_eq!(wheel.expire(Mono(300)), Some('b'));
        assert_eq!(wheel.expire(Mono(300)), Some('c'));
        assert_eq!(wheel.expire(Mono(300)), None);
    }

    #[test]
    fn setting_again_replaces_and_cancelling_forgets() {
        let mut wheel = TimerWheel::new(Mono(0));
        wheel.set('a', Mono(10));
        wheel.set('b', Mono(20));
        wheel.set('a', Mono(20));
        assert_eq!(wheel.deadline(&'a'), Some(Mono(20)));
        assert_eq!(wheel.count(), 2);
        assert_eq!(wheel.expire(Mono(15)), None);
        assert_eq!(wheel.expire(Mono(20)), Some('b'), "'a' was set later");
        assert!(wheel.cancel(&'a'));
        assert!(!wheel.cancel(&'a'));
        assert_eq!(wheel.deadline(&'a'), None);
        assert_eq!(wheel.next(), None);
        assert_eq!(wheel.expire(Mono(u64::MAX)), None);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_burst_is_not_held_for_ever() {
        let mut wheel = TimerWheel::new(Mono(0));
        assert_eq!(wheel.nodes.capacity() + wheel.index.capacity(), 0);
        for key in 0..100_000u64 {
            wheel.set(key, Mono(key * key));
        }
        // One timer stays: memory follows the number, not whether the wheel is empty.
        for key in 1..100_000 {
            assert!(wheel.cancel(&key));
        }
        assert_eq!(wheel.count(), 1);
        assert!(wheel.nodes.capacity() <= 4 * KEPT);
        assert!(wheel.index.capacity() <= 8 * KEPT);
        assert_eq!(wheel.expire(Mono(0)), Some(0));
    }

    /// A simple model, which the wheel must agree with.
    #[derive(Default)]
    struct Model {
        present: u64,
        sets: u64,
        order: BTreeMap<(u64, u64), u16>,
        place: BTreeMap<u16, (u64, u64)>,
    }

    impl Model {
        fn set(&mut self, key: u16, at: u64) {
            self.cancel(key);
            self.sets += 1;
            let place = (at.max(self.present), self.sets);
            self.order.insert(place, key);
            self.place.insert(key, place);
        }

        fn cancel(&mut self, key: u16) -> bool {
            let place = self.place.remove(&key);
            place.is_some_and(|place| self.order.remove(&place).is_some())
        }

        fn first(&self) -> Option<u64> {
            self.order.first_key_value().map(|((at, _), _)| *at)
        }

        fn expire(&mut self, now: u64) -> Option<u16> {
            match self.first() {
                Some(at) if at <= now => {
                    self.present = at;
                    let (_, key) = self.order.pop_first()?;
                    self.place.remove(&key);
                    Some(key)
                }
                _ => {
                    self.present = self.present.max(now);
                    None
                }
            }
        }
    }

    struct SplitMix(u64);

    impl SplitMix {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }

        /// A distance of any scale up to `2^bits`, with all scales equally often.
        fn distance(&mut self, bits: u64) -> u64 {
            let bits = self.below(bits + 1);
            self.next().checked_shr(64 - bits as u32).unwrap_or(0)
        }
    }

    /// Runs a wheel and the model side by side, with jumps of up to `bits` bits; returns how many
    /// operations there were, and how many early wake-ups.
    fn run(seed: u64, bits: u64, keys: u64) -> (usize, usize) {
        let mut random = SplitMix(seed);
        let mut now = random.distance(63);
        let mut wheel = TimerWheel::new(Mono(now));
        let mut model = Model { present: now, ..Model::default() };
        let mut early = BTreeSet::new();
        let operations = 20_000;
        for _ in 0..operations {
            let key = random.below(keys) as u16;
            match random.below(10) {
                0..6 => {
                    let at = match random.below(8) {
                        0 => now.saturating_sub(random.distance(bits)),
                        1 => u64::MAX - random.distance(bits),
                        _ => now.saturating_add(random.distance(bits)),
                    };
                    wheel.set(key, Mono(at));
                    model.set(key, at);
                }
                6 => assert_eq!(wheel.cancel(&key), model.cancel(key)),
                7 => {
                    now = now.saturating_add(random.distance(bits));
                    expire_all(&mut wheel, &mut model, now);
                }
                8 => {
                    let popped = wheel.expire(Mono(now));
                    assert_eq!(popped, model.expire(now));
                }
                _ => now = sleep(&mut wheel, &mut model, now, &mut early),
            }
            assert_eq!(wheel.count(), model.order.len());
            assert_eq!(
                wheel.deadline(&key).map(|at| at.0),
                model.place.get(&key).map(|place| place.0)
            );
            let next = wheel.next().map(|at| at.0);
            assert_eq!(next.is_some(), model.first().is_some());
            assert!(next <= model.first(), "late: {next:?} {:?}", model.first());
        }
        expire_all(&mut wheel, &mut model, u64::MAX);
        assert!(wheel.is_empty());
        (operations, early.len())
    }

    fn expire_all(wheel: &mut TimerWheel<u16>, model: &mut Model, now: u64) {
        loop {
            let popped = wheel.expire(Mono(now));
            assert_eq!(popped, model.expire(now));
            if popped.is_none() {
                break;
            }
        }
    }

    /// Does what the loop does: waits until `next`, and expires. An early wake-up happens at most
    /// once for each slot of each level.
    fn sleep(
        wheel: &mut TimerWheel<u16>,
        model: &mut Model,
        now: u64,
        early: &mut BTreeSet<(usize, u64)>,
    ) -> u64 {
        let (Some(place), Some(next)) = (wheel.first(), wheel.next()) else {
            return now;
        };
        if model.first() > Some(next.0.max(now)) && next.0 > now {
            assert_ne!(place.level, 0, "level 0 is exact");
            let start = place.start(wheel.present);
            assert!(early.insert((place.level, start)), "early twice");
        }
        let now = now.max(next.0);
        expire_all(wheel, model, now);
        now
    }

    #[test]
    fn the_wheel_agrees_with_an_ordered_map() {
        let (mut operations, mut early) = (0, 0);
        for seed in 0..60 {
            let bits = [3, 8, 14, 26, 40, 63][seed as usize % 6];
            let keys = [4, 60, 2000][seed as usize % 3];
            let (done, woken) = run(seed, bits, keys);
            operations += done;
            early += woken;
        }
        assert!(operations >= 1_000_000);
        assert!(early > 0, "the bound on early wake-ups was put to the test");
    }
}
