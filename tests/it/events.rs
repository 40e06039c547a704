//! `GET /events`: the stream of events.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, K1s, continuous, cron, one_off, wait_until, with};

/// A follower of events, as a browser's `EventSource` is one.
struct Follower {
    client: Client,
    text: Vec<u8>,
    last_id: String,
}

/// One event.
#[derive(Debug)]
struct Told {
    id: String,
    name: String,
    data: Value,
}

impl Told {
    fn number(&self) -> u64 {
        self.id.rsplit_once('-').unwrap().1.parse().unwrap()
    }

    /// The name, and the run where it is about one.
    fn brief(&self) -> String {
        match self.data["run"].as_u64() {
            Some(run) => format!("{} {run}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Follower {
    fn new(k1s: &K1s, query: &str, last_event_id: Option<&str>) -> Follower {
        let mut client = k1s.connect();
        let id = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        client.send(format!(
            "GET /events{query} HTTP/1.1\r\nHost: k1s\r\n{}{id}\r\n",
            k1s.authorization()
        ));
        let head = client.chunked_head();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        let mut follower = Follower { client, text: Vec::new(), last_id: String::new() };
        assert_eq!(follower.block().unwrap(), "retry: 1000");
        follower
    }

    /// What comes up to the next empty line; `None` at the end.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(String::from_utf8(block[..end].to_vec()).unwrap());
            }
            self.text.extend(self.client.chunk()?);
        }
    }

    /// The next event, which is no comment.
    fn next(&mut self) -> Option<Told> {
        let block = self.block()?;
        if block == ":" {
            return self.next();
        }
        let fields: BTreeMap<&str, &str> =
            block.lines().map(|line| line.split_once(": ").unwrap()).collect();
        fields["id"].clone_into(&mut self.last_id);
        let data = serde_json::from_str(fields["data"]).unwrap();
        Some(Told { id: fields["id"].into(), name: fields["event"].into(), data })
    }

    /// The events up to one of this name, and it.
    fn until(&mut self, name: &str) -> Vec<Told> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Told| last.brief() != name) {
            all.push(self.next().unwrap_or_else(|| panic!("no {name} came: {all:?}")));
        }
        all
    }
}

fn briefs(told: &[Told]) -> Vec<String> {
    told.iter().map(Told::brief).collect()
}

#[test]
fn first_comes_everything_without_output_then_what_happens() {
    let k1s = K1s::start();
    k1s.run("old", &one_off("printf 'lo%s' 'ud output'"));
    let mut follower = Follower::new(&k1s, "", None);
    let snapshot = follower.next().unwrap();
    assert_eq!(snapshot.name, "snapshot");
    let jobs = snapshot.data["jobs"].as_array().unwrap();
    assert_eq!((jobs.len(), &jobs[0]["id"]), (1, &json!("old")));
    assert_eq!(jobs[0]["results"][0]["stdoutBytes"], 11);
    let shown = snapshot.data.to_string();
    assert!(!shown.contains("loud"), "{shown}");
    k1s.run("x", &one_off("echo why; exit 3"));
    let told = follower.until("finished");
    assert_eq!(briefs(&told), ["created", "started 1", "exited 1", "finished"]);
    let numbers: Vec<u64> = told.iter().map(Told::number).collect();
    let first = snapshot.number() + 1;
    assert_eq!(numbers, (first..first + 4).collect::<Vec<_>>());
    assert!(told.iter().all(|told| told.data["job"] == "x"));
    let pid = told[1].data["pid"].as_u64().unwrap();
    assert_eq!(told[1].data["message"], format!("started as process {pid}"));
    let exited = &told[2].data;
    for (field, wanted) in [
        ("exitCode", json!(3)),
        ("signal", Value::Null),
        ("reason", json!("exited")),
        ("success", json!(false)),
        ("output", json!(["why"])),
    ] {
        assert_eq!(exited[field], wanted, "{field}");
    }
    assert!(exited["message"].as_str().unwrap().starts_with("ended with exit code 3 after "));
    assert_eq!(told[3].data["state"], "failed");
}

