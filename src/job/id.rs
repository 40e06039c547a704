//! The ids of jobs.

use std::fmt;
use std::rc::Rc;

/// The id of a job: 1 to 128 of `A-Z a-z 0-9 . _ - ~ : @ +`, not starting with `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Rc<str>);

impl JobId {
    /// Checks an id.
    ///
    /// # Errors
    /// A sentence that says what an id must be.
    pub fn parse(name: &str) -> Result<JobId, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-~:@+".contains(&b);
        let fits = (1..=LONGEST).contains(&name.len()) && !name.starts_with('.');
        if fits && name.bytes().all(allowed) {
            return Ok(JobId(name.into()));
        }
        Err(format!(
            "Invalid job id: an id is 1 to {LONGEST} of A-Z a-z 0-9 . _ - ~ : @ +, not starting with a dot"
        ))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_they_may_be() {
        let long = "x".repeat(128);
        for good in ["a", "web-1", "A.b_c~d:e@f+g", long.as_str()] {
            assert_eq!(JobId::parse(good).unwrap().as_str(), good);
        }
        let longer = "x".repeat(129);
        for bad in ["", ".", ".hidden", "a b", "a/b", "é", "a\n", longer.as_str()] {
            assert!(JobId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
