//! `GET /job/{id}/logs`: the output of a job that is kept, and new output as it comes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, K1s, continuous, cron, one_off, wait_for, wait_until, with};

/// A job that writes in an order that can be told from the times.
fn talker() -> Value {
    one_off(
        "echo out 1; sleep 0.05; echo err 2 >&2; sleep 0.05; echo out 3; sleep 0.05; printf 'err 4' >&2",
    )
}

fn logs(k1s: &K1s, query: &str) -> String {
    let reply = k1s.get(&format!("/job/x/logs{query}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

fn lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// A connection that follows the job `x`; the head of its answer is read.
fn follow(k1s: &K1s, query: &str) -> Client {
    let mut client = k1s.connect();
    let head = format!(
        "GET /job/x/logs?follow=true{query} HTTP/1.1\r\nHost: k1s\r\n{}\r\n",
        k1s.authorization()
    );
    client.send(head);
    let head = client.chunked_head();
    assert_eq!((head.status, head.header("x-accel-buffering")), (200, Some("no")));
    client
}

/// What a follower is sent, line by line, until `enough` says so or the stream ends.
fn followed(client: &mut Client, mut enough: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let (mut text, mut all) = (Vec::new(), Vec::new());
    while let Some(chunk) = client.chunk() {
        text.extend_from_slice(&chunk);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = serde_json::from_slice(&line).unwrap();
            let is_enough = enough(&line);
            all.push(line);
            if is_enough {
                return all;
            }
        }
    }
    all
}

// ---- What is kept ----

#[test]
fn both_streams_come_in_the_order_in_which_they_were_written() {
    let k1s = K1s::start();
    k1s.run("x", &talker());
    assert_eq!(logs(&k1s, ""), "out 1\nerr 2\nout 3\nerr 4");
    assert_eq!(logs(&k1s, "?stream=stdout"), "out 1\nout 3\n");
    assert_eq!(logs(&k1s, "?stream=stderr&run=1&format=raw"), "err 2\nerr 4");
    let reply = k1s.request("HEAD", "/job/x/logs", b"");
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/octet-stream"))
    );
}

#[test]
fn the_tail_is_as_many_lines_as_are_asked_for() {
    let k1s = K1s::start();
    k1s.run("x", &talker());
    for (query, wanted) in [
        ("?tail=0", ""),
        ("?tail=1", "err 4"),
        ("?tail=2", "out 3\nerr 4"),
        ("?tail=4", "out 1\nerr 2\nout 3\nerr 4"),
        ("?tail=1000000000", "out 1\nerr 2\nout 3\nerr 4"),
        ("?tail=1&stream=stdout", "out 3\n"),
        ("?tail=2&stream=stdout", "out 1\nout 3\n"),
    ] {
        assert_eq!(logs(&k1s, query), wanted, "{query}");
        let all = lines(logs(&k1s, &format!("{query}&format=ndjson")).as_bytes());
        let texts: Vec<&str> = all.iter().map(|line| line["line"].as_str().unwrap()).collect();
        assert_eq!(texts, wanted.lines().collect::<Vec<_>>(), "{query}");
    }
}

#[test]
fn lines_say_their_number_time_run_and_stream() {
    let k1s = K1s::start();
    let result = k1s.run("x", &talker());
    let (began, ended) =
        (result["startedAt"].as_str().unwrap(), result["finishedAt"].as_str().unwrap());
    let all = lines(logs(&k1s, "?format=ndjson").as_bytes());
    let wanted = [
        (1, "stdout", "out 1"),
        (2, "stderr", "err 2"),
        (3, "stdout", "out 3"),
        (4, "stderr", "err 4"),
    ];
    assert_eq!(all.len(), wanted.len());
    let mut last = began.to_owned();
    for (line, (number, stream, text)) in all.iter().zip(wanted) {
        let time = line["time"].as_str().unwrap();
        assert!(last.as_str() <= time && time <= ended, "{last} {time} {ended}");
        last = time.to_owned();
        let wanted = json!({"seq": number, "time": time, "run": 1, "stream": stream, "line": text});
        assert_eq!(line, &wanted);
    }
}

#[test]
fn all_runs_are_one_log_whose_numbers_go_on() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &with(cron("echo one; echo two", 86_400), json!({"output": {"historyLimit": 2}})),
    );
    for run in 1..=3 {
        k1s.put("/job/x/run");
        wait_until("the run is over", || {
            k1s.job("x")["results"].as_array().unwrap().iter().any(|it| it["run"] == run)
        });
    }
    assert_eq!(logs(&k1s, ""), "one\ntwo\n", "the newest run");
    assert_eq!(logs(&k1s, "?run=2"), "one\ntwo\n");
    let numbers = |query: &str| -> Vec<(u64, u64)> {
        let all = lines(logs(&k1s, &format!("?format=ndjson{query}")).as_bytes());
        let number = |line: &Value, name: &str| line[name].as_u64().unwrap_or(0);
        all.iter()
            .map(|line| (number(line, "seq") + number(line, "lost"), number(line, "run")))
            .collect()
    };
    assert_eq!(numbers(""), [(5, 3), (6, 3)]);
    assert_eq!(numbers("&run=2"), [(3, 2), (4, 2)]);
    assert_eq!(numbers("&after=0"), [(2, 0), (3, 2), (4, 2), (5, 3), (6, 3)], "two are lost");
    assert_eq!(numbers("&after=1"), [(1, 0), (3, 2), (4, 2), (5, 3), (6, 3)], "one is");
    assert_eq!(numbers("&after=3"), [(4, 2), (5, 3), (6, 3)]);
    assert_eq!(numbers("&after=3&run=3"), [(5, 3), (6, 3)]);
    assert_eq!(numbers("&after=6"), []);
    assert_eq!(numbers("&after=99"), numbers("&after=0"), "99 is of another log");
    let reply = k1s.get("/job/x/logs?run=1");
    let wanted = "The output of run 1 is not kept; those of 2 to 3 are".to_owned();
    assert_eq!((reply.status, reply.error()), (404, wanted));
}

