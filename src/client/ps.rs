//! `k1s ps`: all jobs, a line each.

use std::process::ExitCode;

use argh::FromArgs;

use super::Failure;
use super::http::encode;
use super::job::Job;
use super::session::{Screen, Session, path, print, print_bytes};
use super::table::{Cell, Column, draw};
use super::text::{Colour, Short};
use crate::os::clock;
use crate::time::Wall;

/// List jobs, with their state and why they are in it.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "ps", help_triggers("-h", "--help"))]
pub struct Ps {
    /// only jobs with this label
    #[argh(option, short = 'l', arg_name = "NAME=VALUE")]
    label: Option<String>,
    /// again on each change
    #[argh(switch, short = 'w')]
    watch: bool,
    /// only these jobs
    #[argh(positional, arg_name = "ID")]
    ids: Vec<String>,
}

impl Ps {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let answers = self.answers(session)?;
        if session.json {
            for answer in answers {
                print_bytes(&answer)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut jobs = Vec::new();
        for answer in answers {
            match self.ids.is_empty() {
                true => jobs.append(&mut session.understand(&answer)?),
                false => jobs.push(session.understand(&answer)?),
            }
        }
        print(table(&jobs, session.screen, clock::now().wall))?;
        Ok(ExitCode::SUCCESS)
    }

    /// One answer for each job that is named, or one for all.
    fn answers(&self, session: &Session) -> Result<Vec<Vec<u8>>, Failure> {
        if self.ids.is_empty() {
            return Ok(vec![session.get("", &list(self.label.as_deref()))?]);
        }
        let of = |id: &String| session.get(id, &format!("{}?{BRIEF}", path(id)));
        self.ids.iter().map(of).collect()
    }
}

/// The target of a listing.
pub(super) fn list(label: Option<&str>) -> String {
    match label {
        None => format!("/?{BRIEF}"),
        Some(label) => format!("/?{BRIEF}&label={}", encode(label)),
    }
}

/// The table of jobs.
fn table(jobs: &[Job], screen: Screen, now: Wall) -> String {
    let rows: Vec<_> = jobs.iter().map(|job| row(job, now)).collect();
    draw(&COLUMNS, &rows, screen)
}

fn row(job: &Job, now: Wall) -> [Cell; 9] {
    let short = |span| Short(span).to_string();
    let last =
        job.results.last().map_or_else(String::new, |last| match last.finished_at.ago(now) {
            Some(ago) => format!("{}, {} ago", last.end(), Short(ago)),
            None => last.end(),
        });
    let has_failed = job.results.last().is_some_and(|last| !last.success);
    let next = job.next_run_at.as_ref().and_then(|next| next.ahead(now));
    let colour = Colour::of_state(&job.state);
    [
        Cell::new(&job.id),
        Cell::new(&job.kind),
        Cell::new(&job.state).painted(colour),
        Cell::new(&job.pid.map_or_else(String::new, |pid| pid.to_string())),
        Cell::new(&job.uptime(now).map_or_else(String::new, short)),
        Cell::new(&job.restarts.to_string()),
        Cell::new(&last).painted(has_failed.then_some(Colour::Red)),
        Cell::new(&next.map_or_else(String::new, |next| format!("in {}", Short(next)))),
        Cell::new(job.reason()).painted(colour),
    ]
}

const COLUMNS: [Column; 9] = [
    Column::text("ID").cut_to(12),
    Column::text("TYPE").cut_to(0),
    Column::text("STATE"),
    Column::number("PID"),
    Column::number("UPTIME"),
    Column::number("RESTARTS"),
    Column::text("LAST EXIT").cut_to(3),
    Column::text("NEXT RUN").cut_to(3),
    Column::text("WHY").cut_to(0),
];

/// Without output, and with the last result alone.
const BRIEF: &str = "output=false&results=1";
