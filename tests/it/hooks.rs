//! Variables from files, jobs that start only by request, handlers of failures, and requests for many
//! jobs.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Builder, K1s, continuous, cron, one_off, wait_until, with};

// ---- Variables from files ----

/// A k1s whose directory holds these files.
fn with_files(files: &[(&str, &str)]) -> Builder {
    let builder = K1s::with();
    for (name, text) in files {
        fs::write(builder.dir().join(name), text).unwrap();
    }
    builder
}

fn run_with(k1s: &K1s, id: &str, script: &str, fields: Value) -> Value {
    k1s.run(id, &with(one_off(script), fields))
}

#[test]
fn of_variables_from_files_the_later_wins_and_environment_wins_over_all() {
    let files = [
        ("one.env", "# first\nexport A=1\nB='1'\nC=\"1\\n1\"\nD=1\nE=1\n"),
        ("two.env", "B=2\nC=2\nD=2\n"),
        ("secret", "from file\n\n"),
    ];
    let k1s = with_files(&files).env("OWN", "own").env("A", "own").start();
    let fields = json!({
        "environmentFile": ["one.env", "-nowhere.env", "-two.env"],
        "environmentFromFile": {"C": "secret", "D": "secret"},
        "environment": {"D": "given"},
    });
    let script = r#"printf '%s|' "$OWN" "$A" "$B" "$C" "$D" "$E""#;
    let result = run_with(&k1s, "x", script, fields.clone());
    assert_eq!(result["stdout"], "own|1|2|from file\n|given|1|");
    let job = k1s.job("x");
    let here = k1s.dir().to_str().unwrap();
    let files = ["", "-", "-"].iter().zip(["one.env", "nowhere.env", "two.env"]);
    let files: Vec<_> = files.map(|(dash, name)| format!("{dash}{here}/{name}")).collect();
    assert_eq!(job["environmentFile"], json!(files));
    let secret = format!("{here}/secret");
    assert_eq!(job["environmentFromFile"], json!({"C": secret, "D": secret}));
    let put = k1s.request("PUT", "/job/x", job.to_string().as_bytes());
    assert_eq!(put.json()["message"], "Job unchanged");
}

#[test]
fn variables_are_read_anew_for_each_run() {
    let k1s = with_files(&[("x.env", "A=1\n")]).start();
    let fields = json!({"environmentFile": "x.env", "restart": {"initialDelayMs": 1}});
    k1s.create("x", &with(continuous("echo $A; exec sleep 1000"), fields));
    let has_said = |run: usize, text: &str| {
        let logs = format!("/job/x/logs?run={run}");
        wait_until(text, || k1s.get(&logs).text() == text);
    };
    has_said(1, "1\n");
    fs::write(k1s.dir().join("x.env"), "A=2\n").unwrap();
    assert_eq!(k1s.put("/job/x/restart").status, 200);
    k1s.results("x", 1);
    has_said(2, "2\n");
    assert_eq!(k1s.put("/job/x/kill").status, 200);
    let results = k1s.results("x", 2);
    assert_eq!((&results[0]["stdout"], &results[1]["stdout"]), (&json!("1\n"), &json!("2\n")));
}

