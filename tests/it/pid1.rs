//! Signals to k1s itself, shutdown, and k1s as the first process of a PID namespace.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Builder, K1s, TempDir, both_ways, cannot_unshare, continuous, cron, is_alive, one_off, skip,
    stays_true, wait_until, with,
};

both_ways! {
    jobs_run_and_end
    an_ignored_sigchld_loses_no_exit
    a_shutdown_stops_all_jobs_and_exits_with_0
    a_shutdown_gives_jobs_time
    a_shutdown_has_an_end
    a_second_signal_does_not_wait
    a_shutdown_takes_no_new_work
    other_signals_are_ignored
    orphans_of_a_job_are_reaped
}

fn jobs_run_and_end(start: Builder) {
    let k1s = start.start();
    assert_eq!(k1s.run("x", &one_off("echo out; exit 3"))["exitCode"], 3);
    assert_eq!(k1s.run("y", &one_off("kill -KILL $$"))["exitCode"], 137);
    k1s.create("z", &continuous("exec sleep 1000"));
    k1s.in_state("z", "running");
    k1s.put("/job/z/kill");
    assert_eq!(k1s.in_state("z", "killed")["results"][0]["exitCode"], 143);
    wait_until("no process is left, no zombie either", || k1s.descendants().is_empty());
}

/// Exec keeps an ignored signal ignored, and with SIGCHLD the kernel keeps no exit for wait(2):
/// jobs ran for ever, and a shutdown never ended.
fn an_ignored_sigchld_loses_no_exit(start: Builder) {
    let k1s = start.ignoring_sigchld().start();
    assert_eq!(k1s.run("x", &one_off("exit 3"))["exitCode"], 3);
    k1s.create("y", &continuous("exec sleep 1000"));
    k1s.in_state("y", "running");
    k1s.signal(Signal::SIGTERM);
    let (status, stderr) = k1s.exit();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

fn a_shutdown_stops_all_jobs_and_exits_with_0(start: Builder) {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let k1s = start.clone().start();
        for number in 0..30 {
            k1s.create(&format!("x{number}"), &continuous("exec sleep 1000"));
        }
        k1s.create("cron", &cron("true", 3600));
        k1s.create(
            "backoff",
            &with(
                continuous("false"),
                json!({"restart": {"initialDelayMs": 3_600_000, "maxDelayMs": 3_600_000}}),
            ),
        );
        k1s.in_state("backoff", "backoff");
        wait_until("all are up", || k1s.descendants().len() == 30);
        let jobs = k1s.descendants();
        k1s.signal(signal);
        let (status, stderr) = k1s.exit();
        assert_eq!(status.code(), Some(0), "{signal}: {stderr}");
        assert!(!jobs.iter().any(|job| is_alive(job.pid)), "{signal}");
    }
}

fn a_shutdown_gives_jobs_time(start: Builder) {
    let k1s = start.start();
    let script =
        "trap 'sleep 0.2; echo done >done; exit' TERM; echo >up; while :; do sleep 0.02; done";
    k1s.create("x", &continuous(script));
    k1s.wait_for_file("up");
    let done = k1s.dir().join("done");
    let dir = k1s.keep_dir();
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    assert!(done.exists());
    drop(dir);
}

fn a_shutdown_has_an_end(start: Builder) {
    let k1s = start.config("[shutdown]\ntimeout_seconds = 1").start();
    let (jobs, _dir) = stubborn(&k1s);
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    wait_until("nothing survives", || !jobs.iter().any(|pid| is_alive(*pid)));
}

fn a_second_signal_does_not_wait(start: Builder) {
    let k1s = start.config("[shutdown]\ntimeout_seconds = 3600").start();
    let (jobs, _dir) = stubborn(&k1s);
    k1s.signal(Signal::SIGTERM);
    k1s.wait_for_file("asked");
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    wait_until("nothing survives", || !jobs.iter().any(|pid| is_alive(*pid)));
}

fn a_shutdown_takes_no_new_work(start: Builder) {
    let k1s = start.config("[shutdown]\ntimeout_seconds = 3600").start();
    let _stubborn = stubborn(&k1s);
    let ends = "trap 'echo >ended; exit' TERM; echo >>started; while :; do sleep 0.02; done";
    k1s.create("ends", &continuous(ends));
    k1s.create("cron", &cron("echo >>started", 1));
    let started = || std::fs::read(k1s.dir().join("started")).unwrap_or_default().len();
    wait_until("both have run", || started() >= 2);
    k1s.signal(Signal::SIGTERM);
    for name in ["asked", "ended"] {
        wait_until(name, || k1s.dir().join(name).exists());
    }
    let before = started();
    stays_true("nothing is started", Duration::from_millis(1500), || started() == before);
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

fn other_signals_are_ignored(start: Builder) {
    let k1s = start.start();
    k1s.create("x", &continuous("exec sleep 1000"));
    let pid = k1s.in_state("x", "running")["pid"].clone();
    for signal in
        [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGPIPE]
    {
        for _ in 0..3 {
            k1s.signal(signal);
            assert_eq!(k1s.get("/").status, 200, "{signal}");
        }
    }
    assert_eq!(k1s.job("x")["pid"], pid);
}

fn orphans_of_a_job_are_reaped(start: Builder) {
    let k1s = start.start();
    let script =
        "n=0; while [ $n -lt 200 ]; do n=$((n + 1)); (true &); done; echo >up; exec sleep 1000";
    k1s.create("x", &continuous(script));
    k1s.wait_for_file("up");
    wait_until("the job alone is left", || k1s.descendants().len() == 1);
    let job = k1s.job("x");
    assert_eq!((&job["state"], &job["results"]), (&json!("running"), &json!([])), "{job}");
}

#[test]
fn as_pid_1_nothing_in_the_namespace_outlives_it() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().pid1().config("[shutdown]\ntimeout_seconds = 1").start();
    // The inner shell has left the job's session, ignores what is sent to it, and is orphaned.
    let script = "setsid sh -c 'trap \"\" TERM; echo >up; exec sleep 1000' & exec sleep 1000";
    k1s.create("x", &continuous(script));
    k1s.wait_for_file("up");
    let jobs = k1s.descendants();
    assert!(jobs.len() >= 2, "{jobs:?}");
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    wait_until("nothing survives", || !jobs.iter().any(|job| is_alive(job.pid)));
}

