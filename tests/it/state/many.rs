//! A directory with many jobs and results, which is written without k1s: running as many would take
//! hours. `tests/bench/state.py` measures how k1s starts with it.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k1s::job::{
    Capture, Defaults, Ending, ExitStatus, JobId, LogEnd, LogPlace, Reason, RunEnd, RunRecord,
    Spelling, Trigger, parse_with,
};
use k1s::state::{HEAD, Ledger, replay};
use k1s::supervisor::{
    Finished, JobKey, Life, Origin, Outcome, Remembered, Settings, Skipped, Stage, Supervisor,
};
use k1s::time::{Mono, Now, Wall};
use serde_json::json;

use super::{segments, with_state};

/// `K1S_MANY=JOBS:DIRECTORY` writes so many jobs there.
#[test]
fn many_jobs_and_results_are_as_they_were_written() {
    if let Ok(asked) = std::env::var("K1S_MANY") {
        let (jobs, directory) = asked.split_once(':').unwrap();
        let directory = PathBuf::from(directory);
        fs::create_dir_all(&directory).unwrap();
        return write(&directory, jobs.parse().unwrap());
    }
    let start = with_state("os");
    let directory = start.dir().join("state");
    fs::create_dir(&directory).unwrap();
    write(&directory, 500);
    assert!(segments(&directory).len() > 2, "{:?}", segments(&directory));
    let k1s = start.start();
    let jobs = k1s.get("/").json();
    let jobs = jobs.as_array().unwrap();
    assert_eq!(jobs.len(), 500);
    for (number, job) in (1..).zip(jobs) {
        let scheduled = number % 10 == 0;
        assert_eq!(job["state"], if scheduled { "scheduled" } else { "killed" }, "{job}");
        let results = job["results"].as_array().unwrap();
        assert_eq!(results.len(), RESULTS, "{job}");
        for (run, result) in (1..).zip(results) {
            assert_eq!(result["run"], run);
            assert_eq!(result["stdout"], said(number, run));
        }
    }
}

/// The next k1s took what was being emptied for empty.
#[test]
fn a_cleaning_whose_end_is_not_stored_does_not_count() {
    let (mut ledger, mut supervisor) = (Ledger::default().with_small_segments(), supervisor());
    let mut disk: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut frame = Vec::new();
    let keys: Vec<JobKey> = (1..=20).map(JobKey::from_number).collect();
    let begin_segment = |ledger: &mut Ledger, disk: &mut BTreeMap<u64, Vec<u8>>| {
        let (number, mut frame) = (ledger.next_segment(), Vec::new());
        ledger.first_frame(&mut frame, number, ledger.end(), now());
        disk.insert(number, [HEAD, &frame].concat());
        ledger.handle_segment(number, frame.len());
    };
    let number_of_jobs = |disk: &BTreeMap<u64, Vec<u8>>| {
        let numbers: Vec<u64> = disk.keys().copied().collect();
        let read = |number, bytes: &mut Vec<u8>| {
            disk[&number].clone_into(bytes);
            Ok(())
        };
        let replay = replay(&numbers, read).unwrap();
        assert_eq!(replay.damages, []);
        replay.jobs.iter().filter(|job| job.results.len() == RESULTS).count()
    };
    for key in &keys {
        if disk.is_empty() || ledger.is_segment_full() {
            begin_segment(&mut ledger, &mut disk);
        }
        supervisor.exhibit(job(*key));
        ledger.begin_frame(&mut frame, ledger.end(), now());
        ledger.write_job(&mut frame, *key, &supervisor, &mut |_| None, now());
        ledger.finish_frame(&mut frame);
        disk.values_mut().next_back().unwrap().extend_from_slice(&frame);
        ledger.handle_written(frame.len());
    }
    assert!(disk.len() > 2, "{}", disk.len());
    ledger.clean_all();
    ledger.begin_frame(&mut frame, ledger.end(), now());
    let mut emptied = Vec::new();
    while !ledger.has_cleaned() {
        if let Some(key) = ledger.next_to_clean(&mut { usize::MAX }) {
            ledger.write_job(&mut frame, key, &supervisor, &mut |_| None, now());
            emptied.push(key);
        }
    }
    assert!(emptied.len() > 2, "{emptied:?}");
    ledger.finish_cleaning();
    ledger.write_session(&mut frame);
    // There is no space for it.
    emptied.into_iter().for_each(|key| ledger.doubt(key));
    ledger.doubt_cleaning();
    begin_segment(&mut ledger, &mut disk);
    assert_eq!(number_of_jobs(&disk), keys.len());
}