#[test]
fn each_kind_of_event_is_told() {
    let k1s = K1s::start();
    let mut follower = Follower::new(&k1s, "", None);
    follower.until("snapshot");
    let stubborn = with(
        continuous("trap '' TERM; echo up; while :; do sleep 0.01; done"),
        json!({"stop": {"timeoutSeconds": 0.1}}),
    );
    k1s.create("stubborn", &stubborn);
    wait_until("it ignores TERM", || k1s.get("/job/stubborn/logs").text() == "up\n");
    k1s.delete("/job/stubborn");
    let wanted = ["created", "started 1", "requested", "killing 1", "exited 1", "removed"];
    assert_eq!(briefs(&follower.until("removed")), wanted);
    k1s.create(
        "crash",
        &with(continuous("exit 1"), json!({"restart": {"maxRestarts": 1, "initialDelayMs": 1}})),
    );
    let wanted =
        ["created", "started 1", "exited 1", "restarting", "started 2", "exited 2", "finished"];
    let told = follower.until("finished");
    assert_eq!(briefs(&told), wanted);
    assert_eq!((&told[3].data["delayMs"], &told[3].data["inARow"]), (&json!(0), &json!(1)));
    k1s.request("PUT", "/job/crash", continuous("exec sleep 1000").to_string().as_bytes());
    assert_eq!(briefs(&follower.until("started 3")), ["replaced", "started 3"]);
    k1s.create("cron", &cron("exec sleep 1000", 1));
    follower.until("started 1");
    let skipped = follower.until("skipped").pop().unwrap().data;
    assert_eq!(
        (&skipped["job"], &skipped["reason"], &skipped["runs"]),
        (&json!("cron"), &json!("forbidden"), &json!(1))
    );
    k1s.signal(Signal::SIGTERM);
    let shutdown = follower.until("shutdown").pop().unwrap().data;
    assert_eq!(
        (&shutdown["job"], &shutdown["exitCode"], &shutdown["runs"]),
        (&Value::Null, &json!(0), &json!(2))
    );
}

#[test]
fn a_job_that_removes_itself_says_so() {
    let k1s = K1s::start();
    let mut follower = Follower::new(&k1s, "", None);
    follower.until("snapshot");
    k1s.create("x", &with(one_off("true"), json!({"ttlSecondsAfterFinished": 0})));
    let wanted = ["created", "started 1", "exited 1", "finished", "expired", "removed"];
    assert_eq!(briefs(&follower.until("removed")), wanted);
}

/// Whoever showed a list of jobs took the new one off it when the old one was gone.
#[test]
fn a_removed_job_is_not_taken_for_its_successor() {
    let k1s = K1s::start();
    let mut follower = Follower::new(&k1s, "", None);
    follower.until("snapshot");
    k1s.create("x", &continuous("trap '' TERM; echo up; while [ ! -e go ]; do sleep 0.01; done"));
    wait_until("it ignores TERM", || k1s.get("/job/x/logs").text() == "up\n");
    k1s.delete("/job/x");
    let successor = continuous("exec sleep 1000");
    k1s.create("x", &successor);
    k1s.delete("/job/x");
    assert_eq!(follower.until("removed").pop().unwrap().data["successor"], false);
    k1s.create("x", &successor);
    follower.until("created");
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let told = follower.until("started 1");
    assert_eq!(briefs(&told), ["exited 1", "removed", "started 1"]);
    assert_eq!(told[1].data["successor"], true);
}

