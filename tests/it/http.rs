//! HTTP as bytes on a connection: framing, limits, deadlines, methods, errors.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Client, K1s, Reply, continuous, cron, one_off, skip, stays_true, wait_until, with,
};

// ---- Methods and paths ----

#[test]
fn a_known_path_says_which_methods_it_has() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("true"));
    for (method, target, allowed, forbidden) in [
        ("POST", "/", &["GET", "HEAD"][..], &["POST", "DELETE"][..]),
        ("DELETE", "/", &["GET", "HEAD"], &["DELETE"]),
        ("TRACE", "/job/x", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], &["TRACE"]),
        ("TRACE", "/job/missing", &["GET", "HEAD", "POST", "PATCH", "DELETE"], &["TRACE"]),
        ("PATCH", "/job/x/kill", &["PUT"], &["PATCH"]),
        ("GET", "/job/x/kill", &["PUT"], &["GET", "HEAD"]),
        ("POST", "/job/x/kill", &["PUT"], &["POST"]),
    ] {
        let reply = k1s.request(method, target, b"");
        assert_eq!(reply.status, 405, "{method} {target}");
        assert!(!reply.error().is_empty());
        let allow = reply.header("allow").expect("Allow");
        let methods: Vec<&str> = allow.split(',').map(str::trim).collect();
        assert!(
            allowed.iter().all(|method| methods.contains(method)),
            "{method} {target}: {allow}"
        );
        assert!(
            !forbidden.iter().any(|method| methods.contains(method)),
            "{method} {target}: {allow}"
        );
    }
}

#[test]
fn other_paths_are_not_found() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("true"));
    for target in [
        "/nope",
        "//",
        "/job",
        "/jobs",
        "/JOB/x",
        "/job/x/",
        "/job/x/kill/",
        "/job/x/nope",
        "/job/x/kill/x",
        "/index.html",
        "/%6aob/x/y",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let reply = k1s.request(method, target, b"");
            assert_eq!(reply.status, 404, "{method} {target}");
            assert!(!reply.error().is_empty());
        }
    }
}

#[test]
fn a_query_does_not_change_the_path() {
    let k1s = K1s::start();
    k1s.create("x", &one_off("true"));
    assert_eq!(k1s.get("/job/x?").json()["id"], "x");
}

#[test]
fn head_is_get_without_the_body() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("echo some output"));
    for target in ["/job/x", "/job/missing", "/nope"] {
        let got = k1s.get(target);
        let mut client = k1s.connect();
        client.send(request(&k1s, "HEAD", target, "Connection: close\r\n", ""));
        let head = client.reply_to("HEAD");
        assert_eq!(head.status, got.status, "{target}");
        assert_eq!(head.header("content-length"), got.header("content-length"), "{target}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{target}");
        assert!(client.ends(), "{target}: no body follows");
    }
    let mut client = k1s.connect();
    client.send(request(&k1s, "HEAD", "/", "Connection: close\r\n", ""));
    let head = client.reply_to("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert!(client.ends());
}

/// The prompt of a terminal stood on the last line of an answer.
#[test]
fn each_answer_ends_with_a_newline() {
    let k1s = K1s::start();
    k1s.create("x", &json!({"type": "continuous", "executable": "sleep", "arguments": ["60"]}));
    for (method, target, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/?state=backoff", 200),
        ("GET", "/job/x", 200),
        ("GET", "/job/y", 404),
        ("PATCH", "/healthz", 405),
        ("PUT", "/job/x/restart", 200),
        ("GET", "/%zz", 400),
    ] {
        let reply = k1s.request(method, target, b"");
        assert_eq!(reply.status, status, "{method} {target}");
        assert!(reply.text().ends_with("}\n") || reply.text().ends_with("]\n"), "{target}");
        assert!(!reply.text().ends_with("\n\n"), "{method} {target}");
        if let Some(length) = reply.header("content-length") {
            assert_eq!(length, reply.body.len().to_string(), "{method} {target}");
        }
    }
}

/// A thousand strangers with a body of the largest size each would take a gigabyte.
#[test]
fn the_body_of_a_stranger_is_not_read() {
    let k1s = K1s::start();
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut stranger = k1s.connect();
        stranger.send(format!("GET /healthz HTTP/1.1\r\nHost: k1s\r\n{framing}\r\n\r\n"));
        let reply = stranger.reply();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{framing}");
        stranger.finish_sending();
        assert!(stranger.ends());
    }
}

