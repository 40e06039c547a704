//! The client: each of its commands with the real binary, and what it says when k1s refuses or is
//! not there.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Asking, Builder, Finished, K1s, TempDir, Terminal, continuous, cron, is_alive, one_off,
    send_signal, skip, wait_for, wait_until, with,
};

/// The client of a command that must fail: its exit code, and what it says on stderr.
#[track_caller]
fn check_refused(finished: &Finished, code: i32, wanted: &str) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert!(finished.stderr.contains(wanted), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
}

/// The words of each line of a table, without its headings.
fn rows(table: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    table.lines().skip(1).map(words).collect()
}

// ---- Where k1s is, and what it refuses ----

#[test]
fn k1s_that_is_not_there_is_said_with_the_place() {
    let k1s = K1s::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wanted = format!("k1s: k1s cannot be reached at http://{free}: connection refused");
    let url = format!("http://{free}");
    check_refused(&k1s.client(&["ps", "--url", &url]), 3, &wanted);
    let mut command = k1s.client_command(&["ps"]);
    command.env("K1S_URL", &url);
    check_refused(&Asking::start(command).end(), 3, &wanted);
    // Without any of them: the port, where there is to be no socket.
    let runtime = TempDir::new();
    let mut command = k1s.client_command(&["ps"]);
    command.env_remove("K1S_URL").env("PORT", free.port().to_string());
    check_refused(&Asking::start(command).end(), 3, &wanted);
    let url = format!("unix://{}/k1s.sock", runtime.path().display());
    let finished = k1s.client(&["ps", "--url", &url]);
    check_refused(&finished, 3, &format!("cannot be reached at {url}: there is no such socket"));
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let k1s = K1s::start();
    let with_token = |token: &str, arguments: &[&str]| {
        let mut command = k1s.client_command(arguments);
        command.env("K1S_AUTH_TOKEN", token);
        Asking::start(command).end()
    };
    let wanted = "Unauthorized: the token is missing or wrong; give it in K1S_AUTH_TOKEN or by";
    check_refused(&with_token("wrong", &["ps"]), 1, wanted);
    check_refused(&with_token("", &["ps"]), 1, wanted);
    let file = k1s.dir().join("token");
    fs::write(&file, format!("{}\n", k1s.token())).unwrap();
    assert_eq!(with_token("wrong", &["ps", "--token-file", "token"]).code, Some(0));
    fs::write(&file, "a b").unwrap();
    check_refused(&k1s.client(&["ps", "--token-file", "token"]), 2, "visible ASCII");
    check_refused(&k1s.client(&["ps", "--token-file", "none"]), 2, "--token-file none: ");
}

#[test]
fn what_is_wrong_in_the_environment_is_not_passed_over() {
    let k1s = K1s::start();
    for (name, value, wanted) in [
        ("K1S_URL", &b"\xff"[..], "K1S_URL: is not UTF-8"),
        ("K1S_AUTH_TOKEN", b"\xff", "K1S_AUTH_TOKEN: is not UTF-8"),
        ("PORT", b"\xff", "PORT: is not UTF-8"),
        ("PORT", b"x", "PORT: \"x\" is not a port"),
        ("K1S_SOCKET", b"run/k1s.sock", "must be an absolute path, not \"run/k1s.sock\""),
    ] {
        let mut command = k1s.client_command(&["ps"]);
        command.env_remove("K1S_URL").env(name, OsStr::from_bytes(value));
        check_refused(&Asking::start(command).end(), 2, wanted);
    }
}

