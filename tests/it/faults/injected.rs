//! Makes system calls fail as the kernel may, by strace(1).
//!
//! ```text
//!   k1s is up ─▶ strace is attached, with one fault ─▶ the scene ─▶ shutdown
//! ```
//!
//! The scene is the same for every fault: jobs are created and end, one is restarted, one is
//! stopped with leftovers. Whatever fails meanwhile, each run takes place, each exit is recorded
//! once, and nothing is left: no process, no descriptor, no loop that spins.
//!
//! Not among the faults: EAGAIN of a socket that is writable, since no event would follow, and
//! failures to allocate k1s's own memory, which end it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::{does_not_spin, is_deferred, sleep};
use crate::harness::{
    Builder, K1s, both_ways, cannot_unshare, continuous, one_off, send_signal, skip, wait_for,
    wait_until, with,
};

both_ways! {
    calls_of_a_spawn_fail
    calls_of_a_new_process_fail
    calls_for_connections_fail
    calls_that_look_for_processes_fail
    calls_are_interrupted
    a_connection_that_ends_hurries_a_spawn
}

/// A system call, the error, and which of its calls have it: `1..3`, `1+2` (every other), `1+`.
type Fault = (&'static str, &'static str, &'static str);

/// clone(2), pipe(2), fcntl(2), memfd_create(2), epoll_ctl(2).
fn calls_of_a_spawn_fail(start: Builder) {
    survives(
        &start,
        &[
            ("clone", "ENOMEM", "1..3"),
            ("clone", "EAGAIN", "1..3"),
            ("pipe2", "EMFILE", "1..3"),
            // The second pipe of a run.
            ("pipe2", "ENFILE", "2"),
            ("pipe2", "ENOMEM", "2..4"),
            ("fcntl", "EMFILE", "1..4"),
            ("memfd_create", "ENOMEM", "1..2"),
            ("memfd_create", "EMFILE", "1..2"),
            // Linux before 6.3 has no MFD_NOEXEC_SEAL.
            ("memfd_create", "EINVAL", "1"),
            // The first is that of the connection.
            ("epoll_ctl", "ENOSPC", "2"),
            ("epoll_ctl", "ENOSPC", "3"),
            ("epoll_ctl", "ENOMEM", "2..4"),
        ],
    );
}

/// accept(2), recv(2), send(2), epoll_ctl(2).
fn calls_for_connections_fail(start: Builder) {
    survives(
        &start,
        &[
            ("accept4", "ENFILE", "1..3"),
            ("accept4", "EMFILE", "1..3"),
            ("accept4", "ENOMEM", "1..3"),
            ("accept4", "ENOBUFS", "1..3"),
            ("accept4", "ECONNABORTED", "1..3"),
            ("accept4", "EINTR", "1..3"),
            ("accept4", "EPROTO", "1..3"),
            ("accept4", "EPERM", "1..3"),
            ("epoll_ctl", "ENOSPC", "1"),
            ("epoll_ctl", "ENOMEM", "1"),
            ("recvfrom", "ECONNRESET", "1..2"),
            ("recvfrom", "ENOMEM", "1..2"),
            ("recvfrom", "ETIMEDOUT", "1..2"),
            ("sendto", "EPIPE", "1..2"),
            ("sendto", "ECONNRESET", "1..2"),
            ("sendto", "ENOMEM", "1..2"),
            ("sendto", "ENOBUFS", "1..2"),
        ],
    );
}

/// open(2), getdents(2), pidfd_open(2), kill(2), of a stop.
fn calls_that_look_for_processes_fail(start: Builder) {
    survives(
        &start,
        &[
            ("openat", "EMFILE", "1..4"),
            ("openat", "ENFILE", "2..9"),
            ("openat", "ENOMEM", "2..5"),
            ("getdents64", "ENOMEM", "1..2"),
            ("pidfd_open", "EMFILE", "1+"),
            ("pidfd_open", "ENOMEM", "1"),
            // Linux before 5.3 has none.
            ("pidfd_open", "ENOSYS", "1+"),
            ("kill", "EPERM", "1+2"),
        ],
    );
}

/// signal(7): what may be interrupted, every other time.
fn calls_are_interrupted(start: Builder) {
    survives(
        &start,
        &[
            ("epoll_wait", "EINTR", "1+2"),
            ("read", "EINTR", "1+2"),
            ("wait4", "EINTR", "1+2"),
            ("write", "EINTR", "1+2"),
            ("recvfrom", "EINTR", "1+2"),
            ("sendto", "EINTR", "1..5"),
            ("getdents64", "EINTR", "1..2"),
        ],
    );
}

/// Between clone and execve: close_range(2), chdir(2), execve(2), setresuid(2).
fn calls_of_a_new_process_fail(start: Builder) {
    if let Some(reason) = cannot_trace(&start) {
        skip!(reason);
    }
    thread::scope(|scope| {
        for (call, error) in [
            ("close_range", "ENOMEM"),
            ("close_range", "EMFILE"),
            ("chdir", "ENOMEM"),
            ("execve", "ENOMEM"),
            ("execve", "EAGAIN"),
            ("execve", "ENFILE"),
            ("setresuid", "EAGAIN"),
        ] {
            let k1s = start.again();
            scope.spawn(move || waits_for(k1s.start(), (call, error, "1+")));
        }
    });
}

/// Linux without CONFIG_PROC_CHILDREN has no lists of children: all of /proc is searched.
#[test]
fn without_lists_of_children_leftovers_are_found() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let start = K1s::with().pid1();
    if let Some(reason) = cannot_trace(&start) {
        skip!(reason);
    }
    let k1s = start.start();
    let own = ["-P", "/proc/1/task/1/children"];
    let tracer = Tracer::attach(&k1s, &own, ("openat", "ENOENT", "1+")).unwrap();
    play(&k1s);
    wait_until("no process is left", || k1s.descendants().is_empty());
    // When no process is left, several looks find nothing, and the stop ends.
    let daemon = "(env -i setsid sh -c 'echo >up; exec sleep 1000' &)
        while [ ! -e up ]; do sleep 0.01; done";
    put(&k1s, "daemon", &one_off(daemon));
    k1s.results("daemon", 1);
    k1s.delete("/job/daemon");
    wait_until("no process is left", || k1s.descendants().is_empty());
    let calls = tracer.end();
    assert!(calls.contains("(INJECTED)"), "{calls}");
    assert!(!k1s.stderr().contains("cannot be seen"), "{}", k1s.stderr());
}

