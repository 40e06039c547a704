//! Requests for existing jobs.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Builder, K1s, Reply, both_ways, continuous, cron, is_alive, one_off, send_signal, stays_true,
    wait_for, wait_until, with,
};

both_ways! {
    a_dry_run_only_says_what_would_be_done
    put_creates_replaces_and_leaves_unchanged
    what_a_process_cannot_see_is_taken_over_in_place
    results_run_numbers_and_creation_stay_when_a_job_is_replaced
    a_killed_job_stays_killed_until_it_is_started
    a_restart_stops_and_starts
    signals_reach_the_first_process_or_the_group
}

fn put(k1s: &K1s, id: &str, body: &Value) -> Reply {
    k1s.request("PUT", &format!("/job/{id}"), body.to_string().as_bytes())
}

fn says(reply: &Reply, message: &str) {
    assert_eq!((reply.status, reply.json()["message"].as_str()), (200, Some(message)));
}

/// The object without the sentence that depends on the time.
fn at_any_time(mut job: Value) -> Value {
    assert!(job.as_object_mut().unwrap().remove("message").is_some());
    job
}

fn patch(k1s: &K1s, id: &str, body: &Value) -> Reply {
    k1s.request("PATCH", &format!("/job/{id}"), body.to_string().as_bytes())
}

// ---- PUT ----

fn a_dry_run_only_says_what_would_be_done(start: Builder) {
    let k1s = start.start();
    let payload = continuous("exec sleep 1000");
    let dry = |method: &str, body: &Value| {
        k1s.request(method, "/job/x?dryRun=true", body.to_string().as_bytes())
    };
    says(&dry("PUT", &payload), "Job created");
    assert_eq!(k1s.get("/job/x").status, 404);
    says(&put(&k1s, "x", &payload), "Job created");
    let before = k1s.in_state("x", "running");
    says(&dry("PUT", &payload), "Job unchanged");
    says(&dry("PUT", &with(payload.clone(), json!({"nice": 1}))), "Job replaced");
    says(&dry("PATCH", &json!({"nice": 1})), "Job replaced");
    says(&dry("PATCH", &json!({"nice": null})), "Job unchanged");
    let refused = dry("PUT", &one_off("true"));
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("is of another type"), "{}", refused.text());
    assert_eq!(dry("PATCH", &json!({"nice": 99})).status, 400);
    assert_eq!(k1s.job("x")["pid"], before["pid"]);
    assert!(k1s.job("x").get("nice").is_none());
    let reply = k1s.request("PUT", "/job/x?dryRun=x", payload.to_string().as_bytes());
    assert_eq!(reply.error(), "dryRun: must be true or false, not \"x\"");
}

fn put_creates_replaces_and_leaves_unchanged(start: Builder) {
    let k1s = start.start();
    let payload = with(continuous("exec sleep 1000"), json!({"environment": {"A": "1"}}));
    let reply = put(&k1s, "x", &payload);
    assert_eq!(reply.json(), json!({"message": "Job created", "id": "x"}));
    let pid = k1s.in_state("x", "running")["pid"].clone();
    // Compared after defaults.
    let spelled_out = with(
        payload.clone(),
        json!({"restartOnFailure": true, "stop": {"signal": "SIGTERM", "timeoutSeconds": 10.0},
            "workingDirectory": k1s.dir()}),
    );
    says(&put(&k1s, "x", &spelled_out), "Job unchanged");
    assert_eq!(k1s.job("x")["pid"], pid);
    says(&put(&k1s, "x", &with(payload, json!({"environment": {"A": "2"}}))), "Job replaced");
    let other = wait_for("another process", || {
        let now = k1s.job("x")["pid"].clone();
        (now != pid && !now.is_null()).then_some(now)
    });
    let job = k1s.job("x");
    assert_eq!((&job["pid"], &job["environment"]), (&other, &json!({"A": "2"})));
    assert_eq!(job["results"][0]["reason"], "killed");
    assert_eq!(job["state"], "running");
}

#[test]
fn a_type_is_for_life_and_a_wrong_payload_changes_nothing() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    let before = k1s.in_state("x", "running");
    for wrong in [
        one_off("true"),
        cron("true", 60),
        with(continuous("true"), json!({"arguments": 1})),
        json!({"type": "continuous"}),
    ] {
        let reply = put(&k1s, "x", &wrong);
        assert_eq!(reply.status, 400, "{wrong}");
        assert!(!reply.error().is_empty());
    }
    assert_eq!(at_any_time(k1s.job("x")), at_any_time(before));
    assert_eq!(put(&k1s, ".x", &one_off("true")).status, 400);
    assert_eq!(k1s.get("/").json().as_array().unwrap().len(), 1);
}