/// Answers everything with these bytes, and closes the connection.
fn answer_all(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn what_says_yes_to_everything_and_is_no_k1s_is_not_asked_for_ever() {
    let k1s = K1s::start();
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<p>Hello\n</p>\n";
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{";
    for (asking, command, wanted) in [
        (page, &["events"][..], "does not speak like k1s"),
        (broken, &["events"], "the connection ended before the answer did"),
        (broken, &["logs", "-f", "web"], "the connection ended before the answer did"),
        (broken, &["run", "web", "--wait"], "the connection ended before the answer did"),
    ]
    .map(|(answer, command, wanted)| {
        let url = answer_all(answer);
        (k1s.start_client(&[command, &["--url", &url]].concat()), command, wanted)
    }) {
        let finished = asking.end();
        assert_eq!(finished.code, Some(3), "{command:?}: {finished:?}");
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(wanted), "{command:?}: {finished:?}");
    }
}

#[test]
fn what_is_wrong_with_the_command_line_is_exit_code_2() {
    let k1s = K1s::start();
    for (arguments, wanted) in [
        (&["kill"][..], "which jobs? Give their ids, or -l NAME=VALUE"),
        (&["kill", "-l", "a=b", "web"], "not both"),
        (&["wait", "web", "--for", "never"], "must be ready, ended or succeeded"),
        (&["wait", "web", "--timeout", "-1"], "must be a number of seconds"),
        (&["ps", "--url", "http://example.org"], "has a host that is a name"),
        (&["show"], "ID"),
    ] {
        check_refused(&k1s.client(arguments), 2, wanted);
    }
    check_refused(&k1s.client(&["ps", "-l", "a"]), 1, "label: must be name=value");
    for arguments in [&["show", "no/such"][..], &["ps", "no/such"], &["kill", "no/such"]] {
        check_refused(&k1s.client(arguments), 1, "no/such: Job not found");
    }
    k1s.create("worker", &continuous("exec sleep 1000"));
    let finished = k1s.client(&["show", "wroker"]);
    check_refused(&finished, 1, "wroker: Job not found; did you mean worker?");
}

#[test]
fn a_pipe_that_closes_is_no_error() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("exec sleep 1000"));
    for arguments in [&["ps"][..], &["show", "web"], &["ps", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = k1s.client_command(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
}

#[test]
fn a_pipe_that_closes_ends_what_follows_while_nothing_happens() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("echo up; exec sleep 1000"));
    k1s.pid_of("web");
    for arguments in [
        &["logs", "-f", "web"][..],
        &["logs", "-f", "--json", "web"],
        &["events", "--json"],
        &["ps", "-w"],
    ] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = k1s.client_command(arguments);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        let status = wait_for("it ends", || child.try_wait().unwrap());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // What goes to a file has a reader.
    let file = k1s.dir().join("out");
    let mut command = k1s.client_command(&["logs", "-f", "web"]);
    let mut child = command.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    wait_until("it is written", || fs::read(&file).unwrap() == b"up\n");
    k1s.delete("/job/web");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

// ---- What there is ----

#[test]
fn ps_lists_jobs_and_why_they_are_as_they_are() {
    let k1s = K1s::start();
    assert_eq!(rows(&k1s.told(&["ps"])), Vec::<Vec<String>>::new());
    let slow = json!({"restart": {"initialDelayMs": 60_000, "maxDelayMs": 60_000},
        "labels": {"team": "a"}});
    k1s.create("web", &with(continuous("exec sleep 1000"), json!({"labels": {"team": "a"}})));
    k1s.create("bad", &with(continuous("exit 3"), slow));
    k1s.create("tick", &cron("true", 7200));
    k1s.run("done", &one_off("kill -9 $$"));
    k1s.in_state("bad", "backoff");
    let pid = k1s.pid_of("web").to_string();
    let table = k1s.told(&["ps"]);
    let headings: Vec<&str> = table.lines().next().unwrap().split("  ").collect();
    assert_eq!(headings[0], "ID");
    let rows = rows(&table);
    assert_eq!(rows[0][..4], ["web", "continuous", "running", &*pid].map(str::to_owned));
    assert_eq!(rows[1][..3], ["bad", "continuous", "backoff"].map(str::to_owned));
    let bad = table.lines().nth(2).unwrap();
    assert!(bad.contains("3, ") && bad.contains("s ago"), "{bad}");
    assert!(bad.contains("  starts again in "), "{bad}");
    let tick = table.lines().nth(3).unwrap();
    assert!(tick.contains("scheduled") && tick.contains("in 1h59m"), "{tick}");
    let done = table.lines().nth(4).unwrap();
    assert!(done.contains("failed") && done.contains("SIGKILL, "), "{done}");
    // Some of them.
    let ids = |arguments: &[&str]| -> Vec<String> {
        let table = k1s.told(arguments);
        self::rows(&table).into_iter().map(|row| row[0].clone()).collect()
    };
    assert_eq!(ids(&["ps", "-l", "team=a"]), ["web", "bad"]);
    assert_eq!(ids(&["ps", "done", "web"]), ["done", "web"]);
    let json: Value = serde_json::from_str(&k1s.told(&["ps", "--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
    let json: Value = serde_json::from_str(&k1s.told(&["ps", "web", "--json"])).unwrap();
    assert_eq!(json["id"], "web");
}

#[test]
fn show_says_why_a_job_is_as_it_is() {
    let k1s = K1s::start();
    let script = "echo before >&2; printf 'cannot bind\\033[31m\\n'; exit 3";
    k1s.run("bad", &with(one_off(script), json!({"labels": {"team": "\u{202e}a"}})));
    let shown = k1s.told(&["show", "bad"]);
    assert!(shown.starts_with("bad  one-off  failed\nended with exit code 3 after "), "{shown}");
    assert!(shown.contains("\n  1  created  3 "), "{shown}");
    assert!(shown.contains("\nthe last lines of run 1:\n"), "{shown}");
    assert!(
        shown.contains("  before\n") && shown.contains("  cannot bind\\u{1b}[31m\n"),
        "{shown}"
    );
    assert!(shown.contains("{\"team\":\"\\u{202e}a\"}"), "{shown}");
    assert!(shown.contains("\"executable\": \"/bin/sh\""), "{shown}");
    let json: Value = serde_json::from_str(&k1s.told(&["show", "bad", "--json"])).unwrap();
    assert_eq!(json["results"][0]["exitCode"], 3);
    // As many runs as are asked for.
    k1s.create("tick", &cron("exit 7", 3600));
    for run in 1..=3 {
        k1s.told(&["run", "tick"]);
        k1s.results("tick", run);
    }
    let shown = k1s.told(&["show", "tick", "-n", "2"]);
    assert!(shown.contains("\nnext run: "), "{shown}");
    let runs = shown.lines().filter(|line| line.contains("  request  7 ")).count();
    assert_eq!(runs, 2, "{shown}");
}

// ---- The verbs ----

#[test]
fn each_verb_is_done_and_waited_for() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("trap 'sleep 0.1; exit' TERM; while :; do sleep 0.02; done"));
    let first = k1s.pid_of("web");
    assert_eq!(k1s.told(&["kill", "web", "--wait"]), "Kill requested for job web\n");
    assert_eq!(k1s.job("web")["state"], "killed");
    assert!(!is_alive(first));
    assert_eq!(k1s.told(&["start", "web", "--wait"]), "Start requested for job web\n");
    let second = k1s.job("web");
    assert_eq!(second["state"], "running");
    assert_eq!(k1s.told(&["restart", "web", "--wait"]), "Restart requested for job web\n");
    let third = k1s.job("web");
    assert_eq!(third["state"], "running");
    assert_ne!(third["pid"], second["pid"]);
    assert_eq!(k1s.told(&["rm", "web", "--wait"]), "Kill requested for job web\n");
    assert!(!is_alive(u32::try_from(third["pid"].as_u64().unwrap()).unwrap()));
    assert_eq!(k1s.get("/job/web").status, 404);
}

#[test]
fn run_waits_for_the_end_of_the_run_that_was_asked_for() {
    let k1s = K1s::start();
    k1s.create("tick", &cron("sleep 0.1; echo $K1S_RUN >>ran; exit $(cat code)", 3600));
    fs::write(k1s.dir().join("code"), "0").unwrap();
    assert_eq!(k1s.told(&["run", "tick", "--wait"]), "Run requested for job tick\n");
    assert_eq!(fs::read_to_string(k1s.dir().join("ran")).unwrap().lines().count(), 1);
    fs::write(k1s.dir().join("code"), "4").unwrap();
    let finished = k1s.client(&["run", "tick", "--wait"]);
    check_refused(&finished, 1, "tick: run 2 ended with exit code 4 after ");
    k1s.create("nowhere", &json!({"type": "cron", "executable": "/no/where"}));
    let finished = k1s.client(&["run", "nowhere", "--wait"]);
    check_refused(&finished, 1, "nowhere: run 1 could not be started");
}

#[test]
fn a_signal_is_sent_by_its_name() {
    let k1s = K1s::start();
    let script = "trap 'echo usr1 >>got' USR1; trap 'echo hup >>got' HUP; echo >up;
        while :; do sleep 0.02; done";
    k1s.create("web", &continuous(script));
    k1s.wait_for_file("up");
    let got = || fs::read_to_string(k1s.dir().join("got")).unwrap_or_default();
    assert_eq!(k1s.told(&["signal", "usr1", "web"]), "Signal requested for job web\n");
    wait_until("it came", || got() == "usr1\n");
    k1s.told(&["signal", "SIGHUP", "web"]);
    wait_until("it came", || got() == "usr1\nhup\n");
    check_refused(&k1s.client(&["signal", "SIGNOTHING", "web"]), 1, "web: signal: ");
}

#[test]
fn a_verb_is_for_all_jobs_with_a_label_and_goes_on_after_a_failure() {
    let k1s = K1s::start();
    for id in ["a", "b"] {
        k1s.create(id, &with(continuous("exec sleep 1000"), json!({"labels": {"of": "x"}})));
    }
    k1s.create("c", &continuous("exec sleep 1000"));
    let told = k1s.told(&["kill", "-l", "of=x", "--wait"]);
    assert_eq!(told, "Kill requested for job a\nKill requested for job b\n");
    assert_eq!(k1s.job("c")["state"], "running");
    let finished = k1s.client(&["start", "none", "a", "nor", "--json"]);
    assert_eq!(finished.code, Some(1));
    assert_eq!(finished.stderr, "k1s: none: Job not found\nk1s: nor: Job not found\n");
    let said: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(said, json!({"message": "Start requested for job a"}));
    k1s.in_state("a", "running");
    assert_eq!(k1s.job("b")["state"], "killed");
}

#[test]
fn jobs_with_a_label_are_asked_at_once_and_stopped_in_order() {
    let k1s = K1s::start();
    let labels = json!({"labels": {"of": "x"}});
    let script = "trap 'echo $K1S_JOB >>stopped; exit' TERM; echo >up-$K1S_JOB;
        while :; do sleep 0.02; done";
    let needs = json!({"dependsOn": {"db": "started"}});
    k1s.create("db", &with(continuous(script), labels.clone()));
    k1s.create("app", &with(with(continuous(script), labels.clone()), needs));
    k1s.run("done", &with(one_off("true"), labels));
    k1s.wait_for_file("up-db");
    k1s.wait_for_file("up-app");
    // The one that is over has nothing to do.
    let finished = k1s.client(&["kill", "-l", "of=x", "--wait"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    assert_eq!(finished.stdout, "Kill requested for job db\nKill requested for job app\n");
    assert_eq!(fs::read_to_string(k1s.dir().join("stopped")).unwrap(), "app\ndb\n");
    let said: Value = serde_json::from_str(&k1s.told(&["start", "-l", "of=x", "--json"])).unwrap();
    assert_eq!(said, json!({"jobs": ["db", "app", "done"]}));
    k1s.in_state("app", "running");
    let told = k1s.told(&["signal", "URG", "-l", "of=x"]);
    assert_eq!(told, "Signal requested for job db\nSignal requested for job app\n");
    assert_eq!(k1s.told(&["rm", "-l", "of=x", "--wait"]).lines().count(), 3);
    assert_eq!(k1s.get("/").json(), json!([]));
    let finished = k1s.client(&["kill", "-l", "of=x"]);
    assert_eq!(finished.stderr, "k1s: no job with of=x to kill\n");
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
    check_refused(&k1s.client(&["kill", "-l", "a"]), 1, "label: must be name=value");
}

#[test]
fn runs_of_several_jobs_are_waited_for_side_by_side() {
    let k1s = K1s::start();
    k1s.create("a", &cron("echo >of-a; while [ ! -e of-b ]; do sleep 0.01; done", 3600));
    k1s.create("b", &cron("echo >of-b; while [ ! -e of-a ]; do sleep 0.01; done; exit 4", 3600));
    let finished = k1s.client(&["run", "a", "b", "--wait"]);
    check_refused(&finished, 1, "b: run 1 ended with exit code 4");
    assert_eq!(finished.stdout, "Run requested for job a\nRun requested for job b\n");
    // One that is named twice runs twice, and is waited for once.
    k1s.create("c", &with(cron("true", 3600), json!({"concurrencyPolicy": "allow"})));
    assert_eq!(k1s.told(&["run", "c", "c", "--wait"]).lines().count(), 2);
}

#[test]
fn the_end_of_an_earlier_run_is_not_that_of_the_run_that_was_asked_for() {
    let k1s = K1s::start();
    let script = "echo >up; [ -e go ] || exec sleep 1000; sleep 0.2";
    k1s.create("tick", &with(cron(script, 3600), json!({"concurrencyPolicy": "replace"})));
    k1s.told(&["run", "tick"]);
    k1s.wait_for_file("up");
    fs::write(k1s.dir().join("go"), "").unwrap();
    k1s.told(&["run", "tick", "--wait"]);
    assert_eq!(k1s.job("tick")["results"].as_array().unwrap().len(), 2);
}

// ---- Waiting ----

#[test]
fn wait_ends_as_the_job_does() {
    let k1s = K1s::start();
    k1s.create("task", &one_off("while [ ! -e go ]; do sleep 0.01; done; exit 7"));
    assert_eq!(k1s.client(&["wait", "task", "--for", "ready"]).code, Some(0));
    let finished = k1s.client(&["wait", "task", "--timeout", "0.05"]);
    check_refused(&finished, 1, "task: is not yet ended: running: has been running for ");
    let waiting = k1s.start_client(&["wait", "task"]);
    let succeeding = k1s.start_client(&["wait", "task", "--for", "succeeded"]);
    fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(waiting.end().code, Some(7));
    check_refused(&succeeding.end(), 1, "task: will not be succeeded: failed: ended with exit");
    k1s.run("fine", &one_off("true"));
    assert_eq!(k1s.client(&["wait", "fine"]).code, Some(0));
    assert_eq!(k1s.client(&["wait", "fine", "--for", "succeeded"]).code, Some(0));
    let said = k1s.told(&["wait", "fine", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["state"], "succeeded");
    check_refused(&k1s.client(&["wait", "none"]), 1, "none: Job not found");
}

// ---- Events ----

#[test]
fn events_are_shown_as_they_happen() {
    let k1s = K1s::start();
    k1s.create("other", &continuous("exec sleep 1000"));
    let all = k1s.start_client(&["events"]);
    let json = k1s.start_client(&["events", "task", "--json"]);
    wait_until("it listens", || json.stdout().contains("\"event\":\"snapshot\""));
    // A line of the first client says that it listens as well.
    wait_until("the first listens", || {
        k1s.put("/job/other/start");
        all.stdout().contains("requested")
    });
    k1s.run("task", &one_off("echo no >&2; printf '\\033[2J'; exit 3"));
    wait_until("it is shown", || all.stdout().contains("task  run 1: ended with exit code 3"));
    assert!(all.stdout().contains("\n  | no\n"), "{}", all.stdout());
    assert!(!all.stdout().contains('\u{1b}'), "{}", all.stdout());
    wait_until("it is said", || json.stdout().contains("\"event\":\"finished\""));
    let said = json.stdout();
    let names: Vec<String> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().into())
        .collect();
    assert_eq!(names, ["snapshot", "created", "started", "exited", "finished"]);
    send_signal(all.pid(), Signal::SIGINT);
    assert_eq!(all.end().code, None);
    // k1s says that it ends; whoever follows tries for a while, and says where.
    k1s.end();
    wait_until("the end is said", || json.stdout().contains("\"event\":\"shutdown\""));
    let finished = json.end();
    assert_eq!(finished.code, Some(3));
    let said: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(said.len(), 2, "{finished:?}");
    assert!(said[0].ends_with("connection refused; waiting for it, 10 s at most"), "{said:?}");
    assert!(said[1].ends_with("connection refused"), "{said:?}");
}

// ---- Logs ----

#[test]
fn logs_of_one_job_are_its_bytes() {
    let k1s = K1s::start();
    let script = "printf 'run %s\\n\\377\\033[2Jx' \"${K1S_RUN##*.}\"; echo e >&2";
    k1s.create("tick", &cron(script, 3600));
    for run in 1..=2 {
        k1s.told(&["run", "tick"]);
        k1s.results("tick", run);
    }
    let bytes = |arguments: &[&str]| k1s.client_command(arguments).output().unwrap().stdout;
    assert_eq!(bytes(&["logs", "tick", "--stream", "stdout"]), b"run 2\n\xff\x1b[2Jx");
    assert_eq!(bytes(&["logs", "tick", "--stream", "stderr"]), b"e\n");
    let first = bytes(&["logs", "tick", "--run", "1", "--stream", "stdout"]);
    assert_eq!(first, b"run 1\n\xff\x1b[2Jx");
    let last = bytes(&["logs", "tick", "--stream", "stdout", "-n", "1"]);
    assert_eq!(last, b"\xff\x1b[2Jx");
    let said = k1s.told(&["logs", "tick", "--run", "1", "--json", "-n", "1"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["run"], 1);
    check_refused(&k1s.client(&["logs", "tick", "--run", "9"]), 1, "tick: The output of run 9");
    check_refused(&k1s.client(&["logs", "tick", "--stream", "x"]), 1, "stream: must be one of");
    check_refused(&k1s.client(&["logs", "none"]), 1, "none: Job not found");
    check_refused(&k1s.client(&["logs"]), 2, "whose logs?");
}

#[test]
fn logs_of_several_jobs_are_in_the_order_of_time() {
    let k1s = K1s::start();
    k1s.run("one", &one_off("echo first"));
    k1s.run("three", &one_off("echo second; printf rest"));
    k1s.run("one-more", &one_off("echo third"));
    let told = k1s.told(&["logs", "one-more", "one", "three"]);
    let wanted = "one      | first\nthree    | second\nthree    | rest\none-more | third\n";
    assert_eq!(told, wanted);
    let told = k1s.told(&["logs", "one", "three", "--json"]);
    let said: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[0]["job"], &said[0]["line"]), (&json!("one"), &json!("first")));
    assert_eq!(said.len(), 3);
}

#[test]
fn logs_are_followed_over_restarts_until_the_job_is_removed() {
    let k1s = K1s::start();
    let script = "echo run ${K1S_RUN##*.}; while [ ! -e go ]; do sleep 0.01; done; rm go";
    k1s.create("web", &continuous(script));
    let following = k1s.start_client(&["logs", "-f", "web"]);
    for run in 1..=3 {
        let line = format!("run {run}\n");
        wait_until(&line, || following.stdout().ends_with(&line));
        fs::write(k1s.dir().join("go"), "").unwrap();
    }
    wait_until("run 4", || following.stdout().ends_with("run 4\n"));
    k1s.delete("/job/web");
    let finished = following.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stdout, "run 1\nrun 2\nrun 3\nrun 4\n");
    // One run alone ends by itself.
    k1s.create("task", &one_off("echo 1; while [ ! -e go ]; do sleep 0.01; done; echo 2"));
    k1s.pid_of("task");
    let one = k1s.start_client(&["logs", "-f", "--run", "1", "task"]);
    let json = k1s.start_client(&["logs", "-f", "--run", "1", "--json", "task"]);
    let other = k1s.start_client(&["logs", "-f", "-n", "0", "task", "none"]);
    for asking in [&one, &json] {
        wait_until("its first line is shown", || asking.stdout().contains('1'));
    }
    fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(one.end().stdout, "1\n2\n");
    assert_eq!(json.end().stdout.lines().count(), 2);
    k1s.results("task", 1);
    k1s.delete("/job/task");
    check_refused(&other.end(), 1, "none: Job not found");
}

/// Between the client and k1s; it ends each connection after so many bytes of an answer.
fn breaking_proxy(k1s: &K1s, after: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (listener.local_addr().unwrap(), k1s.address());
    let pass = move |mut client: TcpStream| {
        let mut server = TcpStream::connect(to).unwrap();
        let (mut asking, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut asking, &mut asked));
        let (mut buffer, mut passed) = ([0; 256], 0);
        while passed < after
            && let Ok(length @ 1..) = server.read(&mut buffer)
            && client.write_all(&buffer[..length]).is_ok()
        {
            passed += length;
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || pass(client.unwrap()));
        }
    });
    format!("http://{address}")
}

