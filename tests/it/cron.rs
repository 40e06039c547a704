//! Cron jobs by interval and by expression, over real seconds, and what their fields mean.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::{
    K1s, continuous, cron, milliseconds, one_off, stays_true, wait_for, wait_until, with,
};

/// A cron job that runs this shell script with every second of the calendar.
fn every_second(script: &str) -> Value {
    json!({
        "type": "cron", "executable": "/bin/sh", "arguments": ["-c", script],
        "schedule": "* * * * * *",
    })
}

/// Marks that it has started, and runs until there is a file `go`.
const UNTIL_GO: &str = "echo >>started; while [ ! -e go ]; do sleep 0.02; done";

fn starts(k1s: &K1s) -> usize {
    fs::read_to_string(k1s.dir().join("started")).map_or(0, |text| text.len())
}

fn go(k1s: &K1s) {
    fs::write(k1s.dir().join("go"), "").unwrap();
}

/// How many runs of a job were skipped for this reason.
fn skipped(k1s: &K1s, id: &str, reason: &str) -> u64 {
    k1s.job(id)["skippedRuns"][reason].as_u64().unwrap()
}

/// PUT of a JSON value that must be taken: what is said about it.
#[track_caller]
fn replace(k1s: &K1s, id: &str, body: &Value) -> String {
    let reply = k1s.request("PUT", &format!("/job/{id}"), body.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["message"].as_str().unwrap().to_owned()
}

/// PUT /job/ID/run: its status.
fn run_now(k1s: &K1s, id: &str) -> u16 {
    k1s.put(&format!("/job/{id}/run")).status
}

#[test]
fn runs_come_at_whole_intervals_without_drift() {
    let k1s = K1s::start();
    // Each run takes 0.4 s: were the next interval counted from its end, the distance between
    // two starts would be 1.4 s.
    k1s.create("x", &cron("sleep 0.4", 1));
    let created = milliseconds(&k1s.job("x")["createdAt"]);
    wait_for("three runs in a row a whole number of intervals apart", || {
        let job = k1s.job("x");
        let starts: Vec<i64> = job["results"]
            .as_array()?
            .iter()
            .map(|result| milliseconds(&result["startedAt"]) - created)
            .collect();
        assert!(starts.first().is_none_or(|start| *start >= 999), "the first is an interval away");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] > 0));
        // A machine under load may start a run late: that is not drift, the next is on time.
        let on_time = |pair: &[i64]| (900..=1100).contains(&(pair[1] - pair[0]));
        starts.windows(3).any(|three| three.windows(2).all(on_time)).then_some(())
    });
}

#[test]
fn it_says_when_it_runs_next() {
    let k1s = K1s::start();
    k1s.create("x", &cron("true", 3600));
    let job = k1s.job("x");
    let distance = milliseconds(&job["nextRunAt"]) - milliseconds(&job["createdAt"]);
    assert!((3_599_998..=3_600_002).contains(&distance), "{job}");
    assert_eq!((&job["state"], &job["results"]), (&json!("scheduled"), &json!([])));
}

#[test]
fn a_tick_that_cannot_be_kept_is_skipped() {
    let k1s = K1s::start();
    k1s.create("slow", &cron(UNTIL_GO, 1));
    k1s.create("beside", &cron("true", 1));
    // The one beside it counts the seconds.
    k1s.results("beside", 3);
    let job = k1s.job("slow");
    assert_eq!((&job["state"], &job["results"]), (&json!("running"), &json!([])), "{job}");
    assert_eq!(starts(&k1s), 1, "forbid: one run at a time");
    go(&k1s);
    let results = k1s.results("slow", 2);
    assert_eq!((&results[0]["run"], &results[1]["run"]), (&json!(1), &json!(2)));
    let (first, second) =
        (milliseconds(&results[0]["startedAt"]), milliseconds(&results[1]["startedAt"]));
    assert!(second - first >= 1999, "the ticks between are not made up for: {results:?}");
}

#[test]
fn a_run_that_fails_is_followed_by_the_next() {
    let k1s = K1s::start();
    k1s.create("x", &cron("exit 3", 1));
    k1s.create(
        "y",
        &json!({"type": "cron", "executable": "/no/such/program", "scheduleInSeconds": 1}),
    );
    for (id, code) in [("x", 3), ("y", 127)] {
        assert!(k1s.results(id, 2).iter().all(|result| result["exitCode"] == code));
    }
}

