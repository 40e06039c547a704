//! Who may do what: tokens with scopes, jobs that are not there for some, and what the log says of
//! who has changed something.

use std::collections::BTreeSet;
use std::fs;

use k1s::access::Scope;
use k1s::api::ROUTES;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, K1s, Reply, continuous, one_off, wait_until, with};

/// Tokens are called what they may do, and their secrets are their names. A `-web` sees `web*`.
const TOKENS: &str = r#"
[[token]]
name = "read"
token = "read"
scope = "read"

[[token]]
name = "run"
# printf run | sha256sum
token_sha256 = "acba25512100f80b56fc3ccd14c65be55d94800cda77585c5f41a887e398f9be"
scope = "run"

[[token]]
name = "admin"
token = "admin"
scope = "admin"

[[token]]
name = "read-web"
token = "read-web"
scope = "read"
jobs = ["web*"]

[[token]]
name = "run-web"
token = "run-web"
scope = "run"
jobs = ["web*"]

[[token]]
name = "admin-web"
token = "admin-web"
scope = "admin"
jobs = ["web", "web-?*"]
"#;

/// The id of a job that is not there for a `-web`. It is nowhere else in what k1s says.
const HIDDEN: &str = "zq7x";

fn ask(k1s: &K1s, token: &str, method: &str, target: &str, body: &str) -> Reply {
    let mut client = begin(k1s, token, method, target, body);
    client.reply_to(method)
}

fn begin(k1s: &K1s, token: &str, method: &str, target: &str, body: &str) -> Client {
    let mut client = k1s.connect();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client
}

/// Reads a stream until it contains this text.
fn read_until(client: &mut Client, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let chunk = client.chunk().unwrap_or_else(|| panic!("no {text:?} in {read}"));
        read.push_str(&String::from_utf8(chunk).unwrap());
    }
    read
}

#[test]
fn each_route_is_for_its_scope_and_those_above_it() {
    let k1s = K1s::with().config(TOKENS).start();
    for route in &ROUTES {
        // A stream has no end; HEAD needs what GET needs.
        let method = if route.method.name() == "GET" { "HEAD" } else { route.method.name() };
        let target = route.path.replace("{id}", "nobody");
        let stranger = ask(&k1s, "stranger", method, &target, "");
        assert_eq!(stranger.status == 403, route.scope.is_some(), "{method} {target}");
        for (name, scope) in Scope::ALL {
            let reply = ask(&k1s, name, method, &target, "");
            let is_refused = route.scope.is_some_and(|needed| scope < needed);
            assert_eq!(reply.status == 403, is_refused, "{method} {target} by {name}");
            if is_refused {
                let needed = route.scope.unwrap().name();
                let error = reply.error();
                let wanted = format!("this needs the scope {needed}, and token {name} has ");
                assert!(error.starts_with(&format!("Forbidden: {wanted}")), "{error}");
            }
        }
    }
    let reply = ask(&k1s, "stranger", "GET", "/", "");
    assert_eq!((reply.status, reply.error().as_str()), (403, "Unauthorized"), "as ever");
    assert_eq!(k1s.get("/").status, 200, "the token `default` may do everything");
    assert_eq!(ask(&k1s, "read", "DELETE", "/nowhere", "").status, 404);
    assert_eq!(ask(&k1s, "read", "POST", "/events", "").status, 405);
}

#[test]
fn with_tables_and_without_auth_token_there_is_no_default_token() {
    let text = format!("[http]\nhost = \"127.0.0.1\"\n{TOKENS}");
    let k1s = K1s::with().file("k1s.toml", &text).token("admin").start();
    assert_eq!(ask(&k1s, "abc123", "GET", "/", "").status, 403);
    assert_eq!(k1s.get("/").status, 200);
    assert!(!k1s.stderr().contains("abc123") && !k1s.stderr().contains("default"));
    let k1s = K1s::with().file("k1s.toml", &text).env("K1S_AUTH_TOKEN", "mine").token("mine");
    let k1s = k1s.start();
    assert_eq!(k1s.get("/").status, 200, "the variable is the token `default`");
    assert_eq!(ask(&k1s, "run", "GET", "/", "").status, 200);
}