#[test]
fn what_is_followed_goes_on_after_a_connection_has_broken_off() {
    let k1s = K1s::start();
    let script = "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo line $i; sleep 0.001; done;
        exec sleep 1000";
    k1s.create("web", &continuous(script));
    let url = breaking_proxy(&k1s, 4000);
    let logs = k1s.start_client(&["logs", "-f", "web", "--url", &url]);
    let events = k1s.start_client(&["events", "--json", "--url", &url]);
    let expected: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    wait_until("each line is there once", || logs.stdout() == expected);
    wait_until("it listens", || events.stdout().contains("snapshot"));
    for _ in 0..40 {
        k1s.put("/job/web/start");
    }
    let count = |event: &str| events.stdout().lines().filter(|line| line.contains(event)).count();
    wait_until("each event is there", || count("\"requested\"") >= 40);
    assert_eq!((count("\"requested\""), count("\"snapshot\"")), (40, 1));
}

/// A k1s that starts again in the same place, its unix socket, with a state directory or without.
fn with_socket(state: bool) -> Builder {
    let start = K1s::with();
    let path = |name: &str| start.dir().join(name).to_str().unwrap().to_owned();
    let (socket, directory) = (path("k1s.sock"), path("state"));
    let start = start.env("K1S_SOCKET", &socket);
    if state { start.env("K1S_STATE", &directory) } else { start }
}

