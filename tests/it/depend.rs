//! Jobs that wait for others, and the order in which jobs are stopped.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{K1s, as_pid, continuous, cron, one_off, send_signal, wait_until, with};

fn after(payload: Value, jobs: Value) -> Value {
    with(payload, json!({"dependsOn": jobs}))
}

#[test]
fn a_job_starts_when_what_it_depends_on_has_come_so_far_and_says_what_it_waits_for() {
    let k1s = K1s::start();
    let app = after(continuous("exec sleep 1000"), json!({"db": "ready", "migrate": "succeeded"}));
    k1s.create("app", &app);
    k1s.create("db", &continuous("exec sleep 1000"));
    k1s.create("migrate", &after(one_off("test -e schema"), json!({"db": "started"})));
    k1s.in_state("migrate", "failed");
    let job = k1s.in_state("app", "waiting");
    assert_eq!(job["waitingFor"], json!([{"job": "migrate", "condition": "succeeded"}]));
    let why = "waits for migrate to succeed, which has failed: exit code 1";
    assert_eq!((&job["message"], &job["pid"]), (&json!(why), &Value::Null));
    // What it shows can be sent back.
    let put = k1s.request("PUT", "/job/app", job.to_string().as_bytes());
    assert_eq!(put.json()["message"], "Job unchanged");
    fs::write(k1s.dir().join("schema"), "").unwrap();
    assert_eq!(k1s.put("/job/migrate/run").status, 200);
    let job = k1s.in_state("app", "running");
    assert_eq!(job.get("waitingFor"), None);
}

#[test]
fn a_new_run_of_what_a_job_depends_on_restarts_it_if_it_says_so() {
    let k1s = K1s::start();
    let restart = |restart: bool| json!({"db": {"condition": "ready", "restart": restart}});
    k1s.create("db", &continuous("exec sleep 1000"));
    k1s.create("with", &after(continuous("exec sleep 1000"), restart(true)));
    k1s.create("without", &after(continuous("exec sleep 1000"), restart(false)));
    let [db, with, without] = ["db", "with", "without"].map(|id| k1s.pid_of(id));
    send_signal(db, Signal::SIGKILL);
    let is_new = |id: &str, old| as_pid(&k1s.job(id)["pid"]).is_some_and(|pid| pid != old);
    wait_until("both run anew", || is_new("db", db) && is_new("with", with));
    assert_eq!(k1s.pid_of("without"), without);
    let job = k1s.job("with");
    assert_eq!((&job["restarts"], &job["results"][0]["reason"]), (&json!(1), &json!("killed")));
}

#[test]
fn a_circle_is_refused_and_named() {
    let k1s = K1s::start();
    k1s.create("a", &after(one_off("true"), json!({"b": "ready"})));
    k1s.create("b", &after(one_off("true"), json!({"c": "ended"})));
    let refused = |id: &str, jobs: Value| {
        let reply = k1s.post(&format!("/job/{id}"), &after(one_off("true"), jobs));
        assert_eq!(reply.status, 400);
        reply.error()
    };
    let circle = "dependsOn: c → a → b → c is a circle: none of them would ever start";
    assert_eq!(refused("c", json!({"a": "started"})), circle);
    assert_eq!(refused("c", json!({"c": "ready"})), "dependsOn: a job cannot wait for itself");
    assert_eq!(k1s.get("/job/c").status, 404, "nothing is created");
}

#[test]
fn a_cron_job_whose_condition_does_not_hold_skips_its_runs() {
    let k1s = K1s::start();
    k1s.create("tick", &after(cron("true", 1), json!({"db": "ready"})));
    let skipped = || k1s.job("tick")["skippedRuns"]["blocked"].as_u64().unwrap();
    wait_until("one is skipped", || skipped() > 0);
    let reply = k1s.put("/job/tick/run");
    assert!(reply.status == 400 && reply.error().contains("does not run before"));
    k1s.create("db", &continuous("exec sleep 1000"));
    k1s.results("tick", 1);
    let metrics = k1s.get("/metrics").text();
    let blocked = metrics.lines().find(|line| line.contains("reason=\"blocked\"")).unwrap();
    assert!(!blocked.ends_with(" 0"), "{blocked}");
}

/// Each job writes its name when it is asked to end.
fn tells_its_end(id: &str) -> String {
    format!("trap 'echo {id} >>order; exit 0' TERM; sleep 1000 & wait")
}

#[test]
fn a_shutdown_stops_those_first_that_depend_on_others() {
    let k1s = K1s::start();
    k1s.create("db", &continuous(&tells_its_end("db")));
    k1s.create("app", &after(continuous(&tells_its_end("app")), json!({"db": "ready"})));
    k1s.create("web", &after(continuous(&tells_its_end("web")), json!({"app": "ready"})));
    let dir = k1s.keep_dir();
    // Their shells have set the traps when they have their children.
    wait_until("all of them run", || k1s.descendants().len() == 6);
    k1s.signal(Signal::SIGTERM);
    let (status, _) = k1s.exit();
    assert!(status.success(), "{status}");
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    assert_eq!(order, "web\napp\ndb\n");
}

#[test]
fn what_hangs_in_a_shutdown_leaves_time_for_those_behind_it() {
    let k1s = K1s::with().config("[shutdown]\ntimeout_seconds = 2").start();
    k1s.create("db", &continuous(&tells_its_end("db")));
    let hangs = "trap '' TERM; while :; do sleep 1000; done";
    k1s.create("web", &after(continuous(hangs), json!({"db": "ready"})));
    let dir = k1s.keep_dir();
    wait_until("both run", || k1s.descendants().len() == 4);
    let begin = Instant::now();
    k1s.signal(Signal::SIGTERM);
    let (status, _) = k1s.exit();
    let took = begin.elapsed();
    assert!(status.success(), "{status}");
    assert_eq!(fs::read_to_string(dir.path().join("order")).unwrap(), "db\n");
    assert!(took >= Duration::from_millis(900), "web had its stage: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn what_a_config_declares_waits_only_for_what_it_declares() {
    let job = |id: &str, on: &str| {
        format!("[job.{id}]\ntype = \"one-off\"\nexecutable = \"true\"\ndepends_on = {{{on}}}\n")
    };
    let [a, b] = [job("a", "b = \"ready\""), job("b", "a = \"ready\"")];
    let finished = K1s::with().bare().file("k1s.toml", &format!("{a}{b}")).run();
    assert_eq!(finished.code, Some(2));
    let error = "k1s.toml:8: job.b.depends_on: a → b → a is a circle";
    assert!(finished.stderr.contains(error), "{}", finished.stderr);
    let finished = K1s::with().bare().file("k1s.toml", &a).run();
    assert_eq!(finished.code, Some(2));
    let error = "k1s.toml:4: job.a.depends_on: the config declares no job b";
    assert!(finished.stderr.contains(error), "{}", finished.stderr);
    let k1s = K1s::with().config(&format!("{a}{}", job("b", ""))).start();
    k1s.in_state("a", "succeeded");
    k1s.in_state("b", "succeeded");
}