#[test]
fn bytes_stay_as_they_are_and_are_repaired_in_json() {
    let k1s = K1s::start();
    k1s.run("x", &one_off(r"printf 'a\377\000\033b\n\342\202\254\n'"));
    assert_eq!(k1s.get("/job/x/logs").body, b"a\xff\x00\x1bb\n\xe2\x82\xac\n");
    let all = lines(&k1s.get("/job/x/logs?format=ndjson").body);
    assert_eq!([&all[0]["line"], &all[1]["line"]], ["a\u{fffd}\u{0}\u{1b}b", "\u{20ac}"]);
}

#[test]
fn a_line_without_end_is_cut_and_says_so() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("head -c 40000 /dev/zero | tr '\\0' x; echo; echo y"));
    let all = lines(&k1s.get("/job/x/logs?format=ndjson").body);
    let shown = |line: &Value| (line["line"].as_str().unwrap().len(), line.get("partial").cloned());
    let shown: Vec<_> = all.iter().map(shown).collect();
    let partial = Some(json!(true));
    let wanted =
        [(16_384, partial.clone()), (16_384, partial), (40_000 - 2 * 16_384, None), (1, None)];
    assert_eq!(shown, wanted);
}

#[test]
fn what_is_dropped_is_told_line_by_line() {
    let k1s = K1s::start();
    let limited = json!({"output": {"limitBytes": 100}});
    k1s.run("x", &with(one_off("seq 1000 1099"), limited));
    let all = lines(&k1s.get("/job/x/logs?format=ndjson").body);
    assert_eq!(all[0], json!({"lost": 80}));
    assert_eq!((&all[1]["seq"], &all[1]["line"]), (&json!(81), &json!("1080")));
    assert_eq!(all.len(), 21);
}

#[test]
fn what_is_asked_for_wrongly_is_refused() {
    let k1s = K1s::start();
    k1s.run("x", &talker());
    let whole = "must be a whole number from 0 to";
    for (query, error) in [
        ("run=x", format!("run: {whole} 18446744073709551615, not \"x\"")),
        ("tail=-1", format!("tail: {whole} 1000000000, not \"-1\"")),
        ("after=1.5&format=ndjson", format!("after: {whole} 18446744073709551615, not \"1.5\"")),
        ("follow=yes", "follow: must be true or false, not \"yes\"".into()),
        ("stream=both", "stream: must be one of stdout, stderr, not \"both\"".into()),
        ("format=json", "format: must be one of raw, ndjson, not \"json\"".into()),
        ("after=1", "after: needs format=ndjson, which numbers the lines".into()),
        ("after=1&tail=1&format=ndjson", "tail: cannot be given with after".into()),
    ] {
        let reply = k1s.get(&format!("/job/x/logs?{query}"));
        assert_eq!((reply.status, reply.error()), (400, error), "{query}");
    }
    assert_eq!(k1s.get("/job/y/logs").status, 404);
    k1s.create("idle", &cron("true", 86_400));
    let reply = k1s.get("/job/idle/logs");
    assert_eq!((reply.status, reply.text()), (200, String::new()));
    assert_eq!(
        k1s.get("/job/idle/logs?run=1").error(),
        "The output of run 1 is not kept; it has not run yet"
    );
}

