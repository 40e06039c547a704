//! What machines, users and jobs do to k1s: none of it may end k1s, lose an exit, make it spin or
//! leak.
//!
//! A job that kills all processes of the namespace is in `pid1`, a closed or full stdout in
//! `output`. `injected` makes system calls fail that do not fail on a healthy machine.

mod injected;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

use crate::harness::{
    Builder, Client, K1s, both_ways, continuous, is_alive, may_become_others, one_off, send_signal,
    skip, stays_true, wait_for, wait_until, with,
};

both_ways! {
    without_room_for_a_process_a_job_waits_for_it
    without_descriptors_a_job_waits_for_them
    without_descriptors_each_job_comes_to_its_turn
    without_descriptors_a_stop_still_finds_all
    without_descriptors_a_stop_still_asks_all
    without_descriptors_connections_make_room
    a_stopped_k1s_goes_on_where_it_was
    all_of_many_exits_at_once_are_told
    pipes_that_grandchildren_keep_cost_nothing
    a_signal_that_came_before_the_loop_is_heard
}

fn sleep() -> Value {
    json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"]})
}

/// Without requests k1s uses almost no CPU: less than a tenth of half a second.
fn does_not_spin(k1s: &K1s) {
    let ticks_a_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", k1s.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let mut fields = fields.split_whitespace().skip(11);
        (0..2).map(|_| fields.next().unwrap().parse::<i64>().unwrap()).sum::<i64>()
    };
    let before = ticks();
    stays_true("it is there", Duration::from_millis(500), || is_alive(k1s.pid()));
    let used = ticks() - before;
    assert!(used <= ticks_a_second / 20, "{used} ticks in half a second");
}

fn is_deferred(k1s: &K1s, id: &str, word: &str) {
    let job = wait_for("it is deferred", || {
        let job = k1s.job(id);
        job["error"].is_string().then_some(job)
    });
    assert_eq!((&job["state"], &job["results"]), (&json!("starting"), &json!([])), "{job}");
    assert!(job["error"].as_str().unwrap().contains(word), "{job}");
}

// ---- Shortages ----