#[test]
fn a_get_an_edit_and_a_put_made_www_data_root_and_stars_its_secret() {
    let k1s = K1s::start();
    let secret = json!({"environment": {"SECRET": "s3cret"}, "secretEnvironment": ["SECRET"]});
    let payload = with(json!({"type": "cron", "schedule": "@yearly"}), secret);
    let of_www_data = json!({"executable": "true", "user": "www-data", "umask": "077",
        "limits": {"nofile": 64}, "timeoutSeconds": 5});
    k1s.create("x", &with(payload.clone(), of_www_data.clone()));
    k1s.create("y", &with(payload, with(continuous("echo $SECRET"), json!({"type": "cron"}))));
    for id in ["x", "y"] {
        let mut shown = k1s.job(id);
        says(&put(&k1s, id, &shown), "Job unchanged");
        shown["labels"] = json!({"a": "b"});
        says(&put(&k1s, id, &shown), "Job replaced");
    }
    let now = k1s.job("x");
    for (field, given) in of_www_data.as_object().unwrap() {
        assert_eq!(now[field], *given, "{field}");
    }
    assert_eq!(now["environment"], json!({"SECRET": "***"}));
    k1s.put("/job/y/run");
    assert_eq!(k1s.results("y", 1)[0]["stdout"], "s3cret\n");
}

#[test]
fn stars_stand_for_nothing_where_there_is_no_secret() {
    let k1s = K1s::start();
    let stars = json!({"environment": {"A": "***"}, "secretEnvironment": ["A"]});
    let payload = with(one_off("true"), stars);
    let refused = |reply: Reply| {
        assert_eq!(reply.status, 400);
        assert!(reply.error().starts_with("environment.A: \"***\" keeps a secret, and "));
    };
    refused(k1s.post("/job/x", &payload));
    refused(put(&k1s, "x", &payload));
    assert_eq!(k1s.get("/job/x").status, 404);
    k1s.create("x", &one_off("true"));
    refused(put(&k1s, "x", &payload));
    refused(patch(&k1s, "x", &payload));
    let secret = json!({"environment": {"A": "1"}, "secretEnvironment": ["A"]});
    says(&patch(&k1s, "x", &secret), "Job replaced");
    says(&put(&k1s, "x", &payload), "Job unchanged");
    // Nor do they become its value, or show it, when it is no longer a secret.
    refused(patch(&k1s, "x", &json!({"secretEnvironment": null})));
    // Elsewhere they are text.
    says(&patch(&k1s, "x", &json!({"environment": {"B": "***"}})), "Job replaced");
    assert_eq!(k1s.job("x")["environment"], json!({"A": "***", "B": "***"}));
}

#[test]
fn an_id_in_a_payload_is_that_of_the_path() {
    let k1s = K1s::start();
    for id in [json!("y"), json!(1), json!(null)] {
        let payload = with(one_off("true"), json!({"id": id}));
        let replies = [k1s.post("/job/x", &payload), put(&k1s, "x", &payload)];
        for reply in replies {
            let error = "id: must be \"x\", as in the path, or omitted";
            assert_eq!((reply.status, reply.error().as_str()), (400, error));
        }
    }
    k1s.create("x", &with(one_off("true"), json!({"id": "x", "state": "failed", "pid": {}})));
}

