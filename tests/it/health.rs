//! Readiness and liveness, and commands beside runs, with real processes.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{K1s, continuous, is_alive, one_off, stays_true, wait_until, with};

/// Whether k1s is ready, as anybody may ask.
fn readyz(k1s: &K1s) -> (u16, Value) {
    let mut client = k1s.connect();
    client.send("GET /readyz HTTP/1.1\r\nHost: k1s\r\n\r\n");
    let reply = client.reply();
    (reply.status, reply.json())
}

fn is_ready(k1s: &K1s, id: &str) -> bool {
    k1s.job(id)["ready"] == true
}

#[test]
fn a_line_of_output_makes_a_job_ready_and_k1s_with_it() {
    let k1s = K1s::start();
    let (ready, not_ready) = (json!({"status": "ready"}), json!({"status": "not ready"}));
    assert_eq!(readyz(&k1s), (200, ready.clone()), "nobody is waited for");
    let script = "printf 'database system is rea' >&2; until test -e go; do sleep 0.02; done; \
                  echo dy to accept connections >&2; exec sleep 1000";
    let job = with(continuous(script), json!({"readiness": {"log": "ready to accept"}}));
    k1s.create("db", &job);
    k1s.pid_of("db");
    assert_eq!(k1s.job("db")["ready"], false);
    assert_eq!(readyz(&k1s), (503, not_ready));
    let message = k1s.job("db")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("is not ready yet: no line contains"), "{message}");
    fs::write(k1s.dir().join("go"), "").unwrap();
    let waited = k1s.get("/job/db?wait=30&for=ready");
    assert_eq!((waited.status, &waited.json()["ready"]), (200, &json!(true)));
    assert_eq!(readyz(&k1s), (200, ready.clone()));
    let last = &k1s.job("db")["lastProbe"];
    assert_eq!((&last["kind"], &last["ok"]), (&json!("log"), &json!(true)));
    let metrics = k1s.get("/metrics").text();
    assert!(metrics.contains("k1s_job_ready{id=\"db\"} 1\n"), "{metrics}");
    assert_eq!(k1s.put("/job/db/kill").status, 200);
    assert_eq!(readyz(&k1s), (200, ready), "what was killed is not waited for");
    k1s.in_state("db", "killed");
    assert_eq!(k1s.job("db")["ready"], Value::Null);
}

#[test]
fn a_command_that_succeeds_makes_a_job_ready() {
    let k1s = K1s::start();
    let probe = r#"echo "asked $K1S_JOB $WHO"; test "$K1S_PID" = "$(cat pid)" && test -e up"#;
    let fields = json!({
        "environment": {"WHO": "me"},
        "readiness": {"exec": ["sh", "-c", probe], "periodSeconds": 0.1},
    });
    k1s.create("x", &with(continuous("echo $$ > pid; exec sleep 1000"), fields));
    wait_until("an attempt has failed", || k1s.job("x")["lastProbe"]["ok"] == false);
    let message = k1s.job("x")["lastProbe"]["message"].clone();
    assert_eq!(message, "ended with exit code 1: asked x me");
    assert!(!is_ready(&k1s, "x"));
    fs::write(k1s.dir().join("up"), "").unwrap();
    assert_eq!(k1s.get("/job/x?wait=30&for=ready").status, 200);
    let last = k1s.job("x")["lastProbe"].clone();
    assert_eq!((&last["ok"], &last["message"]), (&json!(true), &json!("asked x me")));
    assert_eq!(k1s.job("x")["results"], json!([]), "attempts have no results");
    assert_eq!(k1s.get("/job/x/logs").text(), "", "and their output is not the job's");
    fs::remove_file(k1s.dir().join("up")).unwrap();
    wait_until("it is not ready any more", || !is_ready(&k1s, "x"));
    assert_eq!(k1s.job("x")["state"], "running");
}

#[test]
fn a_job_that_is_unhealthy_is_stopped_and_started_again() {
    let k1s = K1s::start();
    let liveness =
        json!({"exec": ["test", "!", "-e", "ill"], "periodSeconds": 0.1, "failureThreshold": 2});
    k1s.create("x", &with(continuous("exec sleep 1000"), json!({"liveness": liveness})));
    wait_until("it was asked", || k1s.job("x")["lastProbe"]["ok"] == true);
    fs::write(k1s.dir().join("ill"), "").unwrap();
    let first = k1s.results("x", 1)[0].clone();
    fs::remove_file(k1s.dir().join("ill")).unwrap();
    assert_eq!((&first["reason"], &first["success"]), (&json!("unhealthy"), &json!(false)));
    k1s.pid_of("x");
    assert!(k1s.job("x")["restarts"].as_u64().unwrap() > 0);
    let said = k1s.stderr();
    assert!(
        said.contains("is unhealthy, and is stopped: ended with exit code 1, 2 times"),
        "{said}"
    );
    let metrics = k1s.get("/metrics").text();
    assert!(metrics.contains("k1s_job_runs_total{id=\"x\",outcome=\"unhealthy\"} "), "{metrics}");
}