fn without_room_for_a_process_a_job_waits_for_it(start: Builder) {
    if !may_become_others() {
        skip!("root alone may count the processes of a user that nobody else is");
    }
    // The limit counts all processes of the user: one that this test alone is.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let user = 60_000 + (std::process::id() % 2000) * 2 + number;
    let become_it = format!("--reuid={user}");
    let start = start.around(&["prlimit", "--nproc=3"]).around(&[
        "setpriv",
        &become_it,
        "--regid=60000",
        "--clear-groups",
    ]);
    let k1s = start.start();
    let at_root = |payload| with(payload, json!({"workingDirectory": "/"}));
    k1s.create("a", &at_root(sleep()));
    k1s.create("b", &at_root(sleep()));
    for id in ["a", "b"] {
        k1s.in_state(id, "running");
    }
    k1s.create("c", &at_root(sleep()));
    is_deferred(&k1s, "c", "EAGAIN");
    does_not_spin(&k1s);
    k1s.put("/job/a/kill");
    let job = k1s.in_state("c", "running");
    assert!(job.get("error").is_none_or(Value::is_null), "{job}");
    k1s.create("d", &at_root(sleep()));
    is_deferred(&k1s, "d", "EAGAIN");
    k1s.delete("/job/d");
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

/// Jobs until the next finds no descriptor: their ids, and the connection that made them. It stays
/// open, as the only one: the end of any other frees a descriptor, and the last job might start.
fn use_up_descriptors(k1s: &K1s) -> (Vec<String>, Client) {
    let mut client = k1s.connect();
    let mut ask = |method: &str, id: &str, body: &str| {
        let head = format!("{method} /job/{id} HTTP/1.1\r\nHost: k1s\r\n{}", k1s.authorization());
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        let reply = client.reply();
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
        reply.json()
    };
    let mut ids = Vec::new();
    for number in 0..40 {
        let id = format!("x{number}");
        ask("POST", &id, &sleep().to_string());
        let job = wait_for("it runs or waits", || {
            let job = ask("GET", &id, "");
            (job["state"] == "running" || job["error"].is_string()).then_some(job)
        });
        ids.push(id);
        if job["error"].is_string() {
            return (ids, client);
        }
    }
    panic!("40 jobs run with 40 descriptors");
}

fn without_descriptors_a_job_waits_for_them(start: Builder) {
    let k1s = start.nofile(40).start();
    let (ids, _client) = use_up_descriptors(&k1s);
    let (last, running) = ids.split_last().unwrap();
    is_deferred(&k1s, last, "EMFILE");
    // Looking up a user takes descriptors too: their want is not the user's absence.
    let as_user = with(sleep(), json!({"user": "nobody", "workingDirectory": "/"}));
    k1s.create("user", &as_user);
    is_deferred(&k1s, "user", "EMFILE");
    does_not_spin(&k1s);
    k1s.put(&format!("/job/{}/kill", running[0]));
    k1s.put(&format!("/job/{}/kill", running[1]));
    k1s.put(&format!("/job/{}/kill", running[2]));
    k1s.in_state(last, "running");
    if may_become_others() {
        k1s.in_state("user", "running");
    }
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

/// Jobs that end free descriptors, which their next runs would take before a job that was never
/// started.
fn without_descriptors_each_job_comes_to_its_turn(start: Builder) {
    let k1s = start.nofile(40).start();
    let ends = with(continuous("sleep 0.02"), json!({"restart": {"initialDelayMs": 0}}));
    let ids: Vec<String> = (0..30).map(|number| format!("x{number}")).collect();
    ids.iter().for_each(|id| k1s.create(id, &ends));
    for _ in 0..3 {
        let before: Vec<Value> = ids.iter().map(|id| k1s.job(id)["startedAt"].clone()).collect();
        for (id, before) in ids.iter().zip(before) {
            wait_until("it is started again", || k1s.job(id)["startedAt"] != before);
        }
    }
}

/// Looking for leftovers needs descriptors: without them k1s does not know that all are gone.
fn without_descriptors_a_stop_still_finds_all(start: Builder) {
    let k1s = start.nofile(40).start();
    let leftover =
        "(setsid sh -c 'trap \"\" TERM; echo >up; sleep 1000; sleep 1000' &); exec sleep 1000";
    k1s.create("leftover", &with(continuous(leftover), json!({"stop": {"timeoutSeconds": 0.2}})));
    wait_until("up", || k1s.dir().join("up").exists());
    let (ids, _client) = use_up_descriptors(&k1s);
    // Connections take what is left.
    let _clients: Vec<Client> = (0..8).map(|_| k1s.connect()).collect();
    k1s.put("/job/leftover/kill");
    k1s.in_state("leftover", "killed");
    wait_until("the others alone are left", || k1s.descendants().len() + 1 >= ids.len());
    let is_shell = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "sh")
    };
    assert!(!k1s.descendants().iter().any(|process| is_shell(process.pid)));
}

/// One descriptor is reserved to look for leftovers: those that are found late would be killed
/// without being asked.
fn without_descriptors_a_stop_still_asks_all(start: Builder) {
    let k1s = start.nofile(40).start();
    let leftover = "(setsid sh -c 'trap \"echo >asked; exit\" TERM; echo >up; \
        while :; do sleep 0.1; done' 2>/dev/null &); exec sleep 1000";
    k1s.create("leftover", &continuous(leftover));
    wait_until("up", || k1s.dir().join("up").exists());
    let (_, _client) = use_up_descriptors(&k1s);
    let _clients: Vec<Client> = (0..8).map(|_| k1s.connect()).collect();
    k1s.put("/job/leftover/kill");
    wait_until("it was asked to end", || k1s.dir().join("asked").exists());
    k1s.in_state("leftover", "killed");
}