#[test]
fn a_kill_ends_the_run_and_the_schedule() {
    let k1s = K1s::start();
    k1s.create("x", &cron("exec sleep 1000", 1));
    k1s.pid_of("x");
    assert_eq!(k1s.put("/job/x/kill").status, 200);
    let job = k1s.in_state("x", "killed");
    assert_eq!(job["results"][0]["signal"], "SIGTERM");
    // Another job of the same interval counts the seconds in which nothing must happen.
    k1s.create("beside", &cron("true", 1));
    k1s.results("beside", 2);
    let job = k1s.job("x");
    assert_eq!((&job["state"], job["results"].as_array().unwrap().len()), (&json!("killed"), 1));
}

#[test]
fn a_timeout_makes_room_for_the_next_tick() {
    let k1s = K1s::start();
    k1s.create("x", &with(cron("exec sleep 1000", 1), json!({"timeoutSeconds": 0.3})));
    assert!(k1s.results("x", 2).iter().all(|result| result["reason"] == "timed-out"));
}

#[test]
fn removal_ends_the_schedule() {
    let k1s = K1s::start();
    k1s.create("x", &cron("echo >>ran", 1));
    k1s.results("x", 1);
    k1s.delete("/job/x");
    wait_until("the id is free", || k1s.get("/job/x").status == 404);
    let runs = || std::fs::read_to_string(k1s.dir().join("ran")).unwrap().len();
    wait_until("a run that was going is over", || k1s.descendants().is_empty());
    let before = runs();
    k1s.create("beside", &cron("true", 1));
    k1s.results("beside", 2);
    k1s.run("after", &one_off("true"));
    assert_eq!(runs(), before);
}

// ---- By expression ----

#[test]
fn an_expression_with_seconds_runs_with_each_of_them() {
    let k1s = K1s::start();
    k1s.create("x", &every_second("true"));
    let job = k1s.job("x");
    assert_eq!((&job["schedule"], &job["timeZone"]), (&json!("* * * * * *"), &json!("UTC")));
    assert_eq!(milliseconds(&job["nextRunAt"]) % 1000, 0, "{job}");
    wait_for("three runs in a row within their seconds", || {
        let starts: Vec<i64> = k1s.job("x")["results"]
            .as_array()?
            .iter()
            .map(|result| milliseconds(&result["startedAt"]))
            .collect();
        assert!(starts.windows(2).all(|pair| pair[0] / 1000 < pair[1] / 1000), "{starts:?}");
        // A machine under load may start a run late.
        let on_time = |start: &i64| start % 1000 < 100;
        let in_a_row = |three: &[i64]| three[2] / 1000 - three[0] / 1000 == 2;
        starts.windows(3).any(|three| three.iter().all(on_time) && in_a_row(three)).then_some(())
    });
}

#[test]
fn what_falls_due_together_starts_in_order_of_creation() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    let body = every_second("echo $K1S_JOB >>order").to_string();
    // Over many milliseconds: however their distance to the second is rounded.
    for number in 0..60 {
        client.send(format!(
            "POST /job/{number} HTTP/1.1\r\nHost: k1s\r\n{}Content-Length: {}\r\n\r\n{body}",
            k1s.authorization(),
            body.len()
        ));
        assert_eq!(client.reply().status, 200);
    }
    k1s.results("59", 1);
    let jobs = k1s.get("/").json();
    let mut started: Vec<(i64, usize)> = Vec::new();
    for (number, job) in jobs.as_array().unwrap().iter().enumerate() {
        let Some(first) = job["results"].get(0) else { continue };
        started.push((milliseconds(&first["startedAt"]), number));
    }
    // Those that were created before the last second began have their first run in an earlier
    // one; within a second the order is that of creation.
    let in_order =
        |pair: &[(i64, usize)]| pair[0].0 / 1000 != pair[1].0 / 1000 || pair[0].0 <= pair[1].0;
    assert!(started.len() >= 50, "{started:?}");
    assert!(started.windows(2).all(in_order), "{started:?}");
}

// ---- What happens to a run that is due while another is going ----

#[test]
fn forbid_skips_and_counts() {
    let k1s = K1s::start();
    k1s.create("x", &every_second(UNTIL_GO));
    wait_until("two are skipped", || skipped(&k1s, "x", "forbidden") >= 2);
    assert_eq!((starts(&k1s), run_now(&k1s, "x")), (1, 400));
    go(&k1s);
    assert_eq!(k1s.results("x", 2)[1]["run"], 2, "what was skipped has no number");
    assert_eq!((skipped(&k1s, "x", "queueFull"), skipped(&k1s, "x", "missed")), (0, 0));
}