/// A job that is hidden from some; two that have to do with it, and one that has not.
fn start_with_hidden_job() -> K1s {
    let k1s = K1s::with().config(TOKENS).start();
    let never_ready =
        with(continuous("echo up; exec sleep 1000"), json!({"readiness": {"log": "x"}}));
    k1s.create(HIDDEN, &never_ready);
    k1s.create("web", &continuous("echo hello; exec sleep 1000"));
    let waits = json!({"dependsOn": {HIDDEN: "ready", "web-none": "started"}});
    k1s.create("web-waits", &with(continuous("exec sleep 1000"), waits));
    k1s.create("web-other", &with(one_off("true"), json!({"dependsOn": {HIDDEN: "ready"}})));
    k1s
}

/// Nothing says that there is such a job, except specifications that name it themselves.
#[track_caller]
fn says_nothing_of_it(reply: &Reply) {
    let text = reply.text();
    let own = [format!("\"dependsOn\":{{\"web-none\":\"started\",\"{HIDDEN}\":\"ready\"}}")]
        .into_iter()
        .chain([format!("\"dependsOn\":{{\"{HIDDEN}\":\"ready\"}}")])
        .chain([format!("\"onFailure\":\"{HIDDEN}\"")]);
    let rest = own.fold(text, |text, own| text.replace(&own, ""));
    assert!(!rest.contains(HIDDEN), "{rest}");
}