#[test]
fn pids_are_those_that_k1s_sees() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().pid1().start();
    let result = k1s.run("x", &one_off("echo $PPID"));
    assert_eq!(result["stdout"], "1\n");
    k1s.create("y", &continuous("echo $$ >pid; exec sleep 1000"));
    let shown = k1s.pid_of("y").to_string();
    wait_until("it says the same", || {
        std::fs::read_to_string(k1s.dir().join("pid")).is_ok_and(|text| text.trim() == shown)
    });
}

#[test]
fn a_kill_that_reaches_all_processes_of_the_namespace_spares_k1s() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().pid1().start();
    k1s.create("beside", &continuous("exec sleep 1000"));
    k1s.in_state("beside", "running");
    // Nowhere but in a namespace of k1s's own may this ever run.
    let guard = "[ $PPID = 1 ] && [ \"$(cat /proc/1/comm)\" = k1s ] || exit 1";
    k1s.create("x", &one_off(&format!("{guard}; kill -KILL -1; true")));
    assert_eq!(k1s.results("beside", 1)[0]["signal"], "SIGKILL");
    k1s.results("x", 1);
    k1s.in_state("beside", "running");
}

/// A job that notes the signal and goes on: the pids of its processes, and what keeps the
/// directory that they write to.
fn stubborn(k1s: &K1s) -> (Vec<u32>, Arc<TempDir>) {
    let script = "trap 'echo >asked' TERM; echo >up; while :; do sleep 0.02; done";
    k1s.create("stubborn", &with(continuous(script), json!({"stop": {"timeoutSeconds": 3600}})));
    k1s.wait_for_file("up");
    let pids = k1s.descendants().iter().map(|process| process.pid).collect();
    (pids, k1s.keep_dir())
}

/// A redis started by `docker exec` could not save its data.
#[test]
fn as_pid_1_what_belongs_to_no_job_is_asked_to_end() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    if std::process::Command::new("prlimit").arg("--version").output().is_err() {
        skip!("there is no prlimit");
    }
    let k1s = K1s::with().pid1().start();
    // Without the mark, the environment and the session of its run, it belongs to no job.
    let saves =
        "trap \"sleep 0.1; echo >saved; exit\" TERM; echo >up; while :; do sleep 0.02; done";
    let script = format!(
        "env -i prlimit --locks=7:7 setsid sh -c '{saves}' >/dev/null 2>&1 & \
        while [ ! -e up ]; do sleep 0.01; done"
    );
    k1s.run("x", &one_off(&script));
    k1s.delete("/job/x");
    let saved = k1s.dir().join("saved");
    let _dir = k1s.keep_dir();
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
    assert!(saved.exists());
}

/// A stop reported that everything was gone although k1s could see only process groups.
#[test]
fn a_stop_says_what_it_cannot_see() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().around(&["unshare", "--pid", "--fork", "--kill-child"]).start();
    let says = |text: &str| wait_until(text, || k1s.stderr().contains(text));
    says("/proc is that of another pid namespace: what leaves its run's process group may not");
    k1s.create("x", &continuous("setsid sleep 1000 & exec sleep 1000"));
    k1s.in_state("x", "running");
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    says("job x, run 1: /proc does not show whether all of its leftovers are gone");
    let message = k1s.job("x")["message"].as_str().unwrap().to_owned();
    let wanted = "; /proc does not show whether all of its leftovers are gone";
    assert!(message.ends_with(wanted), "{message}");
}

/// k1s assumed that root sees everything; without CAP_SYS_PTRACE, as in most containers, it does
/// not.
#[test]
fn root_that_may_not_trace_is_told_what_proc_hides() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let check = |setpriv: &str, is_told: bool| {
        let script = format!("mount -t proc -o hidepid=2 proc /proc && exec {setpriv} \"$@\"");
        let around = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-c"];
        let k1s = K1s::with().around(&around).around(&[&script, "sh"]).start();
        assert_eq!(k1s.stderr().contains("(hidepid)"), is_told, "{setpriv}");
    };
    check("setpriv --bounding-set=-sys_ptrace", true);
    check("env", false);
}