// ---- PATCH ----

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let k1s = K1s::start();
    let daemon = with(
        continuous("exec sleep 1000"),
        json!({"labels": {"a": "1", "b": "2"}, "stop": {"timeoutSeconds": 3}, "nice": 1}),
    );
    k1s.create("daemon", &daemon);
    k1s.create("tick", &cron("true", 1000));
    k1s.create(
        "daily",
        &with(
            cron("true", 1),
            json!({"schedule": "@daily", "timeZone": "Asia/Tokyo",
        "scheduleInSeconds": null}),
        ),
    );
    for (id, change, path, shown) in [
        ("daemon", json!({"labels": {"a": null}}), "/labels", json!({"b": "2"})),
        ("daemon", json!({"labels": null}), "/labels", json!({})),
        (
            "daemon",
            json!({"stop": {"signal": "SIGINT"}}),
            "/stop",
            json!({"signal": "SIGINT",
            "timeoutSeconds": 3, "scope": "group"}),
        ),
        ("daemon", json!({"stop": null}), "/stop/timeoutSeconds", json!(10)),
        ("daemon", json!({"restartOnFailure": false}), "/restartOnFailure", json!(false)),
        ("daemon", json!({"nice": null}), "/nice", json!(null)),
        (
            "daemon",
            json!({"arguments": ["-c", "exec sleep 999"]}),
            "/arguments/1",
            json!("exec sleep 999"),
        ),
        ("tick", json!({"scheduleInSeconds": 7}), "/schedule", json!(7)),
        ("tick", json!({"scheduleInSeconds": null}), "/schedule", json!(60)),
        ("tick", json!({"schedule": "@weekly"}), "/timeZone", json!("UTC")),
        ("daily", json!({"timeZone": "Asia/Seoul"}), "/timeZone", json!("Asia/Seoul")),
        ("daily", json!({"schedule": 5}), "/schedule", json!(5)),
    ] {
        says(&patch(&k1s, id, &change), "Job replaced");
        let job = k1s.job(id);
        assert_eq!(job.pointer(path).unwrap_or(&Value::Null), &shown, "{change}");
        says(&patch(&k1s, id, &change), "Job unchanged");
    }
    assert_eq!(k1s.job("daemon")["executable"], daemon["executable"]);
    assert!(k1s.job("daily").get("timeZone").is_none());
}

#[test]
fn a_patch_that_is_wrong_changes_nothing() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    let before = k1s.in_state("x", "running");
    for (change, error) in [
        ("[]", "The document must be an object, not a list"),
        ("null", "The document must be an object, not null"),
        ("{\"a\":1,\"a\":2}", "The body is not JSON: the key `a` is given twice"),
        ("{\"executable\":null}", "executable: is required"),
        ("{\"type\":\"daemon\"}", "Invalid job type"),
        ("{\"type\":\"cron\"}", "Job x is of another type"),
        ("{\"id\":\"y\"}", "id: must be \"x\""),
        ("{\"stop\":{\"timeoutSeconds\":\"1\"}}", "stop.timeoutSeconds: must be a number"),
        ("{\"retries\":1}", "retries: is for one-off jobs only"),
    ] {
        let reply = k1s.request("PATCH", "/job/x", change.as_bytes());
        assert_eq!(reply.status, 400, "{change}");
        assert!(reply.error().starts_with(error), "{change}: {}", reply.error());
    }
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    assert_eq!(k1s.request("PATCH", "/job/x", deep.as_bytes()).status, 400);
    assert_eq!(at_any_time(k1s.job("x")), at_any_time(before));
    let reply = patch(&k1s, "y", &json!({"nice": 1}));
    assert_eq!((reply.status, reply.error().as_str()), (404, "Job not found"));
    assert_eq!(patch(&k1s, ".x", &json!({})).status, 404);
}

fn what_a_process_cannot_see_is_taken_over_in_place(start: Builder) {
    let k1s = start.start();
    let payload = continuous("trap '' TERM; echo >up; while :; do sleep 0.02; done");
    k1s.create("x", &with(payload.clone(), json!({"stop": {"timeoutSeconds": 3600}})));
    k1s.wait_for_file("up");
    let pid = k1s.pid_of("x");
    for unseen in [
        json!({"restart": {"initialDelayMs": 5}}),
        json!({"restartOnFailure": false}),
        json!({"output": {"limitBytes": 10, "historyLimit": 1}}),
        json!({"labels": {"a": "b"}}),
        json!({"successExitCodes": [0, 3]}),
        json!({"timeoutSeconds": 3600}),
        json!({"stop": {"timeoutSeconds": 0.1}}),
    ] {
        says(&put(&k1s, "x", &with(payload.clone(), unseen.clone())), "Job replaced");
        assert_eq!(k1s.job("x")["pid"], pid, "{unseen}");
    }
    // The new grace period counts, for the process of before.
    k1s.put("/job/x/kill");
    assert_eq!(k1s.in_state("x", "killed")["results"][0]["exitCode"], 137);
}