fn without_descriptors_connections_make_room(start: Builder) {
    let k1s = start.nofile(40).start();
    let mut clients: Vec<Client> = (0..60).map(|_| k1s.connect()).collect();
    does_not_spin(&k1s);
    assert_eq!(k1s.get("/").status, 200);
    // A job finds room as well.
    assert_eq!(k1s.run("x", &one_off("echo out"))["stdout"], "out\n");
    assert!(clients[0].ends(), "the oldest has made room");
    drop(clients);
    k1s.create("y", &sleep());
    k1s.in_state("y", "running");
    does_not_spin(&k1s);
}

// ---- Stops, signals, bursts ----

fn a_stopped_k1s_goes_on_where_it_was(start: Builder) {
    let k1s = start.start();
    k1s.create("x", &sleep());
    k1s.in_state("x", "running");
    let pid = k1s.descendants()[0].pid;
    let mut client = k1s.connect();
    k1s.signal(Signal::SIGSTOP);
    client.send(format!("GET /job/x HTTP/1.1\r\nHost: k1s\r\n{}\r\n", k1s.authorization()));
    send_signal(pid, Signal::SIGKILL);
    wait_until("it is a zombie", || !is_alive(pid));
    k1s.signal(Signal::SIGCONT);
    assert_eq!(client.reply().status, 200);
    assert_eq!(k1s.results("x", 1)[0]["signal"], "SIGKILL");
    k1s.in_state("x", "running");
    does_not_spin(&k1s);
}

fn all_of_many_exits_at_once_are_told(start: Builder) {
    let k1s = start.start();
    let before = k1s.open_fds().ok();
    let never = with(sleep(), json!({"restart": {"policy": "never"}}));
    for number in 0..500 {
        k1s.create(&format!("x{number}"), &never);
    }
    wait_until("all are up", || k1s.descendants().len() == 500);
    let jobs = k1s.descendants();
    // While k1s is stopped all signals that a child has ended become one.
    k1s.signal(Signal::SIGSTOP);
    jobs.iter().for_each(|job| send_signal(job.pid, Signal::SIGKILL));
    wait_until("all have ended", || !jobs.iter().any(|job| is_alive(job.pid)));
    k1s.signal(Signal::SIGCONT);
    let results = wait_for("all are over", || {
        let jobs = k1s.get("/").json();
        let results = jobs.as_array().unwrap().iter().flat_map(|job| job["results"].as_array());
        let results: Vec<Value> = results.flatten().cloned().collect();
        (results.len() >= 500).then_some(results)
    });
    assert_eq!(results.len(), 500);
    assert!(results.iter().all(|result| result["signal"] == "SIGKILL"));
    wait_until("no zombie is left", || k1s.descendants().is_empty());
    wait_until("no descriptor is left", || k1s.open_fds().ok() == before);
    does_not_spin(&k1s);
}

fn pipes_that_grandchildren_keep_cost_nothing(start: Builder) {
    let k1s = start.start();
    let before = k1s.open_fds().ok();
    let script = "(setsid sh -c 'echo >left-'$K1S_JOB'; exec sleep 1000' &)
        while [ ! -e left-$K1S_JOB ]; do sleep 0.01; done; echo said";
    for number in 0..200 {
        k1s.create(&format!("x{number}"), &one_off(script));
    }
    wait_until("all are over", || {
        let jobs = k1s.get("/?output=false").json();
        jobs.as_array().unwrap().iter().all(|job| job["state"] == "succeeded")
    });
    for number in [0, 100, 199] {
        assert_eq!(k1s.job(&format!("x{number}"))["results"][0]["stdout"], "said\n");
    }
    assert_eq!(k1s.descendants().len(), 200, "the grandchildren live");
    wait_until("no descriptor is left", || k1s.open_fds().ok() == before);
    does_not_spin(&k1s);
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

/// The signal is pending when k1s starts, because the process that starts k1s has blocked it, or
/// comes before the loop runs, while k1s itself blocks it.
fn a_signal_that_came_before_the_loop_is_heard(start: Builder) {
    let pending = ["env", "--block-signal", "sh", "-c", "kill -TERM $$; exec \"$0\" \"$@\""];
    let k1s = start.around(&pending).launch();
    assert_eq!(k1s.exit().0.code(), Some(0));
}
