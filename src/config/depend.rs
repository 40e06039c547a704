//! Checks what the jobs of a config wait for.
//!
//! A job of the API may wait for one that is still to be created. In a config all jobs are there,
//! so an id that is not among them is a mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConfigError, Declaration};
use crate::gather::gather;
use crate::job::fields::closest;
use crate::job::{Circle, JobId};

/// Checks all jobs that a config declares: each waits only for others of them, and none for itself,
/// however many are between.
///
/// # Errors
/// The first entry of a `dependsOn` that is wrong.
pub(super) fn check(jobs: &[Declaration]) -> Result<(), ConfigError> {
    let known: BTreeMap<&JobId, &Declaration> = gather(jobs.iter().map(|job| (&job.id, job)));
    // Jobs from which no way leads into a circle.
    let mut cleared: BTreeSet<&JobId> = BTreeSet::new();
    for first in jobs {
        if first.spec.depends_on.is_empty() || cleared.contains(&first.id) {
            continue;
        }
        // The way from the first job, with what is still to be looked at on each step.
        let mut on_way = BTreeSet::from([&first.id]);
        let mut way = vec![(first, first.spec.depends_on.keys())];
        while let Some((at, rest)) = way.last_mut() {
            let at = *at;
            let Some(next) = rest.next() else {
                cleared.insert(&at.id);
                on_way.remove(&at.id);
                way.pop();
                continue;
            };
            let Some(job) = known.get(next) else {
                return Err(at.error(Some(FIELD), &unknown(next, &known)));
            };
            if on_way.contains(next) {
                let begin = way.iter().position(|(job, _)| job.id == *next).unwrap_or(0);
                let circle = way.iter().skip(begin).map(|(job, _)| &job.id).chain([next]).cloned();
                return Err(at.error(Some(FIELD), &Circle(circle.collect()).to_string()));
            }
            if !cleared.contains(next) {
                on_way.insert(next);
                way.push((job, job.spec.depends_on.keys()));
            }
        }
    }
    Ok(())
}

fn unknown(id: &JobId, known: &BTreeMap<&JobId, &Declaration>) -> String {
    let ids: Vec<&str> = known.keys().map(|id| id.as_str()).collect();
    if id.as_str() == MAIN {
        return format!(
            "the config declares no job {id}, and none waits for the command of k1s init"
        );
    }
    match closest(id.as_str(), &ids) {
        Some(near) => format!("the config declares no job {id}; did you mean {near:?}?"),
        None => format!("the config declares no job {id}"),
    }
}

const FIELD: &str = "dependsOn";
/// The job that `k1s init` adds.
const MAIN: &str = "main";