/// What happened in its last turn was told to nobody.
#[test]
fn k1s_ends_when_the_last_is_told() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &continuous("trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.01; done"),
    );
    wait_until("it minds TERM", || k1s.get("/job/x/logs").text() == "up\n");
    let mut follower = Follower::new(&k1s, "", None);
    follower.until("snapshot");
    let (mut reader, mut waits) = (k1s.connect(), k1s.connect());
    let ask = |client: &mut Client, path: &str| {
        let token = k1s.authorization();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: k1s\r\n{token}\r\n"));
    };
    ask(&mut reader, "/job/x/logs?follow=true&stream=stdout");
    reader.chunked_head();
    ask(&mut waits, "/job/x?wait=60&for=ended");
    wait_until("all are there", || k1s.get("/metrics").text().contains("\nk1s_connections 4\n"));
    k1s.signal(Signal::SIGTERM);
    assert_eq!(briefs(&follower.until("finished")), ["shutdown", "exited 1", "finished"]);
    let reply = waits.reply();
    assert_eq!((reply.status, reply.json()["state"].as_str()), (200, Some("killed")));
    let mut text = Vec::new();
    while !text.ends_with(b"bye\n") {
        text.extend(reader.chunk().unwrap());
    }
}

#[test]
fn a_reconnect_loses_and_doubles_nothing() {
    let k1s = K1s::start();
    let mut follower = Follower::new(&k1s, "", None);
    let mut last = follower.until("snapshot").pop().unwrap().id;
    let mut told = Vec::new();
    for round in 0..20 {
        k1s.run(&format!("j{round}"), &one_off("true"));
        for _ in 0..[1, 2, 6, 4][round % 4] {
            let next = follower.next().unwrap();
            last.clone_from(&next.id);
            told.push(next);
        }
        follower = Follower::new(&k1s, "", Some(&last));
    }
    while told.len() < 80 {
        told.push(follower.next().unwrap());
    }
    let numbers: Vec<u64> = told.iter().map(Told::number).collect();
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
    for (round, events) in told.chunks(4).enumerate() {
        assert_eq!(briefs(events), ["created", "started 1", "exited 1", "finished"]);
        assert!(events.iter().all(|event| event.data["job"] == format!("j{round}")));
    }
}

#[test]
fn whoever_has_missed_too_much_is_shown_everything_anew() {
    let k1s = K1s::start();
    let mut follower = Follower::new(&k1s, "", None);
    let first = follower.until("snapshot").pop().unwrap().id;
    drop(follower);
    k1s.create("x", &one_off("true"));
    let instance = first.rsplit_once('-').unwrap().0;
    for stale in [
        "",
        "x",
        "other-0",
        &format!("{instance}-99"),
        &format!("{instance}-"),
        &format!("{instance}-x"),
    ] {
        let told = Follower::new(&k1s, "", Some(stale)).next().unwrap();
        assert_eq!(
            (told.name.as_str(), &told.data["jobs"][0]["id"]),
            ("snapshot", &json!("x")),
            "{stale}"
        );
    }
    assert_eq!(Follower::new(&k1s, "", Some(&first)).next().unwrap().name, "created");
    for _ in 0..600 {
        k1s.request(
            "PUT",
            "/job/x",
            json!({"type": "one-off", "executable": "true", "labels": {"n": "1"}})
                .to_string()
                .as_bytes(),
        );
        k1s.request(
            "PUT",
            "/job/x",
            json!({"type": "one-off", "executable": "true"}).to_string().as_bytes(),
        );
    }
    assert_eq!(
        Follower::new(&k1s, "", Some(&first)).next().unwrap().name,
        "snapshot",
        "it has left the ring"
    );
}

