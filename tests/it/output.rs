//! What k1s writes: forwarded output of jobs, and its own messages.
//!
//! In tests that need every byte, everything fits into the queue (256 KiB) and a pipe (64 KiB), so
//! that none depends on how fast the reader is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, K1s, continuous, one_off, stays_true, wait_until, with};

fn forwarding(mode: &str) -> Builder {
    K1s::with().config(&format!("[output]\nforward = \"{mode}\""))
}

/// What a job that runs this script leaves on k1s's stdout and, about jobs, on stderr.
fn passed_on(builder: Builder, script: &str) -> (String, String) {
    let k1s = builder.config("[log]\nlevel = \"error\"").start();
    k1s.run("j", &one_off(script));
    let (stdout, stderr) = k1s.end();
    let own = |line: &&str| !line.contains("listening on");
    let stderr = stderr.split_inclusive('\n').filter(own).collect();
    (stdout, stderr)
}

#[test]
fn each_mode_has_its_form() {
    let script = "printf 'a\\nb'; printf 'c\\n\\nlast'; printf 'e\\n' >&2";
    let check = |builder: Builder, stdout: &str, stderr: &str| {
        assert_eq!(passed_on(builder, script), (stdout.to_owned(), stderr.to_owned()));
    };
    let prefixed = ("j | a\nj | bc\nj | \nj | last\n", "j | e\n");
    check(K1s::with(), prefixed.0, prefixed.1);
    check(forwarding("prefix"), prefixed.0, prefixed.1);
    check(forwarding("raw"), "a\nbc\n\nlast", "e\n");
    check(forwarding("none"), "", "");
}

#[test]
fn json_lines_say_where_they_come_from() {
    let (stdout, stderr) = passed_on(forwarding("json"), "printf 'a\"\\tb\\nlast'; echo e >&2");
    let lines = parsed(&stdout);
    let fields = |line: &Value| {
        (line["job"].clone(), line["run"].clone(), line["stream"].clone(), line["line"].clone())
    };
    let of = |stream: &str, text: &str| (json!("j"), json!(1), json!(stream), json!(text));
    assert_eq!(
        lines.iter().map(fields).collect::<Vec<_>>(),
        [of("stdout", "a\"\tb"), of("stdout", "last")]
    );
    assert_eq!(fields(&parsed(&stderr)[0]), of("stderr", "e"));
    for line in &lines {
        crate::harness::milliseconds(&line["time"]);
        assert_eq!(line.get("partial"), None);
    }
}