#[test]
fn queue_keeps_one_waiting() {
    let k1s = K1s::start();
    k1s.create("x", &with(every_second(UNTIL_GO), json!({"concurrencyPolicy": "queue"})));
    wait_until("one waits, one is skipped", || skipped(&k1s, "x", "queueFull") >= 1);
    assert_eq!((starts(&k1s), run_now(&k1s, "x")), (1, 400));
    // Nothing is due any more: what runs after the first has waited for it.
    let slow = with(cron(UNTIL_GO, 3600), json!({"concurrencyPolicy": "queue"}));
    assert_eq!(replace(&k1s, "x", &slow), "Job replaced");
    go(&k1s);
    let results = k1s.results("x", 2);
    k1s.in_state("x", "scheduled");
    assert_eq!((results.len(), starts(&k1s)), (2, 2));
    assert!(milliseconds(&results[0]["finishedAt"]) <= milliseconds(&results[1]["startedAt"]));
}

#[test]
fn allow_runs_them_side_by_side() {
    let k1s = K1s::start();
    k1s.create("x", &with(every_second(UNTIL_GO), json!({"concurrencyPolicy": "allow"})));
    wait_until("two run", || starts(&k1s) >= 2);
    let job = k1s.job("x");
    assert_eq!((&job["state"], &job["results"]), (&json!("running"), &json!([])), "{job}");
    go(&k1s);
    k1s.results("x", 2);
}

#[test]
fn replace_stops_what_runs() {
    let k1s = K1s::start();
    k1s.create("x", &with(every_second(UNTIL_GO), json!({"concurrencyPolicy": "replace"})));
    let results = k1s.results("x", 2);
    for result in &results {
        assert_eq!((&result["reason"], &result["signal"]), (&json!("killed"), &json!("SIGTERM")));
    }
    let first_end = milliseconds(&results[0]["finishedAt"]);
    assert!(first_end <= milliseconds(&results[1]["startedAt"]), "one after the other");
    assert_eq!(k1s.job("x")["killRequested"], false);
}

#[test]
fn a_run_by_hand_obeys_the_policy() {
    let k1s = K1s::start();
    for (policy, second, third) in
        [("forbid", 400, 400), ("queue", 200, 400), ("allow", 200, 200), ("replace", 200, 200)]
    {
        let body = with(cron("sleep 1000", 3600), json!({"concurrencyPolicy": policy}));
        k1s.create(policy, &body);
        assert_eq!(run_now(&k1s, policy), 200, "{policy}");
        let first = k1s.pid_of(policy);
        assert_eq!(run_now(&k1s, policy), second, "{policy}");
        if policy == "replace" {
            wait_until("another has taken its place", || {
                k1s.job(policy)["pid"].as_u64().is_some_and(|pid| pid != u64::from(first))
            });
        }
        assert_eq!(run_now(&k1s, policy), third, "{policy}");
        assert_eq!(k1s.job(policy)["skippedRuns"]["forbidden"], 0, "none was by schedule");
    }
}

#[test]
fn what_can_be_run_by_hand() {
    let k1s = K1s::start();
    let suspended = with(cron("echo by hand", 1), json!({"suspend": true}));
    k1s.create("suspended", &suspended);
    let reply = k1s.put("/job/suspended/run");
    assert_eq!(reply.json(), json!({"message": "Run requested for job suspended"}));
    assert_eq!(k1s.results("suspended", 1)[0]["stdout"], "by hand\n");
    k1s.run("once", &one_off("true"));
    k1s.in_state("once", "succeeded");
    assert_eq!(run_now(&k1s, "once"), 200);
    assert_eq!(k1s.results("once", 2)[1]["run"], 2);
    k1s.create("web", &continuous("exec sleep 1000"));
    assert_eq!(k1s.put("/job/web/run").error(), "Job type does not support run operation");
    k1s.create("killed", &cron("true", 3600));
    k1s.put("/job/killed/kill");
    assert!(k1s.put("/job/killed/run").error().contains("was killed"));
    k1s.put("/job/killed/start");
    assert_eq!(run_now(&k1s, "killed"), 200);
    assert_eq!(run_now(&k1s, "nobody"), 404);
}

// ---- Deadlines, jitter, suspension ----

/// Nothing of k1s runs for so long: whatever falls due comes too late.
fn freeze(k1s: &K1s, time: Duration) {
    k1s.signal(Signal::SIGSTOP);
    stays_true("it is stopped", time, || true);
    k1s.signal(Signal::SIGCONT);
}

#[test]
fn what_is_missed_is_counted_and_not_made_up_for() {
    let k1s = K1s::start();
    let short = json!({"startingDeadlineSeconds": 0.1});
    k1s.create("tick", &with(cron("true", 1), short.clone()));
    k1s.create("calendar", &with(every_second("true"), short));
    k1s.create("forgiving", &with(every_second("true"), json!({"startingDeadlineSeconds": 60})));
    freeze(&k1s, Duration::from_millis(3300));
    for id in ["tick", "calendar", "forgiving"] {
        wait_until(&format!("{id} has missed some"), || skipped(&k1s, id, "missed") >= 2);
        let results = k1s.results(id, 2);
        let starts: Vec<i64> = results.iter().map(|r| milliseconds(&r["startedAt"])).collect();
        // One that is made up for comes at any moment, and the next one with its own second.
        assert!(
            starts.windows(3).all(|three| three[2] - three[0] > 900),
            "{id}: no storm: {starts:?}"
        );
        assert_eq!(skipped(&k1s, id, "forbidden"), 0);
    }
}