#[test]
fn a_file_that_is_missing_or_wrong_keeps_the_run_from_starting_and_stays_secret() {
    let files = [
        ("bad.env", "A=1\n\nB=\"s3cret\n"),
        ("name.env", "K1S_JOB=s3cret\n"),
        ("path.env", "PATH=/s3cret\n"),
        ("nul", "s3\0cret"),
    ];
    let k1s = with_files(&files).start();
    let fifo = k1s.dir().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let here = k1s.dir().to_str().unwrap().to_owned();
    let file = |path: &str| json!({"environmentFile": [path]});
    let value = |path: &str| json!({"environmentFromFile": {"A": path}});
    let missing = "No such file or directory (ENOENT)";
    for (id, fields, error) in [
        ("a", file("bad.env"), format!("environmentFile {here}/bad.env: line 3: has a `\"` that")),
        (
            "b",
            file("name.env"),
            format!("environmentFile {here}/name.env: line 1: K1S_JOB: is set"),
        ),
        ("c", file("none"), format!("environmentFile {here}/none: {missing}")),
        ("d", file("fifo"), format!("environmentFile {here}/fifo: is not a regular file")),
        ("e", value("none"), format!("environmentFromFile A: {here}/none: {missing}")),
        ("f", value("nul"), format!("environmentFromFile A: {here}/nul: holds a NUL byte")),
        ("g", value("fifo"), format!("environmentFromFile A: {here}/fifo: is not a regular file")),
    ] {
        let result = run_with(&k1s, id, "echo started", fields);
        assert_eq!((&result["exitCode"], &result["reason"]), (&json!(126), &json!("spawn-failed")));
        let said = result["error"].as_str().unwrap();
        assert!(said.starts_with(&error), "{said}, not {error}");
        assert_eq!(k1s.job(id)["state"], "failed");
    }
    let fields = with(json!({"type": "one-off", "executable": "nope"}), file("path.env"));
    let result = k1s.run("path", &fields);
    assert_eq!(
        (&result["exitCode"], &result["error"]),
        (&json!(127), &json!("executable nope: not found in PATH of its files"),)
    );
    let all = k1s.get("/").text();
    let (_, log) = k1s.end();
    assert!(!all.contains("s3") && !log.contains("s3cret"), "{all}\n{log}");
    assert!(log.contains("bad.env: line 3"), "{log}");
}

/// Each attempt read the files anew: one that had gone made the probe fail, and a run that was well
/// was stopped for it.
#[test]
fn a_probe_has_the_environment_of_its_run_whatever_becomes_of_the_files() {
    let k1s = with_files(&[("x.env", "A=old\n")]).start();
    let seen = k1s.dir().join("seen");
    let probe = json!({"exec": ["sh", "-c", "echo $A >>seen"], "periodSeconds": 0.1,
                       "timeoutSeconds": 30});
    let job = json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"],
                     "environmentFile": "x.env", "liveness": probe});
    k1s.create("x", &job);
    let lines = || fs::read_to_string(&seen).unwrap_or_default();
    let goes_on = || {
        let before = lines().len();
        wait_until("it is asked again", || lines().len() > before + 8);
    };
    goes_on();
    fs::write(k1s.dir().join("x.env"), "A=new\n").unwrap();
    goes_on();
    fs::remove_file(k1s.dir().join("x.env")).unwrap();
    goes_on();
    assert!(lines().lines().all(|line| line == "old"), "{}", lines());
    assert_eq!(k1s.job("x")["restarts"], 0);
    fs::write(k1s.dir().join("x.env"), "A=new\n").unwrap();
    k1s.put("/job/x/restart");
    wait_until("the next run has the new value", || lines().ends_with("new\n"));
}

#[test]
fn a_path_from_a_file_finds_the_executable() {
    let k1s = with_files(&[("x.env", "PATH=tools\n")]).start();
    let tools = k1s.dir().join("tools");
    fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink("/bin/true", tools.join("mine")).unwrap();
    let job = json!({"type": "one-off", "executable": "mine", "environmentFile": "x.env"});
    assert_eq!(k1s.run("x", &job)["exitCode"], 0);
}

#[test]
fn check_says_which_files_are_missing_or_wrong_and_shows_no_value() {
    let job = "[job.x]\ntype = \"one-off\"\nexecutable = \"true\"\n";
    let files =
        "environment_file = [\"x.env\", \"-none\"]\nenvironment_from_file = { A = \"no\" }\n";
    let check = |text: &str| {
        let builder = with_files(&[("x.env", text)]).config(&format!("{job}{files}"));
        let here = builder.dir().to_str().unwrap().to_owned();
        (builder.argument("check").run(), here)
    };
    let (finished, here) = check("A=s3cret\n");
    assert_eq!(finished.code, Some(0));
    let warning = format!("environmentFromFile A: {here}/no: No such file or directory (ENOENT)");
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);
    assert!(finished.stdout.contains("environment_file = ["), "{}", finished.stdout);
    assert!(!finished.stdout.contains("s3cret") && !finished.stderr.contains("s3cret"));
    let (finished, here) = check("s3cret\n");
    let warning = format!("environmentFile {here}/x.env: line 1: must be NAME=VALUE");
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);
    assert!(!finished.stderr.contains("s3cret"));
}