#[test]
fn binary_output_is_valid_json() {
    let builder = forwarding("json");
    let path = builder.dir().join("written");
    let (stdout, _) = passed_on(builder.clone(), "head -c 30000 /dev/urandom | tee written");
    let written = fs::read(path).unwrap();
    let mut wanted: Vec<String> = written
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    if wanted.last().is_some_and(String::is_empty) {
        wanted.pop();
    }
    let lines: Vec<String> =
        parsed(&stdout).iter().map(|line| line["line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines, wanted);
}

#[test]
fn a_line_without_an_end_comes_in_marked_pieces() {
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short";
    let (stdout, _) = passed_on(forwarding("prefix"), script);
    let piece = |mark: char, length: usize| format!("j {mark} {}\n", "x".repeat(length));
    let wanted = [piece('|', 16384), piece('+', 16384), piece('+', 7232)].concat();
    assert!(stdout == format!("{wanted}j | short\n"), "{}", stdout.len());
    let (stdout, _) = passed_on(forwarding("json"), script);
    let lines = parsed(&stdout);
    let partial: Vec<bool> = lines.iter().map(|line| line["partial"] == true).collect();
    assert_eq!(partial, [true, true, false, false]);
}

#[test]
fn the_order_within_a_stream_is_kept() {
    let check = |mode: &str, prefix: &str| {
        let (stdout, _) = passed_on(forwarding(mode), "seq 1 20000");
        let wanted: String = (1..=20000).map(|n| format!("{prefix}{n}\n")).collect();
        assert!(stdout == wanted, "{mode}: {} of {} bytes", stdout.len(), wanted.len());
    };
    check("raw", "");
    check("prefix", "j | ");
}

#[test]
fn a_job_may_keep_its_output_to_itself() {
    let k1s = K1s::start();
    k1s.run("quiet", &with(one_off("echo hidden"), json!({"output": {"forward": false}})));
    k1s.run("loud", &one_off("echo shown"));
    let (stdout, _) = k1s.end();
    assert_eq!(stdout, "loud | shown\n");
}

#[test]
fn passing_on_can_be_switched_while_a_job_runs() {
    let k1s = K1s::start();
    let line = |n: u32| format!("until [ -e go{n} ]; do sleep 0.01; done; echo {n}; touch done{n}");
    let script = format!("{}; {}; {}; exec sleep 1000", line(1), line(2), line(3));
    for (number, is_on) in [(1, true), (2, false), (3, true)] {
        let job = with(one_off(&script), json!({"output": {"forward": is_on}}));
        let reply = k1s.request("PUT", "/job/j", job.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        // What is in the pipe is read before a request that comes after it.
        fs::write(k1s.dir().join(format!("go{number}")), "").unwrap();
        let done = k1s.dir().join(format!("done{number}"));
        wait_until("the line is written", || done.exists());
    }
    assert_eq!(k1s.end().0, "j | 1\nj | 3\n");
}

#[test]
fn a_line_that_was_begun_is_passed_on_when_k1s_ends() {
    let k1s = K1s::start();
    k1s.create("j", &one_off("printf 'no end'; touch written; exec sleep 1000"));
    k1s.wait_for_file("written");
    let (stdout, _) = k1s.end();
    assert_eq!(stdout, "j | no end\n");
}

/// What is read from a k1s whose stdout was not read while a job wrote 200,000 lines.
fn read_late(mode: &str) -> String {
    let (reader, writer) = pipe().unwrap();
    let k1s = forwarding(mode).stdout_to(writer).start();
    let result = k1s.run("j", &one_off("seq 1 200000"));
    assert_eq!(result["exitCode"], 0);
    assert_eq!(k1s.get("/healthz").status, 200);
    let read = std::thread::spawn(move || everything(reader));
    wait_until("the loss is told", || k1s.stderr().contains("were dropped"));
    k1s.run("k", &one_off("echo after"));
    k1s.end();
    read.join().unwrap()
}

#[test]
fn a_reader_that_stops_holds_up_nothing_and_is_told_what_it_has_missed() {
    let mut next = 1;
    let text = read_late("prefix");
    let text = text.strip_suffix("k | after\n").expect("what comes later is passed on again");
    for line in text.lines() {
        if let Some(notice) = line.strip_prefix("k1s: ") {
            next += notice.split(' ').next().unwrap().parse::<u64>().unwrap();
        } else {
            assert_eq!(line, format!("j | {next}"));
            next += 1;
        }
    }
    assert_eq!(next, 200_001, "every line was passed on or counted");
}

#[test]
fn raw_bytes_that_nobody_reads_are_counted() {
    let text = read_late("raw");
    let text = text.strip_suffix("after\n").expect("what comes later is passed on again");
    let (notices, lines): (Vec<&str>, Vec<&str>) =
        text.split_inclusive('\n').partition(|line| line.starts_with("k1s: "));
    let dropped = |notice: &&str| {
        let (_, rest) = notice.split_once('(').unwrap();
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let passed: usize = lines.iter().map(|line| line.len()).sum();
    let counted = passed + notices.iter().map(dropped).sum::<usize>();
    let written = (1..=200_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>();
    // Each notice may have had to end a line first.
    assert!((written..=written + notices.len()).contains(&counted), "{counted} of {written}");
}

#[test]
fn what_was_dropped_is_told_as_json_among_json() {
    let (reader, writer) = pipe().unwrap();
    let k1s = forwarding("json").stdout_to(writer).start();
    k1s.run("j", &one_off("seq 1 20000"));
    let read = std::thread::spawn(move || everything(reader));
    wait_until("the loss is told", || k1s.stderr().contains("were dropped"));
    k1s.end();
    let lines = parsed(&read.join().unwrap());
    let passed = lines.iter().filter(|line| line["line"].is_string()).count() as u64;
    let dropped: u64 = lines.iter().filter_map(|line| line["droppedLines"].as_u64()).sum();
    assert_eq!(passed + dropped, 20_000);
}

#[test]
fn a_shared_stdout_stays_blocking() {
    let (reader, writer) = pipe().unwrap();
    let shared: OwnedFd = writer.try_clone().unwrap().into();
    let k1s = forwarding("raw").stdout_to(writer).start();
    k1s.run("j", &one_off("head -c 200000 /dev/zero"));
    let flags = fcntl(&shared, FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & OFlag::O_NONBLOCK.bits(), 0);
    drop(shared);
    let read = std::thread::spawn(move || everything(reader));
    k1s.end();
    assert_eq!(read.join().unwrap().len(), 200_000);
}

#[test]
fn a_stdout_that_takes_nothing_is_said_once_and_ends_nothing() {
    let check = |builder: Builder, said: usize| {
        let k1s = builder.start();
        for number in 0..20 {
            let result = k1s.run(&format!("j{number}"), &one_off("seq 1 1000"));
            assert_eq!(result["exitCode"], 0);
        }
        let switches = k1s.context_switches();
        stays_true("k1s rests", Duration::from_millis(1500), || {
            k1s.context_switches() <= switches + 5
        });
        let (_, stderr) = k1s.end();
        assert_eq!(stderr.matches("cannot write to stdout").count(), said, "{stderr}");
    };
    check(K1s::with().redirect(">&-"), 0);
    check(K1s::with().redirect(">/dev/null"), 0);
    check(K1s::with().redirect(">/dev/full"), 1);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    check(K1s::with().stdout_to(writer), 1);
}

#[test]
fn a_file_gets_all_of_it() {
    let builder = K1s::with();
    let path = builder.dir().join("out");
    let k1s = builder.stdout_to(File::create(&path).unwrap()).start();
    k1s.run("j", &one_off("seq 1 100000"));
    let dir = k1s.keep_dir();
    k1s.end();
    let wanted: String = (1..=100_000).map(|n| format!("j | {n}\n")).collect();
    assert!(fs::read_to_string(&path).unwrap() == wanted);
    drop(dir);
}

#[test]
fn a_reader_that_comes_back_is_written_to_again() {
    let builder = K1s::with();
    let path = builder.dir().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let open = |flags: OFlag| {
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty()).unwrap()
    };
    let first = open(OFlag::O_RDONLY);
    let k1s = builder.stdout_to(open(OFlag::O_WRONLY)).start();
    drop(first);
    k1s.run("lost", &one_off("echo lost"));
    wait_until("it is said", || k1s.stderr().contains("cannot write to stdout"));
    let mut second = File::from(open(OFlag::O_RDONLY));
    let mut text = String::new();
    let mut number = 0;
    wait_until("it is written to again", || {
        number += 1;
        k1s.run(&format!("again{number}"), &one_off("echo again"));
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = second.read(&mut buffer) {
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        text.contains(" | again\n")
    });
    assert!(text.starts_with("k1s: "), "{text}");
    assert!(text.lines().next().unwrap().contains("were dropped"), "{text}");
    assert!(!text.contains("lost"), "{text}");
}

#[test]
fn one_file_for_both_streams_has_whole_lines() {
    let k1s = K1s::with().redirect(">&2").config("[log]\nlevel = \"error\"").start();
    k1s.run("j", &one_off("seq 1 5000 & seq 5001 10000 >&2; wait"));
    let (_, stderr) = k1s.end();
    let numbers: BTreeSet<u32> = stderr
        .lines()
        .filter(|line| !line.contains("listening on"))
        .map(|line| line.strip_prefix("j | ").unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 10_000);
}

#[test]
fn messages_have_levels() {
    let at = |level: &str| {
        let k1s = K1s::with().config(&format!("[log]\nlevel = \"{level}\"")).start();
        k1s.run("good", &one_off("true"));
        k1s.run("bad", &one_off("exit 3"));
        k1s.run("missing", &with(one_off(""), json!({"executable": "no-such-program"})));
        k1s.delete("/job/good");
        k1s.end().1
    };
    let check = |level: &str, said: &[&str], not_said: &[&str]| {
        let stderr = at(level);
        assert!(stderr.contains("k1s: listening on http://"), "{stderr}");
        said.iter().for_each(|text| assert!(stderr.contains(text), "{level}: {text}: {stderr}"));
        not_said.iter().for_each(|text| assert!(!stderr.contains(text), "{level}: {stderr}"));
    };
    let errors = [
        "k1s: warning: job missing, run 1: could not be started: ",
        "k1s: warning: job bad, run 1: ended with exit code 3 after ",
    ];
    let info = [
        "k1s: job good: created by token default",
        "k1s: job good, run 1: ended with exit code 0 after ",
        "k1s: job good: removal requested by token default",
        "k1s: received SIGTERM",
        "k1s: shutting down",
        "k1s: shut down; exit code 0",
    ];
    let debug = "k1s: debug: job good: succeeded";
    check("error", &[], &[&errors, &info[..], &[debug]].concat());
    check("warn", &errors, &[&info[..], &[debug]].concat());
    check("info", &[&errors, &info[..]].concat(), &["good, run 1: started", debug]);
    check("debug", &[&errors, &info[..], &[debug, "run 1: started as process"]].concat(), &[]);
}

#[test]
fn a_failure_is_told_with_its_last_lines() {
    let k1s = K1s::with().config("[output]\nforward = \"none\"").start();
    let script =
        "for n in $(seq 30); do echo $n; done; printf 'no such \\033[31mtable' >&2; exit 3";
    k1s.run("bad", &one_off(script));
    k1s.run("good", &one_off("echo fine"));
    k1s.create("asked", &continuous("echo asked; exec sleep 1000"));
    k1s.in_state("asked", "running");
    k1s.put("/job/asked/kill");
    k1s.in_state("asked", "killed");
    let (_, stderr) = k1s.end();
    let (_, after) = stderr.split_once("job bad, run 1: ended with exit code 3 after ").unwrap();
    let told: Vec<&str> = after.lines().skip(1).take_while(|line| line.contains("bad")).collect();
    let mut wanted: Vec<String> =
        (12..=30).map(|n| format!("k1s: warning: job bad, run 1 | {n}")).collect();
    wanted.push("k1s: warning: job bad, run 1 | no such \\u{1b}[31mtable".to_owned());
    assert_eq!(told, wanted, "{stderr}");
    assert!(!stderr.contains("fine") && !stderr.contains("| asked"), "{stderr}");
}

/// A job that falls again and again does not flood the log.
#[test]
fn of_failures_in_a_row_the_first_and_the_last_are_told_with_their_lines() {
    let k1s = K1s::with().config("[output]\nforward = \"none\"").start();
    let restart = json!({"restart": {"maxRestarts": 20, "initialDelayMs": 0}});
    k1s.create("web", &with(continuous("echo try $K1S_RUN; exit 1"), restart));
    k1s.in_state("web", "failed");
    let (_, stderr) = k1s.end();
    let told: Vec<&str> = stderr.lines().filter(|line| line.contains(" | ")).collect();
    assert!(told.len() == 2, "{told:?}");
    assert!(told[0].starts_with("k1s: warning: job web, run 1 | try "), "{told:?}");
    assert!(told[1].starts_with("k1s: warning: job web, run 21 | try "), "{told:?}");
    assert_eq!(stderr.matches("k1s: warning: job web, run").count(), 4, "{stderr}");
    assert_eq!(stderr.matches("k1s: job web, run").count(), 19 + 1, "the rest, and its start");
}

#[test]
fn a_job_that_falls_and_rises_is_told_of() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("exit 7"));
    let said = |text: &str| wait_until(text, || k1s.stderr().contains(text));
    said("k1s: job web, run 1: started as process ");
    said("k1s: warning: job web, run 1: ended with exit code 7 after ");
    said("k1s: job web, run 2: ended with exit code 7 after ");
    said("k1s: job web: restarting in 1");
    k1s.put("/job/web/kill");
    said("k1s: job web: kill requested");
}

#[test]
fn messages_may_be_json() {
    let k1s = K1s::with().config("[log]\nformat = \"json\"\nlevel = \"debug\"").start();
    k1s.run("bad", &one_off("echo one; echo two; exit 3"));
    let (_, stderr) = k1s.end();
    let lines = parsed(&stderr);
    for line in &lines {
        crate::harness::milliseconds(&line["time"]);
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let bad = lines.iter().find(|line| line["level"] == "warn" && line["job"] == "bad").unwrap();
    assert_eq!((&bad["run"], &bad["output"]), (&json!(1), &json!(["one", "two"])));
    assert!(bad["message"].as_str().unwrap().starts_with("ended with exit code 3"), "{bad}");
}

#[test]
fn ignored_signals_are_noted_once() {
    let k1s = K1s::start();
    for _ in 0..3 {
        for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE] {
            k1s.signal(signal);
        }
        assert_eq!(k1s.get("/healthz").status, 200);
    }
    wait_until("all are noted", || k1s.stderr().matches("is ignored").count() >= 3);
    let (_, stderr) = k1s.end();
    for name in ["SIGUSR1", "SIGUSR2", "SIGPIPE"] {
        assert_eq!(stderr.matches(&format!("{name} is ignored")).count(), 1, "{stderr}");
    }
}

fn everything(mut reader: PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}
