//! The tag of a run, which identifies its processes: `K1S_RUN` as text.

use super::JobId;

/// A run of a job of this k1s. Neither number is ever used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunTag {
    /// The job's number.
    pub job: u64,
    /// The number of the run in the job.
    pub run: u64,
}

impl RunTag {
    /// The value of `K1S_RUN`: `<instance>-<number of the job>.<id>.<run>`. The number
    /// distinguishes the job from a removed one of the same id, whose runs have the same numbers.
    pub fn text(self, instance: &str, id: &JobId) -> String {
        format!("{instance}-{}.{id}.{}", self.job, self.run)
    }

    /// Reads a value of `K1S_RUN`; `None` if it is not one of this instance of k1s.
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