// ---- autostart ----

#[test]
fn what_is_idle_starts_by_request_only() {
    let idle = |payload| with(payload, json!({"autostart": false}));
    let k1s = K1s::with()
        .config("[job.declared]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]\nautostart = false\n")
        .start();
    k1s.create("web", &idle(continuous("exec sleep 1000")));
    k1s.create("task", &idle(one_off("echo done")));
    k1s.create("tick", &idle(cron("echo tick", 1)));
    for id in ["declared", "web", "task", "tick"] {
        let job = k1s.job(id);
        assert_eq!((&job["state"], &job["pid"]), (&json!("idle"), &Value::Null), "{id}");
        assert_eq!((&job["autostart"], &job["nextRunAt"]), (&json!(false), &Value::Null), "{id}");
        for goal in ["ready", "ended", "succeeded"] {
            let reply = k1s.get(&format!("/job/{id}?wait=60&for={goal}"));
            assert_eq!(reply.status, 202, "{id} is never {goal} without a request");
        }
    }
    let listed = k1s.get("/?state=idle").json().as_array().unwrap().len();
    assert_eq!((listed, k1s.get("/?state=running").json()), (4, json!([])));
    assert_eq!(k1s.put("/job/web/run").status, 400);
    assert_eq!(k1s.put("/job/web/start").status, 200);
    assert_eq!(k1s.put("/job/declared/restart").status, 200);
    assert_eq!(k1s.put("/job/task/run").status, 200);
    assert_eq!(k1s.put("/job/tick/run").status, 200);
    k1s.in_state("web", "running");
    k1s.in_state("declared", "running");
    assert_eq!(k1s.in_state("task", "succeeded")["results"][0]["trigger"], "request");
    assert_eq!(k1s.results("tick", 1)[0]["stdout"], "tick\n");
    assert_eq!(k1s.in_state("tick", "idle")["results"].as_array().unwrap().len(), 1);
    k1s.put("/job/tick/start");
    assert_eq!(k1s.results("tick", 2)[1]["trigger"], "schedule");
}

