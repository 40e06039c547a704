//! Scripts for the supervisor core: requests and events, and what the core does.
//!
//! A script in `scripts/` is a list of scenes. A scene begins with `== what it shows`. A line that
//! begins with `> ` is a command, and the lines after it are what the core does: its actions, the
//! results it records, and each job whose appearance has changed, all with the elapsed time in
//! milliseconds. `#` begins a comment. The commands:
//!
//! ```text
//! settings KEY=VALUE …          shutdown (seconds), jobs, memory (bytes), main; before all else
//! create ID TYPE {JSON}         and `put`; the executable need not be given
//! reload ID TYPE {JSON} / …     the config declares these jobs, or none; `preview` only says it
//! kill | start | restart | run | reload-job | remove ID
//! signal ID SIGNAL [group]
//! together kill|restart|remove ID ID …
//! all VERB [label=NAME=VALUE] [state=STATE] [type=TYPE]     the same of many; says who complied
//! crash [ID …]                  k1s is killed, and starts again: of these jobs processes are left
//! former-gone ID                those of this one are gone
//! shutdown [CODE]
//! spawns ok | defer | fail CODE | held     the outcome of spawns from now on; held: none is polled
//! pid N                         the next pid
//! exit RUN CODE|SIGNAL [left]   the first process of a run (web/1) ends; left: others are left
//! collect RUN                   its first process ended; the last of its output is read until `exit`
//! left RUN                      the run has leftovers, which surveys will find
//! gone RUN                      they are gone
//! hidden yes | no               surveys that find nothing may have missed something, or not
//! orphan                        an orphan was reaped
//! freed                         k1s has freed something, such as a connection
//! write RUN STREAM BYTES
//! + TIME                        time passes: 5ms, 3s, 2m, 1h; timers expire when they are due
//! late TIME                     the same, but the core is called only at the end
//! step ±TIME [unseen]           the wall clock is set, and the core knows of it, or not
//! turn COMMAND; COMMAND; …      all of them before the actions of the core are done
//! show ID                       its results, counters and flags
//! why ID                        its message
//! progress ID                   how far it has come
//! memory | timers
//! answer RUN ROLE ok|fail TEXT  the attempt of a probe is answered: readiness or liveness
//! notice RUN WHAT               ready, reloading, stopping, watchdog, trigger, newline, TIME more
//! print RUN STREAM TEXT         it writes a text
//! end RUN ROLE CODE|SIGNAL TEXT a command beside a run ends, and has written a text: readiness,
//!                               liveness, reload or stop; `left:` before TEXT: others are left
//! readyz                        whether k1s is ready
//! told                          the events since the last time
//! ```
//!
//! `K1S_SCRIPT_UPDATE=1` writes what the core does to the scripts: read the difference with care.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use k1s::calendar::format_rfc3339;
use k1s::job::notice::Notice;
use k1s::job::spec::{Kind, ProbeRole};
use k1s::job::{
    ExitStatus, JobId, JobSpec, Pid, RunRecord, Signal, SpawnFailure, Spelling, Stream, Value,
};
use k1s::schedule::Schedule;
use k1s::supervisor::{
    Action, CommandRole, Declared, EventKind, EventRead, Finished, Heritage, Job, JobKey, Left,
    Milestone, Owner, ProbeKey, ProcessKey, Purpose, Put, Refusal, Remembered, RunKey, Selection,
    Settings, Supervisor, Target, Together, Verb, Vitals,
};
use k1s::time::{Mono, Now, Wall};