// ---- What is still to come ----

/// A job that writes numbers without end over restarts: 20 in each run.
fn counter() -> Value {
    let script = "n=$(cat n 2>/dev/null || echo 0); for i in $(seq 20); do n=$((n+1)); echo $n; echo $n >n; sleep 0.005; done";
    with(continuous(script), json!({"restart": {"initialDelayMs": 1, "maxDelayMs": 1}}))
}

fn number(line: &Value) -> u64 {
    line["line"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_job_is_followed_over_restarts_until_it_is_removed() {
    let k1s = K1s::start();
    k1s.create("x", &with(counter(), json!({"stop": {"signal": "SIGTERM"}})));
    let mut client = follow(&k1s, "&format=ndjson");
    let mut bytes = follow(&k1s, "&stream=stdout");
    let all = followed(&mut client, |line| line["run"] == 4);
    let numbers: Vec<u64> = all.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
    k1s.delete("/job/x");
    let rest = followed(&mut client, |_| false);
    let numbers: Vec<u64> = all.iter().chain(&rest).map(number).collect();
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
    let text = String::from_utf8(std::iter::from_fn(|| bytes.chunk()).flatten().collect()).unwrap();
    let read: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(read.is_sorted_by(|one, next| one + 1 == *next), "{read:?}");
    assert_eq!(read.last(), numbers.last());
}

#[test]
fn the_last_words_of_a_job_that_is_removed_are_heard() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &continuous("trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.01; done"),
    );
    let mut client = follow(&k1s, "&stream=stdout");
    assert_eq!(client.chunk().as_deref(), Some(&b"hello\n"[..]));
    k1s.delete("/job/x");
    assert_eq!(client.chunk().as_deref(), Some(&b"bye\n"[..]));
    assert_eq!(client.chunk(), None);
}

/// Those who were not served in the turn after its end heard nothing of it.
#[test]
fn all_who_follow_a_job_that_is_removed_hear_its_last_words() {
    let k1s = K1s::start();
    let script = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.01; done";
    k1s.create("x", &continuous(script));
    let mut clients: Vec<Client> = (0..200).map(|_| follow(&k1s, "&stream=stdout")).collect();
    for client in &mut clients {
        assert_eq!(client.chunk().as_deref(), Some(&b"hello\n"[..]));
    }
    k1s.delete("/job/x");
    for client in &mut clients {
        assert_eq!(client.chunk().as_deref(), Some(&b"bye\n"[..]));
        assert_eq!(client.chunk(), None);
    }
}

#[test]
fn a_reconnect_loses_and_doubles_nothing() {
    let k1s = K1s::start();
    k1s.create("x", &counter());
    let (mut last, mut numbers) = (0, Vec::new());
    for takes in [1, 3, 30, 7, 50, 2, 25] {
        let mut client = follow(&k1s, &format!("&format=ndjson&after={last}"));
        let mut read = 0;
        let lines = followed(&mut client, |_| {
            read += 1;
            read == takes
        });
        for line in lines {
            assert_eq!(line.get("lost"), None);
            last = line["seq"].as_u64().unwrap();
            numbers.push(number(&line));
        }
    }
    assert_eq!(numbers.first(), Some(&1));
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
}

