//! The job object: how much of it is shown, and answers that wait for a milestone of the job.

use serde_json::{Value, json};

use crate::harness::{Client, K1s, continuous, cron, one_off, skip, wait_until, with};

// ---- How much of it is shown ----

#[test]
fn the_newest_results_are_shown_as_many_as_are_asked_for() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("echo $K1S_RUN; [ ${K1S_RUN##*.} -lt 4 ] || exec sleep 1000"));
    wait_until("three runs are over", || k1s.job("x")["results"][2]["run"] == 3);
    k1s.run("y", &one_off("true"));
    let runs = |job: &Value| -> Vec<u64> {
        let results = job["results"].as_array().unwrap().iter();
        results.map(|result| result["run"].as_u64().unwrap()).collect()
    };
    let none: [u64; 0] = [];
    for (query, wanted) in [
        ("", &[1, 2, 3][..]),
        ("?results=0", &none),
        ("?results=1", &[3]),
        ("?results=2&output=false", &[2, 3]),
        ("?results=000003", &[1, 2, 3]),
        ("?results=1000000000", &[1, 2, 3]),
    ] {
        let job = k1s.get(&format!("/job/x{query}")).json();
        assert_eq!(runs(&job), wanted, "{query}");
        let jobs = k1s.get(&format!("/{query}")).json();
        assert_eq!(jobs[0]["results"], job["results"], "{query}");
        let wanted: &[u64] = if query == "?results=0" { &none } else { &[1] };
        assert_eq!(runs(&jobs[1]), wanted, "{query}");
    }
}

#[test]
fn a_number_of_results_that_is_none_is_refused() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    for given in ["", "-1", "+1", "1.5", "x", "1e3", "1000000001", "99999999999999999999999"] {
        for path in ["/", "/job/x"] {
            let reply = k1s.get(&format!("{path}?results={}", given.replace('+', "%2B")));
            let wanted =
                format!("results: must be a whole number from 0 to 1000000000, not {given:?}");
            assert_eq!((reply.status, reply.error()), (400, wanted));
        }
    }
}

#[test]
fn a_result_says_whether_it_is_a_success() {
    let k1s = K1s::start();
    let codes = |script: &str| with(one_off(script), json!({"successExitCodes": [0, 75]}));
    let late = with(one_off("trap 'exit 0' TERM; sleep 1000 & wait"), json!({"timeoutSeconds": 1}));
    for (id, payload, wanted) in [
        ("zero", codes("exit 0"), json!([true, "exited"])),
        ("listed", codes("exit 75"), json!([true, "exited"])),
        ("other", codes("exit 1"), json!([false, "exited"])),
        ("signal", codes("kill -9 $$"), json!([false, "signaled"])),
        ("late", late, json!([false, "timed-out"])),
        (
            "missing",
            json!({"type": "one-off", "executable": "/none"}),
            json!([false, "spawn-failed"]),
        ),
    ] {
        let result = k1s.run(id, &payload);
        assert_eq!(json!([result["success"], result["reason"]]), wanted, "{id}");
    }
    k1s.create("asked", &one_off("exec sleep 1000"));
    k1s.in_state("asked", "running");
    k1s.put("/job/asked/kill");
    let result = &k1s.results("asked", 1)[0];
    let shown = json!([result["success"], result["reason"], result["exitCode"]]);
    assert_eq!(shown, json!([true, "killed", 143]), "k1s was asked to stop it");
}

// ---- Waiting for a milestone ----

#[test]
fn what_is_waited_for_is_answered_when_it_comes() {
    let k1s = K1s::start();
    let until = |name: &str| format!("until [ -e {name} ]; do sleep 0.01; done");
    for (id, goal, script) in [
        ("ended", "&for=ended", "exit 3"),
        ("failed", "", "exit 3"),
        ("done", "&for=succeeded", "exit 0"),
    ] {
        k1s.create(id, &one_off(&format!("{}; {script}", until(id))));
        let waiting = asks(&k1s, "GET", &format!("/job/{id}?wait=1000{goal}"));
        k1s.in_state(id, "running");
        std::fs::write(k1s.dir().join(id), "").unwrap();
        let (status, job) = answer(waiting);
        let state = if goal == "&for=succeeded" { "succeeded" } else { "failed" };
        assert_eq!((status, &job["state"]), (200, &json!(state)), "{id}");
        assert_eq!(job["results"].as_array().unwrap().len(), 1, "{id}");
        // It is so far already.
        let reply = k1s.get(&format!("/job/{id}?wait=1000{goal}&results=0"));
        assert_eq!((reply.status, &reply.json()["results"]), (200, &json!([])), "{id}");
    }
    k1s.create("web", &continuous("exec sleep 1000"));
    k1s.in_state("web", "running");
    k1s.put("/job/web/kill");
    let (status, job) = answer(asks(&k1s, "GET", "/job/web?wait=1000&for=ended"));
    assert_eq!((status, &job["state"]), (200, &json!("killed")));
    k1s.put("/job/web/start");
    let (status, job) = answer(asks(&k1s, "GET", "/job/web?wait=1000&for=ready&output=false"));
    assert_eq!((status, &job["state"]), (200, &json!("running")));
}

