//! What the first k1s promised. These tests are exact, and never change.

use serde_json::{Value, json};

use crate::harness::{K1s, TempDir, continuous, cron, one_off, wait_until, with};

#[test]
fn without_the_token_every_request_is_a_403() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("true"));
    let tokens = [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer a-token-of-the-test\r\n",
        "Authorization: Bearer a-token-of-the-tests-\r\n",
        "Authorization: Bearer A-TOKEN-OF-THE-TESTS\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: a-token-of-the-tests\r\n",
        "Authorization: Basic a-token-of-the-tests\r\n",
        "X-Authorization: Bearer a-token-of-the-tests\r\n",
    ];
    let requests = [
        "GET /",
        "HEAD /",
        "GET /job/x",
        "GET /job/missing",
        "POST /job/new",
        "PUT /job/x/kill",
        "DELETE /job/x",
        "GET /no/such/path",
        "PATCH /job/x",
    ];
    for token in tokens {
        for request in requests {
            let mut client = k1s.connect();
            client.send(format!(
                "{request} HTTP/1.1\r\nHost: k1s\r\n{token}Connection: close\r\n\r\n"
            ));
            let method = request.split(' ').next().unwrap();
            let reply = client.reply_to(method);
            assert_eq!(reply.status, 403, "{request} {token}");
            if method != "HEAD" {
                assert_eq!(reply.json(), json!({"error": "Unauthorized"}), "{request} {token}");
            }
        }
    }
    assert_eq!(k1s.get("/job/new").status, 404, "nothing was created");
    assert_eq!(k1s.get("/job/x").status, 200, "nothing was removed");
}

#[test]
fn an_empty_k1s_lists_an_empty_array() {
    let reply = K1s::start().get("/");
    assert_eq!((reply.status, reply.json()), (200, json!([])));
}

#[test]
fn jobs_are_listed_in_the_order_of_their_creation() {
    let k1s = K1s::start();
    let ids: Vec<String> = (0..40).map(|n| format!("j{}", n * 7 % 40)).collect();
    for id in &ids {
        k1s.create(id, &one_off("true"));
    }
    assert_eq!(listed(&k1s), ids);
    k1s.delete("/job/j0");
    k1s.create("j0", &one_off("true"));
    let mut after: Vec<String> = ids.into_iter().filter(|id| id != "j0").collect();
    after.push("j0".into());
    assert_eq!(listed(&k1s), after);
}

#[test]
fn the_listing_holds_the_job_objects() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("echo out; echo err >&2; exit 3"));
    assert_eq!(k1s.get("/").json(), json!([k1s.job("x")]));
}

#[test]
fn creating_says_what_was_created() {
    let k1s = K1s::start();
    for (id, payload, message) in [
        ("a", continuous("sleep 1000"), "Continuous job created"),
        ("b", one_off("sleep 1000"), "One-off job created"),
        ("c", cron("true", 60), "Cron job created"),
    ] {
        let reply = k1s.post(&format!("/job/{id}"), &payload);
        assert_eq!((reply.status, reply.json()), (200, json!({"message": message, "id": id})));
    }
}

#[test]
fn an_id_is_taken_once() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("echo first"));
    for payload in [one_off("true"), continuous("true"), cron("true", 1)] {
        let reply = k1s.post("/job/x", &payload);
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json(), json!({"error": "Job with id x already exists"}));
    }
    assert_eq!(k1s.results("x", 1)[0]["stdout"], "first\n", "the first job is untouched");
}

#[test]
fn only_three_types_of_job_exist() {
    let k1s = K1s::start();
    for kind in ["daemon", "", "Continuous", "oneoff", "one_off"] {
        let reply = k1s.post("/job/x", &json!({"type": kind, "executable": "true"}));
        let hint = format!("type: must be \"continuous\", \"one-off\" or \"cron\", not {kind:?}");
        let error = json!({"error": "Invalid job type", "hint": hint});
        assert_eq!((reply.status, reply.json()), (400, error));
    }
    assert_eq!(k1s.get("/job/x").status, 404);
}