#[test]
fn jitter_is_the_same_for_the_same_id() {
    let body = with(cron("true", 3600), json!({"jitterSeconds": 1800}));
    let jitters = || -> Vec<i64> {
        let k1s = K1s::start();
        let jitter = |id| {
            k1s.create(id, &body);
            let job = k1s.job(id);
            milliseconds(&job["nextRunAt"]) - milliseconds(&job["createdAt"]) - 3_600_000
        };
        ["a", "b", "c", "d"].map(jitter).to_vec()
    };
    let (one, other) = (jitters(), jitters());
    assert!(one.iter().all(|jitter| (0..=1_800_000).contains(jitter)), "{one:?}");
    assert!(
        one.iter().zip(&other).all(|(one, other)| (one - other).abs() <= 2),
        "{one:?} {other:?}"
    );
    assert!(one.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 10_000), "{one:?}");
}

#[test]
fn suspension_keeps_the_job_and_starts_nothing() {
    let k1s = K1s::start();
    let body = every_second("true");
    k1s.create("x", &body);
    k1s.results("x", 1);
    let created = k1s.job("x")["createdAt"].clone();
    assert_eq!(replace(&k1s, "x", &with(body.clone(), json!({"suspend": true}))), "Job replaced");
    k1s.in_state("x", "scheduled");
    let job = k1s.job("x");
    assert_eq!((&job["suspend"], &job["nextRunAt"]), (&json!(true), &Value::Null), "{job}");
    // Another job counts the seconds in which nothing must happen.
    k1s.create("beside", &cron("true", 1));
    k1s.results("beside", 2);
    let after = k1s.job("x");
    assert_eq!(after["results"], job["results"]);
    assert_eq!(replace(&k1s, "x", &body), "Job replaced");
    let before = job["results"].as_array().unwrap().len();
    let last = k1s.results("x", before + 1).pop().unwrap();
    assert_eq!(last["run"], json!(before + 1));
    let job = k1s.job("x");
    assert_eq!((&job["createdAt"], &job["skippedRuns"]["missed"]), (&created, &json!(0)));
}

/// Zones are built in: what lies where the system keeps its own is of no concern.
#[test]
fn a_fifo_in_place_of_a_zone_holds_nobody() {
    let start = K1s::with();
    let zones = start.dir().to_owned();
    fs::create_dir(zones.join("Europe")).unwrap();
    mkfifo(&zones.join("Europe/Berlin"), Mode::S_IRWXU).unwrap();
    let k1s = start.env("TZDIR", zones.to_str().unwrap()).start();
    let body = json!({"type": "cron", "executable": "true", "schedule": "@daily"});
    k1s.create("x", &with(body, json!({"timeZone": "Europe/Berlin"})));
    assert_eq!(k1s.get("/healthz").status, 200);
}

// ---- One-off jobs ----

#[test]
fn retries_follow_a_failure_until_one_succeeds_or_none_is_left() {
    let k1s = K1s::start();
    let quick = json!({"retries": 2, "restart": {"initialDelayMs": 1}});
    k1s.create("never", &with(one_off("exit 3"), quick.clone()));
    let second = "echo >>tries; [ $(wc -l <tries) -ge 2 ]";
    k1s.create("second", &with(one_off(second), quick));
    let job = k1s.in_state("never", "failed");
    let codes: Vec<_> = job["results"].as_array().unwrap().iter().map(|r| &r["exitCode"]).collect();
    assert_eq!((codes, &job["restarts"]), (vec![&json!(3); 3], &json!(2)));
    let job = k1s.in_state("second", "succeeded");
    assert_eq!(job["results"].as_array().unwrap().len(), 2);
}

#[test]
fn a_finished_job_removes_itself() {
    let k1s = K1s::start();
    for (id, script) in [("good", "true"), ("bad", "exit 1")] {
        k1s.create(id, &with(one_off(script), json!({"ttlSecondsAfterFinished": 0.3})));
    }
    k1s.create("stays", &one_off("true"));
    wait_until("both are gone", || {
        ["good", "bad"].iter().all(|id| k1s.get(&format!("/job/{id}")).status == 404)
    });
    k1s.in_state("stays", "succeeded");
}