#[test]
fn a_job_outside_of_a_token_s_jobs_is_as_one_that_does_not_exist() {
    let k1s = start_with_hidden_job();
    for (token, asked) in [
        ("read-web", &["GET /job/{id}", "GET /job/{id}/logs", "GET /job/{id}?wait=9"][..]),
        ("run-web", &["kill", "start", "restart", "run", "reload", "signal"]),
        ("admin-web", &["DELETE /job/{id}", "PATCH /job/{id}"]),
    ] {
        for asked in asked {
            let (method, path) = match asked.split_once(' ') {
                Some((method, path)) => (method, path.to_owned()),
                None => ("PUT", format!("/job/{{id}}/{asked}")),
            };
            let body = if *asked == "signal" { "{\"signal\":\"SIGHUP\"}" } else { "{}" };
            let of = |id| ask(&k1s, token, method, &path.replace("{id}", id), body);
            let (hidden, missing) = (of(HIDDEN), of("web-none"));
            assert_eq!(hidden.status, 404, "{method} {path}");
            assert_eq!(hidden.error(), "Job not found", "{method} {path}");
            assert_eq!(hidden.body, missing.body, "{method} {path}");
        }
    }
    let seen = |token| {
        let jobs = ask(&k1s, token, "GET", "/", "").json();
        let jobs = jobs.as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(seen("read"), [HIDDEN, "web", "web-waits", "web-other"]);
    assert_eq!(seen("read-web"), ["web", "web-waits", "web-other"]);
    let killed = ask(&k1s, "run-web", "PUT", "/jobs/kill?type=continuous", "").json();
    assert_eq!(killed, json!({"jobs": ["web-waits", "web"]}));
    assert_eq!(k1s.job(HIDDEN)["killRequested"], false);
    let started = ask(&k1s, "run-web", "PUT", "/jobs/start?all=true", "").json();
    assert_eq!(started, json!({"jobs": ["web", "web-waits", "web-other"]}));
}

#[test]
fn no_answer_names_a_hidden_job() {
    let k1s = start_with_hidden_job();
    let waits = ask(&k1s, "read-web", "GET", "/job/web-waits", "").json();
    assert_eq!(waits["message"], "waits for web-none, which does not exist, and for 1 more");
    assert_eq!(waits["waitingFor"], json!([{"job": "web-none", "condition": "started"}]));
    let other = ask(&k1s, "read-web", "GET", "/job/web-other", "").json();
    assert_eq!(other["message"], "waits for another job");
    assert_eq!(other.get("waitingFor"), None);
    assert_eq!(other["dependsOn"], json!({HIDDEN: "ready"}), "what it says itself is its own");
    for target in [
        "/",
        "/?type=continuous",
        "/?state=starting",
        "/?output=false",
        "/metrics",
        "/job/web",
        "/job/web-waits",
        "/job/web-other?wait=0",
        "/job/web/logs",
        "/readyz",
    ] {
        says_nothing_of_it(&ask(&k1s, "read-web", "GET", target, ""));
    }
    let metrics = ask(&k1s, "read-web", "GET", "/metrics", "").text();
    assert!(metrics.contains("\nk1s_jobs{state=\"waiting\"} 2\n"), "{metrics}");
    assert!(
        metrics.contains("\nk1s_jobs{state=\"starting\"} 0\n")
            && !metrics.contains("k1s_runs_total")
    );
    assert!(ask(&k1s, "read", "GET", "/metrics", "").text().contains("k1s_runs_total"));
    let forbidden = ask(&k1s, "admin-web", "PUT", &format!("/job/{HIDDEN}"), "{}");
    let missing = ask(&k1s, "admin-web", "POST", "/job/other", "{}");
    assert_eq!(forbidden.status, 403);
    assert_eq!(
        missing.error(),
        "Forbidden: token admin-web is for jobs whose ids match web, web-?* alone"
    );
    assert_eq!(forbidden.error(), missing.error(), "whether it exists or not");
    for path in ["/reload", "/reload?dryRun=true", "/reopen"] {
        let reply = ask(&k1s, "admin-web", "POST", path, "");
        let error =
            "Forbidden: this concerns all jobs, and token admin-web is for web, web-?* alone";
        assert_eq!((reply.status, reply.error().as_str()), (403, error));
    }
    let circle = json!({"dependsOn": {"web-other": "ended"}}).to_string();
    let reply = k1s.request("PATCH", &format!("/job/{HIDDEN}"), circle.as_bytes());
    assert!(reply.error().contains(" is a circle"), "{}", reply.error());
    let depends = json!({"dependsOn": {"web": "started"}}).to_string();
    assert_eq!(k1s.request("PATCH", &format!("/job/{HIDDEN}"), depends.as_bytes()).status, 200);
    let back = json!({"dependsOn": {HIDDEN: "started"}}).to_string();
    let reply = ask(&k1s, "admin-web", "PATCH", "/job/web", &back);
    assert_eq!(reply.status, 400);
    assert_eq!(reply.error(), "dependsOn: the job would wait for itself, through other jobs");
}

#[test]
fn events_say_nothing_of_a_hidden_job() {
    let k1s = start_with_hidden_job();
    let all = format!("/events?job={HIDDEN}&job=web");
    let mut followers = ["/events", all.as_str()].map(|target| {
        let mut client = begin(&k1s, "read-web", "GET", target, "");
        client.chunked_head();
        client
    });
    let on_hidden = |verb: &str| assert_eq!(k1s.put(&format!("/job/{HIDDEN}/{verb}")).status, 200);
    on_hidden("restart");
    // A handler that is not one-off is not called, and the reason would say that it exists.
    let fails = with(one_off("exit 3"), json!({"onFailure": HIDDEN}));
    k1s.run("web-fails", &fails);
    let renewed = json!({"dependsOn": {HIDDEN: {"condition": "started", "restart": true}}});
    k1s.create("web-renewed", &with(continuous("exec sleep 1000"), renewed));
    k1s.in_state("web-renewed", "running");
    on_hidden("restart");
    wait_until("it is restarted with it", || k1s.job("web-renewed")["restarts"] == 1);
    let late = json!({"dependsOn": {HIDDEN: "ready"}});
    k1s.create("web-late", &with(continuous("exec sleep 1000"), late));
    k1s.delete(&format!("/job/{HIDDEN}"));
    k1s.delete("/job/web");
    for client in &mut followers {
        let text = read_until(client, "\"message\":\"removed\"");
        let mut seen = 0;
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let mut data: Value = serde_json::from_str(data).unwrap();
            for job in data["jobs"].as_array_mut().into_iter().flatten() {
                let fields = job.as_object_mut().unwrap();
                fields.retain(|name, _| name != "dependsOn" && name != "onFailure");
            }
            assert!(!data.to_string().contains(HIDDEN), "{data}");
            seen += 1;
        }
        assert!(seen > 3, "{text}");
    }
    let mut client = begin(&k1s, "read", "GET", "/events", "");
    client.chunked_head();
    read_until(&mut client, HIDDEN);
}