#[test]
fn a_timeout_that_is_put_counts_from_the_start_of_the_run() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("exec sleep 1000"));
    k1s.in_state("x", "running");
    let payload = with(one_off("exec sleep 1000"), json!({"timeoutSeconds": 0.1}));
    says(&put(&k1s, "x", &payload), "Job replaced");
    assert_eq!(k1s.results("x", 1)[0]["reason"], "timed-out");
}

fn results_run_numbers_and_creation_stay_when_a_job_is_replaced(start: Builder) {
    let k1s = start.start();
    let first = k1s.run("x", &one_off("echo 1"));
    let created = k1s.job("x")["createdAt"].clone();
    says(&put(&k1s, "x", &one_off("echo 2")), "Job replaced");
    let results = k1s.results("x", 2);
    assert_eq!(results[0], first);
    assert_eq!((&results[1]["run"], &results[1]["stdout"]), (&json!(2), &json!("2\n")));
    assert_eq!(k1s.job("x")["createdAt"], created);
}

// ---- Kill, start, restart, run ----

fn a_killed_job_stays_killed_until_it_is_started(start: Builder) {
    let k1s = start.start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.create("y", &cron("echo >>ran", 1));
    k1s.in_state("x", "running");
    for id in ["x", "y"] {
        k1s.put(&format!("/job/{id}/kill"));
        assert_eq!(k1s.in_state(id, "killed")["killRequested"], true);
    }
    assert_eq!(k1s.put("/job/y/run").status, 400, "it was killed");
    says(&put(&k1s, "x", &continuous("exec sleep 2000")), "Job replaced");
    let ran = || fs::read(k1s.dir().join("ran")).unwrap_or_default().len();
    let before = ran();
    stays_true("nothing runs", Duration::from_millis(1200), || {
        ran() == before && k1s.job("x")["state"] == "killed"
    });
    says(&k1s.put("/job/x/start"), "Start requested for job x");
    let job = k1s.in_state("x", "running");
    assert_eq!((&job["killRequested"], &job["restarts"]), (&json!(false), &json!(0)));
    assert_eq!(job["arguments"][1], "exec sleep 2000");
    says(&k1s.put("/job/x/start"), "Start requested for job x");
    assert_eq!(k1s.job("x")["pid"], job["pid"], "of a job that runs nothing happens");
    k1s.put("/job/y/start");
    wait_until("it runs again", || ran() > before);
}

#[test]
fn a_kill_of_a_job_that_has_ended_is_taken_note_of() {
    let k1s = K1s::start();
    let ends = with(continuous("exit 3"), json!({"restartOnFailure": false}));
    k1s.create("x", &ends);
    assert_eq!(k1s.in_state("x", "failed")["killRequested"], false);
    for _ in 0..2 {
        says(&k1s.put("/job/x/kill"), "Kill requested for job x");
    }
    assert_eq!(k1s.in_state("x", "failed")["killRequested"], true);
    k1s.put("/job/x/start");
    assert_eq!(k1s.results("x", 2).len(), 2);
}

#[test]
fn a_start_ends_a_backoff() {
    let k1s = K1s::start();
    let hour = json!({"restart": {"initialDelayMs": 3_600_000, "maxDelayMs": 3_600_000}});
    k1s.create("x", &with(continuous("false"), hour));
    let before = k1s.in_state("x", "backoff")["results"].as_array().unwrap().len();
    assert!(before >= 1);
    k1s.put("/job/x/start");
    k1s.results("x", before + 1);
}

#[test]
fn a_start_while_a_job_is_being_stopped_starts_it_afterwards() {
    let k1s = K1s::start();
    let script = "trap 'echo >asked; while [ ! -e go ]; do sleep 0.01; done; exit' TERM; \
        echo $$ >>up; while :; do sleep 0.02; done";
    k1s.create("x", &continuous(script));
    let starts = || fs::read_to_string(k1s.dir().join("up")).unwrap_or_default().lines().count();
    wait_until("up", || starts() == 1);
    k1s.put("/job/x/kill");
    k1s.wait_for_file("asked");
    k1s.put("/job/x/start");
    assert_eq!(k1s.job("x")["state"], "stopping");
    fs::write(k1s.dir().join("go"), "").unwrap();
    wait_until("up again", || starts() == 2);
    assert_eq!(k1s.in_state("x", "running")["killRequested"], false);
}