/// Every process that is to become a job's has this fault; then no more.
fn waits_for(k1s: K1s, fault: Fault) {
    let (call, error, _) = fault;
    let before = k1s.open_fds().ok();
    let tracer = Tracer::attach(&k1s, &["-f"], fault).unwrap();
    let mut job = with(sleep(), json!({"workingDirectory": "/"}));
    if call == "setresuid" {
        job = with(job, json!({"user": "nobody"}));
    }
    k1s.create("x", &job);
    is_deferred(&k1s, "x", error);
    // A spawn under way would never end: strace waits for k1s, which waits for the new process,
    // which waits for strace.
    k1s.put("/job/x/kill");
    assert!(tracer.end().contains("(INJECTED)"));
    k1s.put("/job/x/start");
    k1s.in_state("x", "running");
    k1s.delete("/job/x");
    wait_until("no descriptor is left", || k1s.open_fds().ok() == before);
    wait_until("no process is left", || k1s.descendants().is_empty());
    k1s.end();
}

/// A descriptor is free, and the wait may be 30 s: by its timer alone it would be tried 9 times
/// in that.
fn a_connection_that_ends_hurries_a_spawn(start: Builder) {
    if let Some(reason) = cannot_trace(&start) {
        skip!(reason);
    }
    let k1s = start.start();
    let tracer = Tracer::attach(&k1s, &[], ("pipe2", "EMFILE", "1+")).unwrap();
    k1s.create("x", &sleep());
    is_deferred(&k1s, "x", "EMFILE");
    for _ in 0..20 {
        k1s.get("/healthz");
    }
    // Whose answer has come has just been seen to end.
    k1s.get("/healthz");
    let tries = tracer.end().matches("pipe2(").count();
    assert!(tries >= 20, "{tries} tries");
    k1s.in_state("x", "running");
}

/// Each fault has a k1s of its own.
fn survives(start: &Builder, faults: &[Fault]) {
    if let Some(reason) = cannot_trace(start) {
        skip!(reason);
    }
    thread::scope(|scope| {
        for fault in faults {
            let k1s = start.again();
            scope.spawn(move || check(k1s.start(), *fault));
        }
    });
}