#[test]
fn a_hidden_job_that_waits_or_calls_is_not_named_either() {
    let k1s = start_with_hidden_job();
    let mut client = begin(&k1s, "read-web", "GET", "/events", "");
    client.chunked_head();
    let mut run = |fields: Value, wanted: &str| {
        k1s.delete("/job/web-x");
        k1s.create("web-x", &with(one_off("exit 3"), fields));
        read_until(&mut client, wanted)
    };
    run(
        json!({"dependsOn": {HIDDEN: "ready"}}),
        "\"message\":\"waits for another job\",\"dependency\":null",
    );
    run(
        json!({"onFailure": HIDDEN}),
        "\"message\":\"cannot call another job\",\"handler\":null,\"error\":null",
    );
    k1s.create("zq7y", &with(one_off("true"), json!({"autostart": false})));
    run(
        json!({"onFailure": "zq7y"}),
        "\"message\":\"calls another job\",\"handler\":null,\"error\":null",
    );
    k1s.create("web-handler", &with(one_off("true"), json!({"autostart": false})));
    k1s.create("zq7z", &with(one_off("exit 3"), json!({"onFailure": "web-handler"})));
    let called =
        "\"message\":\"called by another job, which has failed\",\"by\":null,\"failed\":null";
    let text = read_until(&mut client, called);
    assert!(!text.contains("zq7z"), "{text}");
}

/// They counted the runs of all jobs, which `k1s_live_runs` keeps from a token for some.
#[test]
fn a_shutdown_did_not_say_how_many_hidden_runs_there_are() {
    let k1s = start_with_hidden_job();
    k1s.create("zq7y", &continuous("trap '' TERM; echo up; exec sleep 1000"));
    wait_until("it is deaf", || k1s.job("zq7y").to_string().contains("up"));
    let [mut some, mut all] = ["read-web", "read"].map(|token| {
        let mut client = begin(&k1s, token, "GET", "/events", "");
        client.chunked_head();
        read_until(&mut client, "\"jobs\":");
        client
    });
    k1s.signal(Signal::SIGTERM);
    let text = read_until(&mut some, "\"runs\":");
    assert!(text.contains("\"message\":\"shutting down\",\"exitCode\":0,\"runs\":null}"), "{text}");
    let text = read_until(&mut all, "\"runs\":");
    let told = "\"message\":\"shutting down; runs to stop: 3\",\"exitCode\":0,\"runs\":3}";
    assert!(text.contains(told), "{text}");
    k1s.signal(Signal::SIGTERM);
    let text = some.rest();
    let text = String::from_utf8_lossy(&text);
    let told = "\"message\":\"asked again to shut down\",\"runs\":null}";
    assert!(text.contains(told), "{text}");
    assert_eq!(k1s.exit().0.code(), Some(0));
}

