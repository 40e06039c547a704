//! What tells a run's processes from all others: `K1S_RUN` in words.

use super::JobId;

/// Which run of which job of this k1s: both numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunTag {
    /// The job's number.
    pub job: u64,
    /// The run's number in the job.
    pub run: u64,
}

impl RunTag {
    /// The value of `K1S_RUN`: `<instance>-<job's number>.<id>.<run>`. The number tells the job
    /// from one of the same id that was removed, whose runs have the same numbers.
    pub fn text(self, instance: &str, id: &JobId) -> String {
        format!("{instance}-{}.{id}.{}", self.job, self.run)
    }

    /// Of a value of `K1S_RUN`, if it is one that this instance of k1s has given.
    pub fn parse(instance: &str, text: &str) -> Option<RunTag> {
        let (job, rest) = text.strip_prefix(instance)?.strip_prefix('-')?.split_once('.')?;
        let (_, run) = rest.rsplit_once('.')?;
        Some(RunTag { job: job.parse().ok()?, run: run.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for id in ["a", "a.1", "x-2.3"] {
            let tag = RunTag { job: 7, run: 12 };
            let text = tag.text("1f", &JobId::parse(id).unwrap());
            assert_eq!(text, format!("1f-7.{id}.12"));
            assert_eq!(RunTag::parse("1f", &text), Some(tag));
            assert_eq!(RunTag::parse("2f", &text), None);
        }
        for broken in ["", "1f", "1f-", "1f-7", "1f-7.a", "1f-x.a.1", "1f-7.a.x"] {
            assert_eq!(RunTag::parse("1f", broken), None, "{broken}");
        }
    }
}
