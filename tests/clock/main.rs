//! The daemon when the clock is set.
//!
//! ```text
//!   this program ── starts itself again, with K1S_TEST_CLOCK ──▶ daemon()
//!        │                                          k1s as `main` starts it, but for its Clock:
//!        │── clock/step: milliseconds ─────────────▶ added to the machine's calendar
//!        └── clock/watch: a FIFO ──────────────────▶ becomes readable, as the timerfd does
//! ```
//!
//! The calendar of a machine cannot be set for one process: time namespaces do not change
//! CLOCK_REALTIME (time_namespaces(7)). So the daemon takes its clock as an argument, and this
//! program gives it another one; the k1s binary cannot do that. The daemon needs its own process
//! with one thread, because it waits for any child and blocks signals. A test of libtest cannot
//! have that, so this target does without libtest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use k1s::cli::Invocation;
use k1s::config;
use k1s::daemon::{Clock, Daemon, Role, prepare};
use k1s::os::clock::Reading;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use harness::{K1s, cron, milliseconds, wait_for, wait_until, with};

/// The harness of the end-to-end tests, of which not all is needed here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../it/harness.rs"]
mod harness;

fn main() -> ExitCode {
    if let Some(directory) = std::env::var_os(CLOCK) {
        return daemon(PathBuf::from(directory));
    }
    for (name, test) in TESTS {
        println!("test clock::{name} ...");
        test();
    }
    println!("\ntest result: ok. {} passed", TESTS.len());
    ExitCode::SUCCESS
}