#[test]
fn what_has_not_come_at_the_deadline_is_shown_as_it_is() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("exec sleep 1000"));
    k1s.in_state("x", "running");
    for goal in ["", "&for=ended", "&for=succeeded"] {
        for wait in ["0", "0.05"] {
            let reply = k1s.get(&format!("/job/x?wait={wait}{goal}"));
            assert_eq!((reply.status, &reply.json()["state"]), (202, &json!("running")), "{goal}");
        }
    }
    k1s.create("tick", &cron("true", 1000));
    assert_eq!(k1s.get("/job/tick?wait=0.05&for=ready").status, 202);
}

#[test]
fn what_cannot_come_any_more_is_not_waited_for() {
    let k1s = K1s::start();
    k1s.run("failed", &one_off("false"));
    k1s.create("daemon", &continuous("exec sleep 1000"));
    k1s.in_state("daemon", "running");
    k1s.create("suspended", &with(cron("true", 1), json!({"suspend": true})));
    for target in ["failed?for=succeeded", "failed?for=ready", "daemon?for=succeeded"] {
        assert_eq!(k1s.get(&format!("/job/{target}&wait=1000")).status, 202, "{target}");
    }
    assert_eq!(k1s.get("/job/suspended?for=ready&wait=1000").status, 202);
    // Nor any longer, once it cannot.
    k1s.create("x", &one_off("exec sleep 1000"));
    let waiting = asks(&k1s, "GET", "/job/x?wait=1000&for=succeeded");
    k1s.in_state("x", "running");
    k1s.put("/job/x/kill");
    assert_eq!(answer(waiting).0, 202);
}

#[test]
fn a_job_that_is_removed_while_it_is_waited_for_is_not_found() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.in_state("x", "running");
    let waiting = asks(&k1s, "GET", "/job/x?wait=1000&for=ended");
    let done = k1s.get("/job/x").status;
    k1s.delete("/job/x");
    k1s.create("x", &one_off("true"));
    let (status, job) = answer(waiting);
    assert_eq!((done, status, &job["error"]), (200, 404, &json!("Job not found")));
    assert_eq!(k1s.get("/job/never?wait=1000").status, 404);
}

#[test]
fn head_waits_as_get_does() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("until [ -e go ]; do sleep 0.01; done"));
    let mut waiting = asks(&k1s, "HEAD", "/job/x?wait=1000&for=succeeded");
    k1s.in_state("x", "running");
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let head = waiting.reply_to("HEAD");
    assert_eq!(head.status, 200);
    assert_eq!(k1s.job("x")["state"], "succeeded");
}

#[test]
fn who_leaves_while_a_job_is_waited_for_leaves_nothing_behind() {
    let k1s = K1s::start();
    let Ok(at_rest) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.in_state("x", "running");
    // The two pipes of the run.
    let before = at_rest + 2;
    let waiting: Vec<Client> =
        (0..20).map(|_| asks(&k1s, "GET", "/job/x?wait=86400&for=ended")).collect();
    wait_until("they wait", || k1s.open_fds().unwrap() == before + 20);
    drop(waiting);
    wait_until("they are gone", || k1s.open_fds().unwrap() == before);
    // Clients that still wait lose nothing by it.
    let waiting = asks(&k1s, "GET", "/job/x?wait=1000&for=ended");
    k1s.put("/job/x/kill");
    assert_eq!(answer(waiting).0, 200);
}

#[test]
fn a_goal_that_is_none_or_is_not_waited_for_is_refused() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    let only = "for: only GET /job/{id}?wait=SECONDS has it";
    let body = one_off("true").to_string();
    for (method, target, error) in [
        (
            "GET",
            "/job/x?wait=1&for=over",
            "for: must be one of ended, ready, succeeded, not \"over\"",
        ),
        ("GET", "/job/x?wait=1&for=", "for: must be one of ended, ready, succeeded, not \"\""),
        ("GET", "/job/x?for=over", "for: must be one of ended, ready, succeeded, not \"over\""),
        ("GET", "/job/x?for=ready", "for: says what to wait for, and needs wait=SECONDS as well"),
        (
            "GET",
            "/job/x?wait=-1&for=ready",
            "wait: must be a number of seconds from 0 to 86400, not \"-1\"",
        ),
        ("POST", "/job/y?wait=1&for=ready", only),
        ("PUT", "/job/x/kill?for=ended", only),
        ("GET", "/?for=ended", only),
    ] {
        let reply = k1s.request(method, target, body.as_bytes());
        assert_eq!((reply.status, reply.error().as_str()), (400, error), "{target}");
    }
    assert_eq!(k1s.get("/job/y").status, 404, "nothing was created");
    assert_eq!(k1s.job("x")["killRequested"], false, "nothing was done");
}

/// A client that has asked, and has not read the answer.
fn asks(k1s: &K1s, method: &str, target: &str) -> Client {
    let mut client = k1s.connect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: k1s\r\n{}\r\n", k1s.authorization()));
    client
}

fn answer(mut client: Client) -> (u16, Value) {
    let reply = client.reply();
    (reply.status, reply.json())
}
