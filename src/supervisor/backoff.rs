//! How long a job waits before it is started again.

use std::time::Duration;

use crate::job::JobId;
use crate::job::spec::Backoff;

/// The delay before the `streak`-th restart in a row (from 1): 0, `initial`, then times `factor`
/// each, up to `max`. After a failed spawn it is at least [`SPAWN_FAILURE_DELAY`]. Up to a tenth
/// is added, depending on the id, so that jobs that failed together do not restart together.
pub(super) fn delay(backoff: &Backoff, streak: u32, spawn_failed: bool, id: &JobId) -> Duration {
    let growing = match streak {
        0 | 1 => Duration::ZERO,
        _ => grown(backoff, streak - 2),
    };
    let least = if spawn_failed { SPAWN_FAILURE_DELAY } else { Duration::ZERO };
    let delay = growing.max(least);
    delay + delay.mul_f64(0.1 * fraction(id))
}

/// A number from 0 to 1 that depends on the id alone.
pub(super) fn fraction(id: &JobId) -> f64 {
    f64::from((mixed(id.as_str().as_bytes()) >> 32) as u32) / f64::from(u32::MAX)
}

fn grown(backoff: &Backoff, steps: u32) -> Duration {
    if backoff.initial.is_zero() {
        return Duration::ZERO;
    }
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    let seconds = backoff.initial.as_secs_f64() * backoff.factor.powi(steps);
    let max = backoff.max.as_secs_f64();
    Duration::from_secs_f64(if seconds < max { seconds } else { max })
}

/// FNV-1a, then the finalizer of MurmurHash3, so that ids that differ only in their last letter
/// get very different values.
fn mixed(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let half = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let whole = (half ^ (half >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    whole ^ (whole >> 33)
}

const SPAWN_FAILURE_DELAY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(initial: u64, max: u64, factor: f64) -> Backoff {
        Backoff {
            initial: Duration::from_millis(initial),
            max: Duration::from_millis(max),
            factor,
            reset_after: Duration::from_secs(5),
        }
    }

    #[test]
    fn delays_grow_from_zero_to_the_maximum() {
        let id = JobId::parse("web").unwrap();
        let delays = |backoff: Backoff, spawn_failed| -> Vec<u64> {
            (1..=6)
                .map(|streak| {
                    let delay = delay(&backoff, streak, spawn_failed, &id);
                    (delay.as_secs_f64() * 1000.0 / (1.0 + 0.1 * fraction(&id))).round() as u64
                })
                .collect()
        };
        assert_eq!(delays(backoff(100, 1000, 2.0), false), [0, 100, 200, 400, 800, 1000]);
        assert_eq!(delays(backoff(100, 1000, 2.0), true), [100, 100, 200, 400, 800, 1000]);
        assert_eq!(delays(backoff(0, 1000, 2.0), false), [0, 0, 0, 0, 0, 0]);
        assert_eq!(delays(backoff(0, 1000, 2.0), true), [100, 100, 100, 100, 100, 100]);
        assert_eq!(delays(backoff(500, 100, 1.0), false), [0, 100, 100, 100, 100, 100]);
        assert_eq!(delay(&backoff(0, 1000, 1000.0), u32::MAX, false, &id), Duration::ZERO);
        assert!(
            delay(&backoff(100, 1000, 1000.0), u32::MAX, false, &id) <= Duration::from_millis(1100)
        );
    }

    #[test]
    fn names_that_are_alike_wait_differently() {
        let fractions: Vec<f64> =
            (0..100).map(|n| fraction(&JobId::parse(&format!("job-{n}")).unwrap())).collect();
        for quarter in 0..4 {
            let low = f64::from(quarter) / 4.0;
            let inside = fractions.iter().filter(|f| (low..low + 0.25).contains(*f)).count();
            assert!((10..45).contains(&inside), "{inside} of 100 from {low}");
        }
    }
}