fn a_restart_stops_and_starts(start: Builder) {
    let k1s = start.start();
    let script = "trap 'exit 5' TERM; echo >>up; while :; do sleep 0.02; done";
    k1s.create("x", &continuous(script));
    let starts = || fs::read(k1s.dir().join("up")).unwrap_or_default().len();
    wait_until("up", || starts() == 1);
    says(&k1s.put("/job/x/restart"), "Restart requested for job x");
    wait_until("up again", || starts() == 2);
    let job = k1s.in_state("x", "running");
    let result = &job["results"][0];
    assert_eq!((&result["exitCode"], &result["reason"]), (&json!(5), &json!("killed")));
    // One that is over begins anew.
    k1s.run("once", &one_off("echo again"));
    k1s.put("/job/once/restart");
    k1s.results("once", 2);
}

#[test]
fn a_run_by_hand_obeys_the_policy() {
    let k1s = K1s::start();
    let policy = |name: &str| json!({"concurrencyPolicy": name});
    for id in ["forbid", "allow"] {
        k1s.create(id, &with(cron("exec sleep 1000", 3600), policy(id)));
        says(&k1s.put(&format!("/job/{id}/run")), &format!("Run requested for job {id}"));
        k1s.in_state(id, "running");
    }
    assert_eq!(k1s.put("/job/forbid/run").status, 400);
    assert_eq!(k1s.put("/job/allow/run").status, 200);
    wait_until("two and one", || k1s.descendants().len() == 3);
    k1s.create("continuous", &continuous("exec sleep 1000"));
    assert_eq!(k1s.put("/job/continuous/run").status, 400);
    k1s.run("once", &one_off("echo 1"));
    assert_eq!(k1s.put("/job/once/run").status, 200);
    k1s.results("once", 2);
}

#[test]
fn what_is_not_there_cannot_be_asked_anything() {
    let k1s = K1s::start();
    for verb in ["kill", "start", "restart", "run", "signal"] {
        let reply = k1s.put(&format!("/job/nope/{verb}"));
        assert_eq!((reply.status, reply.error().as_str()), (404, "Job not found"), "{verb}");
    }
}

// ---- Signals ----

fn signals_reach_the_first_process_or_the_group(start: Builder) {
    let k1s = start.start();
    let trap = |name: &str| format!("trap 'echo {name} >>got' USR1; echo >up-{name}");
    let wait = "while :; do sleep 0.02; done";
    let script = format!("({}; {wait}) & {}; {wait}", trap("child"), trap("first"));
    k1s.create("x", &continuous(&script));
    for name in ["up-child", "up-first"] {
        wait_until(name, || k1s.dir().join(name).exists());
    }
    let got = || {
        let text = fs::read_to_string(k1s.dir().join("got")).unwrap_or_default();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let signal = |body: Value| k1s.request("PUT", "/job/x/signal", body.to_string().as_bytes());
    says(&signal(json!({"signal": "SIGUSR1"})), "Signal requested for job x");
    wait_until("the first has got it", || got() == ["first"]);
    says(&signal(json!({"signal": "SIGUSR1", "group": true})), "Signal requested for job x");
    wait_until("both have got it", || got() == ["child", "first", "first"]);
    for wrong in [json!({"signal": "SIGNOPE"}), json!({}), json!({"signal": "SIGHUP", "x": 1})] {
        assert_eq!(signal(wrong).status, 400);
    }
    assert_eq!(k1s.job("x")["state"], "running");
    says(&signal(json!({"signal": "SIGKILL"})), "Signal requested for job x");
    // k1s did not decide on the end of the run: it is a failure, and it is started again.
    let result = k1s.results("x", 1).remove(0);
    assert_eq!((&result["reason"], &result["signal"]), (&json!("signaled"), &json!("SIGKILL")));
    k1s.put("/job/x/kill");
    k1s.in_state("x", "killed");
    assert_eq!(signal(json!({"signal": "SIGHUP"})).status, 400, "nothing runs");
}

#[test]
fn a_run_that_k1s_did_not_end_has_failed() {
    let k1s = K1s::start();
    for (id, payload) in [
        ("once", one_off("exec sleep 1000")),
        ("on", with(continuous("exec sleep 1000"), json!({"restartOnFailure": false}))),
    ] {
        k1s.create(id, &payload);
        let pid = k1s.pid_of(id);
        send_signal(pid, Signal::SIGTERM);
        let job = k1s.in_state(id, "failed");
        assert_eq!(job["results"][0]["reason"], "signaled", "{job}");
        assert!(!is_alive(pid));
    }
}
