//! Jobs that would wait for each other for ever.

use std::fmt::{self, Display, Formatter};

use super::JobId;

/// Each of these jobs depends on the next, and the last is the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle(pub Vec<JobId>);

/// `a → b → a is a circle: none of them would ever start`.
impl Display for Circle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Circle(ids) = self;
        if ids.len() <= 2 {
            return f.write_str("a job cannot wait for itself");
        }
        for (index, id) in ids.iter().enumerate() {
            let arrow = if index == 0 { "" } else { " → " };
            let left = ids.len().saturating_sub(index);
            if index < NAMED || left <= NAMED {
                write!(f, "{arrow}{id}")?;
            } else if index == NAMED {
                write!(f, "{arrow}…")?;
            }
        }
        f.write_str(" is a circle: none of them would ever start")
    }
}

/// How many jobs are named at each end of a circle.
const NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_names_its_jobs_or_the_first_and_the_last() {
        let circle = |count: usize| {
            let ids = (0..count).map(|n| format!("j{n}")).chain(["j0".to_owned()]);
            Circle(ids.map(|id| JobId::parse(&id).unwrap()).collect()).to_string()
        };
        let would = " is a circle: none of them would ever start";
        assert_eq!(circle(1), "a job cannot wait for itself");
        assert_eq!(circle(2), format!("j0 → j1 → j0{would}"));
        let nine = "j0 → j1 → j2 → j3 → j4 → j5 → j6 → j7 → j8 → j0";
        assert_eq!(circle(9), format!("{nine}{would}"));
        let many = "j0 → j1 → j2 → j3 → j4 → … → j9996 → j9997 → j9998 → j9999 → j0";
        assert_eq!(circle(10_000), format!("{many}{would}"));
    }
}