/// A hidden one that is deaf to its signal was all that did.
#[test]
fn a_job_did_not_say_that_a_hidden_one_depends_on_it() {
    let k1s = start_with_hidden_job();
    let deaf = continuous("trap '' TERM; echo up; exec sleep 1000");
    k1s.create("zq7y", &with(deaf, json!({"dependsOn": {"web": "started"}})));
    wait_until("it is deaf", || k1s.job("zq7y").to_string().contains("up"));
    assert_eq!(k1s.put("/jobs/kill?type=continuous").status, 200);
    let message = |token| ask(&k1s, token, "GET", "/job/web", "").json()["message"].to_string();
    let (all, some) = (message("read"), message("read-web"));
    assert!(all.contains("its turn comes when what depends on it is gone, in "), "{all}");
    assert!(some.contains(" by request: its turn comes in "), "{some}");
}

/// Each descriptor, each timer and each line that waits is of some job.
#[test]
fn metrics_of_k1s_itself_grew_with_hidden_jobs() {
    let k1s = start_with_hidden_job();
    let names = |token| {
        let text = ask(&k1s, token, "GET", "/metrics", "").text();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let (all, some) = (names("read"), names("read-web"));
    let hidden: Vec<&String> = all.difference(&some).collect();
    assert_eq!(
        hidden,
        [
            "k1s_captured_bytes",
            "k1s_console_queue_bytes",
            "k1s_events_total",
            "k1s_failing_log_files",
            "k1s_live_runs",
            "k1s_log_file_missing_bytes_total",
            "k1s_restarts_total",
            "k1s_timers",
            "process_open_fds",
        ]
    );
}

#[test]
fn changes_are_logged_and_told_with_who_has_asked() {
    let k1s = K1s::with().config(TOKENS).start();
    let mut client = begin(&k1s, "read", "GET", "/events", "");
    client.chunked_head();
    let events = k1s.start_client(&["events"]);
    let payload = continuous("exec sleep 1000").to_string();
    assert_eq!(ask(&k1s, "admin-web", "POST", "/job/web", &payload).status, 200);
    k1s.in_state("web", "running");
    assert_eq!(ask(&k1s, "run", "PUT", "/job/web/signal", "{\"signal\":\"SIGCONT\"}").status, 200);
    assert_eq!(ask(&k1s, "run-web", "PUT", "/jobs/restart?all=true", "").status, 200);
    assert_eq!(ask(&k1s, "read", "PUT", "/job/web/kill", "").status, 403);
    assert_eq!(ask(&k1s, "read", "DELETE", "/job/web", "").status, 403);
    assert_eq!(ask(&k1s, "admin", "POST", "/reload?dryRun=true", "").status, 200);
    assert_eq!(ask(&k1s, "admin", "POST", "/reopen", "").status, 200);
    assert_eq!(ask(&k1s, "admin", "POST", "/reload", "").status, 200);
    assert_eq!(k1s.delete("/job/web").status, 200);
    let told = read_until(&mut client, "\"request\":\"remove\"");
    for (message, token) in [
        ("created", "admin-web"),
        ("SIGCONT requested", "run"),
        ("restart requested", "run-web"),
        ("reopening of log files requested", "admin"),
        ("reload of the config requested", "admin"),
        ("removal requested", "default"),
    ] {
        let wanted = format!("\"message\":\"{message} by token {token}\"");
        let data = told.lines().find(|line| line.contains(&wanted));
        let data = data.unwrap_or_else(|| panic!("no {wanted} in {told}"));
        assert!(data.ends_with(&format!("\"token\":\"{token}\"}}")), "{data}");
        wait_until("it is in the log", || {
            k1s.stderr().contains(&format!("{message} by token {token}\n"))
        });
    }
    // It is about no job, which the client took for an error.
    let wanted = "reload of the config requested by token admin\n";
    wait_until("the client tells of it", || events.stdout().contains(wanted));
    let log = k1s.stderr();
    assert_eq!(log.matches("reload of the config requested").count(), 1, "not the dry run: {log}");
    let refused = "warning: PUT /job/web/kill by token read was refused: this needs the scope run";
    assert!(log.contains(refused), "{log}");
    assert!(!log.contains("DELETE /job/web"), "one line in a while: {log}");
}

#[test]
fn who_loses_a_token_sees_no_more_and_new_tokens_count_at_once() {
    let start = K1s::with();
    let path = start.dir().join("k1s.toml");
    let http = "[http]\nhost = \"127.0.0.1\"\n";
    let k1s = start.file("k1s.toml", &format!("{http}{TOKENS}")).token("admin").start();
    k1s.create("web", &continuous("exec sleep 1000"));
    let follow = |token: &str, target: &str| {
        let mut client = begin(&k1s, token, "GET", target, "");
        client.chunked_head();
        client
    };
    let lost = ["/events", "/job/web/logs?follow=true"].map(|target| follow("read", target));
    let mut waits = begin(&k1s, "read", "GET", "/job/web?wait=1000", "");
    let changed = follow("run", "/events");
    let mut kept = follow("read-web", "/events");
    read_until(&mut kept, "\"jobs\":");
    // A job is less than it could see.
    let text = TOKENS.replacen("\nscope = \"run\"\n", "\nscope = \"run\"\njobs = [\"x\"]\n", 1);
    let (before, after) = text.split_once("[[token]]").unwrap();
    let (_, after) = after.split_once("[[token]]").unwrap();
    fs::write(
        &path,
        format!(
            "{http}{before}[[token]]{after}\n[[token]]\nname = \"new\"\n\
        token = \"new\"\nscope = \"read\"\n"
        ),
    )
    .unwrap();
    let reply = ask(&k1s, "admin", "POST", "/reload", "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    for mut client in lost.into_iter().chain([changed]) {
        let rest = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "it is not as if that were all");
    }
    assert!(waits.ends());
    assert_eq!(ask(&k1s, "read", "GET", "/", "").status, 403);
    assert_eq!(ask(&k1s, "new", "GET", "/job/web", "").status, 200);
    assert_eq!(ask(&k1s, "run", "GET", "/job/web", "").status, 404);
    k1s.delete("/job/web");
    read_until(&mut kept, "\"message\":\"removed\"");
    // Whoever removes the own token is told what has come of it, and may do no more.
    fs::write(
        &path,
        format!("{http}[[token]]\nname = \"new\"\ntoken = \"new\"\nscope = \"read\"\n"),
    )
    .unwrap();
    assert_eq!(ask(&k1s, "admin", "POST", "/reload", "").status, 200);
    assert_eq!(ask(&k1s, "admin", "POST", "/reload", "").status, 403);
}

