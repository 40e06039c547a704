//! Cron jobs by interval, over real seconds.

use serde_json::json;

use crate::harness::{K1s, cron, milliseconds, one_off, wait_for, wait_until, with};

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
    let script = "echo >>started; while [ ! -e go ]; do sleep 0.02; done";
    k1s.create("slow", &cron(script, 1));
    k1s.create("beside", &cron("true", 1));
    // The one beside it counts the seconds.
    k1s.results("beside", 3);
    let job = k1s.job("slow");
    assert_eq!((&job["state"], &job["results"]), (&json!("running"), &json!([])), "{job}");
    let starts = || std::fs::read_to_string(k1s.dir().join("started")).unwrap().len();
    assert_eq!(starts(), 1, "forbid: one run at a time");
    std::fs::write(k1s.dir().join("go"), "").unwrap();
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
