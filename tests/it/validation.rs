//! Payloads that are refused: 400, the field is named, nothing is created.

use serde_json::{Value, json};

use crate::harness::{K1s, one_off, with};

/// Each payload with a text that the error must contain.
fn check(base: &Value, cases: &[(Value, &str)]) {
    let k1s = K1s::start();
    for (fields, word) in cases {
        let payload = with(base.clone(), fields.clone());
        let reply = k1s.post("/job/x", &payload);
        assert_eq!(reply.status, 400, "{payload}: {}", reply.text());
        let error = reply.error();
        assert!(error.contains(word), "{payload}: {error:?} should name {word}");
        assert_eq!(k1s.get("/job/x").status, 404, "{payload}: nothing is created");
    }
    assert_eq!(k1s.post("/job/x", base).status, 200, "the base of all cases is good");
}

#[test]
fn what_is_no_object_is_refused() {
    let k1s = K1s::start();
    for body in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"type\"",
        "{\"type\":\"one-off\",\"executable\":\"true\"",
        "{\"type\":\"one-off\",\"executable\":\"true\"} x",
        "{\"type\":\"one-off\",\"executable\":\"true\",}",
        "{'type':'one-off'}",
        "type=one-off",
    ] {
        let reply = k1s.request("POST", "/job/x", body.as_bytes());
        assert_eq!(reply.status, 400, "{body}");
        assert!(!reply.error().is_empty(), "{body}");
    }
    let not_utf8 = b"{\"type\":\"one-off\",\"executable\":\"\xff\"}";
    assert_eq!(k1s.request("POST", "/job/x", not_utf8).status, 400);
    let deep = "[".repeat(100_000);
    assert_eq!(k1s.request("POST", "/job/x", deep.as_bytes()).status, 400);
    assert_eq!(k1s.get("/job/x").status, 404);
}

#[test]
fn the_content_type_is_not_asked_for() {
    let k1s = K1s::start();
    let body = one_off("true").to_string();
    for (number, header) in
        ["", "Content-Type: application/x-www-form-urlencoded\r\n"].into_iter().enumerate()
    {
        let mut client = k1s.connect();
        client.send(format!(
            "POST /job/x{number} HTTP/1.1\r\nHost: k1s\r\n{}{header}Content-Length: {}\r\n\r\n{body}",
            k1s.authorization(),
            body.len()
        ));
        assert_eq!(client.reply().status, 200, "{header}");
    }
}

#[test]
fn fields_of_every_type() {
    check(
        &json!({"type": "one-off", "executable": "true"}),
        &[
            (json!({"type": null}), "type"),
            (json!({"type": 3}), "type"),
            (json!({"executable": null}), "executable"),
            (json!({"executable": ""}), "executable"),
            (json!({"executable": 5}), "executable"),
            (json!({"executable": ["true"]}), "executable"),
            (json!({"executable": "a\0b"}), "executable"),
            (json!({"arguments": "x"}), "arguments"),
            (json!({"arguments": [1]}), "arguments"),
            (json!({"arguments": ["ok", "a\0b"]}), "arguments"),
            (json!({"workingDirectory": 5}), "workingDirectory"),
            (json!({"workingDirectory": ""}), "workingDirectory"),
            (json!({"workingDirectory": "/\0"}), "workingDirectory"),
            (json!({"environment": []}), "environment"),
            (json!({"environment": {"A": 1}}), "environment"),
            (json!({"environment": {"": "x"}}), "environment"),
            (json!({"environment": {"A=B": "x"}}), "environment"),
            (json!({"environment": {"A\0": "x"}}), "environment"),
            (json!({"environment": {"A": "\0"}}), "environment"),
            (json!({"environmentFile": 1}), "environmentFile"),
            (json!({"environmentFile": ["a", ""]}), "environmentFile"),
            (json!({"environmentFile": "-"}), "environmentFile"),
            (json!({"environmentFromFile": "x"}), "environmentFromFile"),
            (json!({"environmentFromFile": {"A": ""}}), "environmentFromFile"),
            (json!({"environmentFromFile": {"A=B": "x"}}), "environmentFromFile"),
            (json!({"clearEnvironment": "yes"}), "clearEnvironment"),
            (json!({"timeoutSeconds": -1}), "timeoutSeconds"),
            (json!({"timeoutSeconds": "1"}), "timeoutSeconds"),
            (json!({"timeoutSeconds": 1e300}), "timeoutSeconds"),
            (json!({"successExitCodes": []}), "successExitCodes"),
            (json!({"successExitCodes": 0}), "successExitCodes"),
            (json!({"successExitCodes": [256]}), "successExitCodes"),
            (json!({"successExitCodes": [-1]}), "successExitCodes"),
            (json!({"successExitCodes": [0.5]}), "successExitCodes"),
            (json!({"stop": "SIGTERM"}), "stop"),
            (json!({"stop": {"signal": "SIGNOPE"}}), "signal"),
            (json!({"stop": {"signal": "sigterm"}}), "signal"),
            (json!({"stop": {"timeoutSeconds": -0.5}}), "timeoutSeconds"),
            (json!({"stop": {"timeoutSeconds": "10"}}), "timeoutSeconds"),
            (json!({"stop": {"grace": 1}}), "grace"),
            (json!({"output": true}), "output"),
            (json!({"output": {"limitBytes": -1}}), "limitBytes"),
            (json!({"output": {"limitBytes": 1.5}}), "limitBytes"),
            (json!({"output": {"historyLimit": "x"}}), "historyLimit"),
            (json!({"output": {"historyLimit": -1}}), "historyLimit"),
            (json!({"output": {"size": 1}}), "size"),
            (json!({"executabel": "true"}), "executabel"),
            (json!({"Executable": "true"}), "Executable"),
            (json!({"id": "y"}), "id"),
            (json!({"result": []}), "result"),
        ],
    );
}

