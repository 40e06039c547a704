//! `k1s top`: jobs with their CPU and memory, again and again.
//!
//! ```text
//!   GET /metrics ─▶ CPU time and memory of each job ─┐
//!   GET /        ─▶ its state                        ├─▶ a screen ─▶ a key, or two seconds ─┐
//!        ▲                 the CPU time before ──────┘                                      │
//!        └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! On a terminal it has a screen of its own, and reads keys; otherwise, and on a dumb one, it prints
//! one table.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::Failure;
use super::job::Job;
use super::own_screen::OwnScreen;
use super::ps::list;
use super::screen::Screen;
use super::session::{Session, print, print_bytes};
use super::table::{Cell, Column, draw};
use super::text::{Colour, Short};
use crate::os::clock;

/// Show the CPU and memory of jobs, refreshed. Keys: c, m, i sort by CPU, memory, id; q ends.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "top", help_triggers("-h", "--help"))]
pub struct Top {
    /// only jobs with this label
    #[argh(option, short = 'l', arg_name = "NAME=VALUE")]
    label: Option<String>,
}

/// By what the jobs are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cpu,
    Memory,
    Id,
}

/// What the jobs use, at a moment.
#[derive(Debug)]
struct Usage {
    at: Instant,
    of: BTreeMap<String, Used>,
}

/// What a job has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    cpu_seconds: f64,
    memory_bytes: f64,
    processes: f64,
}

