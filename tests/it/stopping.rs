//! How all processes of a job are stopped.
//!
//! The tests count processes as descendants of k1s, which inherits every orphan.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Builder, K1s, Process, both_ways, cannot_unshare, continuous, cron, is_alive, one_off,
    send_signal, skip, stays_true, wait_until, with,
};

both_ways! {
    stopped_processes_are_woken_to_end
    what_has_left_the_session_is_stopped_with_the_job
    what_has_left_the_session_is_killed_when_its_grace_is_over
    what_has_left_the_session_is_asked_before_it_is_killed
    what_former_runs_have_left_is_stopped_with_the_job
    what_a_run_has_left_that_is_over_goes_with_its_job
    what_an_ended_job_has_left_goes_before_it_starts_again
    what_another_job_has_left_is_spared
    the_next_run_starts_when_the_group_is_empty
    a_job_is_known_by_its_processes_not_by_its_id
    the_end_of_one_stop_does_not_hide_what_another_looks_for
    with_the_scope_process_workers_are_left_to_the_first_process
    with_the_scope_process_what_is_left_is_asked_then
    a_daemon_without_an_environment_goes_with_its_job
    a_k1s_in_a_k1s_stops_its_own
}

/// The ways to ask a job to end.
const WAYS: [fn(&K1s); 3] = [
    |k1s| assert_eq!(k1s.put("/job/x/kill").status, 200),
    |k1s| assert_eq!(k1s.delete("/job/x").status, 200),
    |k1s| k1s.signal(Signal::SIGTERM),
];

/// The descendants of k1s, when there are so many.
fn processes(k1s: &K1s, count: usize) -> Vec<Process> {
    wait_until("all processes are there", || k1s.descendants().len() == count);
    k1s.descendants()
}

fn are_gone(k1s: &K1s) {
    wait_until("nothing is left", || k1s.descendants().is_empty());
}

/// With a grace period of an hour, which no test waits for.
fn with_an_hour(payload: Value) -> Value {
    with(payload, json!({"stop": {"timeoutSeconds": 3600}}))
}

fn stopped_processes_are_woken_to_end(start: Builder) {
    let k1s = start.start();
    k1s.create("x", &with_an_hour(continuous("sleep 1000 & sleep 1000 & wait")));
    for process in processes(&k1s, 3) {
        send_signal(process.pid, Signal::SIGSTOP);
    }
    k1s.put("/job/x/kill");
    assert_eq!(k1s.in_state("x", "killed")["results"][0]["signal"], "SIGTERM");
    are_gone(&k1s);
}

/// Processes in their own sessions: a child, an orphan, the child of an orphan, and a child without
/// an environment.
const LEAVERS: &str = "setsid sleep 1000 &
    (setsid sleep 1000 &)
    (setsid sh -c 'setsid sleep 1000 & wait' &)
    env -i /usr/bin/env setsid /bin/sleep 1000 &
    wait";

fn what_has_left_the_session_is_stopped_with_the_job(start: Builder) {
    for ask in WAYS {
        let k1s = start.clone().config("[shutdown]\ntimeout_seconds = 3600").start();
        k1s.create("x", &with_an_hour(continuous(LEAVERS)));
        wait_until("all sleep", || sleeping(&k1s) == 4);
        let all = k1s.descendants();
        ask(&k1s);
        wait_until("all are gone", || !all.iter().any(|process| is_alive(process.pid)));
    }
}

fn sleeping(k1s: &K1s) -> usize {
    let is_sleep = |process: &&Process| {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid));
        name.is_ok_and(|name| name.trim() == "sleep")
    };
    k1s.descendants().iter().filter(is_sleep).count()
}

fn what_has_left_the_session_is_killed_when_its_grace_is_over(start: Builder) {
    for ask in WAYS {
        let k1s = start.clone().config("[shutdown]\ntimeout_seconds = 0.2").start();
        let leftover = "(setsid sh -c 'trap \"\" TERM; echo >up; while :; do sleep 0.02; done' &)";
        let payload = continuous(&format!("{leftover}; exec sleep 1000"));
        k1s.create("x", &with(payload, json!({"stop": {"timeoutSeconds": 0.2}})));
        k1s.wait_for_file("up");
        let all = k1s.descendants();
        let dir = k1s.keep_dir();
        ask(&k1s);
        wait_until("all are gone", || !all.iter().any(|process| is_alive(process.pid)));
        fs::remove_file(dir.path().join("up")).unwrap();
    }
}