/// A request is checked again when its body has come.
#[test]
fn a_request_whose_token_is_gone_before_its_body_has_come_is_refused() {
    let start = K1s::with();
    let path = start.dir().join("k1s.toml");
    let http = "[http]\nhost = \"127.0.0.1\"\nauth_token = \"mine\"\n";
    let k1s = start.file("k1s.toml", &format!("{http}{TOKENS}")).token("mine").start();
    let body = one_off("true").to_string();
    let mut client = k1s.connect();
    client.send(format!(
        "POST /job/web HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer admin\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(client.reply().status, 100);
    fs::write(&path, http).unwrap();
    assert_eq!(k1s.request("POST", "/reload", b"").status, 200);
    client.send(&body);
    assert_eq!(client.reply().status, 403);
    assert_eq!(k1s.get("/job/web").status, 404);
}

#[test]
fn the_client_says_why_it_is_refused() {
    let k1s = K1s::with().config(TOKENS).start();
    k1s.create("web", &continuous("exec sleep 1000"));
    let as_reader = |arguments: &[&str]| {
        let mut command = k1s.client_command(arguments);
        command.env("K1S_AUTH_TOKEN", "read-web");
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, stdout, _) = as_reader(&["ps"]);
    assert!(code == Some(0) && stdout.contains("web"), "{stdout}");
    let (code, _, stderr) = as_reader(&["kill", "web"]);
    assert_eq!(code, Some(1));
    let why = "Forbidden: this needs the scope run, and token read-web has the scope read";
    assert!(stderr.contains(why), "{stderr}");
}
