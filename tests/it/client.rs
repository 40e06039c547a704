//! The client: each of its commands with the real binary, and what it says when k1s refuses or is
//! not there.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Asking, Finished, K1s, TempDir, continuous, cron, is_alive, one_off, send_signal, wait_until,
    with,
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
    // Without any of them: the port, where there is no socket.
    let runtime = TempDir::new();
    let mut command = k1s.client_command(&["ps"]);
    command.env_remove("K1S_URL").env("PORT", free.port().to_string());
    command.env("XDG_RUNTIME_DIR", runtime.path());
    let finished = Asking::start(command).end();
    if !std::path::Path::new("/run/k1s.sock").exists() {
        check_refused(&finished, 3, &wanted);
    }
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
    assert!(shown.contains("\"team\": \"\\u{202e}a\""), "{shown}");
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
    check_refused(&json.end(), 3, "connection refused");
}