#[test]
fn what_is_not_there_is_a_404() {
    let k1s = K1s::start();
    for (method, target) in [("GET", "/job/x"), ("PUT", "/job/x/kill"), ("DELETE", "/job/x")] {
        let reply = k1s.request(method, target, b"");
        assert_eq!(
            (reply.status, reply.json()),
            (404, json!({"error": "Job not found"})),
            "{method} {target}"
        );
    }
}

#[test]
fn the_object_of_a_continuous_job() {
    let k1s = K1s::start();
    let dir = TempDir::new();
    let payload = json!({
        "type": "continuous",
        "executable": "sleep",
        "arguments": ["1000"],
        "workingDirectory": dir.path(),
        "environment": {"B": "2", "A": "1"},
    });
    k1s.create("x", &payload);
    let job = k1s.in_state("x", "running");
    assert_fields(
        &job,
        &json!({
            "id": "x",
            "executable": "sleep",
            "arguments": ["1000"],
            "workingDirectory": dir.path(),
            "environment": {"A": "1", "B": "2"},
            "restartOnFailure": true,
            "killRequested": false,
            "results": [],
            "type": "continuous",
            "restarts": 0,
        }),
    );
    assert!(job["pid"].as_u64().is_some_and(|pid| pid > 1), "{job}");
    assert_time(&job["startedAt"]);
    assert_time(&job["createdAt"]);
    assert!(job.get("schedule").is_none(), "{job}");
}

#[test]
fn the_object_of_a_one_off_job() {
    let k1s = K1s::start();
    k1s.create("x", &json!({"type": "one-off", "executable": "true"}));
    let job = k1s.in_state("x", "succeeded");
    assert_fields(
        &job,
        &json!({
            "id": "x",
            "executable": "true",
            "arguments": [],
            "workingDirectory": k1s.dir(),
            "environment": {},
            "type": "one-off",
            "pid": null,
        }),
    );
    assert!(job.get("restartOnFailure").is_none(), "{job}");
    assert!(job.get("schedule").is_none(), "{job}");
}

#[test]
fn the_object_of_a_cron_job() {
    let k1s = K1s::start();
    k1s.create("x", &json!({"type": "cron", "executable": "true"}));
    k1s.create("y", &json!({"type": "cron", "executable": "true", "scheduleInSeconds": 86400}));
    let job = k1s.job("x");
    assert_fields(
        &job,
        &json!({
            "id": "x",
            "executable": "true",
            "arguments": [],
            "workingDirectory": k1s.dir(),
            "environment": {},
            "schedule": 60,
            "killRequested": false,
            "results": [],
            "type": "cron",
            "state": "scheduled",
            "pid": null,
        }),
    );
    assert_time(&job["nextRunAt"]);
    assert!(job.get("restartOnFailure").is_none(), "{job}");
    assert_eq!(k1s.job("y")["schedule"], json!(86400), "a number, not a text");
}

#[test]
fn a_result_holds_exit_code_and_output() {
    let k1s = K1s::start();
    let result = k1s.run("x", &one_off("echo out; echo err >&2; exit 3"));
    assert_fields(
        &result,
        &json!({
            "exitCode": 3,
            "stdout": "out\n",
            "stderr": "err\n",
            "run": 1,
            "signal": null,
            "reason": "exited",
            "stdoutBytes": 4,
            "stderrBytes": 4,
            "stdoutTruncated": false,
            "stderrTruncated": false,
        }),
    );
    assert_time(&result["startedAt"]);
    assert_time(&result["finishedAt"]);
    assert!(result["finishedAt"].as_str() >= result["startedAt"].as_str(), "{result}");
    assert!(result["durationMs"].is_u64(), "{result}");
    assert_eq!(k1s.job("x")["state"], "failed");
}