#[test]
fn a_change_of_autostart_changes_no_state() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("exec sleep 1000"));
    let pid = k1s.pid_of("web");
    let patch = |id: &str, text: &str| {
        let reply = k1s.request("PATCH", &format!("/job/{id}"), text.as_bytes());
        assert_eq!(reply.json()["message"], "Job replaced");
    };
    patch("web", r#"{"autostart": false}"#);
    assert_eq!(k1s.pid_of("web"), pid);
    k1s.create("idle", &with(one_off("true"), json!({"autostart": false})));
    patch("idle", r#"{"autostart": true, "arguments": []}"#);
    let job = k1s.job("idle");
    assert_eq!((&job["state"], &job["results"]), (&json!("idle"), &json!([])));
    // Nothing of a first run will come without a request.
    let payload = with(one_off("true"), json!({"autostart": false}));
    assert_eq!(k1s.post("/job/late?wait=60", &payload).status, 202);
}

// ---- Handlers ----

const TELL: &str = "echo $K1S_TRIGGER_JOB $K1S_TRIGGER_RUN $K1S_TRIGGER_EXIT_CODE \
                    $K1S_TRIGGER_REASON; echo ${K1S_TRIGGER-none}";

#[test]
fn a_failure_runs_its_handler_which_finds_what_has_failed() {
    let k1s = K1s::start();
    let given = json!({"autostart": false, "environment": {"K1S_TRIGGER_JOB": "nobody"}});
    k1s.create("alert", &with(one_off(TELL), given));
    let fields = json!({"onFailure": "alert"});
    k1s.create("nightly", &with(cron("exit 3", 1000), fields.clone()));
    assert_eq!(k1s.put("/job/nightly/run").status, 200);
    let result = k1s.results("alert", 1).remove(0);
    assert_eq!(result["stdout"], "nightly 1 3 exited\nnone\n");
    assert_eq!(result["trigger"], "failure");
    let broken = json!({"type": "one-off", "executable": "/nowhere", "onFailure": "alert"});
    k1s.create("broken", &broken);
    assert_eq!(k1s.results("alert", 2)[1]["stdout"], "broken 1 127 spawn-failed\nnone\n");
    assert_eq!(k1s.job("broken")["onFailure"], "alert");
    // A run by hand is for no failure.
    k1s.in_state("alert", "succeeded");
    assert_eq!(k1s.put("/job/alert/run").status, 200);
    let result = k1s.results("alert", 3).remove(2);
    assert_eq!(
        (&result["trigger"], &result["stdout"]),
        (&json!("request"), &json!("nobody\nnone\n"))
    );
    let (_, log) = k1s.end();
    assert!(log.contains("job nightly, run 1: calls job alert"), "{log}");
}

#[test]
fn failures_while_a_handler_runs_are_one_more_run() {
    let k1s = K1s::start();
    let script = format!("{TELL}; until test -e go; do sleep 0.01; done");
    k1s.create("alert", &with(one_off(&script), json!({"autostart": false})));
    let failing = |code: u8| with(one_off(&format!("exit {code}")), json!({"onFailure": "alert"}));
    k1s.create("first", &failing(1));
    k1s.in_state("alert", "running");
    for code in 2..=4 {
        k1s.run(&format!("next-{code}"), &failing(code));
    }
    fs::write(k1s.dir().join("go"), "").unwrap();
    let results = k1s.results("alert", 2);
    k1s.in_state("alert", "succeeded");
    assert_eq!(k1s.results("alert", 2).len(), 2);
    assert_eq!(results[0]["stdout"], "first 1 1 exited\nnone\n");
    assert_eq!(results[1]["stdout"], "next-4 1 4 exited\nnone\n");
}

#[test]
fn a_handler_that_cannot_be_called_is_told_in_the_log_and_as_an_event() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("exec sleep 1000"));
    k1s.create("killed", &with(one_off("true"), json!({"autostart": false})));
    assert_eq!(k1s.put("/job/killed/kill").status, 200);
    let cases = [
        ("a", "gone", "there is no such job"),
        ("b", "web", "it is not a one-off job"),
        ("c", "killed", "it was killed; start it first"),
        ("d", "d", "its own failure has led to this one"),
    ];
    let mut followed = k1s.connect();
    followed.send(format!("GET /events HTTP/1.1\r\nHost: k1s\r\n{}\r\n", k1s.authorization()));
    followed.chunked_head();
    for (id, handler, _) in cases {
        k1s.run(id, &with(one_off("false"), json!({"onFailure": handler})));
    }
    let mut told = String::new();
    while told.matches("event: calls\n").count() < cases.len() {
        told += &String::from_utf8(followed.chunk().unwrap()).unwrap();
    }
    for (id, handler, why) in cases {
        let entries = format!(r#""handler":"{handler}","error":"{why}""#);
        assert!(told.contains(&entries), "{entries} is not in {told}");
        assert_eq!(k1s.job(id)["state"], "failed");
    }
    assert_eq!(k1s.job("killed")["state"], "killed");
    let (_, log) = k1s.end();
    for (id, handler, why) in cases {
        let line = format!("warning: job {id}, run 1: cannot call job {handler}: {why}");
        assert_eq!(log.matches(&line).count(), 1, "{line}: {log}");
    }
}

// ---- Requests for many jobs ----

/// The jobs for which it was done.
fn asked(k1s: &K1s, target: &str) -> Vec<String> {
    let reply = k1s.put(target);
    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    serde_json::from_value(reply.json()["jobs"].clone()).unwrap()
}

