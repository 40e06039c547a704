//! `k1s show`: one job, and why it is as it is.
//!
//! ```text
//!   web  continuous  backoff
//!   starts again in 3.2 s, after 4 failures in a row; …      message
//!
//!   RUN  TRIGGER  END  …                                      its last results
//!
//!   cannot bind port 80                                       the last lines of the last failure
//!
//!   {"type": "continuous", …}                                 its specification
//! ```

use std::fmt::Write;
use std::process::ExitCode;

use argh::FromArgs;
use serde_json::{Map, Value};

use super::Failure;
use super::job::{Job, RunResult};
use super::session::{Session, path, print, print_bytes};
use super::table::{Cell, Column, draw};
use super::text::{Colour, Escaped, Painted, Short};
use crate::job::READ_ONLY;
use crate::os::clock;
use std::time::Duration;

/// Show one job: why it is as it is, its last runs, its specification.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"))]
pub struct Show {
    /// how many of its finished runs to show (default: 5)
    #[argh(option, short = 'n', arg_name = "RUNS", default = "DEFAULT_RUNS")]
    runs: usize,
    /// the job
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl Show {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let target = format!("{}?output=false&results={}", path(&self.id), self.runs);
        let answer = session.get(&self.id, &target)?;
        if session.json {
            print_bytes(&answer)?;
            return Ok(ExitCode::SUCCESS);
        }
        let job: Job = session.understand(&answer)?;
        let specification = specification(session.understand(&answer)?);
        let mut out = heading(session, &job);
        if !job.results.is_empty() {
            let rows: Vec<_> = job.results.iter().map(row).collect();
            out.push('\n');
            out.push_str(&draw(&COLUMNS, &rows, session.screen));
        }
        if let Some(failed) = job.results.iter().rev().find(|result| !result.success) {
            out.push_str(&self.last_lines(session, failed)?);
        }
        let _ = writeln!(out, "\n{specification}");
        print(out)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The end of what a run has written.
    fn last_lines(&self, session: &Session, result: &RunResult) -> Result<String, Failure> {
        let query = format!("run={}&tail={LAST_LINES}", result.run);
        // Its output may be gone since it was listed.
        let Ok(output) = session.get(&self.id, &format!("{}/logs?{query}", path(&self.id))) else {
            return Ok(String::new());
        };
        if output.is_empty() {
            return Ok(String::new());
        }
        let mut out = format!("\nthe last lines of run {}:\n", result.run);
        for line in String::from_utf8_lossy(&output).lines() {
            let _ = writeln!(out, "  {}", Escaped(line));
        }
        Ok(out)
    }
}

fn heading(session: &Session, job: &Job) -> String {
    let colour = Colour::of_state(&job.state).filter(|_| session.screen.has_colours);
    let bold = session.screen.has_colours.then_some(Colour::Bold);
    let mut out = format!(
        "{}  {}  {}\n{}\n",
        Painted(Escaped(&job.id), bold),
        Escaped(&job.kind),
        Painted(Escaped(&job.state), colour),
        Escaped(&job.message)
    );
    let next = job.next_run_at.as_ref();
    if let Some((next, ahead)) = next.and_then(|next| Some((next, next.ahead(clock::now().wall)?)))
    {
        let _ = writeln!(out, "next run: {} (in {})", Escaped(next.text()), Short(ahead));
    }
    out
}

fn row(result: &RunResult) -> [Cell; 7] {
    let bytes = |bytes: u64| Cell::new(&bytes.to_string());
    [
        Cell::new(&result.run.to_string()),
        Cell::new(&result.trigger),
        Cell::new(&result.end()).painted((!result.success).then_some(Colour::Red)),
        Cell::new(&Short(Duration::from_millis(result.duration_ms)).to_string()),
        Cell::new(result.finished_at.text()),
        bytes(result.stdout_bytes.saturating_add(result.stderr_bytes)),
        Cell::new(result.error.as_deref().unwrap_or(match result.reason.as_str() {
            "exited" | "signaled" => "",
            reason => reason,
        })),
    ]
}

/// What a job was given, from its object: everything that it has in common with a specification. A
/// field that fits stands in a line.
fn specification(job: Map<String, Value>) -> String {
    let given = job.into_iter().filter(|(name, _)| !READ_ONLY.contains(&name.as_str()));
    let field = |(name, value): (String, Value)| {
        let short = value.to_string();
        let text = match short.len() <= MOST_IN_A_LINE {
            true => short,
            false => serde_json::to_string_pretty(&value).unwrap_or(short),
        };
        // JSON escapes control characters, but not those that change the direction of text.
        let lines: Vec<String> = text.lines().map(|line| Escaped(line).to_string()).collect();
        format!("  {}: {}", Value::String(name), lines.join("\n  "))
    };
    let fields: Vec<String> = given.map(field).collect();
    format!("{{\n{}\n}}", fields.join(",\n"))
}

const COLUMNS: [Column; 7] = [
    Column::number("RUN"),
    Column::text("TRIGGER").optional(),
    Column::text("END"),
    Column::number("TOOK"),
    Column::text("FINISHED").cut_to(10),
    Column::number("BYTES").optional(),
    Column::text("WHY").cut_to(0),
];

/// Longer values are written in several lines.
const MOST_IN_A_LINE: usize = 72;
const DEFAULT_RUNS: usize = 5;
const LAST_LINES: usize = 10;
