//! A histogram of durations with fixed buckets.

use std::time::Duration;

/// Counts of durations in `N` buckets and one for the rest. It does not store the upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// How many durations are in each bucket, without those of smaller buckets.
    within: [u64; N],
    count: u64,
    sum: Duration,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Histogram<N> {
        Histogram { within: [0; N], count: 0, sum: Duration::ZERO }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a duration. The bounds are in ascending order, and must be the same for each call.
    pub fn observe(&mut self, bounds: &[Duration; N], duration: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
        let first = bounds.iter().position(|bound| duration <= *bound);
        if let Some(within) = first.and_then(|first| self.within.get_mut(first)) {
            *within += 1;
        }
    }

    /// For each bound, how many durations do not exceed it.
    pub fn up_to_each(&self) -> impl Iterator<Item = u64> {
        self.within.iter().scan(0, |sum, within| {
            *sum += within;
            Some(*sum)
        })
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_for_each_bound_that_it_does_not_exceed() {
        let bounds = [10, 20, 30].map(Duration::from_millis);
        let mut histogram = Histogram::default();
        for millis in [0, 10, 11, 30, 31, 1000] {
            histogram.observe(&bounds, Duration::from_millis(millis));
        }
        assert_eq!(histogram.up_to_each().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((histogram.count(), histogram.sum()), (6, Duration::from_millis(1082)));
    }
}