/// A command that looks for k1s by itself: at the socket, and at a port of another k1s.
fn start_at_socket(k1s: &K1s, other: &K1s, arguments: &[&str]) -> Asking {
    let mut command = k1s.client_command(arguments);
    command.env_remove("K1S_URL").env("K1S_AUTH_TOKEN", "of-neither");
    command.env("PORT", other.address().port().to_string());
    command.env("K1S_SOCKET", k1s.dir().join("k1s.sock"));
    Asking::start(command)
}

/// Kills k1s, and what it leaves behind.
fn kill_k1s(k1s: K1s) {
    let left = k1s.descendants();
    send_signal(k1s.pid(), Signal::SIGKILL);
    assert_eq!(k1s.exit().0.code(), None);
    for process in left {
        send_signal(process.pid, Signal::SIGKILL);
    }
}

#[test]
fn whoever_follows_stays_at_the_socket_while_k1s_starts_again() {
    let other = K1s::start();
    let start = with_socket(true);
    let k1s = start.clone().start();
    k1s.create("web", &continuous("echo up ${K1S_RUN##*.}; exec sleep 1000"));
    k1s.create("db", &continuous("exec sleep 1000"));
    let logs = start_at_socket(&k1s, &other, &["logs", "-f", "web"]);
    let events = start_at_socket(&k1s, &other, &["events"]);
    let ps = start_at_socket(&k1s, &other, &["ps", "-w", "db"]);
    wait_until("it is followed", || logs.stdout() == "up 1\n");
    wait_until("it is listed", || ps.stdout().contains("running"));
    wait_until("it listens", || {
        k1s.put("/job/db/start");
        events.stdout().contains("requested")
    });
    kill_k1s(k1s);
    let waits = |asking: &Asking| asking.stderr().contains("; waiting for it, 10 s at most\n");
    wait_until("they say that they wait", || waits(&logs) && waits(&events) && waits(&ps));
    let k1s = start.start();
    wait_until("it is followed again", || logs.stdout() == "up 1\nup 2\n");
    k1s.pid_of("db");
    k1s.put("/job/db/kill");
    wait_until("it is told again", || events.stdout().contains("db  run 2: "));
    wait_until("it is listed again", || ps.stdout().contains("killed"));
    k1s.delete("/job/web");
    let finished = logs.end();
    let said: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!((finished.code, said.len()), (Some(0), 2), "{finished:?}");
    assert_eq!(said[1], "k1s: web: lines were lost when k1s was killed; how many is not known");
    send_signal(events.pid(), Signal::SIGINT);
    let finished = events.end();
    assert!(finished.stderr.ends_with("k1s: some events were missed\n"), "{finished:?}");
}