#[test]
fn a_job_that_is_not_ready_in_time_is_stopped() {
    let k1s = K1s::start();
    let fields = json!({"readiness": {"fd": 3}, "startTimeoutSeconds": 0.2});
    let result = k1s.run("x", &with(one_off("exec sleep 1000"), fields));
    assert_eq!((&result["reason"], &result["exitCode"]), (&json!("unhealthy"), &json!(143)));
    let message = k1s.job("x")["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("was not ready in time, and was ended by SIGTERM"), "{message}");
}

/// A probe that hangs is killed with its group, and so is one whose run has ended: nothing is left
/// of it, and no second one is started meanwhile.
#[test]
fn commands_do_not_outlive_their_time_or_their_run() {
    let k1s = K1s::start();
    let script = "echo $$ >> hung; sleep 1000 & echo $! >> hung; wait";
    let hung = || -> Vec<u32> {
        let text = fs::read_to_string(k1s.dir().join("hung")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let readiness =
        json!({"exec": ["sh", "-c", script], "periodSeconds": 0.1, "timeoutSeconds": 0.3});
    k1s.create("x", &with(continuous("exec sleep 1000"), json!({"readiness": readiness})));
    wait_until("two attempts have hung", || hung().len() >= 4);
    let message = k1s.job("x")["lastProbe"]["message"].clone();
    assert_eq!(message, "timed out after 0.3 s");
    assert!(hung()[..2].iter().all(|pid| !is_alive(*pid)), "the first was killed");
    let alive = || hung().into_iter().filter(|pid| is_alive(*pid)).count();
    stays_true("one at a time", std::time::Duration::from_millis(500), || alive() <= 2);
    assert_eq!(k1s.put("/job/x/kill").status, 200);
    k1s.in_state("x", "killed");
    wait_until("nothing is left", || alive() == 0);
}

#[test]
fn a_reload_is_a_signal_or_a_command() {
    let k1s = K1s::start();
    let script = "trap 'echo reloaded' HUP; trap 'echo told' USR1; echo up; \
                  while :; do sleep 0.02; done";
    k1s.create("x", &continuous(script));
    let has_said = |text: &str| wait_until(text, || k1s.get("/job/x/logs").text().ends_with(text));
    has_said("up\n");
    let reply = k1s.put("/job/x/reload");
    assert_eq!(reply.json(), json!({"message": "Reload requested for job x"}));
    has_said("up\nreloaded\n");
    let command = "echo from $K1S_JOB; kill -USR1 $K1S_PID";
    let patch = json!({"reload": {"exec": ["sh", "-c", command]}});
    let patched = k1s.request("PATCH", "/job/x", patch.to_string().as_bytes());
    assert_eq!(patched.json()["message"], "Job replaced");
    assert_eq!(k1s.put("/job/x/reload").status, 200);
    has_said("from x\ntold\n");
    let patch = json!({"reload": {"exec": ["sh", "-c", "echo wrong >&2; exit 3"]}});
    k1s.request("PATCH", "/job/x", patch.to_string().as_bytes());
    assert_eq!(k1s.put("/job/x/reload").status, 200);
    let warning = "its reload.exec has failed: ended with exit code 3: wrong";
    wait_until("it is said", || k1s.stderr().contains(warning));
    assert_eq!(k1s.job("x")["results"], json!([]), "it was not restarted");
    assert_eq!(k1s.put("/job/x/kill").status, 200);
    k1s.in_state("x", "killed");
    assert_eq!(k1s.put("/job/x/reload").error(), "Job x has no running process");
    k1s.create("y", &one_off("exec sleep 1000"));
    assert_eq!(k1s.put("/job/y/reload").error(), "Job type does not support reload operation");
    assert_eq!(k1s.put("/job/z/reload").status, 404);
}

/// While one is going on, any number of requests are one more.
#[test]
fn reloads_follow_one_another() {
    let k1s = K1s::start();
    let command = "echo x >> reloads; until test -e go; do sleep 0.02; done";
    let fields = json!({"reload": {"exec": ["sh", "-c", command]}});
    k1s.create("x", &with(continuous("exec sleep 1000"), fields));
    k1s.pid_of("x");
    let reloads =
        || fs::read_to_string(k1s.dir().join("reloads")).unwrap_or_default().lines().count();
    assert_eq!(k1s.put("/job/x/reload").status, 200);
    wait_until("the first has begun", || reloads() == 1);
    for _ in 0..3 {
        assert_eq!(k1s.put("/job/x/reload").status, 200);
    }
    fs::write(k1s.dir().join("go"), "").unwrap();
    wait_until("the second has begun", || reloads() == 2);
    stays_true("no third", std::time::Duration::from_millis(300), || reloads() == 2);
}

#[test]
fn a_command_asks_a_run_to_end_in_place_of_the_signal() {
    let k1s = K1s::start();
    let script = "trap 'echo signalled; exit 1' TERM; trap 'echo asked; exit 0' USR1; echo up; \
                  while :; do sleep 0.02; done";
    let job = |command: &str| {
        let stop = json!({"exec": ["sh", "-c", command], "timeoutSeconds": 1});
        with(continuous(script), json!({"stop": stop}))
    };
    let stopped = |id: &str, command: &str| {
        k1s.create(id, &job(command));
        wait_until("it is up", || k1s.get(&format!("/job/{id}/logs")).text() == "up\n");
        assert_eq!(k1s.put(&format!("/job/{id}/kill")).status, 200);
        k1s.in_state(id, "killed");
        let result = k1s.job(id)["results"][0].clone();
        assert_eq!(result["reason"], "killed");
        (result["stdout"].as_str().unwrap().to_owned(), result["exitCode"].as_u64().unwrap())
    };
    let asks = "echo bye; kill -USR1 $K1S_PID";
    assert_eq!(stopped("asks", asks), ("up\nbye\nasked\n".to_owned(), 0));
    assert_eq!(stopped("fails", "exit 3"), ("up\nsignalled\n".to_owned(), 1));
    assert!(k1s.stderr().contains("its stop.exec has failed: ended with exit code 3"));
    assert_eq!(stopped("forgets", "true"), ("up\n".to_owned(), 137));
    assert_eq!(stopped("hangs", "exec sleep 1000"), ("up\n".to_owned(), 137));
}