impl Top {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        if session.json {
            print_bytes(&session.get("", "/metrics")?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut before = Usage::of(session)?;
        let terminal = if session.screen.is_terminal { OwnScreen::begin()? } else { None };
        let Some(terminal) = terminal else {
            std::thread::sleep(FIRST_LOOK);
            let (table, _) = self.look(session, &before, Order::Cpu, session.screen)?;
            print(table)?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut order = Order::Cpu;
        let mut pause = FIRST_LOOK;
        loop {
            // A key that sorts anew is answered at once, with the same figures.
            let is_key = match terminal.key(pause)? {
                Some(b'q' | CTRL_C | ESCAPE) => return Ok(ExitCode::SUCCESS),
                Some(b'c') => order.becomes(Order::Cpu),
                Some(b'm') => order.becomes(Order::Memory),
                Some(b'i') => order.becomes(Order::Id),
                Some(_) => true,
                None => false,
            };
            let screen = Screen::of_stdout();
            let (table, usage) = self.look(session, &before, order, screen)?;
            print(screen.filled(&table))?;
            if !is_key {
                before = usage;
            }
            pause = PERIOD;
        }
    }

    /// The table of what is used now, and what that is.
    fn look(
        &self,
        session: &Session,
        before: &Usage,
        order: Order,
        screen: Screen,
    ) -> Result<(String, Usage), Failure> {
        let usage = Usage::of(session)?;
        let jobs: Vec<Job> = session.get_as("", &list(self.label.as_deref()))?;
        let seconds = (usage.at - before.at).as_secs_f64().max(0.001);
        let mut rows: Vec<(Used, &Job)> = Vec::new();
        for job in &jobs {
            let used = usage.of.get(&job.id).copied().unwrap_or_default();
            let earlier = before.of.get(&job.id).map_or(used.cpu_seconds, |it| it.cpu_seconds);
            let cpu = (used.cpu_seconds - earlier).max(0.0) / seconds;
            rows.push((Used { cpu_seconds: cpu, ..used }, job));
        }
        rows.sort_by(|(left, one), (right, other)| match order {
            Order::Cpu => right.cpu_seconds.total_cmp(&left.cpu_seconds),
            Order::Memory => right.memory_bytes.total_cmp(&left.memory_bytes),
            Order::Id => one.id.cmp(&other.id),
        });
        let cells: Vec<_> = rows.iter().map(|(used, job)| row(used, job)).collect();
        let running = jobs.iter().filter(|job| job.pid.is_some()).count();
        let total = |of: fn(&Used) -> f64| rows.iter().fold(0.0, |sum, (used, _)| sum + of(used));
        let heading = format!(
            "{} job{}, {running} running; CPU {:.1} %, memory {}",
            jobs.len(),
            if jobs.len() == 1 { "" } else { "s" },
            total(|used| used.cpu_seconds) * 100.0,
            bytes(total(|used| used.memory_bytes)),
        );
        let mut out: String = heading.chars().take(screen.width.unwrap_or(usize::MAX)).collect();
        out.push('\n');
        out.push_str(&draw(&COLUMNS, &cells, screen));
        Ok((out, usage))
    }
}

impl Order {
    /// Returns that a key was pressed.
    fn becomes(&mut self, other: Order) -> bool {
        *self = other;
        true
    }
}

impl Usage {
    fn of(session: &Session) -> Result<Usage, Failure> {
        let text = session.get("", "/metrics")?;
        let at = Instant::now();
        Ok(Usage { at, of: parse(&String::from_utf8_lossy(&text)) })
    }
}

/// The figures of the jobs, from Prometheus' text format: `NAME{id="ID"} VALUE`. Ids have nothing
/// that is escaped there.
fn parse(metrics: &str) -> BTreeMap<String, Used> {
    let mut of: BTreeMap<String, Used> = BTreeMap::new();
    for line in metrics.lines() {
        let sample = line.split_once("{id=\"").and_then(|(name, rest)| {
            let (id, value) = rest.split_once("\"} ")?;
            Some((name, id, value.parse().ok()?))
        });
        let Some((name, id, value)) = sample else { continue };
        let field: fn(&mut Used) -> &mut f64 = match name {
            "k1s_job_cpu_seconds_total" => |used| &mut used.cpu_seconds,
            "k1s_job_resident_memory_bytes" => |used| &mut used.memory_bytes,
            "k1s_job_processes" => |used| &mut used.processes,
            _ => continue,
        };
        *field(of.entry(id.to_owned()).or_default()) = value;
    }
    of
}

fn row(used: &Used, job: &Job) -> [Cell; 8] {
    let now = clock::now().wall;
    let uptime = job.uptime(now).map_or_else(String::new, |uptime| Short(uptime).to_string());
    let colour = Colour::of_state(&job.state);
    [
        Cell::new(&job.id),
        Cell::new(&job.state).painted(colour),
        Cell::new(&format!("{:.1}", used.cpu_seconds * 100.0)),
        Cell::new(&bytes(used.memory_bytes)),
        Cell::new(&format!("{:.0}", used.processes)),
        Cell::new(&uptime),
        Cell::new(&job.restarts.to_string()),
        Cell::new(job.reason()).painted(colour),
    ]
}

/// Bytes in a unit that leaves three digits: `1.8M`.
fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "K", "M", "G"] {
        if value < 999.5 {
            let digits = usize::from(value < 9.95 && unit != "B");
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

const COLUMNS: [Column; 8] = [
    Column::text("ID").cut_to(12),
    Column::text("STATE"),
    Column::number("CPU%"),
    Column::number("MEMORY"),
    Column::number("PROCESSES").optional(),
    Column::number("UPTIME").optional(),
    Column::number("RESTARTS").optional(),
    Column::text("WHY").cut_to(0),
];

const CTRL_C: u8 = 3;
const ESCAPE: u8 = 27;

/// The first figures are shown after this time, later ones after each period.
const FIRST_LOOK: Duration = Duration::from_millis(300);
const PERIOD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_metrics() {
        let text = "# TYPE k1s_job_processes gauge\nk1s_job_processes{id=\"web\"} 3\n\
            k1s_job_cpu_seconds_total{id=\"web\"} 1.5\nk1s_job_state{id=\"web\",state=\"running\"} 1\n\
            k1s_job_resident_memory_bytes{id=\"db:0\"} 2048\nk1s_jobs 2\nx{id=\"a\"} y\n";
        let of = parse(text);
        assert_eq!(of.len(), 2);
        let web = Used { cpu_seconds: 1.5, memory_bytes: 0.0, processes: 3.0 };
        assert_eq!((of["web"], of["db:0"].memory_bytes), (web, 2048.0));
    }

    #[test]
    fn bytes_have_a_unit() {
        for (given, shown) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1000.0, "1.0K"),
            (1_900_000.0, "1.8M"),
            (157_286_400.0, "150M"),
            (5e13, "45.5T"),
        ] {
            assert_eq!(bytes(given), shown);
        }
    }
}