#[test]
fn waits_end_although_their_events_are_lost_with_k1s() {
    let other = K1s::start();
    let start = with_socket(true);
    let k1s = start.clone().start();
    let script = "trap 'echo >asked-$K1S_JOB' TERM; echo >up-$K1S_JOB;
        while :; do sleep 0.02; done";
    let stop = json!({"stop": {"timeoutSeconds": 0.5}});
    k1s.create("tick", &with(cron(script, 3600), stop.clone()));
    k1s.create("gone", &with(continuous(script), json!({"stop": {"timeoutSeconds": 600}})));
    k1s.wait_for_file("up-gone");
    let run = start_at_socket(&k1s, &other, &["run", "tick", "--wait"]);
    let removal = start_at_socket(&k1s, &other, &["rm", "gone", "--wait"]);
    k1s.wait_for_file("up-tick");
    k1s.wait_for_file("asked-gone");
    wait_until("they wait", || !run.stdout().is_empty() && !removal.stdout().is_empty());
    kill_k1s(k1s);
    let _k1s = start.start();
    let finished = run.end();
    let wanted = "k1s: tick: run 1 was lost, because k1s was killed while it ran\n";
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.ends_with(wanted), "{finished:?}");
    assert_eq!(removal.end().code, Some(0));
}

#[test]
fn waits_end_although_k1s_has_forgotten_their_jobs() {
    let other = K1s::start();
    let jobs = r#"
        [job.declared]
        type = "cron"
        executable = "sleep"
        arguments = ["1000"]
        [job.here]
        type = "continuous"
        executable = "sleep"
        arguments = ["1000"]
        stop = { signal = "SIGURG", timeout_seconds = 600 }
    "#;
    let start = with_socket(false).config(jobs);
    let k1s = start.clone().start();
    k1s.create("created", &cron("exec sleep 1000", 3600));
    k1s.pid_of("here");
    let runs = ["declared", "created"].map(|id| {
        let run = start_at_socket(&k1s, &other, &["run", id, "--wait"]);
        k1s.pid_of(id);
        wait_until("it waits", || !run.stdout().is_empty());
        run
    });
    let removal = start_at_socket(&k1s, &other, &["rm", "here", "--wait"]);
    wait_until("it waits", || !removal.stdout().is_empty());
    kill_k1s(k1s);
    let _k1s = start.start();
    let [declared, created] = runs.map(Asking::end);
    let removal = removal.end();
    for (finished, wanted) in [
        (declared, "k1s: declared: run 1 is lost: k1s has started again meanwhile\n"),
        (created, "k1s: created: is not there any more: k1s has started again meanwhile\n"),
        (removal, "k1s: here: is there again: k1s has started again meanwhile\n"),
    ] {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.ends_with(wanted), "{finished:?}");
    }
}

// ---- Exec ----

#[test]
fn exec_is_as_if_the_command_were_run_here() {
    let k1s = K1s::start();
    let script = "printf 'out\\377'; printf 'err\\0' >&2; printf %s \"$A\"; exit 7";
    let arguments = ["exec", "--rm", "-e", "A=b=c", "-e", "B=", "--", "sh", "-c", script];
    let output = k1s.client_command(&arguments).output().unwrap();
    assert_eq!(output.stdout, b"out\xffb=c");
    assert_eq!(output.stderr, b"err\0");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(k1s.get("/").json(), json!([]));
    // What it prints is not passed on to k1s's own output.
    assert!(!k1s.stdout().contains("out"));
    // A lot of output, and none of it lost.
    let mut command = k1s.client_command(&["exec", "--", "head", "-c", "6000000", "/dev/zero"]);
    let output = command.output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (6_000_000, 0));
    let jobs = k1s.get("/?output=false").json();
    let id = jobs[0]["id"].as_str().unwrap();
    assert!(id.starts_with("exec-"), "{id}");
    // With a name, and what cannot be started.
    let finished = k1s.client(&["exec", "--name", "x", "--", "/no/where"]);
    check_refused(&finished, 127, "x: executable /no/where: ");
    check_refused(&k1s.client(&["exec", "--name", "x", "true"]), 1, "x: Job with id x already");
    check_refused(&k1s.client(&["exec"]), 2, "exec needs a command");
    check_refused(&k1s.client(&["exec", "-e", "A", "true"]), 2, "\"A\" must be NAME=VALUE");
    let said = k1s.told(&["exec", "--json", "--name", "y", "--", "echo", "hi"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["results"][0]["exitCode"], 0);
    // In the background.
    assert_eq!(k1s.told(&["exec", "-d", "--name", "z", "--", "sleep", "1000"]), "z\n");
    assert_eq!(k1s.in_state("z", "running")["output"]["forward"], true);
}

#[test]
fn exec_shows_output_as_it_comes() {
    let k1s = K1s::start();
    let script = "printf 'no newline'; while [ ! -e go ]; do sleep 0.01; done; echo ' yet'";
    let asking = k1s.start_client(&["exec", "--", "sh", "-c", script]);
    wait_until("it is shown", || asking.stdout() == "no newline");
    fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(asking.end().stdout, "no newline yet\n");
}

#[test]
fn an_interrupt_of_exec_stops_the_command_and_a_second_kills_it() {
    let k1s = K1s::start();
    let start = |id: &str, trap: &str| {
        let script = format!("trap {trap} TERM; echo up; while :; do sleep 0.02; done");
        let asking = k1s.start_client(&["exec", "--name", id, "--", "sh", "-c", &script]);
        wait_until("it is up", || asking.stdout().contains("up"));
        asking
    };
    let polite = start("polite", "'echo bye; exit 3'");
    send_signal(polite.pid(), Signal::SIGINT);
    let finished = polite.end();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), "up\nbye\n"));
    let stubborn = start("stubborn", "'echo no'");
    send_signal(stubborn.pid(), Signal::SIGTERM);
    wait_until("it was asked", || stubborn.stdout().contains("no"));
    send_signal(stubborn.pid(), Signal::SIGINT);
    assert_eq!(stubborn.end().code, Some(137));
}