#[test]
fn a_run_is_followed_until_it_is_over() {
    let k1s = K1s::start();
    k1s.create("x", &counter());
    wait_until("it runs", || k1s.job("x")["pid"] != Value::Null);
    let mut client = follow(&k1s, "&run=1&format=ndjson");
    let all = followed(&mut client, |_| false);
    assert_eq!(all.iter().map(number).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(all.iter().all(|line| line["run"] == 1));
}

/// Its follower was told that it was over, and not what was missing.
#[test]
fn a_run_that_is_not_kept_is_told_as_lost_to_who_follows_it() {
    let k1s = K1s::start();
    let script = "echo 1; while [ ! -e go ]; do sleep 0.01; done; seq 2 100";
    k1s.create("x", &with(one_off(script), json!({"output": {"historyLimit": 0}})));
    wait_until("it has written", || logs(&k1s, "") == "1\n");
    let mut client = follow(&k1s, "&run=1&format=ndjson");
    assert_eq!(followed(&mut client, |_| true)[0]["line"], "1");
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let rest = followed(&mut client, |_| false);
    let told = |line: &Value| line["lost"].as_u64().unwrap_or(1);
    assert_eq!(rest.iter().map(told).sum::<u64>(), 99, "{rest:?}");
}

#[test]
fn the_tail_is_followed() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &continuous("seq 5; while [ ! -e go ]; do sleep 0.01; done; echo 6; exec sleep 1000"),
    );
    wait_until("it has written", || logs(&k1s, "") == "1\n2\n3\n4\n5\n");
    let (mut two, mut none) = (follow(&k1s, "&tail=2"), follow(&k1s, "&tail=0"));
    assert_eq!(two.chunk().as_deref(), Some(&b"4\n5\n"[..]));
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(two.chunk().as_deref(), Some(&b"6\n"[..]));
    assert_eq!(none.chunk().as_deref(), Some(&b"6\n"[..]));
}

/// It had been as slow as its slowest follower, or held all it wrote for it.
#[test]
fn a_follower_that_does_not_read_slows_nobody_and_is_told_what_it_lost() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &with(
            one_off("while [ ! -e go ]; do sleep 0.01; done; seq 3000000"),
            json!({"output": {"limitBytes": 100_000, "forward": false}}),
        ),
    );
    let mut slow = follow(&k1s, "&format=ndjson");
    let before = k1s.anonymous();
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let job = wait_for("it is over", || {
        let job = k1s.job("x");
        (job["state"] == "succeeded").then_some(job)
    });
    assert_eq!(job["results"][0]["stdoutBytes"], 22_888_896);
    assert!(k1s.anonymous() < before + 2 * 1024 * 1024);
    let (mut last, mut lost) = (0, 0);
    followed(&mut slow, |line| {
        if let Some(count) = line["lost"].as_u64() {
            lost += count;
            last += count;
        } else {
            last += 1;
            assert_eq!((&line["seq"], number(line)), (&json!(last), last));
        }
        last == 3_000_000
    });
    assert!(lost > 1_000_000, "{lost}");
}

#[test]
fn followers_that_are_gone_are_forgotten() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("echo hello; exec sleep 1000"));
    wait_until("it has written", || logs(&k1s, "") == "hello\n");
    let before = k1s.open_fds().unwrap();
    let mut clients: Vec<Client> = (0..20).map(|_| follow(&k1s, "")).collect();
    for client in &mut clients[..10] {
        assert_eq!(client.chunk().as_deref(), Some(&b"hello\n"[..]));
        client.finish_sending();
        assert_eq!(client.chunk(), None, "what there was is sent, and no more is waited for");
    }
    drop(clients);
    wait_until("they are forgotten", || k1s.open_fds().unwrap() <= before);
}

/// Requests behind the one that is followed are not read while there are too many of them, and so
/// the end behind them was not noticed.
#[test]
fn followers_that_are_gone_are_forgotten_whatever_they_have_asked_for_next() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("echo hello; exec sleep 1000"));
    wait_until("it has written", || logs(&k1s, "") == "hello\n");
    let before = k1s.open_fds().unwrap();
    let requests = "GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n".repeat(1000);
    let mut clients: Vec<Client> = (0..2).map(|_| follow(&k1s, "")).collect();
    for client in &mut clients {
        assert_eq!(client.chunk().as_deref(), Some(&b"hello\n"[..]));
        client.send(requests.as_bytes());
    }
    let mut stays = clients.pop().unwrap();
    drop(clients);
    stays.finish_sending();
    assert_eq!(stays.chunk(), None, "what is followed ends");
    for _ in 0..1000 {
        assert_eq!(stays.reply().status, 200, "and what was asked for behind it is answered");
    }
    wait_until("they are forgotten", || k1s.open_fds().unwrap() <= before);
}

#[test]
fn followers_at_rest_cost_nothing() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("echo hello; exec sleep 1000"));
    let mut clients: Vec<Client> = (0..100).map(|_| follow(&k1s, "&format=ndjson")).collect();
    for client in &mut clients {
        assert_eq!(followed(client, |_| true)[0]["line"], "hello");
    }
    k1s.rests(Duration::from_millis(500));
}