#[test]
fn healthz_is_open_and_tells_nothing() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send("GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.json()), (200, json!({"status": "ok"})));
}

// ---- Connections ----

#[test]
fn a_connection_is_kept() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    for number in 0..20 {
        client.send(request(&k1s, "GET", &format!("/job/{number}"), "", ""));
        assert_eq!(client.reply().status, 404);
    }
    client.send(request(&k1s, "GET", "/", "Connection: close\r\n", ""));
    assert_eq!(client.reply().json(), json!([]));
    assert!(client.ends());
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let k1s = K1s::start();
    k1s.create("a", &one_off("true"));
    let body = one_off("true").to_string();
    let mut client = k1s.connect();
    client.send(
        [
            request(&k1s, "GET", "/job/a", "", ""),
            request(&k1s, "GET", "/job/b", "", ""),
            request(&k1s, "POST", "/job/b", "", &body),
            request(&k1s, "GET", "/job/b", "", ""),
            request(&k1s, "GET", "/", "", ""),
            request(&k1s, "HEAD", "/job/a", "", ""),
            request(&k1s, "GET", "/nope", "Connection: close\r\n", ""),
            request(&k1s, "GET", "/job/a", "", ""),
        ]
        .concat(),
    );
    assert_eq!(client.reply().json()["id"], "a");
    assert_eq!(client.reply().status, 404);
    assert_eq!(client.reply().json()["message"], "One-off job created");
    assert_eq!(client.reply().json()["id"], "b");
    assert_eq!(client.reply().json().as_array().unwrap().len(), 2);
    assert_eq!(client.reply_to("HEAD").status, 200);
    assert_eq!(client.reply().status, 404);
    assert!(client.ends(), "nothing is answered after Connection: close");
}

#[test]
fn a_thousand_pipelined_requests_have_a_thousand_answers() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/job/x", "", "").repeat(1000));
    for _ in 0..1000 {
        assert_eq!(client.reply().status, 404);
    }
}

/// A request for /healthz waited until 16 bodies of a megabyte had been read, 0.7 s.
#[test]
fn who_asks_for_little_does_not_wait_for_those_who_ask_for_much() {
    let k1s = K1s::start();
    let labels: BTreeMap<String, &str> = (0..10_000).map(|n| (n.to_string(), "x")).collect();
    let body = with(cron("true", 3600), json!({"labels": labels})).to_string();
    let (begin, end) = body.split_at(body.len() - 1);
    let length = format!("Content-Length: {}\r\n", body.len());
    let large = (0..16).map(|n| {
        let mut client = k1s.connect();
        client.send(head(&k1s, &format!("PUT /job/large{n}"), &length) + begin);
        client
    });
    let mut large: Vec<Client> = large.collect();
    let mut small = k1s.connect();
    // With each answer there was a turn, in which of each body some was read.
    for _ in 0..50 {
        assert_eq!(k1s.get("/healthz").status, 200);
    }
    k1s.signal(Signal::SIGSTOP);
    for client in &mut large {
        client.send(end);
    }
    small.send(request(&k1s, "PUT", "/job/small", "", &cron("true", 3600).to_string()));
    k1s.signal(Signal::SIGCONT);
    for client in large.iter_mut().chain([&mut small]) {
        assert_eq!(client.reply().status, 200);
    }
    let jobs = k1s.get("/?output=false").json();
    let place = jobs.as_array().unwrap().iter().position(|job| job["id"] == "small");
    assert!(place < Some(3), "it was created after {place:?} others, though it took least");
}

/// The socket takes an answer larger than what may wait at once: what was pipelined behind it
/// is answered, though no event comes any more.
#[test]
fn pipelined_requests_with_large_answers_are_answered_without_another_event() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("head -c 65536 /dev/zero | tr '\\0' x"));
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/job/x", "", "").repeat(4));
    client.send(request(&k1s, "GET", "/job/missing", "", ""));
    for _ in 0..4 {
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(client.reply().status, 404);
}

