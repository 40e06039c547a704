//! `k1s ps`: all jobs, a line each.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::Failure;
use super::events::Reader;
use super::http::encode;
use super::job::Job;
use super::screen::{EMPTY, Screen};
use super::session::{Session, end_when_unread, in_background, path, print, print_bytes};
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
        if self.watch {
            return self.watch(session);
        }
        print_bytes(&self.look(session)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What is printed: the table, or what the API said.
    fn look(&self, session: &Session) -> Result<Vec<u8>, Failure> {
        let answers = self.answers(session)?;
        if session.json {
            return Ok(answers.concat());
        }
        let mut jobs = Vec::new();
        for answer in answers {
            match self.ids.is_empty() {
                true => jobs.append(&mut session.understand(&answer)?),
                false => jobs.push(session.understand(&answer)?),
            }
        }
        Ok(table(&jobs, Screen::of_stdout(), clock::now().wall).into_bytes())
    }

    /// Prints it again whenever something happens; on a terminal in place, and every second, as
    /// times go on.
    fn watch(&self, session: &Session) -> Result<ExitCode, Failure> {
        end_when_unread()?;
        let (sender, happened) = mpsc::channel();
        let (heard, ids) = (session.clone(), self.ids.clone());
        let listen = move || {
            let mut reader = Reader::open(&heard, &ids);
            loop {
                let event = reader.as_mut().map_err(|failure| failure.clone());
                let event = event.and_then(|reader| reader.next().map(drop));
                let is_over = event.is_err();
                if sender.send(event).is_err() || is_over {
                    return;
                }
            }
        };
        in_background(listen)?;
        let is_live = session.screen.is_terminal && !session.json;
        print(if is_live { EMPTY } else { "" })?;
        loop {
            // The first event is that of all jobs.
            let event = match is_live {
                true => happened.recv_timeout(SECOND),
                false => happened.recv().map_err(RecvTimeoutError::from),
            };
            match event {
                Ok(event) => event?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
            }
            // Much may happen at a time.
            let until = Instant::now() + AT_A_TIME;
            let left = || until.saturating_duration_since(Instant::now());
            while let Ok(event) = happened.recv_timeout(left()) {
                event?;
            }
            let printed = match self.look(session) {
                // k1s may come back; who listens finds that out.
                Err(Failure::Unreachable(_)) => continue,
                printed => printed?,
            };
            match is_live {
                true => print(Screen::of_stdout().filled(&String::from_utf8_lossy(&printed)))?,
                false => print_bytes(&printed)?,
            }
        }
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
    Column::text("TYPE").optional(),
    Column::text("STATE"),
    Column::number("PID").optional(),
    Column::number("UPTIME").optional(),
    Column::number("RESTARTS").optional(),
    Column::text("LAST EXIT").optional(),
    Column::text("NEXT RUN").optional(),
    Column::text("WHY").cut_to(0),
];

/// Without output, and with the last result alone.
const BRIEF: &str = "output=false&results=1";
const SECOND: Duration = Duration::from_secs(1);
/// What happens in this time after an event is shown with it.
const AT_A_TIME: Duration = Duration::from_millis(50);