#[test]
fn a_verb_is_for_the_jobs_that_filters_choose() {
    let k1s = K1s::start();
    let web = json!({"labels": {"app": "web", "a=b": "c"}});
    for id in ["web:0", "web:1"] {
        k1s.create(id, &with(continuous("exec sleep 1000"), web.clone()));
    }
    k1s.create("db", &continuous("trap 'echo hup' HUP; while :; do sleep 0.01; done"));
    k1s.create("task", &with(one_off("true"), web));
    k1s.in_state("task", "succeeded");
    k1s.create("tick", &cron("true", 1000));
    let pids = || ["web:0", "web:1", "db"].map(|id| k1s.pid_of(id));
    let before = pids();
    assert_eq!(asked(&k1s, "/jobs/restart?label=app=web&type=continuous"), ["web:0", "web:1"]);
    for (id, results) in [("web:0", 1), ("web:1", 1), ("db", 0)] {
        k1s.results(id, results);
        k1s.in_state(id, "running");
    }
    let after = pids();
    assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2]);
    assert_eq!(asked(&k1s, "/jobs/run?all=true"), ["task", "tick"], "continuous jobs refuse");
    k1s.results("task", 2);
    let signalled =
        k1s.request("PUT", "/jobs/signal?type=continuous&state=running", br#"{"signal":"HUP"}"#);
    assert_eq!(signalled.json(), json!({"jobs": ["web:0", "web:1", "db"]}));
    wait_until("db has got it", || k1s.get("/job/db/logs").text().contains("hup"));
    k1s.results("web:1", 2);
    assert_eq!(asked(&k1s, "/jobs/kill?type=continuous"), ["web:0", "web:1", "db"]);
    for id in ["web:0", "web:1", "db"] {
        k1s.in_state(id, "killed");
    }
    assert_eq!(asked(&k1s, "/jobs/start?label=app=web&state=killed"), ["web:0", "web:1"]);
    assert_eq!(asked(&k1s, "/jobs/kill?label=app=none"), [] as [&str; 0]);
    assert_eq!(asked(&k1s, "/jobs/kill?label=nothing=&all=true"), [] as [&str; 0], "no job has it");
}

#[test]
fn many_jobs_are_meant_only_when_that_is_said() {
    let k1s = K1s::start();
    k1s.create("web", &continuous("exec sleep 1000"));
    for (target, error) in [
        ("/jobs/kill", "all: must be true, or label=, state= or type= must say which jobs"),
        ("/jobs/kill?all=false", "all: must be true, or label="),
        ("/jobs/kill?all=yes", "all: must be true or false, not"),
        ("/jobs/kill?labels=a=b", "all: must be true, or label="),
        ("/jobs/kill?label=web", "label: must be name=value, not"),
        ("/jobs/kill?label=a=b&label=c=d", "label: must not be given twice"),
        ("/jobs/kill?state=dead", "state: must be one of"),
        ("/jobs/signal?all=true", "The body is not JSON"),
        ("/jobs/kill?all=true&wait=1", "wait: only"),
    ] {
        let reply = k1s.put(target);
        assert_eq!(reply.status, 400, "{target}");
        assert!(reply.error().starts_with(error), "{target}: {}", reply.error());
    }
    assert_eq!(k1s.put("/jobs/remove?all=true").status, 404);
    let reply = k1s.get("/jobs/kill?all=true");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("PUT")));
    assert_eq!(k1s.job("web")["state"], "running");
}

#[test]
fn the_command_of_init_among_many_is_killed_as_alone() {
    let k1s = K1s::with().init(&["sleep", "1000"]).env("K1S_AUTH_TOKEN", "t").token("t").start();
    k1s.create("web", &continuous("exec sleep 1000"));
    k1s.in_state("web", "running");
    let reply = k1s.put("/jobs/kill?all=true");
    assert_eq!(reply.json(), json!({"jobs": ["main", "web"]}));
    assert_eq!(k1s.exit().0.code(), Some(143));
}
