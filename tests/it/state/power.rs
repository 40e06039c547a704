//! A loss of power, again and again, while clients change jobs as fast as they can.
//!
//! A container cannot cut the power, nor record the writes of a block device (dm-log-writes); so
//! strace records what k1s asks of the disk and what it answers, and from that the directory is
//! built again as it may be after a loss of power at any moment (`record.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::record::{CALLS, Files, Record};
use super::rounds::{CLIENTS, Chance, Model, compare, processes};
use super::{kill, with_state};
use crate::harness::{Builder, K1s, send_signal, skip, wait_until};

/// `K1S_POWER_ROUNDS` says how often the power is lost of a k1s that goes on, 4 times by default;
/// of each record it is lost at some more moments.
#[test]
fn nothing_that_was_answered_is_forgotten_wherever_the_power_is_lost() {
    let strace = Command::new("strace").arg("--version").output();
    if strace.is_err() || !geteuid().is_root() {
        skip!("strace is not here, or this is not root, who alone may trace k1s");
    }
    let rounds = std::env::var("K1S_POWER_ROUNDS").ok();
    let rounds = rounds.map_or(4, |rounds| rounds.parse::<u64>().unwrap());
    let mut chance = Chance(0x51_7cc1 + rounds);
    let (mut answers, mut cuts) = (0, 0);
    for life in 0..rounds.div_ceil(ROUNDS_OF_A_LIFE) {
        let mut world = World::new(chance.next());
        for round in 0..ROUNDS_OF_A_LIFE.min(rounds - life * ROUNDS_OF_A_LIFE) {
            let disturbed = disturbance(life, round);
            let (record, before) = world.play(disturbed);
            for _ in 0..CUTS_OF_A_RECORD {
                let (models, until) = world.lose_power(&record, &before);
                let k1s = world.start.clone().start();
                world.check(&k1s, models, &format!("life {life}, round {round}, {until}"));
                kill(k1s);
                world.end_processes();
                cuts += 1;
            }
            (world.models, _) = world.lose_power(&record, &before);
            answers += record.all_answers();
            cuts += 1;
        }
    }
    println!("the power was lost {cuts} times, of {answers} answers");
}

/// What strace has the system calls of this round do. An fdatasync fails only where there is more
/// than one segment: the helpers are new to strace each time.
fn disturbance(life: u64, round: u64) -> Option<&'static str> {
    match (life % 3, round) {
        (1, 0) => Some("inject=fdatasync:error=EIO:when=2+2"),
        (2, _) => Some("inject=pwrite64:error=ENOSPC:when=15+9"),
        _ => None,
    }
}

struct World {
    start: Builder,
    mark: String,
    models: Vec<Model>,
    chance: Chance,
}

impl World {
    fn new(seed: u64) -> World {
        let start = with_state("always");
        let mark = format!("{}-power", start.dir().display());
        let models = (0..CLIENTS).map(|_| Model::with_steps(PADDING)).collect();
        World { start, mark, models, chance: Chance(seed) }
    }

    fn directory(&self) -> std::path::PathBuf {
        self.start.dir().join("state")
    }

    /// Starts k1s, has clients change its jobs, and kills it. Returns what it asked for, and what
    /// was there before.
    fn play(&mut self, disturbed: Option<&str>) -> (Record, Files) {
        let before = files(&self.directory());
        let path = self.start.dir().join("record");
        let trace = format!("trace={CALLS}");
        let mut around = vec!["strace", "-D", "-f", "-q", "-xx", "-s", "1000000", "--seccomp-bpf"];
        around.extend(["-e", "signal=kill", "-e", &trace, "-o", path.to_str().unwrap()]);
        around.extend(disturbed.iter().flat_map(|disturbed| ["-e", disturbed]));
        let k1s = self.start.clone().around(&around).start();
        let models = std::mem::take(&mut self.models);
        self.models = self.check(&k1s, models, "the round begins");
        let length = Duration::from_millis(100 + self.chance.below(600));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for (client, model) in self.models.iter_mut().enumerate() {
                let (k1s, is_over, mark) = (&k1s, &is_over, &self.mark);
                let chance = Chance(self.chance.next());
                scope.spawn(move || model.change(k1s, client, chance, is_over, mark));
            }
            let begun = Instant::now();
            wait_until("the moment has come", || begun.elapsed() >= length);
            send_signal(k1s.pid(), Signal::SIGKILL);
            is_over.store(true, Ordering::Relaxed);
        });
        let pid = k1s.pid();
        let (_, stderr) = k1s.exit();
        assert!(!stderr.contains("panicked"), "{stderr}");
        self.end_processes();
        wait_until("the record is whole", || {
            let text = fs::read_to_string(&path).unwrap();
            text.lines().any(|line| {
                line.starts_with(&format!("{pid} ")) && line.ends_with("+++ killed by SIGKILL +++")
            })
        });
        let record = Record::read(&path);
        for model in &self.models {
            let (told, asked) = (record.answers(record.len(), model.port()), model.requests());
            // The last is not answered, or its answer was on the way as k1s was killed.
            assert!((told..=told + 2).contains(&asked), "{told} answers, {asked} requests");
        }
        (record, before)
    }

    /// Puts into the directory what may be there, and returns what the clients knew then.
    fn lose_power(&mut self, record: &Record, before: &Files) -> (Vec<Model>, usize) {
        let until = self.chance.below(record.len() as u64 + 1) as usize;
        let directory = self.directory();
        let there = record.cut(before, &directory, until, &mut self.chance);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        for (name, bytes) in there {
            fs::write(directory.join(name), bytes).unwrap();
        }
        let then = |model: &Model| model.after(record.answers(until, model.port()));
        (self.models.iter().map(then).collect(), until)
    }

    /// Compares what is there with what was answered.
    fn check(&self, k1s: &K1s, mut models: Vec<Model>, when: &str) -> Vec<Model> {
        let error = compare(k1s, &mut models, &self.mark);
        let stderr = k1s.stderr();
        assert_eq!(error, None, "{when}: {stderr}");
        assert!(!stderr.contains("damage") && !stderr.contains("panicked"), "{when}: {stderr}");
        models
    }

    /// Without power there is no process.
    fn end_processes(&self) {
        wait_until("no process is left", || {
            let left = processes(&self.mark);
            left.iter().for_each(|(pid, _)| send_signal(*pid, Signal::SIGKILL));
            left.is_empty()
        });
    }
}

/// The files of a state directory, except the lock.
fn files(directory: &Path) -> Files {
    let Ok(entries) = fs::read_dir(directory) else { return Files::new() };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let names = entries.map(|entry| name(entry.unwrap())).filter(|name| name != "lock");
    names.map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
}

/// Then k1s begins with an empty directory.
const ROUNDS_OF_A_LIFE: u64 = 4;
const CUTS_OF_A_RECORD: u64 = 3;
/// Jobs are so large that there are many segments.
const PADDING: usize = 30_000;