fn check(mut k1s: K1s, fault: Fault) {
    k1s.insist();
    let _dir = k1s.keep_dir();
    let before = k1s.open_fds().ok();
    let tracer = Tracer::attach(&k1s, &[], fault).unwrap();
    let met = |what: &str| format!("{fault:?}: {what}");
    play(&k1s);
    wait_until(&met("no process is left"), || k1s.descendants().is_empty());
    wait_until(&met("no descriptor is left"), || k1s.open_fds().ok() == before);
    does_not_spin(&k1s);
    for (id, count) in [("said", 1), ("read", 1), ("again", 3), ("leftover", 1)] {
        let job = k1s.job(id);
        let runs: Vec<i64> = job["results"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(runs, (1..=count).collect::<Vec<_>>(), "{fault:?}: {job}");
    }
    k1s.signal(Signal::SIGTERM);
    let (status, stderr) = k1s.exit();
    assert_eq!(status.code(), Some(0), "{fault:?}: {stderr}");
    assert!(tracer.end().contains("(INJECTED)"), "{fault:?} was not met");
}

fn number(result: &Value) -> i64 {
    result["run"].as_i64().unwrap()
}

/// The scene.
fn play(k1s: &K1s) {
    put(k1s, "said", &one_off("echo out; echo err >&2; exit 3"));
    let result = k1s.results("said", 1).remove(0);
    assert_eq!(
        [&result["exitCode"], &result["stdout"], &result["stderr"]],
        [&json!(3), &json!("out\n"), &json!("err\n")]
    );
    put(k1s, "read", &with(one_off("exec cat"), json!({"stdin": "text"})));
    assert_eq!(k1s.results("read", 1)[0]["stdout"], "text");
    let restart = json!({"restart": {"maxRestarts": 2, "initialDelayMs": 0}});
    put(k1s, "again", &with(continuous("echo out"), restart));
    k1s.in_state("again", "failed");
    assert!(k1s.results("again", 3).iter().all(|result| result["stdout"] == "out\n"));
    // An orphan, and a child of the first process.
    let leftover = "(setsid sh -c 'echo >orphan; exec sleep 1000' &)
        setsid sh -c 'echo >child; exec sleep 1000' & exec sleep 1000";
    put(k1s, "leftover", &with(continuous(leftover), json!({"stop": {"timeoutSeconds": 0.3}})));
    for name in ["orphan", "child"] {
        wait_until(name, || k1s.dir().join(name).exists());
    }
    k1s.put("/job/leftover/kill");
    k1s.in_state("leftover", "killed");
}

/// May be said twice, as it is when the answer was lost.
fn put(k1s: &K1s, id: &str, body: &Value) {
    let reply = k1s.request("PUT", &format!("/job/{id}"), body.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{id}: {}", reply.text());
}

/// Why no fault can be injected here, or `None` when it can.
fn cannot_trace(start: &Builder) -> Option<String> {
    if !geteuid().is_root() {
        return Some("k1s is not dumpable: root alone may trace it".to_owned());
    }
    let k1s = start.again().start();
    let tracer = Tracer::attach(&k1s, &[], ("epoll_wait", "EINTR", "1"));
    tracer.map(Tracer::end).err()
}

/// An strace that is attached to k1s, and makes its system calls fail.
struct Tracer {
    child: Child,
    log: PathBuf,
}

impl Tracer {
    /// The error is why it cannot be.
    fn attach(k1s: &K1s, options: &[&str], (call, error, when): Fault) -> Result<Tracer, String> {
        let [log, said] = ["strace.log", "strace.err"].map(|name| k1s.dir().join(name));
        let child = Command::new("strace")
            .args(options)
            .arg("-o")
            .arg(&log)
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={error}:when={when}")])
            .args(["-p", &k1s.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn();
        let child = child.map_err(|error| format!("strace cannot be started: {error}"))?;
        let mut tracer = Tracer { child, log };
        let has_ended = wait_for("strace is attached, or has ended", || {
            let attached = fs::read_to_string(&said).unwrap().contains("attached");
            let ended = tracer.child.try_wait().unwrap().is_some();
            (attached || ended).then_some(ended)
        });
        match has_ended {
            false => Ok(tracer),
            true => Err(format!("strace: {}", fs::read_to_string(&said).unwrap().trim())),
        }
    }

    /// Lets k1s go: what strace has written down.
    fn end(mut self) -> String {
        send_signal(self.child.id(), Signal::SIGTERM);
        self.child.wait().unwrap();
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