#[test]
fn only_the_jobs_that_are_asked_for_are_told_of() {
    let k1s = K1s::start();
    for id in ["a", "b", "c"] {
        k1s.run(id, &one_off("true"));
    }
    let mut follower = Follower::new(&k1s, "?job=a&job=c&results=0", None);
    let snapshot = follower.next().unwrap().data;
    let ids: Vec<&Value> =
        snapshot["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!(ids, ["a", "c"]);
    assert_eq!(snapshot["jobs"][0]["results"], json!([]));
    for id in ["b", "c", "b", "a"] {
        k1s.put(&format!("/job/{id}/run"));
        k1s.in_state(id, "succeeded");
    }
    let told = follower.until("finished").into_iter().chain(follower.until("finished"));
    let told: Vec<String> =
        told.map(|told| format!("{} {}", told.data["job"], told.brief())).collect();
    let wanted = ["requested", "started 2", "exited 2", "finished"];
    let wanted = ["c", "a"].map(|id| wanted.map(|name| format!("\"{id}\" {name}"))).concat();
    assert_eq!(told, wanted);
}

/// The last event of its job had left the ring, and with it what happened while it was away.
#[test]
fn who_follows_one_job_of_many_comes_back_to_where_it_was() {
    let k1s = K1s::start();
    for id in ["a", "b"] {
        k1s.run(id, &one_off("true"));
    }
    let mut follower = Follower::new(&k1s, "?job=a", None);
    follower.until("snapshot");
    let replace = |id: &str, label: usize| {
        let labels = json!({"labels": {"n": label.to_string()}});
        let body = with(one_off("true"), labels).to_string();
        assert_eq!(k1s.request("PUT", &format!("/job/{id}"), body.as_bytes()).status, 200);
    };
    (0..600).for_each(|label| replace("b", label));
    let first = follower.last_id.clone();
    let number = |id: &str| id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
    while number(&follower.last_id) < number(&first) + 512 {
        let block = follower.block().unwrap();
        let id = block.strip_prefix("id: ").unwrap();
        assert!(!id.contains('\n'), "an event of b: {block}");
        id.clone_into(&mut follower.last_id);
    }
    replace("a", 1);
    let mut back = Follower::new(&k1s, "?job=a", Some(&follower.last_id));
    assert_eq!(briefs(&back.until("replaced")), ["replaced"]);
}

#[test]
fn what_is_asked_for_wrongly_is_refused() {
    let k1s = K1s::start();
    let reply = k1s.get("/events?results=x");
    let wanted = "results: must be a whole number from 0 to 1000000000, not \"x\"";
    assert_eq!((reply.status, reply.error().as_str()), (400, wanted));
    let mut stranger = k1s.connect();
    stranger.send("GET /events HTTP/1.1\r\nHost: k1s\r\n\r\n");
    assert_eq!(stranger.reply().status, 403);
    let reply = k1s.request("HEAD", "/events", b"");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
}

#[test]
fn at_rest_a_comment_comes_now_and_then_and_nothing_else_happens() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.process_of("x");
    let mut followers: Vec<Follower> = (0..100).map(|_| Follower::new(&k1s, "", None)).collect();
    for follower in &mut followers {
        follower.until("snapshot");
        assert_eq!(follower.block().unwrap(), ":", "within 15 seconds");
    }
    k1s.rests(Duration::from_secs(2));
}

#[test]
fn followers_that_are_gone_are_forgotten() {
    let k1s = K1s::start();
    let before = k1s.open_fds().unwrap();
    let mut followers: Vec<Follower> = (0..20).map(|_| Follower::new(&k1s, "", None)).collect();
    for follower in &mut followers[..10] {
        follower.until("snapshot");
        follower.client.finish_sending();
        assert_eq!(follower.block(), None, "what there was is sent, and no more is waited for");
    }
    drop(followers);
    wait_until("they are forgotten", || k1s.open_fds().unwrap() <= before);
}

/// A job may be as large as a body may be: its part of the snapshot is no exception.
#[test]
fn large_jobs_come_whole() {
    let k1s = K1s::start();
    let text = "x\n\"".repeat(100_000);
    k1s.create("x", &with(cron("true", 86_400), json!({"labels": {"text": text}})));
    k1s.create("y", &one_off("true"));
    let snapshot = Follower::new(&k1s, "", None).next().unwrap().data;
    assert_eq!(snapshot["jobs"][0]["labels"]["text"], text);
    assert_eq!(snapshot["jobs"][1]["id"], "y");
}
