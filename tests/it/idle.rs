//! k1s at rest costs nothing.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Asking, K1s, continuous, cron, is_alive, one_off, send_signal, skip, wait_until, with,
};

#[test]
fn without_jobs_nothing_happens() {
    let k1s = K1s::start();
    k1s.rests(WINDOW);
    k1s.get("/");
    k1s.get("/metrics");
    k1s.rests(WINDOW);
}

#[test]
fn with_a_unix_socket_nothing_happens() {
    let start = K1s::with();
    let path = start.dir().join("k1s.sock");
    let k1s = start.env("K1S_SOCKET", path.to_str().unwrap()).start();
    k1s.rests(WINDOW);
    let mut command = k1s.client_command(&["ps"]);
    command.env("K1S_URL", format!("unix://{}", path.display())).env_remove("K1S_AUTH_TOKEN");
    assert_eq!(Asking::start(command).end().code, Some(0));
    k1s.rests(WINDOW);
}

#[test]
fn with_jobs_that_run_nothing_happens() {
    let k1s = K1s::start();
    for number in 0..50 {
        k1s.create(&format!("c{number}"), &continuous("exec sleep 1000"));
        k1s.create(&format!("o{number}"), &one_off("echo x"));
    }
    for number in 0..50 {
        k1s.in_state(&format!("o{number}"), "succeeded");
        k1s.in_state(&format!("c{number}"), "running");
    }
    k1s.rests(WINDOW);
}

#[test]
fn with_log_files_that_nobody_writes_to_nothing_happens() {
    let k1s = K1s::start();
    let file = json!({"output": {"file": {"path": "x.log"}}});
    k1s.create("x", &with(continuous("echo x; exec sleep 1000"), file));
    k1s.wait_for_file("x.log");
    k1s.rests(WINDOW);
}

#[test]
fn with_runs_that_have_said_that_they_are_ready_nothing_happens() {
    let k1s = K1s::start();
    let script = "echo ready >&3; exec sleep 1000";
    k1s.create("fd", &with(continuous(script), json!({"readiness": {"fd": 3}})));
    let silent = with(continuous("exec sleep 1000"), json!({"readiness": {"notify": true}}));
    k1s.create("notify", &silent);
    wait_until("it is ready", || k1s.job("fd")["ready"] == true);
    k1s.in_state("notify", "running");
    k1s.rests(WINDOW);
}

#[test]
fn with_a_state_directory_nothing_happens() {
    for sync in ["always", "os"] {
        let start = K1s::with();
        let directory = start.dir().join("state");
        let state = format!("[state]\ndirectory = {directory:?}\nsync = \"{sync}\"");
        let start = start.config(&state);
        let k1s = start.clone().start();
        k1s.rests(WINDOW);
        k1s.create("c", &continuous("exec sleep 1000"));
        k1s.create("d", &cron("true", 1000));
        for round in 0..30 {
            k1s.create(&format!("o{round}"), &one_off("echo x"));
            k1s.in_state(&format!("o{round}"), "succeeded");
        }
        let left = k1s.pid_of("c");
        k1s.rests(WINDOW);
        send_signal(k1s.pid(), Signal::SIGKILL);
        k1s.exit();
        let k1s = start.start();
        let again = k1s.pid_of("c");
        assert!(again != left && !is_alive(left), "what was left is gone");
        k1s.rests(WINDOW);
    }
}

#[test]
fn memory_of_jobs_that_are_gone_is_given_back() {
    let k1s = K1s::start();
    let before = k1s.anonymous();
    let spec = with(cron("true", 3600), json!({"labels": {"text": "x".repeat(4096)}}));
    for number in 0..2000 {
        k1s.create(&format!("d{number}"), &spec);
    }
    let full = k1s.anonymous();
    assert!(full > before + 8 * 1024 * 1024, "{before} {full}");
    for number in 0..2000 {
        k1s.delete(&format!("/job/d{number}"));
    }
    wait_until("it is given back", || k1s.anonymous() < before + 3 * 1024 * 1024);
}

#[test]
fn after_kills_and_removals_nothing_happens() {
    let k1s = K1s::start();
    for number in 0..20 {
        k1s.create(&format!("c{number}"), &continuous("exec sleep 1000"));
        k1s.create(&format!("d{number}"), &cron("true", 1));
    }
    for number in 0..20 {
        k1s.put(&format!("/job/c{number}/kill"));
        k1s.delete(&format!("/job/d{number}"));
    }
    wait_until("all are down", || k1s.descendants().is_empty());
    k1s.rests(WINDOW);
}

#[test]
fn it_is_one_thread() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.pid_of("x");
    let tasks = fs::read_dir(format!("/proc/{}/task", k1s.pid())).unwrap().count();
    assert_eq!(tasks, 1);
}

#[test]
fn after_many_runs_the_fds_are_as_at_the_start() {
    let k1s = K1s::start();
    let Ok(before) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    for number in 0..300 {
        let payload = match number % 3 {
            0 => json!({"type": "one-off", "executable": "true"}),
            1 => json!({"type": "one-off", "executable": "/no/such/program"}),
            _ => one_off("echo out; echo err >&2; exit 1"),
        };
        k1s.create(&format!("x{number}"), &payload);
    }
    let all_over = || {
        let jobs = k1s.get("/").json();
        let mut jobs = jobs.as_array().unwrap().iter();
        jobs.all(|job| job["results"].as_array().unwrap().len() == 1)
    };
    wait_until("all have a result", all_over);
    wait_until("no process is left, no zombie either", || k1s.descendants().is_empty());
    wait_until("no fd is left", || k1s.open_fds().unwrap() == before);
    k1s.rests(WINDOW);
}

/// How long k1s must sleep.
const WINDOW: Duration = Duration::from_millis(1500);