#[test]
fn fields_that_must_be_there() {
    let k1s = K1s::start();
    for (payload, word) in [
        (json!({}), "type"),
        (json!({"executable": "true"}), "type"),
        (json!({"type": "one-off"}), "executable"),
        (json!({"type": "continuous"}), "executable"),
        (json!({"type": "cron"}), "executable"),
    ] {
        let reply = k1s.post("/job/x", &payload);
        assert_eq!(reply.status, 400, "{payload}");
        assert!(reply.error().contains(word), "{payload}: {}", reply.text());
    }
}

#[test]
fn fields_of_continuous_jobs() {
    check(
        &json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"]}),
        &[
            (json!({"restartOnFailure": "no"}), "restartOnFailure"),
            (json!({"restartOnFailure": 0}), "restartOnFailure"),
            (json!({"scheduleInSeconds": 60}), "scheduleInSeconds"),
            (json!({"restart": true}), "restart"),
            (json!({"restart": {"policy": "sometimes"}}), "policy"),
            (json!({"restart": {"policy": 1}}), "policy"),
            (json!({"restart": {"initialDelayMs": -1}}), "initialDelayMs"),
            (json!({"restart": {"initialDelayMs": "1"}}), "initialDelayMs"),
            (json!({"restart": {"maxDelayMs": -1}}), "maxDelayMs"),
            (json!({"restart": {"factor": 0.5}}), "factor"),
            (json!({"restart": {"factor": "2"}}), "factor"),
            (json!({"restart": {"resetAfterMs": -1}}), "resetAfterMs"),
            (json!({"restart": {"maxRestarts": -1}}), "maxRestarts"),
            (json!({"restart": {"maxRestarts": 1.5}}), "maxRestarts"),
            (json!({"restart": {"delay": 1}}), "delay"),
        ],
    );
}

#[test]
fn fields_of_one_off_jobs() {
    check(
        &json!({"type": "one-off", "executable": "true"}),
        &[
            (json!({"restartOnFailure": true}), "restartOnFailure"),
            (json!({"scheduleInSeconds": 60}), "scheduleInSeconds"),
        ],
    );
}

#[test]
fn fields_of_cron_jobs() {
    check(
        &json!({"type": "cron", "executable": "true"}),
        &[
            (json!({"scheduleInSeconds": 0}), "scheduleInSeconds"),
            (json!({"scheduleInSeconds": -1}), "scheduleInSeconds"),
            (json!({"scheduleInSeconds": 1.5}), "scheduleInSeconds"),
            (json!({"scheduleInSeconds": "60"}), "scheduleInSeconds"),
            (json!({"scheduleInSeconds": 1e30}), "scheduleInSeconds"),
            (json!({"scheduleInSeconds": [1]}), "scheduleInSeconds"),
            (json!({"restartOnFailure": true}), "restartOnFailure"),
            (json!({"restart": {"policy": "always"}}), "restart"),
        ],
    );
}

#[test]
fn ids_that_are_none() {
    let k1s = K1s::start();
    let payload = one_off("true");
    let too_long = "x".repeat(129);
    for id in [".", "..", ".x", "a%20b", "a%2Fb", "%00", "%FF", "a!b", "a,b", "%C3%BC", &too_long] {
        let reply = k1s.post(&format!("/job/{id}"), &payload);
        assert_eq!(reply.status, 400, "{id}: {}", reply.text());
        assert!(!reply.error().is_empty(), "{id}: {}", reply.text());
    }
    assert_eq!(k1s.get("/").json(), json!([]));
}

#[test]
fn ids_that_are_some() {
    let k1s = K1s::start();
    let payload = one_off("true");
    let longest = "x".repeat(128);
    for (target, id) in [
        ("A-Za-z0-9._-~:@+", "A-Za-z0-9._-~:@+"),
        ("x..", "x.."),
        ("-", "-"),
        ("a%3Ab%40c", "a:b@c"),
        ("%61", "a"),
        (longest.as_str(), longest.as_str()),
    ] {
        let reply = k1s.post(&format!("/job/{target}"), &payload);
        assert_eq!((reply.status, &reply.json()["id"]), (200, &json!(id)), "{target}");
        assert_eq!(k1s.job(target)["id"], id);
    }
}

/// `wait` elsewhere is refused: a client would take an answer that did not wait for one that did.
#[test]
fn nothing_waits_but_the_creation_of_a_job_and_whoever_looks_at_one() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("true"));
    let payload = one_off("false").to_string();
    for (method, target) in [
        ("PUT", "/job/x"),
        ("PUT", "/job/new"),
        ("PUT", "/job/x/run"),
        ("PUT", "/job/x/kill"),
        ("DELETE", "/job/x"),
        ("GET", "/"),
    ] {
        let reply = k1s.request(method, &format!("{target}?wait=5"), payload.as_bytes());
        assert_eq!(reply.status, 400, "{method} {target}");
        let error = reply.error();
        assert!(error.starts_with("wait: only POST /job/{id}"), "{method} {target}: {error}");
    }
    assert_eq!(k1s.get("/").json(), json!([k1s.job("x")]), "nothing was done");
    let results = k1s.results("x", 1);
    assert_eq!((results.len(), &results[0]["exitCode"]), (1, &json!(0)));
    assert_eq!(k1s.get("/job/x?unknown=5").status, 200, "what means nothing is ignored");
}