type Test = (&'static str, fn());

const TESTS: [Test; 5] = [
    ("an_hour_forth_makes_no_storm", an_hour_forth_makes_no_storm),
    ("an_hour_back_runs_no_fixed_time_twice", an_hour_back_runs_no_fixed_time_twice),
    ("ten_years_forth_and_back", ten_years_forth_and_back),
    ("elapsed_time_does_not_follow", elapsed_time_does_not_follow),
    (
        "without_a_watch_a_step_shows_with_the_next_turn",
        without_a_watch_a_step_shows_with_the_next_turn,
    ),
];

// ---- The tests ----

fn an_hour_forth_makes_no_storm() {
    let stage = Stage::new(true);
    let k1s = &stage.k1s;
    k1s.create("minutely", &by_calendar("* * * * *"));
    k1s.create("secondly", &by_calendar("* * * * * *"));
    k1s.create(
        "late",
        &with(by_calendar(&stage.in_minutes(30)), json!({"startingDeadlineSeconds": 7200})),
    );
    k1s.create("missed", &by_calendar(&stage.in_minutes(31)));
    k1s.results("secondly", 1);
    let runs = k1s.job("secondly")["results"].as_array().unwrap().len();
    stage.step(HOUR);
    // There is no request, so the watch has woken the loop.
    wait_until("what may be late is run", || stage.log("late") == 1);
    let results = k1s.results("secondly", runs + 2);
    let jumps: Vec<i64> =
        distances(&results, "startedAt").into_iter().filter(|d| *d > HOUR / 2).collect();
    assert_eq!(jumps.len(), 1, "one run before the step, the next one after: {results:?}");
    let minutely = k1s.job("minutely");
    let now = milliseconds(&results[results.len() - 1]["startedAt"]);
    assert!((0..=61_000).contains(&(milliseconds(&minutely["nextRunAt"]) - now)), "{minutely}");
    assert!(minutely["results"].as_array().unwrap().len() <= 2, "no storm: {minutely}");
    let missed = minutely["skippedRuns"]["missed"].as_u64().unwrap();
    assert!((58..=60).contains(&missed), "{minutely}");
    let job = k1s.job("missed");
    assert_eq!((&job["results"], &job["skippedRuns"]["missed"]), (&json!([]), &json!(1)), "{job}");
}

fn an_hour_back_runs_no_fixed_time_twice() {
    let stage = Stage::new(true);
    let k1s = &stage.k1s;
    // Both are each second; whose minute and hour do not begin with `*` has fixed times.
    k1s.create("fixed", &by_calendar("* 0-59 0-23 * * *"));
    k1s.create("follows", &by_calendar("* * * * * *"));
    k1s.results("fixed", 1);
    stage.step(-HOUR);
    let count = k1s.job("fixed")["results"].as_array().unwrap().len();
    let before = k1s.job("follows")["results"].as_array().unwrap().len();
    let results = k1s.results("follows", before + 2);
    assert!(
        distances(&results, "startedAt").iter().any(|d| *d < -HOUR / 2),
        "it follows the clock"
    );
    let job = k1s.job("fixed");
    let fixed = job["results"].as_array().unwrap();
    assert!(fixed.len() - count <= 1, "one was due with the step, perhaps: {job}");
    let count = fixed.len();
    let now = milliseconds(&results[results.len() - 1]["startedAt"]);
    assert!(milliseconds(&job["nextRunAt"]) - now > HOUR - 120_000, "an hour from now: {job}");
    // Set right again: it goes on where it was.
    stage.step(HOUR);
    k1s.results("fixed", count + 1);
}

fn ten_years_forth_and_back() {
    let stage = Stage::new(true);
    let k1s = &stage.k1s;
    k1s.create("daily", &by_calendar("0 3 * * *"));
    k1s.create("secondly", &by_calendar("* * * * * *"));
    let before = k1s.job("daily")["nextRunAt"].clone();
    let mut runs = k1s.results("secondly", 1).len();
    for step in [10 * YEAR, -10 * YEAR] {
        stage.step(step);
        // It is on time at once, and no more than one run a second.
        runs = k1s.results("secondly", runs + 2).len();
    }
    assert_eq!(k1s.job("daily")["nextRunAt"], before, "back where it was");
    assert_eq!(stage.log("daily"), 0);
    let results = k1s.job("secondly")["results"].clone();
    let results = results.as_array().unwrap();
    let jumps = distances(results, "startedAt").into_iter().filter(|d| d.abs() > YEAR).count();
    assert_eq!(jumps, 2, "{results:?}");
    let same = distances(results, "startedAt").into_iter().filter(|d| d.abs() < 500).count();
    assert!(same <= 2, "a step may cost or bring one, no more: {results:?}");
}

fn elapsed_time_does_not_follow() {
    let stage = Stage::new(true);
    let k1s = &stage.k1s;
    k1s.create("tick", &cron("echo >>tick", 1));
    k1s.create("hourly", &cron("echo >>hourly", 3600));
    let stubborn = "trap '' TERM; echo >>stubborn; while :; do sleep 0.1; done";
    let stop = json!({"stop": {"timeoutSeconds": 3600}, "timeoutSeconds": 3600});
    k1s.create("stubborn", &with(harness::continuous(stubborn), stop));
    wait_until("it ignores TERM", || stage.log("stubborn") == 1);
    k1s.put("/job/stubborn/kill");
    for step in [2 * HOUR, -4 * HOUR, 10 * YEAR] {
        stage.step(step);
        let runs = k1s.job("tick")["results"].as_array().unwrap().len();
        let results = k1s.results("tick", runs + 1);
        let durations: Vec<u64> =
            results.iter().map(|r| r["durationMs"].as_u64().unwrap()).collect();
        assert!(durations.iter().all(|duration| *duration < 30_000), "{durations:?}");
    }
    assert_eq!(stage.log("hourly"), 0, "an hour has not elapsed");
    assert_eq!(k1s.job("stubborn")["state"], "stopping", "nor the grace period");
    let job = k1s.job("hourly");
    let left = milliseconds(&job["nextRunAt"]) - stage.now();
    assert!((HOUR - 120_000..=HOUR).contains(&left), "told by the calendar as it is now: {job}");
}

fn without_a_watch_a_step_shows_with_the_next_turn() {
    let stage = Stage::new(false);
    let k1s = &stage.k1s;
    k1s.create("daily", &by_calendar("0 3 * * *"));
    let before = milliseconds(&k1s.job("daily")["nextRunAt"]);
    stage.step(10 * DAY);
    let after = wait_for("it is three o'clock again that comes next", || {
        let after = milliseconds(&k1s.job("daily")["nextRunAt"]);
        (after > before && (after - before) % DAY == 0).then_some(after)
    });
    assert!((9 * DAY..=10 * DAY).contains(&(after - before)), "{}", after - before);
    assert_eq!(stage.log("daily"), 0);
}

// ---- What they stand on ----

/// A daemon whose calendar can be set.
struct Stage {
    k1s: K1s,
    clock: PathBuf,
    step: std::cell::Cell<i64>,
}

impl Stage {
    /// Starts one; with `is_watched` it learns of steps, as by the timerfd.
    fn new(is_watched: bool) -> Stage {
        let start = K1s::with().program(std::env::current_exe().unwrap());
        let clock = start.dir().join("clock");
        fs::create_dir(&clock).unwrap();
        fs::write(clock.join(STEP), "0").unwrap();
        if is_watched {
            nix::unistd::mkfifo(&clock.join(WATCH), Mode::S_IRWXU).unwrap();
        }
        let k1s = start.env(CLOCK, clock.to_str().unwrap()).start();
        Stage { k1s, clock, step: Default::default() }
    }

    /// Sets the calendar forth or back by so many milliseconds.
    fn step(&self, by: i64) {
        self.step.set(self.step.get() + by);
        let new = self.clock.join("new");
        fs::write(&new, self.step.get().to_string()).unwrap();
        fs::rename(new, self.clock.join(STEP)).unwrap();
        let watch = self.clock.join(WATCH);
        if watch.exists() {
            OpenOptions::new().write(true).open(watch).unwrap().write_all(b"x").unwrap();
        }
    }

    /// What the daemon's calendar shows, in milliseconds.
    fn now(&self) -> i64 {
        k1s::daemon::now().wall.0 + self.step.get()
    }

    /// A fixed time in so many minutes from now, as an expression of five fields.
    fn in_minutes(&self, minutes: i64) -> String {
        let minute = (self.now() / 60_000 + minutes).rem_euclid(24 * 60);
        format!("{} {} * * *", minute % 60, minute / 60)
    }

    /// How often a job has written to the log that has its name.
    fn log(&self, id: &str) -> usize {
        fs::read_to_string(self.k1s.dir().join(id)).map_or(0, |text| text.len())
    }
}

fn by_calendar(expression: &str) -> Value {
    json!({
        "type": "cron", "executable": "/bin/sh", "arguments": ["-c", "echo >>$K1S_JOB"],
        "schedule": expression,
    })
}

/// The distances between one result and the next.
fn distances(results: &[Value], time: &str) -> Vec<i64> {
    results
        .windows(2)
        .map(|pair| milliseconds(&pair[1][time]) - milliseconds(&pair[0][time]))
        .collect()
}

// ---- The other program: k1s with a clock of ours ----

fn daemon(directory: PathBuf) -> ExitCode {
    let startup = prepare();
    let invocation = k1s::cli::parse(std::env::args_os().skip(1));
    let Ok(Invocation::Run { config }) = invocation else { panic!("{invocation:?}") };
    let environment = config::Environment::of_process(|path| fs::read(path), |path| fs::read(path));
    let settings = config::load(config.as_deref(), &environment).unwrap();
    // Its own writing end keeps it from ending with that of a test.
    let watch = directory.join(WATCH);
    let watch = watch.exists().then(|| {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(watch).unwrap().into()
    });
    DIRECTORY.set(directory).unwrap();
    let daemon =
        Daemon::new(settings, Role::Supervisor, &startup, Clock::new(read, watch)).unwrap();
    eprintln!("k1s: listening on http://{}", daemon.address().unwrap());
    ExitCode::from(daemon.run())
}

/// The machine's clocks, and the step that was asked for.
fn read() -> Reading {
    let step =
        fs::read_to_string(DIRECTORY.get().map_or(Path::new(""), PathBuf::as_path).join(STEP));
    let step: i64 = step.unwrap().parse().unwrap();
    let reading = Reading::take();
    Reading { wall: reading.wall + step * 1000, ..reading }
}

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

const CLOCK: &str = "K1S_TEST_CLOCK";
const STEP: &str = "step";
const WATCH: &str = "watch";

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