fn what_has_left_the_session_is_asked_before_it_is_killed(start: Builder) {
    let k1s = start.start();
    let trap = "trap \"echo >asked\" TERM; echo >up; while :; do sleep 0.02; done";
    // Its pipes are closed when the first process ends: a word of the shell's would end it.
    let payload = continuous(&format!("(setsid sh -c '{trap}' 2>/dev/null &); exec sleep 1000"));
    k1s.create("x", &with_an_hour(payload));
    k1s.wait_for_file("up");
    k1s.put("/job/x/kill");
    k1s.wait_for_file("asked");
    // The first process has ended, but there is a leftover: the job is not over.
    k1s.results("x", 1);
    assert_eq!(k1s.job("x")["state"], "stopping");
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    are_gone(&k1s);
}

fn what_former_runs_have_left_is_stopped_with_the_job(start: Builder) {
    // A run ends when one of its processes has left the group.
    let script = "echo >>runs; : >>left; [ $(wc -l <runs) -ge 4 ] && exec sleep 1000
        (setsid sh -c 'echo >>left; exec sleep 1000' &)
        while [ $(wc -l <left) -lt $(wc -l <runs) ]; do sleep 0.01; done";
    for ask in WAYS {
        let k1s = start.clone().start();
        let quick = json!({"restart": {"initialDelayMs": 0}});
        k1s.create("x", &with_an_hour(with(continuous(script), quick)));
        wait_until("three leftovers and the fourth run", || sleeping(&k1s) == 4);
        let all = processes(&k1s, 4);
        let dir = k1s.keep_dir();
        ask(&k1s);
        wait_until("all are gone", || !all.iter().any(|process| is_alive(process.pid)));
        for name in ["runs", "left"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}

fn what_a_run_has_left_that_is_over_goes_with_its_job(start: Builder) {
    let k1s = start.start();
    let script = "rm -f left; (setsid sh -c 'echo >left; exec sleep 1000' &)
        while [ ! -e left ]; do sleep 0.01; done";
    for (id, payload) in [("once", one_off(script)), ("cron", cron(script, 3600))] {
        k1s.create(id, &with_an_hour(payload));
        if id == "cron" {
            k1s.put("/job/cron/run");
        }
        k1s.results(id, 1);
        processes(&k1s, 1);
        k1s.delete(&format!("/job/{id}"));
        are_gone(&k1s);
    }
}

/// The daemon of an earlier run lived on next to the new one, and kept its port.
fn what_an_ended_job_has_left_goes_before_it_starts_again(start: Builder) {
    let k1s = start.start();
    let script = "rm -f left; (setsid sh -c 'echo >left; exec sleep 1000' &)
        while [ ! -e left ]; do sleep 0.01; done";
    let other = with_an_hour(one_off("true")).to_string();
    for (target, body) in [("/job/x/restart", ""), ("/job/x", &other)] {
        k1s.create("x", &with_an_hour(one_off(script)));
        k1s.results("x", 1);
        let old = processes(&k1s, 1);
        assert_eq!(k1s.request("PUT", target, body.as_bytes()).status, 200);
        k1s.results("x", 2);
        assert!(!is_alive(old[0].pid), "{target}");
        k1s.delete("/job/x");
        are_gone(&k1s);
    }
}

fn what_another_job_has_left_is_spared(start: Builder) {
    let k1s = start.start();
    for id in ["x", "x.1", "y"] {
        k1s.create(id, &with_an_hour(continuous("(setsid sleep 1000 &); exec sleep 1000")));
    }
    wait_until("all sleep", || sleeping(&k1s) == 6);
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    processes(&k1s, 4);
    k1s.delete("/job/x.1");
    processes(&k1s, 2);
}

fn the_next_run_starts_when_the_group_is_empty(start: Builder) {
    let k1s = start.start();
    let script = "if [ -e left ]; then kill -0 $(cat left) 2>/dev/null && echo left >second; \
        echo >>second; exec sleep 1000; fi; sleep 1000 & echo $! >left";
    k1s.create("x", &with_an_hour(continuous(script)));
    let second = || fs::read_to_string(k1s.dir().join("second")).unwrap_or_default();
    wait_until("the second run", || second().ends_with('\n'));
    assert_eq!(second(), "\n");
}

/// A new job of the same id has runs with the same numbers.
fn a_job_is_known_by_its_processes_not_by_its_id(start: Builder) {
    let k1s = start.start();
    let stubborn = "(setsid sh -c 'trap \"\" TERM; echo >up; sleep 1000; sleep 1000' &)
        while [ ! -e up ]; do sleep 0.01; done; exec sleep 1000";
    k1s.create("x", &with(continuous(stubborn), json!({"stop": {"timeoutSeconds": 0.3}})));
    k1s.wait_for_file("up");
    k1s.delete("/job/x");
    k1s.create("x", &continuous("exec sleep 2000"));
    assert_eq!(k1s.job("x")["state"], "waiting");
    k1s.in_state("x", "running");
    processes(&k1s, 1);
}

/// The child of a leftover, without an environment, is known only by its parent, until that ends.
fn the_end_of_one_stop_does_not_hide_what_another_looks_for(start: Builder) {
    let k1s = start.start();
    let child = "trap \"\" TERM; echo >up; sleep 1000; sleep 1000";
    fs::write(k1s.dir().join("child"), child).unwrap();
    let leftover = "env -i /bin/sh ./child & exec sleep 1000";
    let script = format!("(setsid sh -c '{leftover}' &); while [ ! -e up ]; do sleep 0.01; done");
    k1s.create("x", &with(one_off(&script), json!({"stop": {"timeoutSeconds": 1}})));
    k1s.results("x", 1);
    let left = "rm -f left; (setsid sh -c 'echo >left; exec sleep 1000' &)
        while [ ! -e left ]; do sleep 0.01; done";
    k1s.create("y", &with_an_hour(one_off(left)));
    k1s.results("y", 1);
    for id in ["x", "y"] {
        k1s.delete(&format!("/job/{id}"));
    }
    are_gone(&k1s);
}

#[test]
fn as_pid_1_it_ends_also_what_nothing_tells_of() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().pid1().start();
    // Without an environment, and without a parent, before anything is stopped.
    k1s.create("x", &continuous("(env -i setsid sleep 1000 &); exec sleep 1000"));
    wait_until("both sleep", || sleeping(&k1s) == 2);
    let all = k1s.descendants();
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    wait_until("nothing survives", || !all.iter().any(|process| is_alive(process.pid)));
}

/// Celery, gunicorn, PostgreSQL: the first process ends its workers when their work is done.
fn with_the_scope_process_workers_are_left_to_the_first_process(start: Builder) {
    let k1s = start.start();
    let worker = "trap \"echo >lost\" TERM; echo >up; while [ ! -e end ]; do sleep 0.02; done";
    let script =
        format!("trap 'echo >end; wait; exit 3' TERM; sh -c '{worker}; echo >done' & wait");
    let scope = json!({"stop": {"scope": "process", "timeoutSeconds": 3600}});
    k1s.create("x", &with(continuous(&script), scope));
    k1s.wait_for_file("up");
    k1s.put("/job/x/kill");
    let job = k1s.in_state("x", "killed");
    assert_eq!(job["results"][0]["exitCode"], 3);
    assert!(k1s.dir().join("done").exists());
    assert!(!k1s.dir().join("lost").exists());
}

/// Leftovers of the first process are asked when it has ended.
fn with_the_scope_process_what_is_left_is_asked_then(start: Builder) {
    let k1s = start.start();
    let worker = "trap \"echo >asked; exit\" TERM; echo >up; while :; do sleep 0.02; done";
    let script = format!("sh -c '{worker}' 2>/dev/null & exec sleep 1000");
    let scope = json!({"stop": {"scope": "process", "timeoutSeconds": 3600}});
    k1s.create("x", &with(continuous(&script), scope));
    k1s.wait_for_file("up");
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    assert!(k1s.dir().join("asked").exists());
    are_gone(&k1s);
}

/// A chain in which each process forks, starts its own session and ends, for ever. Each look found
/// the last link gone and reported that nothing was left, and the chain lived on.
#[test]
fn a_chain_of_forks_is_not_taken_for_gone() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    if !has_python() {
        skip!("there is no python3");
    }
    let link = "import os,time\nif os.fork(): time.sleep(1000)\nos.setsid()\nwhile True:\n if os.fork(): os._exit(0)\n os.setsid()\n open('alive','a').write('x')";
    for round in 0..20 {
        let k1s = K1s::with().pid1().start();
        let fields = json!({"stop": {"timeoutSeconds": 0.2}, "executable": "python3", "arguments": ["-c", link]});
        k1s.create("x", &with(one_off(""), fields));
        k1s.wait_for_file("alive");
        match round % 2 {
            0 => {
                k1s.put("/job/x/kill");
            }
            _ => {
                k1s.delete("/job/x");
                k1s.create("x", &continuous("exec sleep 1000"));
                k1s.in_state("x", "running");
                k1s.put("/job/x/kill");
            }
        }
        k1s.in_state("x", "killed");
        let length = || fs::metadata(k1s.dir().join("alive")).unwrap().len();
        let before = length();
        are_gone(&k1s);
        stays_true("the chain has ended", Duration::from_millis(50), || length() == before);
    }
}