/// Cron jobs that were killed, and one in ten that waits for its next run.
fn write(directory: &Path, jobs: u64) {
    let mut ledger = Ledger::default();
    ledger.set_instances(&boot(), vec!["many".to_owned()]);
    let mut file = None;
    let mut keys = (1..=jobs).map(JobKey::from_number).peekable();
    while keys.peek().is_some() {
        if file.is_none() || ledger.is_segment_full() {
            let number = ledger.next_segment();
            let mut next = fs::File::create_new(directory.join(format!("state-{number}"))).unwrap();
            let mut frame = Vec::new();
            ledger.first_frame(&mut frame, number, ledger.end(), now());
            next.write_all(&[HEAD, &frame].concat()).unwrap();
            ledger.handle_segment(number, frame.len());
            file = Some(next);
        }
        let (mut supervisor, mut frame) = (supervisor(), Vec::new());
        ledger.begin_frame(&mut frame, ledger.end(), now());
        while frame.len() < FRAME_BYTES
            && let Some(key) = keys.next()
        {
            supervisor.exhibit(job(key));
            ledger.write_job(&mut frame, key, &supervisor, &mut |_| None, now());
        }
        ledger.finish_frame(&mut frame);
        file.as_mut().unwrap().write_all(&frame).unwrap();
        ledger.handle_written(frame.len());
    }
}

fn supervisor() -> Supervisor {
    let settings = Settings {
        instance: "many".to_owned(),
        job_limit: usize::MAX,
        output_memory: usize::MAX,
        shutdown_timeout: Duration::ZERO,
        main: None,
    };
    Supervisor::new(settings, now())
}

fn job(key: JobKey) -> Remembered {
    let number = key.number();
    let is_scheduled = number.is_multiple_of(10);
    let document = json!({"type": "cron", "executable": "/usr/bin/backup", "schedule": "0 3 1 1 *",
        "arguments": ["--host", format!("db{number}.example.org")], "environment": {"LEVEL": "3"}});
    let defaults = Defaults { directory: "/srv", time_zone: "UTC" };
    let value = serde_json::from_value(document).unwrap();
    let spec = Rc::new(parse_with(value, defaults, Spelling::Camel).unwrap());
    let mut log_end = LogEnd::default();
    let records = (1..=RESULTS as u64).map(|run| record(number, run, &mut log_end));
    let results: VecDeque<Finished> = records.map(Finished::from).collect();
    let last = results.back().map(|Finished { record, .. }| Ending {
        run: record.number,
        end: record.end.clone(),
        reason: record.reason,
        lived: record.duration,
        success: record.success,
    });
    let due = Some((YEARS_AHEAD, YEARS_AHEAD)).filter(|_| is_scheduled);
    let life = Life {
        last_run: RESULTS as u64,
        finished: RESULTS as u64,
        forgotten: 0,
        last_started: Some(now().wall),
        last,
        streak: (0, 0, false),
        restarts: 0,
        kill_requested: !is_scheduled,
        skipped: Skipped::default(),
        log_end: log_end.place(),
        kept: Some(now().wall.0),
        stage: match is_scheduled {
            true => Stage::Scheduled { due, pending: None },
            false => Stage::Ended(Outcome::Killed, now().mono),
        },
        calls: (None, None),
        runs: Vec::new(),
        leaders: Vec::new(),
    };
    let id = JobId::parse(&format!("backup-{number}")).unwrap();
    Remembered { key, id, origin: Origin::Api, created: now(), spec, life, results }
}

fn record(job: u64, run: u64, log_end: &mut LogEnd) -> RunRecord {
    let at = now().wall;
    let log_begin: LogPlace = log_end.place();
    let mut stdout = Capture::new(65_536);
    stdout.append(said(job, run).as_bytes(), log_end, at);
    RunRecord {
        number: run,
        trigger: Trigger::Schedule,
        end: RunEnd::Process(ExitStatus::Code(0)),
        reason: Reason::Exited,
        success: true,
        started_at: Wall(at.0 - 1500),
        finished_at: at,
        duration: Duration::from_millis(1500),
        log_begin,
        stdout: stdout.finish(log_end, at),
        stderr: Capture::new(65_536).finish(log_end, at),
        log_end: log_end.place(),
        beside: 0,
    }
}

fn said(job: u64, run: u64) -> String {
    format!("backup {run} of database {job} is complete: 1234 tables, 56 MB\n")
}

pub(super) fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let mono = Mono((uptime * 1000.0) as u64);
    Now { mono, wall: Wall(i64::try_from(wall.as_millis()).unwrap()) }
}

/// This boot, in which elapsed time goes on, and in which processes of the jobs may be left.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!("{} {}", boot.trim(), fs::read_link("/proc/self/ns/pid").unwrap().display())
}

const RESULTS: usize = 10;
const FRAME_BYTES: usize = 256 << 10;
/// The year 2100, in milliseconds.
const YEARS_AHEAD: i64 = 4_102_444_800_000;