#[test]
fn every_script_is_played_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let played = play(&written);
        if played == written {
            continue;
        }
        if std::env::var_os("K1S_SCRIPT_UPDATE").is_some() {
            std::fs::write(&file, played).unwrap();
        } else {
            let name = file.file_name().unwrap().to_string_lossy();
            write!(failures, "\n{name}: - is written, + is what the core does\n").unwrap();
            failures += &difference(&written, &played);
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The script with what the core does, instead of what was expected.
fn play(script: &str) -> String {
    let mut played = String::new();
    let mut stage = Stage::new(settings());
    let mut is_answer = false;
    for line in script.lines() {
        if line.starts_with("==") {
            stage = Stage::new(settings());
        }
        if let Some(command) = line.strip_prefix("> ") {
            if let Some(options) = command.strip_prefix("settings ") {
                stage = Stage::new(changed(settings(), options));
            } else {
                stage.perform(command);
            }
            writeln!(played, "{line}").unwrap();
            for said in stage.said.drain(..) {
                writeln!(played, "{said}").unwrap();
            }
            is_answer = true;
        } else if line.is_empty() || line.starts_with('#') || line.starts_with("==") {
            writeln!(played, "{line}").unwrap();
            is_answer = false;
        } else {
            assert!(is_answer, "neither a command nor an answer to one: {line:?}");
        }
    }
    played
}

/// The core, and a shell that writes what the core wants.
struct Stage {
    supervisor: Supervisor,
    job_limit: usize,
    now: Now,
    next_pid: i32,
    spawns: Spawns,
    /// The live first processes, by the name of their run.
    processes: BTreeMap<String, Pid>,
    ids: BTreeMap<JobKey, JobId>,
    /// Runs whose first process was collected, and whose end was not reported.
    collected: BTreeMap<String, RunKey>,
    /// Runs that have leftovers.
    left: BTreeSet<String>,
    /// There may be others that cannot be seen.
    is_hidden: bool,
    said: Vec<String>,
    events_read: u64,
    appearances: BTreeMap<JobKey, String>,
    results: BTreeMap<JobKey, BTreeSet<u64>>,
}

#[derive(Clone, Copy)]
enum Spawns {
    Succeed,
    Defer,
    Fail(u8),
    Held,
}

impl Stage {
    fn new(settings: Settings) -> Stage {
        let now = Now { mono: Mono(0), wall: Wall(START) };
        Stage {
            job_limit: settings.job_limit,
            supervisor: Supervisor::new(settings, now),
            now,
            next_pid: 11,
            spawns: Spawns::Succeed,
            processes: BTreeMap::new(),
            ids: BTreeMap::new(),
            collected: BTreeMap::new(),
            left: BTreeSet::new(),
            is_hidden: false,
            said: Vec::new(),
            events_read: 0,
            appearances: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    fn perform(&mut self, line: &str) {
        match line.strip_prefix("turn ") {
            Some(commands) => commands.split("; ").for_each(|command| self.obey(command)),
            None => self.obey(line),
        }
        self.drain();
    }

    fn obey(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let now = self.now;
        match command {
            "create" | "put" | "kill" | "start" | "restart" | "run" | "remove" | "reload-job"
            | "signal" => {
                self.request(command, rest, &words);
            }
            "reload" | "preview" => self.declare(command, rest),
            "together" => self.together(&words),
            "all" => self.ask_all(&words),
            "crash" => self.crash(&words),
            "former-gone" => {
                self.supervisor.handle_former_gone(&JobId::parse(rest).unwrap(), now);
            }
            "shutdown" => self.supervisor.shutdown(words[0].parse().unwrap_or(0), now),
            "spawns" => {
                self.spawns = match words[0] {
                    "ok" => Spawns::Succeed,
                    "defer" => Spawns::Defer,
                    "fail" => Spawns::Fail(words[1].parse().unwrap()),
                    "held" => Spawns::Held,
                    other => panic!("no way to spawn: {other:?}"),
                }
            }
            "pid" => self.next_pid = words[0].parse().unwrap(),
            "exit" => self.exit(words[0], words[1], words.get(2) == Some(&"left")),
            "collect" => self.collect(words[0]),
            "left" => assert!(self.left.insert(words[0].to_owned())),
            "hidden" => self.is_hidden = words[0] == "yes",
            "gone" => assert!(self.left.remove(words[0]), "{} has left nothing", words[0]),
            "freed" => self.supervisor.handle_freed(now),
            "orphan" => self.supervisor.handle_orphans_reaped(now),
            "write" => self.write(words[0], words[1], &vec![b'x'; words[2].parse().unwrap()]),
            "print" => {
                let text = rest.splitn(3, ' ').nth(2).unwrap();
                self.write(words[0], words[1], text.as_bytes());
            }
            "answer" => self.answer(rest),
            "end" => self.end(rest),
            "notice" => {
                let run = self.run(words[0]);
                self.supervisor.handle_notice(run, notice(&words[1..]), now);
            }
            "readyz" => self.say(format!("ready {}", self.supervisor.is_ready())),
            "+" => self.pass(time(words[0])),
            "late" => {
                self.now = later(now, time(words[0]));
                self.supervisor.handle_timeout(self.now);
            }
            "step" => {
                let sign = if words[0].starts_with('-') { -1 } else { 1 };
                let step = time(&words[0][1..]).as_millis() as i64 * sign;
                self.now.wall.0 += step;
                if words.get(1) != Some(&"unseen") {
                    self.supervisor.handle_clock_step(self.now);
                }
            }
            "show" => self.show(words[0]),
            "progress" => {
                let job = self.supervisor.job(words[0]).unwrap();
                let [ready, succeeded, ended] =
                    [Milestone::Ready, Milestone::Succeeded, Milestone::Ended]
                        .map(|milestone| job.progress(milestone));
                self.say(format!("ready {ready:?}, succeeded {succeeded:?}, ended {ended:?}"));
            }
            "why" => {
                let job = self.supervisor.job(words[0]).unwrap();
                self.say(self.supervisor.message(job, now));
            }
            "memory" => self.say(format!("{} bytes", self.supervisor.output_memory())),
            "timers" => {
                let next = self.supervisor.poll_timeout().map(|at| at.0);
                self.say(next.map_or("none".into(), |at| format!("next @{at}")));
            }
            "told" => self.told(),
            other => panic!("no command: {other:?}"),
        }
    }

    fn ask_all(&mut self, words: &[&str]) {
        let (verb, filters) = words.split_first().unwrap();
        let verb = match *verb {
            "kill" => Verb::Kill,
            "start" => Verb::Start,
            "restart" => Verb::Restart,
            "run" => Verb::Run,
            "reload" => Verb::Reload,
            other => Verb::Signal { signal: Signal::from_name(other).unwrap(), group: false },
        };
        let mut selection = Selection::default();
        for filter in filters {
            let (name, value) = filter.split_once('=').unwrap();
            let given: &'static str = Box::leak(value.to_owned().into_boxed_str());
            match name {
                "label" => {
                    let (name, value) = value.split_once('=').unwrap();
                    selection.label = Some((name.to_owned(), value.to_owned()));
                }
                "state" => selection.state = Some(given),
                "type" => selection.job_type = Some(given),
                other => panic!("no filter: {other:?}"),
            }
        }
        match self.supervisor.ask_all(selection, verb, self.now) {
            Ok(batch) => {
                let ids = (0..).map_while(|index| batch.job_at(index));
                let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
                self.say(format!("asked [{}]", ids.join(" ")));
            }
            Err(refusal) => self.say(format!("refused: {refusal:?}")),
        }
    }

    fn request(&mut self, command: &str, rest: &str, words: &[&str]) {
        let (id, now) = (words[0], self.now);
        let supervisor = &mut self.supervisor;
        let answer = match command {
            "create" => supervisor.create(JobId::parse(id).unwrap(), spec(rest), now),
            "put" => {
                let put = supervisor.put(JobId::parse(id).unwrap(), spec(rest), now);
                put.map(|put: Put| self.say(format!("{put:?}")))
            }
            "kill" => supervisor.kill(id, now),
            "start" => supervisor.start(id, now),
            "restart" => supervisor.restart(id, now),
            "run" => supervisor.run(id, now),
            "reload-job" => supervisor.reload_job(id, now),
            "remove" => supervisor.remove(id, now),
            _ => {
                let signal = Signal::from_name(words[1]).unwrap();
                supervisor.signal(id, signal, words.get(2) == Some(&"group"), now)
            }
        };
        answer.unwrap_or_else(|refusal: Refusal| self.say(format!("refused: {refusal:?}")));
    }

    fn together(&mut self, words: &[&str]) {
        let together = match words[0] {
            "kill" => Together::Kill,
            "restart" => Together::Restart,
            "remove" => Together::Remove,
            other => panic!("not together: {other:?}"),
        };
        let ids: Vec<_> = words[1..].iter().map(|id| JobId::parse(id).unwrap()).collect();
        let answers = self.supervisor.stop_together(together, &ids, self.now);
        for (id, answer) in ids.iter().zip(answers) {
            if let Err(refusal) = answer {
                self.say(format!("{id} refused: {refusal:?}"));
            }
        }
    }

    /// The config declares these jobs.
    fn declare(&mut self, command: &str, rest: &str) {
        let jobs: Vec<_> = rest
            .split(" / ")
            .filter(|job| !job.is_empty())
            .map(|job| (JobId::parse(job.split(' ').next().unwrap()).unwrap(), Rc::new(spec(job))))
            .collect();
        let limit = self.job_limit;
        let answer = match command {
            "preview" => self.supervisor.preview(&jobs, limit),
            _ => self.supervisor.declare(jobs, limit, self.now),
        };
        match answer {
            Ok(Declared { added, removed, replaced, updated, unchanged }) => self.say(format!(
                "added {added:?}, removed {removed:?}, replaced {replaced:?}, updated \
                 {updated:?}, unchanged {unchanged}"
            )),
            Err(refusal) => self.say(format!("refused: {refusal:?}")),
        }
    }

    /// Another k1s goes on with what this one remembers.
    fn crash(&mut self, left: &[&str]) {
        let now = self.now;
        let of = |job: &Job| Remembered {
            key: job.key(),
            id: job.id().clone(),
            origin: job.origin(),
            created: job.created(),
            spec: job.shared_spec(),
            life: job.life(now),
            results: job.results().cloned().map(Finished::from).collect(),
        };
        let heritage = Heritage {
            jobs: self.supervisor.jobs_after(None).map(of).collect(),
            last_key: 0,
            left: left.iter().filter_map(|id| JobId::parse(id).ok()).collect(),
        };
        self.processes.clear();
        self.supervisor = Supervisor::new(settings(), now);
        let limit = self.job_limit;
        self.supervisor.restore(heritage, Vec::new(), None, limit, now).unwrap();
    }

    fn exit(&mut self, name: &str, how: &str, left: bool) {
        let pid = self.processes.remove(name).unwrap_or_else(|| panic!("{name} does not run"));
        let status = match how.parse() {
            Ok(code) => ExitStatus::Code(code),
            Err(_) => ExitStatus::Signal(Signal::from_name(how).unwrap()),
        };
        if left {
            self.left.insert(name.to_owned());
        }
        let collected = self.collected.remove(name);
        let known = collected.or_else(|| run_in(self.supervisor.handle_collected(pid)));
        let run = known.unwrap_or_else(|| panic!("{name} is not known"));
        self.supervisor.handle_run_ended(run, status, left, self.now);
    }

    fn collect(&mut self, name: &str) {
        let run = run_in(self.supervisor.handle_collected(self.processes[name])).unwrap();
        self.collected.insert(name.to_owned(), run);
    }

    fn write(&mut self, name: &str, stream: &str, bytes: &[u8]) {
        let run = self.run(name);
        let stream = if stream == "stdout" { Stream::Stdout } else { Stream::Stderr };
        self.supervisor.handle_output(run, stream, bytes, self.now);
    }

    fn answer(&mut self, rest: &str) {
        let words: Vec<&str> = rest.splitn(4, ' ').collect();
        let key = ProbeKey { run: self.run(words[0]), role: role(words[1]) };
        let text = words.get(3).copied().unwrap_or_default().to_owned();
        let answer = if words[2] == "ok" { Ok(text) } else { Err(text) };
        self.supervisor.handle_probe(key, answer, self.now);
    }

    fn end(&mut self, rest: &str) {
        let words: Vec<&str> = rest.splitn(4, ' ').collect();
        let pid = self.processes.remove(&format!("{} {}", words[0], words[1]));
        let pid = pid.unwrap_or_else(|| panic!("{rest}: no such command"));
        let status = match words[2].parse() {
            Ok(code) => ExitStatus::Code(code),
            Err(_) => ExitStatus::Signal(Signal::from_name(words[2]).unwrap()),
        };
        let text = words.get(3).copied().unwrap_or_default();
        let (text, is_left) = match text.strip_prefix("left:") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let Some(ProcessKey::Command(key)) = self.supervisor.handle_collected(pid) else {
            panic!("{rest}: no command");
        };
        self.supervisor.handle_command_output(key, Stream::Stdout, text.as_bytes(), self.now);
        self.supervisor.handle_command_ended(key, status, is_left, self.now);
    }

    fn run(&self, name: &str) -> RunKey {
        let (id, number) = name.split_once('/').unwrap();
        let job = self.supervisor.job(id).unwrap().key();
        RunKey { job, number: number.parse().unwrap() }
    }

    /// Lets time pass, and calls the core whenever it wants.
    fn pass(&mut self, time: Duration) {
        let end = later(self.now, time);
        while let Some(at) = self.supervisor.poll_timeout().filter(|at| *at <= end.mono) {
            self.now = later(self.now, at.since(self.now.mono));
            self.supervisor.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.supervisor.handle_timeout(end);
    }

    /// Does what the core wants, and writes that.
    fn drain(&mut self) {
        loop {
            while let Some(action) = self.supervisor.poll_action() {
                self.act(action);
            }
            if !matches!(self.spawns, Spawns::Held) && self.spawn() {
                continue;
            }
            // Who depends on a job is told of its change in the next turn, which comes at once.
            let mut jobs = self.supervisor.jobs_after(None);
            let any_depends = jobs.any(|job| !job.spec().depends_on.is_empty());
            drop(jobs);
            if !any_depends || self.supervisor.poll_timeout() != Some(Mono(0)) {
                break;
            }
            self.supervisor.handle_timeout(self.now);
        }
        self.supervisor.forget_departed(|_| false);
        self.tell_changes();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Signal { target, signal } => {
                self.say(format!("{signal} {}", self.describe(&target)));
            }
            Action::Stop { target, signal } => {
                let and = if signal == Signal::KILL { "" } else { "and SIGCONT " };
                self.say(format!("{signal} {and}{}", self.describe(&target)));
            }
            Action::Survey { run, target } => {
                let name = self.name(run);
                let is_left = self.left.contains(&name);
                let (found, left) = match (is_left, self.is_hidden) {
                    (true, _) => ("alive", Left::Something),
                    (false, true) => ("unseen", Left::Unseen),
                    (false, false) => ("gone", Left::Nothing),
                };
                self.say(format!("survey {name} {}: {found}", self.describe(&target)));
                self.supervisor.handle_survey(run, left, self.now);
            }
            Action::Glance { run, leader } => {
                let name = self.name(run);
                let is_left = self.left.contains(&name);
                let found = if is_left { "there" } else { "gone" };
                self.say(format!("glance {name} group {}: {found}", leader.0));
                if !is_left {
                    self.supervisor.handle_group_gone(run, self.now);
                }
            }
            Action::Probe { key, check } => {
                let role = format!("{:?}", key.role).to_lowercase();
                self.say(format!("asks {} {} {role}", self.name(key.run), check.kind()));
            }
            Action::EndProbe { key } => {
                let role = format!("{:?}", key.role).to_lowercase();
                self.say(format!("gives up {} {role}", self.name(key.run)));
            }
            Action::Rest { ask } => self.say(format!("what belongs to no job, asked {ask}")),
            Action::Measure => self.supervisor.handle_measured(Vitals::default()),
            Action::ReopenLogFiles { number } => {
                self.supervisor.handle_log_files_reopened(number, 0);
            }
            Action::Exit { code } => self.say(format!("EXIT {code}")),
        }
    }

    fn describe(&self, target: &Target) -> String {
        match target {
            Target::Process(Pid(pid)) => format!("to process {pid}"),
            Target::Group(Pid(pid)) => format!("to group {pid}"),
            Target::Tree { leader, owner } => {
                let leader = leader.map_or("-".to_owned(), |leader| leader.0.to_string());
                let owner = match owner {
                    Owner::Run(run) => format!("k.{}", self.name(*run).replace('/', ".")),
                    Owner::Job(job) => format!("k.{}.", self.ids[job]),
                };
                format!("to tree {leader} {owner}")
            }
        }
    }

    fn spawn(&mut self) -> bool {
        let Some(launch) = self.supervisor.poll_spawn() else {
            return false;
        };
        self.ids.insert(launch.run.job, launch.job_id.clone());
        let mut name = self.name(launch.run);
        if let Purpose::Command { role, main, .. } = &launch.purpose {
            name += match role {
                CommandRole::Probe(ProbeRole::Readiness) => " readiness",
                CommandRole::Probe(ProbeRole::Liveness) => " liveness",
                CommandRole::Reload => " reload",
                CommandRole::Stop => " stop",
            };
            assert_eq!(self.supervisor.run_of(*main), Some(launch.run), "K1S_PID");
        }
        let call = launch.call.as_ref().map_or_else(String::new, |call| {
            let values = call.variables().map(|(_, value)| value);
            format!(" for {}", values.join(" "))
        });
        match self.spawns {
            Spawns::Succeed | Spawns::Held => {
                let pid = Pid(self.next_pid);
                self.next_pid += 1;
                self.say(format!("spawn {name}: {}{call}", pid.0));
                self.processes.insert(name, pid);
                self.supervisor.handle_spawned(launch, pid, self.now);
            }
            Spawns::Defer => {
                self.say(format!("spawn {name}: shortage"));
                self.supervisor.handle_spawn_deferred(launch, "EAGAIN".into(), self.now);
            }
            Spawns::Fail(exit_code) => {
                self.say(format!("spawn {name}: fails"));
                let failure = SpawnFailure { exit_code, error: "executable".into() };
                self.supervisor.handle_spawn_failed(launch, failure, self.now);
            }
        }
        true
    }

    /// Writes which jobs have changed, and what was recorded.
    fn tell_changes(&mut self) {
        let mut news = Vec::new();
        let mut there = BTreeSet::new();
        let mut after = None;
        while let Some(job) = self.supervisor.job_after(after) {
            after = Some(job.key());
            there.insert(job.key());
            self.ids.insert(job.key(), job.id().clone());
            let told = self.results.entry(job.key()).or_default();
            for record in job.results().filter(|record| told.insert(record.number)) {
                let (number, trigger) = (record.number, record.trigger.name());
                let ending = ending(record);
                news.push(format!("{}/{number} by {trigger}: {ending}", job.id()));
            }
            let appearance = appearance(job, self.now);
            let before = self.appearances.insert(job.key(), appearance.clone());
            if before.as_ref() != Some(&appearance) {
                news.push(format!("{}: {appearance}", job.id()));
            }
        }
        for key in self.appearances.keys().copied().collect::<Vec<_>>() {
            if !there.contains(&key) {
                self.appearances.remove(&key);
                news.push(format!("{}: removed", self.ids[&key]));
            }
        }
        news.into_iter().for_each(|line| self.say(line));
    }

    fn show(&mut self, id: &str) {
        let job = self.supervisor.job(id).unwrap();
        let mut lines: Vec<String> = job
            .results()
            .map(|record| {
                let (out, err) = (&record.stdout, &record.stderr);
                let kept = (out.bytes().len(), err.bytes().len());
                let written = (out.written(), err.written());
                format!("{id}/{}: kept {kept:?} of {written:?}", record.number)
            })
            .collect();
        let skipped = job.skipped();
        lines.push(format!(
            "{id}: last code {:?}, restarts {}, kill requested {}, forbidden {}, queue full {}, \
             missed {}{}",
            job.last_exit_code(),
            job.restarts(),
            job.is_kill_requested(),
            skipped.forbidden,
            skipped.queue_full,
            skipped.missed,
            if skipped.blocked > 0 {
                format!(", blocked {}", skipped.blocked)
            } else {
                String::new()
            },
        ));
        lines.into_iter().for_each(|line| self.say(line));
    }

    fn told(&mut self) {
        let mut told = Vec::new();
        while let Some(read) = self.supervisor.events().read(&mut self.events_read) {
            told.push(match read {
                EventRead::Lost(count) => format!("{count} events were lost"),
                EventRead::Event(_, event) => match &event.kind {
                    EventKind::Job { id, what, .. } => format!("{id}: {what:?}"),
                    kind @ (EventKind::Asked(_)
                    | EventKind::ShuttingDown { .. }
                    | EventKind::KillingAll { .. }) => {
                        format!("{kind:?}")
                    }
                },
            });
        }
        told.into_iter().for_each(|line| self.say(line));
    }

    fn name(&self, run: RunKey) -> String {
        format!("{}/{}", self.ids[&run.job], run.number)
    }

    fn say(&mut self, line: String) {
        self.said.push(format!("@{} {line}", self.now.mono.0));
    }
}

fn settings() -> Settings {
    Settings {
        instance: "k".into(),
        job_limit: 100,
        output_memory: 1 << 20,
        shutdown_timeout: Duration::from_secs(9),
        main: None,
    }
}

fn changed(mut settings: Settings, options: &str) -> Settings {
    for option in options.split(' ') {
        let (key, value) = option.split_once('=').unwrap();
        match key {
            "shutdown" => {
                settings.shutdown_timeout = Duration::from_secs_f64(value.parse().unwrap());
            }
            "jobs" => settings.job_limit = value.parse().unwrap(),
            "memory" => settings.output_memory = value.parse().unwrap(),
            "main" => settings.main = Some(JobId::parse(value).unwrap()),
            other => panic!("no setting: {other:?}"),
        }
    }
    settings
}

/// Reads `ID TYPE {JSON}`.
fn spec(text: &str) -> JobSpec {
    let mut words = text.splitn(3, ' ').skip(1);
    let kind = words.next().expect("a type");
    let Value::Table(mut fields) = serde_json::from_str(words.next().unwrap_or("{}")).unwrap()
    else {
        panic!("not an object: {text}");
    };
    fields.push(("type".into(), Value::String(kind.into())));
    if !fields.iter().any(|(name, _)| name == "executable") {
        fields.push(("executable".into(), Value::String("x".into())));
    }
    k1s::job::parse(Value::Table(fields), "/", Spelling::Camel).unwrap()
}

/// What a job looks like from outside.
fn appearance(job: &Job, now: Now) -> String {
    let mut text = format!("{:?}", job.state()).to_lowercase();
    if let Some(Pid(pid)) = job.pid() {
        write!(text, " {pid}").unwrap();
    }
    if job.spec().readiness.is_some() {
        text += match job.ready() {
            Some(true) => ", ready",
            Some(false) => ", not ready",
            None => "",
        };
    }
    if let Some(error) = job.error() {
        write!(text, " ({error})").unwrap();
    }
    let by_calendar = matches!(&job.spec().kind, Kind::Cron(spec)
        if matches!(spec.schedule, Schedule::Cron(_)));
    match job.next_run_at(now) {
        Some(next) if by_calendar => write!(text, ", next {}", format_rfc3339(next)).unwrap(),
        Some(next) => {
            let next = next.0 - now.wall.0 + now.mono.0 as i64;
            write!(text, ", next @{next}").unwrap();
        }
        None => {}
    }
    text
}

fn run_in(key: Option<ProcessKey>) -> Option<RunKey> {
    match key {
        Some(ProcessKey::Run(run)) => Some(run),
        Some(ProcessKey::Command(_)) | None => None,
    }
}

fn role(name: &str) -> ProbeRole {
    match name {
        "readiness" => ProbeRole::Readiness,
        "liveness" => ProbeRole::Liveness,
        other => panic!("no role: {other:?}"),
    }
}

fn notice(words: &[&str]) -> Notice {
    match words {
        ["ready"] => Notice::Ready,
        ["reloading"] => Notice::Reloading,
        ["stopping"] => Notice::Stopping,
        ["watchdog"] => Notice::Watchdog,
        ["trigger"] => Notice::WatchdogTrigger,
        ["newline"] => Notice::Newline,
        [more, "more"] => Notice::ExtendTimeout(time(more)),
        ["status", text @ ..] => Notice::Status(text.join(" ")),
        other => panic!("no notice: {other:?}"),
    }
}

fn ending(record: &RunRecord) -> String {
    let name = record.reason.name();
    format!("{name} {} after {} ms", record.exit_code(), record.duration.as_millis())
}

fn time(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("no unit of time: {other:?}"),
    };
    Duration::from_millis(digits.parse::<u64>().unwrap() * unit)
}

fn later(now: Now, time: Duration) -> Now {
    Now { mono: now.mono + time, wall: Wall(now.wall.0 + time.as_millis() as i64) }
}

/// The lines that differ, with their places, by the longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            writeln!(lines, "{:4} - {}", i + 1, old[i]).unwrap();
            i += 1;
        } else {
            writeln!(lines, "{:4} + {}", i + 1, new[j]).unwrap();
            j += 1;
        }
    }
    lines
}

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000;