#[test]
fn results_are_finished_runs_oldest_first() {
    let k1s = K1s::start();
    let script = "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) | tee n; [ $n -lt 2 ] || exec sleep 1000";
    k1s.create("x", &with(continuous(script), json!({"restart": {"initialDelayMs": 1}})));
    k1s.results("x", 2);
    let job = k1s.in_state("x", "running");
    let outputs: Vec<&str> = job["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["stdout"].as_str().unwrap())
        .collect();
    assert_eq!(outputs, ["1\n", "2\n"], "the third run has not finished");
}

#[test]
fn a_killed_continuous_job_stays_listed_and_does_not_run_again() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.pid_of("x");
    let reply = k1s.put("/job/x/kill");
    assert_eq!((reply.status, reply.json()), (200, json!({"message": "Kill requested for job x"})));
    let job = k1s.in_state("x", "killed");
    assert_fields(&job, &json!({"killRequested": true, "pid": null}));
    assert_fields(
        &job["results"][0],
        &json!({"exitCode": 143, "signal": "SIGTERM", "reason": "killed"}),
    );
    let again = k1s.put("/job/x/kill");
    assert_eq!(again.status, 200, "a kill of what has ended");
    assert_eq!(k1s.job("x")["results"].as_array().unwrap().len(), 1);
}

#[test]
fn a_killed_cron_job_stays_listed_and_does_not_run_again() {
    let k1s = K1s::start();
    k1s.create("x", &cron("true", 3600));
    let reply = k1s.put("/job/x/kill");
    assert_eq!((reply.status, reply.json()), (200, json!({"message": "Kill requested for job x"})));
    let job = k1s.in_state("x", "killed");
    assert_fields(&job, &json!({"killRequested": true, "nextRunAt": null}));
}

#[test]
fn a_one_off_job_that_is_over_cannot_be_killed() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("true"));
    let reply = k1s.put("/job/x/kill");
    assert_eq!(
        (reply.status, reply.json()),
        (400, json!({"error": "Job type does not support kill operation"}))
    );
    assert_eq!(k1s.job("x")["state"], "succeeded");
}

#[test]
fn a_one_off_job_that_runs_can_be_killed() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("exec sleep 1000"));
    k1s.pid_of("x");
    let reply = k1s.put("/job/x/kill");
    assert_eq!((reply.status, reply.json()), (200, json!({"message": "Kill requested for job x"})));
    assert_eq!(k1s.in_state("x", "killed")["results"][0]["exitCode"], 143);
}

#[test]
fn a_job_of_each_type_can_be_deleted() {
    let k1s = K1s::start();
    for (id, payload) in [
        ("a", continuous("exec sleep 1000")),
        ("b", one_off("exec sleep 1000")),
        ("c", cron("true", 60)),
        ("d", one_off("true")),
    ] {
        k1s.create(id, &payload);
        let reply = k1s.delete(&format!("/job/{id}"));
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({"message": format!("Kill requested for job {id}")}))
        );
        wait_until("the job is gone", || k1s.get(&format!("/job/{id}")).status == 404);
    }
    assert_eq!(k1s.get("/").json(), json!([]));
    wait_until("no process is left", || k1s.descendants().is_empty());
}

#[test]
fn a_continuous_job_is_started_again_after_each_exit() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    let first = k1s.pid_of("x");
    crate::harness::send_signal(first, nix::sys::signal::Signal::SIGKILL);
    let result = k1s.results("x", 1).remove(0);
    assert_fields(&result, &json!({"exitCode": 137, "signal": "SIGKILL", "reason": "signaled"}));
    wait_until("it has a new pid", || {
        let pid = &k1s.job("x")["pid"];
        pid.is_u64() && *pid != json!(first)
    });
    assert_eq!(k1s.job("x")["restarts"], 1);
}

fn listed(k1s: &K1s) -> Vec<String> {
    let jobs = k1s.get("/").json();
    let ids = jobs.as_array().unwrap().iter();
    ids.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// Each of `expected` is there, as given; other fields may be.
#[track_caller]
fn assert_fields(object: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(object.get(name), Some(value), "{name} of {object}");
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-03-29T01:30:00.123Z`.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{text}");
}
