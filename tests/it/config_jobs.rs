//! `[job.ID]` tables: jobs that start with k1s.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{K1s, wait_until};

const WEB: &str =
    "[job.web]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]\n";

#[test]
fn jobs_of_the_file_start_with_k1s_in_its_order() {
    let table = |id: &str| {
        format!(
            "[job.\"{id}\"]\ntype = \"one-off\"\nexecutable = \"sh\"\n\
             arguments = [\"-c\", \"echo {id} >>order; sleep 1000\"]\n"
        )
    };
    let ids = ["z", "a@b", "m", "c.d"];
    let tables: String = ids.map(table).concat();
    let k1s = K1s::with().config(&tables).start();
    let listed: Vec<Value> =
        k1s.get("/").json().as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(listed, ids);
    for id in ids {
        k1s.in_state(id, "running");
    }
    let order = k1s.dir().join("order");
    wait_until("all have written", || {
        fs::read_to_string(&order).is_ok_and(|text| text.lines().count() == ids.len())
    });
}

#[test]
fn both_spellings_mean_what_the_api_means() {
    let camel = "[job.x]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]\n\
        clearEnvironment = true\nrestart = { initialDelayMs = 5 }\n";
    let snake = "[job.x]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]\n\
        clear_environment = true\nrestart = { initial_delay_ms = 5 }\n";
    let same = json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"],
        "clearEnvironment": true, "restart": {"initialDelayMs": 5}});
    for text in [camel, snake] {
        let k1s = K1s::with().config(text).start();
        let reply = k1s.request("PUT", "/job/x", same.to_string().as_bytes());
        assert_eq!(reply.json()["message"], "Job unchanged", "{text}");
        assert_eq!(k1s.job("x")["origin"], "config");
        assert_eq!(k1s.post("/job/x", &same).status, 400, "the id is taken");
        assert_eq!(k1s.delete("/job/x").status, 200);
        k1s.create("x", &same);
        assert_eq!(k1s.job("x")["origin"], "api");
    }
}

/// The exit code, and one line that names file, line and key; `check` says the same, and
/// nothing is started.
#[track_caller]
fn check(text: &str, place: &str, words: &[&str]) {
    let text = format!(
        "{text}[job.early]\ntype = \"one-off\"\nexecutable = \"touch\"\narguments = [\"started\"]\n"
    );
    let mut said = Vec::new();
    for command in [&["check"][..], &[]] {
        let start = command.iter().fold(K1s::with().bare(), |start, word| start.argument(*word));
        let start = start.file("jobs.toml", &text);
        let dir = start.dir().to_owned();
        let keep = start.clone();
        let finished = start.run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(!dir.join("started").exists());
        let line = finished.stderr.trim_end();
        assert!(line.contains(place) && !line.contains('\n'), "{place}: {line}");
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        let (_, message) = line.split_once("jobs.toml").unwrap();
        said.push(message.to_owned());
        drop(keep);
    }
    assert_eq!(said[0], said[1], "check says what a start would say");
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_key() {
    check("[job.x]\ntype = \"sometimes\"\nexecutable = \"x\"\n", "jobs.toml:2: job.x.type", &[]);
    check("[job.x]\ntype = \"one-off\"\n", "jobs.toml:1: job.x.executable", &["required"]);
    check(&format!("{WEB}reties = 3\n"), "jobs.toml:5: job.web.reties", &["unknown"]);
    check(&format!("{WEB}retries = 3\n"), "jobs.toml:5: job.web.retries", &["one-off"]);
    check(&format!("{WEB}nice = 99\n"), "jobs.toml:5: job.web.nice", &[]);
    check(&format!("{WEB}user = []\n"), "jobs.toml:5: job.web.user", &[]);
    check(
        &format!("{WEB}[job.web.stop]\nsignal = \"SIGNOPE\"\n"),
        "jobs.toml:6: job.web.stop.signal",
        &[],
    );
    check(&format!("{WEB}[job.\".x\"]\ntype = \"one-off\"\n"), "jobs.toml:5: job.\".x\"", &[]);
    check(&format!("{WEB}[jobs.x]\ntype = \"one-off\"\n"), "jobs.toml:5: jobs", &["`job`"]);
    check(&format!("{WEB}[job.web]\n"), "jobs.toml:5", &["web"]);
    check(
        "[job.x]\ntype = \"cron\"\nexecutable = \"x\"\nschedule = \"61 * * * *\"\n",
        "jobs.toml:4: job.x.schedule",
        &["61"],
    );
}

#[test]
fn check_shows_the_jobs() {
    let text = format!("{WEB}[job.tidy]\ntype = \"cron\"\nexecutable = \"tidy-up\"\n");
    let finished = K1s::with().bare().argument("check").file("jobs.toml", &text).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for word in ["web", "continuous", "sleep", "tidy", "cron", "tidy-up"] {
        assert!(finished.stdout.contains(word), "{word}: {}", finished.stdout);
    }
}

#[test]
fn a_cron_job_shows_the_time_zone_that_it_was_resolved_to() {
    let daily = json!({"type": "cron", "executable": "true", "schedule": "@daily"});
    let zone = |k1s: K1s| {
        k1s.create("x", &daily);
        k1s.job("x")["timeZone"].clone()
    };
    let config = "[cron]\ntime_zone = \"Europe/Berlin\"\n";
    assert_eq!(zone(K1s::with().config(config).env("TZ", "Asia/Tokyo").start()), "Europe/Berlin");
    assert_eq!(zone(K1s::with().env("TZ", "Asia/Tokyo").start()), "Asia/Tokyo");
    assert_eq!(zone(K1s::with().env("TZ", "JST-9").start()), "UTC");
}