/// Each process forks two, ignores SIGTERM, and is in its own session.
#[test]
fn a_fork_bomb_that_ignores_the_signal_is_killed() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    if !has_python() {
        skip!("there is no python3");
    }
    // Limits their number, by a pipe with a byte for each.
    let bomb = "import os,signal,time\nsignal.signal(15,signal.SIG_IGN)\nr,w=os.pipe()\nos.write(w,b'x'*200)\nwhile True:\n os.read(r,1)\n if os.fork()==0:\n  os.setsid()\n  open('up','w').write('x')\n  if os.fork(): os.write(w,b'x'); os._exit(0)\n  time.sleep(0.01)";
    let k1s = K1s::with().pid1().start();
    let fields = json!({"stop": {"timeoutSeconds": 0.2}, "executable": "python3", "arguments": ["-c", bomb]});
    k1s.create("x", &with(one_off(""), fields));
    k1s.wait_for_file("up");
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    are_gone(&k1s);
}

fn has_python() -> bool {
    std::process::Command::new("python3").arg("--version").output().is_ok()
}

/// nginx, redis and others that set their process title overwrite their environment. As orphans in
/// their own session they outlived the DELETE of their job.
fn a_daemon_without_an_environment_goes_with_its_job(start: Builder) {
    let k1s = start.start();
    let daemon = "env -i setsid sh -c \"echo >up; exec sleep 1000\"";
    let script = format!("rm -f up; ({daemon} &); while [ ! -e up ]; do sleep 0.01; done");
    for ask in ["once", "other"] {
        k1s.create(ask, &with_an_hour(one_off(&script)));
        k1s.results(ask, 1);
    }
    k1s.delete("/job/once");
    wait_until("that of the other is left", || k1s.descendants().len() == 1);
    k1s.delete("/job/other");
    are_gone(&k1s);
}

/// A k1s in a job of another k1s has its own marks, below those of the other.
fn a_k1s_in_a_k1s_stops_its_own(start: Builder) {
    let k1s = start.start();
    let binary = env!("CARGO_BIN_EXE_k1s");
    let daemon = "(env -i setsid sleep 1000 &); sleep 0.1; echo $(ulimit -x 2>/dev/null) >>marks";
    let script = format!("exec {binary} init -- sh -c '{daemon}; exec sleep 1000'");
    k1s.create("x", &with_an_hour(continuous(&script)));
    k1s.wait_for_file("marks");
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    are_gone(&k1s);
}