#[test]
fn bytes_one_by_one_are_a_request_too() {
    let k1s = K1s::start();
    let body = one_off("echo whole").to_string();
    let mut client = k1s.connect();
    for byte in request(&k1s, "POST", "/job/x", "", &body).as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.reply().status, 200);
    assert_eq!(k1s.results("x", 1)[0]["stdout"], "whole\n");
}

#[test]
fn http_1_0_is_closed_unless_it_asks_otherwise() {
    let k1s = K1s::start();
    let authorization = k1s.authorization();
    let mut client = k1s.connect();
    client.send(format!("GET /job/x HTTP/1.0\r\n{authorization}\r\n"));
    assert_eq!(client.reply().status, 404);
    assert!(client.ends());
    let mut client = k1s.connect();
    let keep = format!("GET /job/x HTTP/1.0\r\n{authorization}Connection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        client.send(&keep);
        assert_eq!(client.reply().status, 404);
    }
}

#[test]
fn the_listing_is_chunked_in_1_1_and_ends_with_the_connection_in_1_0() {
    let k1s = K1s::start();
    for number in 0..300 {
        k1s.create(&format!("x{number}"), &one_off("true"));
    }
    let reply = k1s.get("/");
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert_eq!(reply.json().as_array().unwrap().len(), 300);
    let mut client = k1s.connect();
    client.send(format!("GET / HTTP/1.0\r\n{}\r\n", k1s.authorization()));
    let reply = client.reply();
    assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (None, None));
    assert_eq!(reply.json().as_array().unwrap().len(), 300);
}

// ---- Large answers ----