#[test]
fn exec_ends_with_the_reader_of_its_output() {
    let k1s = K1s::start();
    let mut command = k1s.client_command(&["exec", "--name", "yes", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pipe = child.stdout.take().unwrap();
    let output = Command::new("head").args(["-n", "1"]).stdin(pipe).output().unwrap();
    assert_eq!(output.stdout, b"y\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    k1s.in_state("yes", "killed");
}

#[test]
fn exec_fails_when_its_output_cannot_be_written() {
    let k1s = K1s::start();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = k1s.client_command(&["exec", "--name", "x", "--", "sh", "-c"]);
    command.args(["echo hi; exec sleep 1000"]).stdout(full).stderr(Stdio::piped());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("k1s: cannot write to stdout: No space left"), "{said}");
    k1s.in_state("x", "killed");
}

// ---- Changing jobs ----

const JOBS: &str = r#"
[http]
port = 1
[defaults]
environment = { LEVEL = "info" }
[job.web]
type = "continuous"
executable = "sleep"
arguments = ["1000"]
working_directory = "sub"
[job.worker]
type = "continuous"
executable = "sleep"
arguments = ["1000"]
instances = 2
"#;

#[test]
fn apply_creates_and_replaces_the_jobs_of_a_file() {
    let k1s = K1s::start();
    fs::create_dir(k1s.dir().join("sub")).unwrap();
    // Directories are those of k1s, wherever the client is.
    let elsewhere = TempDir::new();
    let file = elsewhere.path().join("jobs.toml");
    fs::write(&file, JOBS).unwrap();
    let apply = |arguments: &[&str]| {
        let mut command = k1s.client_command(&["apply", "-f", "jobs.toml"]);
        command.args(arguments).current_dir(elsewhere.path());
        Asking::start(command).end()
    };
    let dry = "web: created (dry run)\nworker:0: created (dry run)\nworker:1: created (dry run)\n";
    assert_eq!(apply(&["--dry-run"]).stdout, dry);
    assert_eq!(k1s.get("/").json(), json!([]));
    assert_eq!(apply(&[]).stdout, "web: created\nworker:0: created\nworker:1: created\n");
    let web = k1s.in_state("web", "running");
    assert_eq!(web["workingDirectory"], k1s.dir().join("sub").to_str().unwrap());
    assert_eq!(web["environment"], json!({"LEVEL": "info"}));
    let worker = k1s.in_state("worker:1", "running");
    assert_eq!(worker["workingDirectory"], k1s.dir().to_str().unwrap());
    assert_eq!(worker["labels"], json!({"instances": "worker"}));
    fs::write(&file, JOBS.replace("[\"1000\"]\nworking", "[\"2000\"]\nworking")).unwrap();
    assert_eq!(apply(&[]).stdout, "web: replaced\nworker:0: unchanged\nworker:1: unchanged\n");
    fs::write(&file, JOBS.replace("executable", "excutable")).unwrap();
    check_refused(&apply(&[]), 2, "jobs.toml:8: job.web.excutable: unknown field; did you mean");
}

#[test]
fn apply_reads_toml_and_json_from_pipes() {
    let k1s = K1s::start();
    fs::create_dir(k1s.dir().join("sub")).unwrap();
    let json = r#"[ {"id": "task", "type": "one-off", "executable": "true"} ]"#;
    let apply = |file: &str, text: &str| {
        let mut command = k1s.client_command(&["apply", "-f", file]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Finished { code: output.status.code(), stdout, stderr }
    };
    // A shell's `<(…)` is of the second kind.
    for (file, done) in [("-", "created"), ("/dev/fd/0", "unchanged")] {
        let wanted = ["web", "worker:0", "worker:1"].map(|id| format!("{id}: {done}\n"));
        assert_eq!(apply(file, JOBS.trim()).stdout, wanted.concat());
        assert_eq!(apply(file, json).stdout, format!("task: {done}\n"));
        for (text, wanted) in [
            ("", "is empty; it must be TOML"),
            (" \n", "is empty"),
            ("[job.x]\ntype = \"no\"", ":2: job.x.type: "),
            ("[job.x]\ntype = \"cron\"\nexcutable = 1", ":3: job.x.excutable: unknown field"),
            ("[{\"id\": 1}]", "job 1 has no id"),
            ("{\"id\"", "EOF while parsing"),
        ] {
            let finished = apply(file, text);
            check_refused(&finished, 2, wanted);
            assert!(finished.stderr.starts_with(&format!("k1s: {file}:")), "{finished:?}");
        }
    }
}

#[test]
fn apply_takes_what_the_api_shows() {
    let k1s = K1s::start();
    k1s.create("a", &continuous("exec sleep 1000"));
    k1s.create("b", &one_off("true"));
    let file = |name: &str, text: &str| fs::write(k1s.dir().join(name), text).unwrap();
    file("jobs.json", &k1s.told(&["ps", "--json"]));
    assert_eq!(k1s.told(&["apply", "-f", "jobs.json"]), "a: unchanged\nb: unchanged\n");
    file("one.json", &k1s.told(&["show", "a", "--json"]).replace("sleep 1000", "sleep 999"));
    assert_eq!(k1s.told(&["apply", "-f", "one.json"]), "a: replaced\n");
    let said = k1s.told(&["apply", "-f", "one.json", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["message"], "Job unchanged");
    // One is refused, and the others are done.
    file("some.json", r#"[{"id": "x"}, {"id": "b", "type": "one-off", "executable": "false"}]"#);
    let finished = k1s.client(&["apply", "-f", "some.json"]);
    check_refused(&finished, 1, "x: type: is required: ");
    assert_eq!(finished.stdout, "b: replaced\n");
    for (text, wanted) in [
        ("[{}]", "some.json: job 1 has no id"),
        ("{", "some.json: EOF while parsing"),
        ("x", "some.json:1:"),
    ] {
        file("some.json", text);
        check_refused(&k1s.client(&["apply", "-f", "some.json"]), 2, wanted);
    }
    check_refused(&k1s.client(&["apply", "-f", "none.json"]), 2, "none.json: No such file");
}

#[test]
fn set_changes_variables_and_nothing_else() {
    let k1s = K1s::start();
    let payload = with(continuous("exec sleep 1000"), json!({"environment": {"A": "1", "B": "2"}}));
    k1s.create("web", &payload);
    let before = k1s.in_state("web", "running");
    assert_eq!(k1s.told(&["set", "web", "A=3", "--dry-run"]), "web: replaced (dry run)\n");
    assert_eq!(k1s.told(&["set", "web", "A=1"]), "web: unchanged\n");
    assert_eq!(k1s.job("web")["pid"], before["pid"]);
    assert_eq!(k1s.told(&["set", "web", "A=x=y", "C="]), "web: replaced\n");
    assert_eq!(k1s.job("web")["environment"], json!({"A": "x=y", "B": "2", "C": ""}));
    check_refused(&k1s.client(&["set", "web"]), 2, "which variables?");
    check_refused(&k1s.client(&["set", "web", "=x"]), 2, "must be NAME=VALUE");
    check_refused(&k1s.client(&["set", "none", "A=1"]), 1, "none: Job not found");
}

// ---- Terminals ----

/// What is printed on a terminal of this size, line by line, without what it obeys.
fn on_terminal(k1s: &K1s, arguments: &[&str], columns: u16) -> (Vec<String>, String) {
    let (asking, terminal) = k1s.client_on_terminal(arguments, 24, columns);
    let finished = asking.end();
    drop(terminal);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    (plain(&finished.stdout).lines().map(str::to_owned).collect(), finished.stdout)
}

/// A text without the sequences of ECMA-48.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        before + &part[end..]
    })
}

#[test]
fn tables_fit_the_terminal_and_states_have_colours_there() {
    let k1s = K1s::start();
    let slow = json!({"restart": {"initialDelayMs": 60_000, "maxDelayMs": 60_000}});
    k1s.create("a-job-with-a-long-name", &continuous("exec sleep 1000"));
    k1s.create("bad", &with(continuous("exit 3"), slow));
    k1s.in_state("bad", "backoff");
    k1s.pid_of("a-job-with-a-long-name");
    for columns in [60, 80, 100, 200] {
        let (lines, raw) = on_terminal(&k1s, &["ps"], columns);
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            assert!(line.chars().count() <= columns.into(), "{columns}: {line:?}");
        }
        assert!(raw.contains("\u{1b}[32mrunning\u{1b}[0m"), "{raw:?}");
        assert!(raw.contains("\u{1b}[33mbackoff\u{1b}[0m"), "{raw:?}");
    }
    let (lines, _) = on_terminal(&k1s, &["ps"], 200);
    assert!(lines[2].contains("starts again in "), "{lines:?}");
    // Not where nobody wants them.
    for (name, value, asked) in
        [("NO_COLOR", "1", "ps"), ("TERM", "dumb", "ps"), ("TERM", "dumb", "top")]
    {
        let script = format!("{name}={value} exec timeout 60 \"$0\" {asked}");
        let mut command = k1s.client_command(&[]);
        let mut shell = Command::new("script");
        shell.args(["-qec", &format!("sh -c '{script}' {}", crate::harness::BINARY), "/dev/null"]);
        shell.envs(command.env("TERM", "xterm").get_envs().filter_map(|(k, v)| Some((k, v?))));
        let Ok(output) = shell.stdin(Stdio::null()).output() else {
            skip!("there is no script(1)");
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let is_plain = said.contains("running") && !said.contains('\u{1b}');
        assert!(is_plain, "{name} {asked}: {said:?}");
    }
    assert!(!k1s.told(&["ps"]).contains('\u{1b}'));
}

#[test]
fn ps_is_drawn_again_on_each_change() {
    let k1s = K1s::start();
    let (asking, terminal) = k1s.client_on_terminal(&["ps", "-w"], 24, 100);
    wait_until("there is nothing", || plain(&asking.stdout()).contains("ID"));
    k1s.create("web", &continuous("exec sleep 1000"));
    wait_until("it runs", || plain(&asking.stdout()).contains("web  continuous  running"));
    k1s.put("/job/web/kill");
    wait_until("it is killed", || plain(&asking.stdout()).contains("web  continuous  killed"));
    send_signal(asking.pid(), Signal::SIGINT);
    assert_eq!(asking.end().code, None);
    drop(terminal);
    // In a pipe, one table after the other.
    let asking = k1s.start_client(&["ps", "-w", "web"]);
    wait_until("it is killed", || asking.stdout().contains("killed"));
    k1s.told(&["start", "web"]);
    wait_until("it runs", || {
        asking.stdout().ends_with('\n') && asking.stdout().contains("running")
    });
    assert!(!asking.stdout().contains('\u{1b}'));
}

#[test]
fn top_shows_cpu_and_memory_until_a_key_ends_it() {
    let k1s = K1s::start();
    k1s.create("busy", &continuous("while :; do :; done"));
    k1s.create("idle", &continuous("exec sleep 1000"));
    k1s.pid_of("idle");
    let (asking, terminal) = k1s.client_on_terminal(&["top"], 24, 100);
    let screen = || plain(asking.stdout().rsplit("\u{1b}[H").next().unwrap_or_default());
    let row = |id: &str| -> Vec<String> {
        let screen = screen();
        let line = screen.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let figure = |id: &str| row(id).get(2).and_then(|it| it.parse::<f64>().ok()).unwrap_or(-1.0);
    wait_until("the busy one is first", || figure("busy") > 5.0 && figure("idle") == 0.0);
    assert!(screen().starts_with("2 jobs, 2 running; CPU "), "{}", screen());
    assert!(row("busy")[3].ends_with(['K', 'M']), "{:?}", row("busy"));
    let first = |id: &str| screen().lines().nth(2).is_some_and(|line| line.starts_with(id));
    assert!(first("busy"));
    k1s.create("abc", &continuous("exec sleep 1000"));
    terminal.type_in("i");
    wait_until("they are sorted by id", || first("abc"));
    terminal.resize(12, 40);
    terminal.type_in("m");
    wait_until("it fits the new size", || {
        screen().lines().count() == 5 && screen().lines().all(|line| line.chars().count() <= 40)
    });
    terminal.resize(2, 40);
    terminal.type_in("m");
    wait_until("it fits two lines", || screen().lines().count() == 2);
    terminal.type_in("q");
    let finished = asking.end();
    assert_eq!(finished.code, Some(0));
    assert!(
        finished.stdout.starts_with("\u{1b}[?1049h") && finished.stdout.ends_with("\u{1b}[?1049l")
    );
    drop(terminal);
    // In a pipe: once.
    let told = k1s.told(&["top"]);
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(k1s.told(&["top", "--json"]).contains("k1s_job_cpu_seconds_total"));
}

#[test]
fn the_terminal_is_as_it_was_when_a_signal_ends_top() {
    let k1s = K1s::start();
    let cooked = Terminal::open().settings();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let (asking, terminal) = k1s.client_on_terminal(&["top"], 24, 80);
        wait_until("it is drawn", || asking.stdout().contains("0 jobs"));
        assert_ne!(terminal.settings(), cooked);
        send_signal(asking.pid(), signal);
        let finished = asking.end();
        assert_eq!(finished.code, None, "{signal}");
        assert_eq!(terminal.settings(), cooked, "{signal}");
        assert!(finished.stdout.ends_with(LEFT), "{signal}: {:?}", finished.stdout);
    }
}

#[test]
fn the_terminal_is_as_it_was_while_top_is_stopped() {
    let k1s = K1s::start();
    let cooked = Terminal::open().settings();
    let (asking, terminal) = k1s.client_on_terminal(&["top"], 24, 80);
    wait_until("it is drawn", || asking.stdout().contains("0 jobs"));
    terminal.type_in("\u{1a}");
    let stat = format!("/proc/{}/stat", asking.pid());
    wait_until("it is stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
    assert_eq!(terminal.settings(), cooked);
    wait_until("its screen is left", || asking.stdout().ends_with(LEFT));
    send_signal(asking.pid(), Signal::SIGCONT);
    wait_until("it is drawn again", || {
        let stdout = asking.stdout();
        stdout.rsplit(LEFT).next().is_some_and(|since| since.contains("0 jobs"))
    });
    assert_ne!(terminal.settings(), cooked);
    terminal.type_in("q");
    assert_eq!(asking.end().code, Some(0));
    assert_eq!(terminal.settings(), cooked);
}

/// What leaves the screen of its own.
const LEFT: &str = "\u{1b}[?25h\u{1b}[?1049l";

// ---- Completions ----

/// What a shell offers for a line, by a script that prints it; `None` where there is no such shell.
fn completed(k1s: &K1s, shell: &str, script: &str) -> Option<Vec<String>> {
    let bin = k1s.dir().join("bin");
    let _ = fs::create_dir(&bin);
    let _ = std::os::unix::fs::symlink(crate::harness::BINARY, bin.join("k1s"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let client = k1s.client_command(&[]);
    let mut command = Command::new(shell);
    command.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.env("PATH", path).args(["-c", script]).output().ok()?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// Completions of lines, with what each shell is to offer.
const COMPLETED: [(&str, &[&str]); 5] = [
    ("k1s resta", &["restart"]),
    ("k1s show we", &["web"]),
    ("k1s kill web worker:", &["worker:0", "worker:1"]),
    ("k1s logs --stream ", &["stdout", "stderr"]),
    ("k1s wait --f", &["--for"]),
];

fn check_completions(shell: &str, script: impl Fn(&str) -> String) {
    let k1s = K1s::start();
    for id in ["web", "worker:0", "worker:1"] {
        k1s.create(id, &continuous("exec sleep 1000"));
    }
    for (line, wanted) in COMPLETED {
        match completed(&k1s, shell, &script(line)) {
            // fish sorts them.
            Some(found) => {
                let sorted = |mut words: Vec<String>| {
                    words.sort();
                    words
                };
                let wanted = wanted.iter().map(|word| (*word).to_owned()).collect();
                assert_eq!(sorted(found), sorted(wanted), "{line}");
            }
            None => skip!(format!("there is no {shell} here")),
        }
    }
}

#[test]
fn bash_completes_commands_and_ids() {
    check_completions("bash", |line| {
        // What bash sets; it keeps what stands before the last colon.
        format!(
            "source <(k1s completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
             COMP_WORDBREAKS=' '; _k1s; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
    });
    let k1s = K1s::start();
    k1s.create("worker:0", &continuous("exec sleep 1000"));
    let script = "source <(k1s completions bash); COMP_LINE='k1s show worker:'
        COMP_POINT=${#COMP_LINE}; _k1s; printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p k1s";
    if let Some(found) = completed(&k1s, "bash", script) {
        assert_eq!(found[0], "0");
        assert_eq!(found[1..], ["complete", "-o", "default", "-F", "_k1s", "k1s"]);
    }
}

#[test]
fn zsh_completes_commands_and_ids() {
    check_completions("zsh", |line| {
        format!(
            "compdef() {{ }}; compadd() {{ shift; print -l -- \"$@\"; }}; _files() {{ }}
             eval \"$(k1s completions zsh)\"; words=(\"${{(@s. .):-{line}}}\"); CURRENT=$#words; _k1s"
        )
    });
}

#[test]
fn fish_completes_commands_and_ids() {
    check_completions("fish", |line| {
        format!("k1s completions fish | source; complete -C '{line}' | cut -f 1")
    });
}

#[test]
fn completions_know_all_commands_and_options() {
    let k1s = K1s::start();
    let words = |line: &[&str]| k1s.told(&[&["completions", "words", "--"], line].concat());
    let help = k1s.told(&["--help"]);
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let commands = listed.lines().take_while(|line| line.starts_with("  "));
    let commands: Vec<&str> = commands
        .filter(|line| !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() > 15, "{help}");
    let known = words(&[""]);
    let readme = include_str!("../../README.md");
    for command in commands {
        assert!(readme.contains(&format!("`k1s {command}")), "{command} is not in README.md");
        assert!(known.lines().any(|word| word == command), "{command} is not completed");
        let help = k1s.told(&[command, "--help"]);
        let options = words(&[command, "-"]);
        for option in
            help.lines().filter_map(|line| line.split_whitespace().find(|w| w.starts_with("--")))
        {
            let option = option.trim_end_matches([',', ']']);
            let is_known = option == "--" || options.lines().any(|word| word == option);
            assert!(is_known, "{option} of {command} is not completed: {options}");
        }
    }
    check_refused(&k1s.client(&["completions", "tcsh"]), 2, "\"tcsh\" must be bash, zsh or fish");
}

#[test]
fn reload_says_what_was_done() {
    let job = |id: &str, seconds: u32| {
        format!(
            "[job.{id}]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"{seconds}\"]\n"
        )
    };
    let before = [job("a", 1000), job("b", 1000), job("c", 1000)].concat();
    let k1s = K1s::with().config(&before).start();
    let config = k1s.dir().join("k1s.toml");
    let text = fs::read_to_string(&config).unwrap();
    let after = [job("a", 1000), job("b", 2000), job("d", 1000)].concat();
    fs::write(&config, text.replace(&before, &after)).unwrap();
    let done = "d: added\nc: removed\nb: replaced\n1 unchanged";
    assert_eq!(k1s.told(&["reload", "--dry-run"]), format!("{done} (dry run)\n"));
    assert_eq!(k1s.told(&["reload"]), format!("{done}\n"));
    assert_eq!(k1s.get("/job/c").status, 404);
    let said: Value = serde_json::from_str(&k1s.told(&["reload", "--json"])).unwrap();
    assert_eq!(said["unchanged"], 3);
    fs::write(&config, "x").unwrap();
    check_refused(&k1s.client(&["reload"]), 1, "k1s.toml:1:");
    check_refused(&k1s.client(&["reload", "--dry-run", "a"]), 2, "--dry-run is for the config");
}

#[test]
fn jobs_reload_what_they_have_read() {
    let k1s = K1s::start();
    let script = "trap 'echo hup >>got' HUP; echo >up; while :; do sleep 0.02; done";
    k1s.create("web", &with(continuous(script), json!({"labels": {"of": "x"}})));
    k1s.wait_for_file("up");
    let got = || fs::read_to_string(k1s.dir().join("got")).unwrap_or_default();
    assert_eq!(k1s.told(&["reload", "web"]), "Reload requested for job web\n");
    wait_until("it came", || got() == "hup\n");
    assert_eq!(k1s.told(&["reload", "-l", "of=x"]), "Reload requested for job web\n");
    wait_until("it came again", || got() == "hup\nhup\n");
    check_refused(&k1s.client(&["reload", "none"]), 1, "none: Job not found");
}
