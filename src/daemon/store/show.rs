//! `k1s state`: what a state directory contains. It changes nothing, and needs no lock: a k1s that
//! runs only appends.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::directory;
use super::open::{boot, read};
use crate::api;
use crate::calendar::format_rfc3339;
use crate::job::{Ending, RunRecord};
use crate::os;
use crate::supervisor::{Job, Settings, Supervisor};
use crate::time::Now;

/// What a state directory contains.
#[derive(Debug)]
pub struct Contents {
    /// For people, or in JSON.
    pub text: String,
    /// What is wrong with it, and where.
    pub problems: Vec<String>,
}

/// Reads a state directory: the jobs and their results, in JSON as the API shows them, or for
/// people.
///
/// # Errors
/// Why it cannot be read, for people.
pub fn contents(path: &Path, is_json: bool) -> Result<Contents, String> {
    let replay = read(path)?;
    let now = os::clock::now();
    let file = |segment| directory::segment(path, segment).display().to_string();
    let mut problems: Vec<String> = replay
        .damages
        .iter()
        .map(|(at, what)| format!("{}: damaged at offset {}: {what}", file(at.segment), at.offset))
        .collect();
    problems.extend(replay.torn.map(|at| {
        format!("{}: torn at offset {}: the next start cuts it there", file(at.segment), at.offset)
    }));
    let settings = Settings {
        instance: String::new(),
        job_limit: usize::MAX,
        output_memory: usize::MAX,
        shutdown_timeout: Duration::ZERO,
        main: None,
    };
    let mut supervisor = Supervisor::new(settings, now);
    let (heritage, _) = replay.into_heritage(&boot(), now, |_| false);
    heritage.jobs.into_iter().for_each(|job| supervisor.exhibit(job));
    let text = match is_json {
        true => json(&supervisor, now),
        false => supervisor.jobs_after(None).map(|job| of_job(&supervisor, job, now)).collect(),
    };
    Ok(Contents { text, problems })
}

fn json(supervisor: &Supervisor, now: Now) -> String {
    let mut out = Vec::new();
    api::write_jobs(supervisor, &mut out, now);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

/// A line for the job, and one for each result.
fn of_job(supervisor: &Supervisor, job: &Job, now: Now) -> String {
    let (id, state, message) = (job.id(), job.state().name(), supervisor.message(job, now));
    let mut text = format!("{id}: {state}: {message}\n");
    for record in job.results() {
        let RunRecord { number, end, reason, duration, success, .. } = record;
        let (run, end, reason, lived) = (*number, end.clone(), *reason, *duration);
        let ending = Ending { run, end, reason, lived, success: *success };
        let at = format_rfc3339(record.finished_at);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  run {number}, {at}: {ending}");
    }
    text
}