#[test]
fn a_large_job_is_streamed_and_a_small_one_has_a_length() {
    let k1s = K1s::start();
    let large = one_off(&print(40_000));
    k1s.run("small", &one_off(&print(4000)));
    k1s.run("large", &large);
    for (target, is_large) in
        [("/job/small", false), ("/job/large", true), ("/job/large?output=false", false)]
    {
        let reply = k1s.get(target);
        let coding = reply.header("transfer-encoding");
        assert_eq!(coding, is_large.then_some("chunked"), "{target}");
        assert_eq!(reply.header("content-length").is_none(), is_large, "{target}");
        assert_eq!(reply.json()["state"], "succeeded", "{target}");
        let mut client = k1s.connect();
        client.send(request(&k1s, "HEAD", target, "Connection: close\r\n", ""));
        let head = client.reply_to("HEAD");
        assert_eq!(head.header("content-length"), reply.header("content-length"), "{target}");
        assert!(client.ends(), "{target}: no body follows");
    }
    let mut client = k1s.connect();
    client.send(format!("GET /job/large HTTP/1.0\r\n{}\r\n", k1s.authorization()));
    let reply = client.reply();
    assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (None, None));
    assert_eq!(reply.json(), k1s.job("large"));
    let reply = k1s.post("/job/awaited?wait=1000", &large);
    assert_eq!((reply.status, reply.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(reply.json()["results"][0]["stdout"], "x".repeat(40_000));
}

/// A second copy would be as large as the output, and take one long turn.
#[test]
fn the_output_of_a_large_job_is_not_copied_for_a_slow_reader() {
    let k1s = with_large_job();
    for target in ["/job/large", "/"] {
        let before = k1s.anonymous();
        let mut client = k1s.connect();
        client.send(request(&k1s, "GET", target, "", ""));
        client.chunked_head();
        let (mut body, mut looked_at) = (Vec::new(), 0);
        loop {
            if body.len() >= looked_at {
                let grown = k1s.anonymous().saturating_sub(before);
                assert!(grown < LARGE_BYTES / 4, "{grown} bytes more for GET {target}");
                assert_eq!(k1s.get("/healthz").status, 200, "others are served meanwhile");
                looked_at += SAMPLE_BYTES;
            }
            let Some(chunk) = client.chunk() else { break };
            body.extend(chunk);
        }
        let seen: Value = serde_json::from_slice(&body).unwrap();
        let job = if target == "/" { &seen[0] } else { &seen };
        assert_eq!(job["results"][0]["stdout"].as_str().unwrap().len(), LARGE_BYTES);
        assert_eq!(job["results"][0]["stdoutTruncated"], false);
    }
}

#[test]
fn a_job_that_is_removed_while_it_is_read_is_still_an_answer() {
    for target in ["/job/large", "/"] {
        let k1s = with_large_job();
        let mut client = k1s.connect();
        client.send(request(&k1s, "GET", target, "", ""));
        client.send(request(&k1s, "GET", "/job/large", "", ""));
        client.chunked_head();
        let mut body = client.chunk().unwrap();
        assert_eq!(k1s.delete("/job/large").status, 200);
        body.extend(std::iter::from_fn(|| client.chunk()).flatten());
        let seen: Value = serde_json::from_slice(&body).unwrap();
        let job = if target == "/" { &seen[0] } else { &seen };
        let result = &job["results"][0];
        assert!(result["stdout"].as_str().unwrap().len() < LARGE_BYTES);
        assert_eq!(result["stdoutBytes"], LARGE_BYTES);
        assert_eq!(result["stdoutTruncated"], true);
        assert_eq!(client.reply().status, 404, "the connection goes on");
    }
}

#[test]
fn who_stops_sending_still_gets_the_answer() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/job/x", "", "").repeat(2));
    client.finish_sending();
    assert_eq!(client.reply().status, 404);
    assert_eq!(client.reply().status, 404);
    assert!(client.ends());
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_behind() {
    let k1s = K1s::start();
    let Ok(before) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    let whole = request(&k1s, "POST", "/job/x", "", &one_off("true").to_string());
    for end in (0..whole.len()).step_by(7) {
        k1s.connect().send(&whole[..end]);
    }
    wait_until("all are closed", || k1s.open_fds().unwrap() == before);
    assert_eq!(k1s.get("/job/x").status, 404, "half a request is none");
}

#[test]
fn a_slow_reader_gets_all_of_a_long_listing() {
    let k1s = K1s::start();
    for number in 0..100 {
        k1s.create(&format!("x{number}"), &one_off("head -c 60000 /dev/zero | tr '\\0' x"));
    }
    wait_until("all are over", || {
        let jobs = k1s.get("/").json();
        jobs.as_array().unwrap().iter().all(|job| job["state"] == "succeeded")
    });
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/", "", ""));
    for _ in 0..10 {
        assert_eq!(k1s.get("/job/x0").status, 200, "others are served meanwhile");
    }
    let jobs = client.reply().json();
    assert!(jobs.as_array().unwrap().iter().all(|job| job["results"][0]["stdoutBytes"] == 60_000));
}

// ---- Bodies ----

#[test]
fn a_chunked_body_is_put_together() {
    let k1s = K1s::start();
    let body = one_off("echo chunked").to_string();
    let (one, two) = body.split_at(7);
    let chunks = [
        format!("{:x}\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len()),
        format!("{:x};name=value\r\n{body}\r\n0\r\n\r\n", body.len()),
        format!("{:08x}\r\n{body}\r\n000\r\n\r\n", body.len()),
        format!("{:x}\r\n{body}\r\n0\r\nTrailer: dropped\r\n\r\n", body.len()),
    ];
    let mut client = k1s.connect();
    for (number, chunked) in chunks.iter().enumerate() {
        client.send(chunked_request(&k1s, &format!("/job/x{number}"), chunked));
        assert_eq!(client.reply().status, 200, "{chunked}");
        assert_eq!(k1s.results(&format!("x{number}"), 1)[0]["stdout"], "chunked\n");
    }
}

#[test]
fn a_body_is_waited_for_after_100_continue() {
    let k1s = K1s::start();
    let body = one_off("true").to_string();
    let mut client = k1s.connect();
    let whole = request(&k1s, "POST", "/job/x", "Expect: 100-continue\r\n", &body);
    let (head, _) = whole.split_at(whole.len() - body.len());
    client.send(head);
    assert_eq!(client.reply().status, 100);
    client.send(&body);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn who_expects_and_is_refused_is_not_told_to_continue() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send(
        "POST /job/x HTTP/1.1\r\nHost: k1s\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.reply().status, 403);
    let mut client = k1s.connect();
    client.send(head(&k1s, "POST /job/x", "Content-Length: 10000000\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.reply().status, 413);
}

#[test]
fn a_body_that_nobody_asked_for_does_not_become_a_request() {
    let k1s = K1s::start();
    let smuggled = request(&k1s, "DELETE", "/job/x", "", "");
    k1s.create("x", &continuous("exec sleep 1000"));
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/job/x", "", &smuggled));
    client.send(request(&k1s, "GET", "/job/x", "Connection: close\r\n", ""));
    assert_eq!(client.reply().json()["id"], "x");
    assert_eq!(client.reply().json()["id"], "x");
    assert!(client.ends());
}

// ---- Limits ----

#[test]
fn what_is_too_large_is_refused_and_the_connection_closed() {
    let k1s = K1s::start();
    let long = "x".repeat(20_000);
    let many = "X: y\r\n".repeat(101);
    for (text, status) in [
        (head(&k1s, &format!("GET /{long}"), ""), 414),
        (head(&k1s, "GET /", &format!("X: {long}\r\n")), 431),
        (head(&k1s, "GET /", &many), 431),
        (head(&k1s, "POST /job/x", "Content-Length: 1048577\r\n"), 413),
        (head(&k1s, "POST /job/x", "Content-Length: 18446744073709551615\r\n"), 413),
    ] {
        refused(&k1s, &text, status);
    }
    assert_eq!(k1s.get("/").json(), json!([]));
}

#[test]
fn limits_are_keys_of_the_configuration() {
    let k1s = K1s::with()
        .http("max_head_bytes = 1024")
        .http("max_headers = 10")
        .http("max_body_bytes = 100")
        .start();
    let at_limit = "x".repeat(100);
    let above = "x".repeat(101);
    let chunks = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let long = "x".repeat(1024);
    refused(&k1s, &head(&k1s, &format!("GET /{long}"), ""), 414);
    refused(&k1s, &head(&k1s, "GET /", &format!("X: {long}\r\n")), 431);
    refused(&k1s, &head(&k1s, "GET /", &"X: y\r\n".repeat(10)), 431);
    refused(&k1s, &request(&k1s, "POST", "/job/x", "", &above), 413);
    refused(&k1s, &chunked_request(&k1s, "/job/x", &chunks(&above)), 413);
    for text in [
        request(&k1s, "POST", "/job/x", "", &at_limit),
        chunked_request(&k1s, "/job/x", &chunks(&at_limit)),
    ] {
        assert_eq!(answer(&k1s, &text).status, 400, "within the limit, but no JSON");
    }
}

#[test]
fn a_refusal_of_a_large_body_reaches_who_is_still_sending() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send(head(&k1s, "POST /job/x", "Content-Length: 3000000\r\n"));
    client.send(vec![b'x'; 3_000_000]);
    assert_eq!(client.reply().status, 413);
}

#[test]
fn a_refusal_reaches_a_stranger_who_goes_on_sending() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send("POST /job/x HTTP/1.1\r\nHost: k1s\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![b'x'; 8_000_000]);
    assert_eq!(client.reply().status, 403);
    assert!(client.ends());
}

#[test]
fn a_stranger_is_refused_before_the_body() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send("POST /job/x HTTP/1.1\r\nHost: k1s\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.reply().status, 403, "not one byte of the body was sent");
    assert!(client.ends());
}

// ---- Deadlines ----

#[test]
fn a_head_that_does_not_arrive_is_a_408() {
    let k1s = K1s::with().http("head_timeout_seconds = 1").start();
    let mut client = k1s.connect();
    client.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(client.reply().status, 408);
    assert!(client.ends());
    assert_eq!(k1s.get("/").status, 200);
}

#[test]
fn a_head_byte_by_byte_has_the_same_deadline() {
    let k1s = K1s::with().http("head_timeout_seconds = 1").start();
    let mut client = k1s.connect();
    let mut sender = client.another_half();
    let dripping = thread::spawn(move || {
        sender.send("GET / HTTP/1.1\r\nX: ");
        wait_until("it is refused", || !sender.drip());
    });
    assert_eq!(client.reply().status, 408);
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn a_body_that_does_not_arrive_is_a_408() {
    let k1s = K1s::with().http("body_timeout_seconds = 1").start();
    let mut client = k1s.connect();
    client.send(head(&k1s, "POST /job/x", "Content-Length: 100\r\n"));
    client.send("{\"type\":");
    assert_eq!(client.reply().status, 408);
    assert!(client.ends());
    assert_eq!(k1s.get("/job/x").status, 404);
}

#[test]
fn a_connection_that_rests_too_long_is_closed() {
    let k1s = K1s::with().http("idle_timeout_seconds = 1").start();
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/", "", ""));
    assert_eq!(client.reply().status, 200);
    assert!(client.ends(), "without a word");
}

#[test]
fn a_reader_that_stands_still_is_dropped_and_holds_up_nobody() {
    let k1s = K1s::with().http("write_timeout_seconds = 1").http("max_unsent_bytes = 4096").start();
    let Ok(before) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    let environment = json!({"BIG": "x".repeat(500_000)});
    let payload = json!({"type": "cron", "executable": "true", "environment": environment});
    for number in 0..20 {
        k1s.create(&format!("x{number}"), &payload);
    }
    let mut client = k1s.connect();
    client.send(request(&k1s, "GET", "/", "", "").repeat(10));
    assert_eq!(k1s.get("/job/x0").status, 200);
    wait_until("it is dropped", || k1s.open_fds().unwrap() == before);
}

// ---- Many connections ----

#[test]
fn silent_strangers_do_not_lock_the_owner_out() {
    let k1s = K1s::with().http("max_connections = 64").start();
    let mut owner = k1s.connect();
    owner.send(request(&k1s, "GET", "/", "", ""));
    assert_eq!(owner.reply().status, 200);
    let mut strangers: Vec<Client> = (0..200).map(|_| k1s.connect()).collect();
    assert_eq!(k1s.get("/").status, 200, "the owner comes in");
    owner.send(request(&k1s, "GET", "/", "", ""));
    assert_eq!(owner.reply().status, 200, "and who has shown the token stays");
    assert!(strangers[0].ends(), "the oldest stranger has made room");
    let newest = strangers.last_mut().unwrap();
    newest.send("GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n");
    assert_eq!(newest.reply().status, 200, "the newest has not");
}

/// The limits are the default, but the time for a head: who comes in comes in without waiting
/// for anybody's to run out.
#[test]
fn more_strangers_than_connections_do_not_lock_the_owner_out() {
    if let Err(reason) = may_have_descriptors(2 * MOST_STRANGERS as u64 + 200) {
        skip!(reason);
    }
    for (number, said) in [
        (1024, ""),
        (MOST_STRANGERS, ""),
        (MOST_STRANGERS, "GET / HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bear"),
    ] {
        let k1s = K1s::with().http("head_timeout_seconds = 3600").start();
        let mut known = k1s.connect();
        known.send(request(&k1s, "GET", "/", "", ""));
        assert_eq!(known.reply().status, 200);
        let mut strangers: Vec<Client> = (0..number).map(|_| k1s.connect()).collect();
        strangers.iter_mut().for_each(|stranger| stranger.send(said));
        let context = format!("{number} strangers that say {said:?}");
        for _ in 0..10 {
            assert_eq!(k1s.get("/").status, 200, "{context}: the owner comes in");
        }
        known.send(request(&k1s, "GET", "/", "", ""));
        assert_eq!(known.reply().status, 200, "{context}: who has shown the token stays");
        assert!(strangers[0].ends(), "{context}: the oldest has made room");
        let newest = strangers.last_mut().unwrap();
        newest.send(if said.is_empty() { head(&k1s, "GET /", "") } else { "er x\r\n\r\n".into() });
        let status = if said.is_empty() { 200 } else { 403 };
        assert_eq!(newest.reply().status, status, "{context}: the newest has not");
    }
}

/// Sees to it that this process may have so many descriptors, and with it each k1s that it
/// starts; says why when it may not. A k1s keeps half of its own for jobs.
fn may_have_descriptors(wanted: u64) -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).unwrap();
    if hard >= wanted { Ok(()) } else { Err(format!("only {hard} descriptors may be open")) }
}

#[test]
fn who_is_idle_for_longest_makes_room_for_the_next_but_strangers_first() {
    let k1s = K1s::with().http("max_connections = 3").start();
    let ask = |client: &mut Client| {
        client.send(request(&k1s, "GET", "/", "", ""));
        assert_eq!(client.reply().status, 200);
    };
    let (mut first, mut second) = (k1s.connect(), k1s.connect());
    ask(&mut first);
    ask(&mut second);
    // Idleness is told apart by milliseconds.
    let asked = Instant::now();
    wait_until("the next is later", || asked.elapsed() > Duration::from_millis(2));
    ask(&mut first);
    let mut stranger = k1s.connect();
    let mut third = k1s.connect();
    ask(&mut third);
    assert!(stranger.ends(), "a stranger goes before anybody who has shown the token");
    let mut fourth = k1s.connect();
    ask(&mut fourth);
    assert!(second.ends(), "it was idle for longest");
    ask(&mut first);
    ask(&mut third);
}

#[test]
fn strangers_and_jobs_that_take_all_descriptors_do_not_lock_the_owner_out() {
    let k1s = K1s::with().nofile(48).start();
    let mut owner = k1s.connect();
    let mut strangers: Vec<Client> = (0..60).map(|_| k1s.connect()).collect();
    for number in 0..20 {
        k1s.create(&format!("x{number}"), &continuous("exec sleep 1000"));
    }
    strangers.extend((0..60).map(|_| k1s.connect()));
    let running = |k1s: &K1s| {
        let jobs = k1s.get("/?state=running").json();
        jobs.as_array().unwrap().len()
    };
    wait_until("some run, others cannot", || (8..20).contains(&running(&k1s)));
    let starting = k1s.get("/?state=starting").json();
    assert!(starting[0]["error"].as_str().unwrap().contains("EMFILE"), "{starting}");
    for number in 0..15 {
        assert_eq!(k1s.put(&format!("/job/x{number}/kill")).status, 200);
    }
    wait_until("the others run when there is room", || running(&k1s) == 5);
    assert!(owner.ends(), "it had not shown the token, and was the oldest");
}

/// Jobs take descriptors by twos: of two limits, one leaves an odd number to connections.
#[test]
fn the_owners_own_connections_do_not_lock_the_owner_out() {
    for nofile in [47, 48] {
        let k1s = K1s::with().nofile(nofile).start();
        for number in 0..20 {
            k1s.create(&format!("x{number}"), &continuous("exec sleep 1000"));
        }
        let is_short = || {
            let starting = k1s.get("/?state=starting").json();
            starting.as_array().unwrap().iter().any(|job| job["error"].is_string())
        };
        wait_until("jobs have taken all there is", is_short);
        let mut kept = Vec::new();
        for _ in 0..10 {
            let mut client = k1s.connect();
            client.send(request(&k1s, "GET", "/job/missing", "", ""));
            assert_eq!(client.reply().status, 404);
            kept.push(client);
        }
    }
}

#[test]
fn who_leaves_while_a_run_is_waited_for_leaves_nothing_behind() {
    let k1s = K1s::start();
    let Ok(before) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    let body = one_off("exec sleep 1000").to_string();
    let mut client = k1s.connect();
    client.send(request(&k1s, "POST", "/job/x?wait=1000", "", &body));
    k1s.in_state("x", "running");
    // The connection, and the two pipes of the run.
    wait_until("it waits", || k1s.open_fds().unwrap() == before + 3);
    drop(client);
    wait_until("the connection is gone", || k1s.open_fds().unwrap() == before + 2);
}

#[test]
fn who_stops_sending_while_a_run_is_waited_for_still_gets_the_answer() {
    let k1s = K1s::start();
    let body = one_off("while [ ! -e go ]; do sleep 0.01; done").to_string();
    for (id, version) in [("a", "1.1"), ("b", "1.0")] {
        let mut client = k1s.connect();
        client.send(format!(
            "POST /job/{id}?wait=1000 HTTP/{version}\r\nHost: k1s\r\n{}Content-Length: {}\r\n\r\n{body}",
            k1s.authorization(),
            body.len(),
        ));
        client.finish_sending();
        k1s.in_state(id, "running");
        std::fs::write(k1s.dir().join("go"), "").unwrap();
        let mut reply = client.reply();
        if version == "1.1" && reply.status == 100 {
            reply = client.reply();
        }
        assert_eq!((reply.status, &reply.json()["results"][0]["exitCode"]), (200, &json!(0)));
        assert!(client.ends());
        std::fs::remove_file(k1s.dir().join("go")).unwrap();
    }
}

// ---- Errors ----

#[test]
fn what_is_not_http_is_refused() {
    let k1s = K1s::start();
    let authorization = k1s.authorization();
    for text in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost : k1s\r\n{authorization}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: k1s\r\n folded\r\n{authorization}\r\n"),
        format!(
            "POST /job/x HTTP/1.1\r\nHost: k1s\r\n{authorization}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"
        ),
        format!("POST /job/x HTTP/1.1\r\nHost: k1s\r\n{authorization}Content-Length: -1\r\n\r\n"),
        format!(
            "POST /job/x HTTP/1.1\r\nHost: k1s\r\n{authorization}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        chunked_request(&k1s, "/job/x", "x\r\n\r\n"),
        chunked_request(&k1s, "/job/x", "\r\n\r\n"),
        chunked_request(&k1s, "/job/x", "1\r\nab\r\n0\r\n\r\n"),
        chunked_request(&k1s, "/job/x", "ffffffffffffffffff\r\n"),
    ] {
        let mut client = k1s.connect();
        client.send(&text);
        let status = client.reply().status;
        assert!([400, 413].contains(&status), "{text:?}: {status}");
        assert!(client.ends(), "{text:?}");
    }
    assert_eq!(k1s.get("/").json(), json!([]));
}

#[test]
fn errors_are_json_wherever_they_come_from() {
    let k1s = K1s::start();
    for text in [
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: k1s\r\n\r\n".to_owned(),
        head(&k1s, "GET /nope", "Connection: close\r\n"),
        head(&k1s, "POST /job/x", "Content-Length: 9999999\r\n"),
        head(&k1s, &format!("GET /{}", "x".repeat(20_000)), ""),
    ] {
        assert!(!answer(&k1s, &text).error().is_empty());
    }
}

#[test]
fn an_unfinished_request_is_not_answered() {
    let k1s = K1s::start();
    let whole = request(&k1s, "POST", "/job/x", "", &one_off("true").to_string());
    let mut client = k1s.connect();
    client.send(&whole[..whole.len() - 1]);
    stays_true("nothing was created", Duration::from_millis(100), || {
        k1s.get("/job/x").status == 404
    });
    client.send(&whole[whole.len() - 1..]);
    assert_eq!(client.reply().status, 200);
}

/// A script that prints so many times `x`.
fn print(count: usize) -> String {
    format!("head -c {count} /dev/zero | tr '\\0' x")
}

/// A k1s with the job `large`, whose only run is over and has printed [`LARGE_BYTES`].
fn with_large_job() -> K1s {
    let k1s = K1s::start();
    let keeps = json!({"output": {"limitBytes": LARGE_BYTES, "forward": false}});
    k1s.create("large", &with(one_off(&print(LARGE_BYTES)), keeps));
    let is_over = || k1s.get("/job/large?output=false").json()["state"] == "succeeded";
    wait_until("it is over", is_over);
    k1s
}

/// A whole request with the token.
fn request(k1s: &K1s, method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = format!("Content-Length: {}\r\n", body.len());
    let length = if body.is_empty() { "" } else { &length };
    format!("{}{body}", head(k1s, &format!("{method} {target}"), &format!("{headers}{length}")))
}

/// A request line without its version, and a head with the token.
fn head(k1s: &K1s, line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: k1s\r\n{}{headers}\r\n", k1s.authorization())
}

fn chunked_request(k1s: &K1s, target: &str, chunks: &str) -> String {
    let head = head(k1s, &format!("POST {target}"), "Transfer-Encoding: chunked\r\n");
    format!("{head}{chunks}")
}

fn answer(k1s: &K1s, text: &str) -> Reply {
    let mut client: Client = k1s.connect();
    client.send(text);
    client.reply()
}

/// The request is answered with this status, in JSON, and the connection ends.
#[track_caller]
fn refused(k1s: &K1s, text: &str, status: u16) {
    let mut client = k1s.connect();
    client.send(text);
    let reply = client.reply();
    assert_eq!(reply.status, status, "{:.80}", text);
    assert!(!reply.error().is_empty());
    assert!(client.ends(), "{:.80}", text);
}

/// More than there may be connections.
const MOST_STRANGERS: usize = 1100;
/// More than sockets take by themselves.
const LARGE_BYTES: usize = 16 << 20;
/// How much is read between two looks at k1s.
const SAMPLE_BYTES: usize = 1 << 20;
