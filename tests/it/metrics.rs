//! `GET /metrics`: both formats, the counters, memory and CPU time of running jobs.

use std::collections::BTreeSet;

use k1s::properties::exposition::{Format, Labels, Samples, parse};
use serde_json::json;

use crate::harness::{
    Builder, K1s, Reply, both_ways, cannot_unshare, continuous, cron, milliseconds, one_off, skip,
    wait_for, wait_until, with,
};

// ---- The formats ----

#[test]
fn the_format_is_the_one_that_the_client_prefers() {
    let k1s = K1s::start();
    k1s.run("x", &one_off("true"));
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, content_type) in [
        ("", text),
        ("Accept: */*\r\n", text),
        ("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n", open),
        ("Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n", open),
    ] {
        let format = if content_type == open { Format::OpenMetrics } else { Format::Text };
        let reply = ask(&k1s, "GET", "1.1", accept);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)));
        let samples = parse(&reply.text(), format);
        assert_eq!(samples[&key("k1s_jobs", &[("state", "succeeded")])], 1.0);
        let until_close = parse(&ask(&k1s, "GET", "1.0", accept).text(), format);
        assert!(until_close.keys().eq(samples.keys()), "HTTP/1.0");
        let without_body = ask(&k1s, "HEAD", "1.1", accept);
        assert_eq!(without_body.header("content-type"), Some(content_type));
        assert_eq!((without_body.status, without_body.body.len()), (200, 0));
    }
}

#[test]
fn it_needs_the_token() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send("GET /metrics HTTP/1.1\r\nHost: k1s\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.error()), (403, "Unauthorized".to_owned()));
}

#[test]
fn labels_of_a_job_are_valid_in_both_formats() {
    let k1s = K1s::start();
    let long = "x".repeat(600);
    let labels = json!({"team": "a\"\\\nb", "a-b": "first", "a.b": "second", "long": long,
        "é": "é\u{7f}"});
    k1s.create("x~:@+", &with(cron("true", 1000), json!({"labels": labels})));
    for accept in ["", "Accept: application/openmetrics-text\r\n"] {
        let format = if accept.is_empty() { Format::Text } else { Format::OpenMetrics };
        let samples = parse(&ask(&k1s, "GET", "1.1", accept).text(), format);
        let (_, told) = samples.keys().find(|(name, _)| name == "k1s_job_info").unwrap();
        let told: Vec<_> = told.iter().map(|(name, value)| (&**name, &**value)).collect();
        let wanted = [
            ("id", "x~:@+"),
            ("label__", "é\u{7f}"),
            ("label_a_b", "first"),
            ("label_team", "a\"\\\nb"),
            ("type", "cron"),
        ];
        assert_eq!(told, wanted, "of two that become the same name, the first");
    }
}

// ---- Counters ----

#[test]
fn runs_are_counted_by_outcome_also_after_a_replacement_and_a_removal() {
    let k1s = K1s::start();
    k1s.run("good", &one_off("printf 12345; printf 678 >&2"));
    k1s.run("bad", &one_off("exit 7"));
    k1s.run("slow", &with(one_off("sleep 1000"), json!({"timeoutSeconds": 0.2})));
    k1s.run("missing", &json!({"type": "one-off", "executable": "/nowhere"}));
    k1s.create("killed", &continuous("exec sleep 1000"));
    k1s.pid_of("killed");
    k1s.put("/job/killed/kill");
    k1s.in_state("killed", "killed");
    let of = |samples: &Samples, id: &str| outcomes(samples, "k1s_job_runs_total", Some(id));
    let samples = scrape(&k1s);
    assert_eq!(of(&samples, "good"), [1, 0, 0, 0, 0]);
    assert_eq!(of(&samples, "bad"), [0, 1, 0, 0, 0]);
    assert_eq!(of(&samples, "slow"), [0, 0, 1, 0, 0]);
    assert_eq!(of(&samples, "killed"), [0, 0, 0, 1, 0]);
    assert_eq!(of(&samples, "missing"), [0, 0, 0, 0, 1]);
    assert_eq!(outcomes(&samples, "k1s_runs_total", None), [1; 5]);
    for (id, code) in [("good", 0), ("bad", 7), ("slow", 143), ("killed", 143), ("missing", 127)] {
        assert_eq!(whole(&samples, "k1s_job_last_exit_code", id), code, "{id}");
        let count = if id == "missing" { 0 } else { 1 };
        assert_eq!(whole(&samples, "k1s_job_run_duration_seconds_count", id), count, "{id}");
    }
    let written = |samples: &Samples, id: &str, stream: &str| {
        samples[&key("k1s_job_output_bytes_total", &[("id", id), ("stream", stream)])] as u64
    };
    assert_eq!(written(&samples, "good", "stdout"), 5);
    assert_eq!(written(&samples, "good", "stderr"), 3);
    let captured = whole(&samples, "k1s_job_captured_bytes", "good");
    assert!((8..1000).contains(&captured), "{captured}");
    assert_eq!(samples[&key("k1s_captured_bytes", &[])] as u64, captured);

    k1s.request("PUT", "/job/good", one_off("exit 3").to_string().as_bytes());
    k1s.results("good", 2);
    k1s.delete("/job/bad");
    let samples = scrape(&k1s);
    assert_eq!(of(&samples, "good"), [1, 1, 0, 0, 0], "another specification");
    assert_eq!(written(&samples, "good", "stdout"), 5);
    assert!(!ids(&samples).contains("bad"));
    assert_eq!(outcomes(&samples, "k1s_runs_total", None), [1, 2, 1, 1, 1]);
    let job = samples[&key("k1s_output_bytes_total", &[("stream", "stdout")])];
    assert_eq!(job as u64, 5);
}

#[test]
fn times_are_those_of_the_job_object() {
    let k1s = K1s::start();
    k1s.run("done", &one_off("sleep 0.3"));
    k1s.create("yearly", &json!({"type": "cron", "schedule": "@yearly", "executable": "true"}));
    let samples = scrape(&k1s);
    let at = |name: &str, id: &str| samples.get(&key(name, &[("id", id)])).copied();
    let shown = |time| Some(milliseconds(time) as f64 / 1000.0);
    let (done, yearly) = (k1s.job("done"), k1s.job("yearly"));
    assert_eq!(at("k1s_job_created_timestamp_seconds", "done"), shown(&done["createdAt"]));
    assert_eq!(at("k1s_job_last_start_timestamp_seconds", "done"), shown(&done["startedAt"]));
    let finished = &done["results"][0]["finishedAt"];
    assert_eq!(at("k1s_job_last_success_timestamp_seconds", "done"), shown(finished));
    assert_eq!(at("k1s_job_next_run_timestamp_seconds", "done"), None);
    assert_eq!(at("k1s_job_next_run_timestamp_seconds", "yearly"), shown(&yearly["nextRunAt"]));
    assert_eq!(at("k1s_job_last_start_timestamp_seconds", "yearly"), None);
    let within = |bound: &str| {
        samples[&key("k1s_job_run_duration_seconds_bucket", &[("id", "done"), ("le", bound)])]
    };
    assert_eq!([within("0.1"), within("1.0"), within("+Inf")], [0.0, 1.0, 1.0]);
    let started = samples[&key("process_start_time_seconds", &[])];
    assert!(started <= at("k1s_job_created_timestamp_seconds", "done").unwrap());
}

#[test]
fn restarts_and_skipped_runs_are_counted_for_jobs_that_may_have_some() {
    let k1s = K1s::start();
    k1s.create("again", &continuous("[ ${K1S_RUN##*.} -gt 3 ] && exec sleep 1000; exit 1"));
    k1s.create("busy", &cron("exec sleep 1000", 1));
    wait_until("three restarts, two skips", || {
        k1s.job("again")["restarts"] == 3
            && k1s.job("busy")["skippedRuns"]["forbidden"].as_u64() >= Some(2)
    });
    let samples = scrape(&k1s);
    assert_eq!(whole(&samples, "k1s_job_restarts_total", "again"), 3);
    assert_eq!(samples[&key("k1s_restarts_total", &[])], 3.0);
    assert!(!samples.contains_key(&key("k1s_job_restarts_total", &[("id", "busy")])));
    let skipped = |id| key("k1s_job_skipped_runs_total", &[("id", id), ("reason", "forbidden")]);
    assert!(samples[&skipped("busy")] >= 2.0 && !samples.contains_key(&skipped("again")));
    assert!(samples[&key("k1s_skipped_runs_total", &[("reason", "forbidden")])] >= 2.0);
    let state =
        |id, state| samples.contains_key(&key("k1s_job_state", &[("id", id), ("state", state)]));
    assert!(state("again", "running") && state("busy", "running"));
    assert!(!state("again", "backoff"), "only the state that it is in");
    assert_eq!(samples[&key("k1s_jobs", &[("state", "running")])], 2.0);
}

// ---- Memory and CPU time of runs ----

both_ways! {
    all_processes_of_a_run_are_measured
    the_cpu_time_of_a_busy_child_never_decreases
}

/// In its session, in another session, and an orphan.
fn all_processes_of_a_run_are_measured(start: Builder) {
    let k1s = start.start();
    k1s.create("alone", &continuous("exec sleep 1000"));
    let script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000; :' &); \
        dd if=/dev/zero bs=50M count=1 2>/dev/null | sleep 1000 & touch up; exec sleep 1000";
    k1s.create("tree", &continuous(script));
    k1s.create("ended", &one_off("true"));
    k1s.wait_for_file("up");
    // The first process, three sleeps, a shell around one of them, dd, and the sleep that it writes
    // to.
    let samples = wait_for("all processes", || {
        let samples = scrape(&k1s);
        let processes = samples.get(&key("k1s_job_processes", &[("id", "tree")]));
        let memory = samples.get(&key("k1s_job_resident_memory_bytes", &[("id", "tree")]));
        let is_all = processes == Some(&7.0) && memory.is_some_and(|memory| *memory > 50e6);
        is_all.then_some(samples)
    });
    assert_eq!(whole(&samples, "k1s_job_processes", "alone"), 1);
    let memory = whole(&samples, "k1s_job_resident_memory_bytes", "alone");
    assert!((4096..10_000_000).contains(&memory), "{memory}");
    let of_ended = key("k1s_job_processes", &[("id", "ended")]);
    assert!(!samples.contains_key(&of_ended), "it has no process");
    k1s.put("/job/tree/kill");
    k1s.in_state("tree", "killed");
    let of_tree = key("k1s_job_processes", &[("id", "tree")]);
    assert!(!scrape(&k1s).contains_key(&of_tree), "its processes are gone");
}

fn the_cpu_time_of_a_busy_child_never_decreases(start: Builder) {
    let k1s = start.start();
    let script = "sh -c 'while :; do :; done' & child=$!; while [ ! -e go ]; do sleep 0.02; done; \
        trap '' TERM; kill -9 $child; touch gone; exec sleep 1000";
    k1s.create("busy", &continuous(script));
    let used = || scrape(&k1s)[&key("k1s_job_cpu_seconds_total", &[("id", "busy")])];
    let first = wait_for("it has used some", || Some(used()).filter(|used| *used > 0.2));
    let second = wait_for("and some more", || Some(used()).filter(|used| *used > first + 0.2));
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    k1s.wait_for_file("gone");
    assert!(used() >= second, "whether somebody has waited for it or not");
    let stop = json!({"stop": {"timeoutSeconds": 0.1}});
    k1s.request("PATCH", "/job/busy", stop.to_string().as_bytes());
    k1s.put("/job/busy/restart");
    k1s.results("busy", 1);
    assert!(used() >= second, "its next run");
}

/// The kernel reports it with the exit code.
#[test]
fn the_cpu_time_of_a_run_between_two_scrapes_is_counted() {
    let k1s = K1s::start();
    let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    k1s.run("x", &one_off(&format!("sh -c '{busy}'; exit 1")));
    assert!(scrape(&k1s)[&key("k1s_job_cpu_seconds_total", &[("id", "x")])] > 0.05);
}

#[test]
fn leftovers_of_a_run_are_measured() {
    let k1s = K1s::start();
    let script = "setsid sh -c 'touch up; exec sleep 1000' >/dev/null 2>&1 & \
        while [ ! -e up ]; do sleep 0.01; done";
    k1s.run("x", &one_off(script));
    wait_until("it is there", || {
        scrape(&k1s).get(&key("k1s_job_processes", &[("id", "x")])) == Some(&1.0)
    });
}

/// The processes that such a `/proc` shows are not those that k1s knows by these ids.
#[test]
fn without_a_proc_of_its_own_namespace_all_else_is_there() {
    if let Some(reason) = cannot_unshare() {
        skip!(reason);
    }
    let k1s = K1s::with().around(&["unshare", "--pid", "--fork", "--kill-child"]).start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.run("y", &one_off("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"));
    k1s.pid_of("x");
    let samples = scrape(&k1s);
    assert_eq!(samples[&key("k1s_jobs", &[("state", "running")])], 1.0);
    assert!(samples[&key("k1s_job_cpu_seconds_total", &[("id", "y")])] > 0.05);
    for name in ["k1s_job_processes", "k1s_job_resident_memory_bytes"] {
        assert!(samples.keys().all(|(known, _)| known != name), "{name}");
    }
}

// ---- k1s itself ----

#[test]
fn k1s_measures_itself() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.pid_of("x");
    let held = [k1s.connect(), k1s.connect()];
    let samples = wait_for("both are accepted", || {
        Some(scrape(&k1s)).filter(|it| it[&key("k1s_connections", &[])] >= 3.0)
    });
    let own = |name: &str| samples[&key(name, &[])];
    assert_eq!(own("k1s_connections"), 3.0, "with the one that asks");
    assert!(own("k1s_connections_accepted_total") >= 3.0);
    assert!(own("k1s_connection_buffer_bytes") < 1e6);
    if k1s.open_fds().is_ok() {
        wait_until("as many descriptors as there are, with that of who asks", || {
            let told = scrape(&k1s)[&key("process_open_fds", &[])];
            told == (k1s.open_fds().unwrap() + 1) as f64
        });
    }
    assert!(own("process_max_fds") >= own("process_open_fds"));
    let (resident, told) = (k1s.resident() as f64, own("process_resident_memory_bytes"));
    assert!((resident - told).abs() < 2e6, "{resident} {told}");
    assert!(own("process_virtual_memory_bytes") >= told);
    assert!((1e3..told).contains(&own("k1s_heap_bytes")));
    assert_eq!(own("k1s_live_runs"), 1.0);
    assert!(own("k1s_events_total") >= 2.0, "created, started");
    let (turns, longest) =
        (own("k1s_loop_turn_duration_seconds_count"), own("k1s_loop_longest_turn_seconds"));
    assert!(turns >= 5.0 && longest > 0.0);
    assert!(own("k1s_loop_turn_duration_seconds_sum") < turns * longest + 1e-9);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(samples[&key("k1s_build_info", &version)], 1.0);
    drop(held);
}

#[test]
fn jobs_that_are_created_and_removed_meanwhile_break_nothing() {
    let k1s = K1s::start();
    for number in 0..400 {
        k1s.create(&format!("x{number}"), &cron("true", 1000));
    }
    let mut client = k1s.connect();
    let accept = "Accept: application/openmetrics-text\r\n";
    let authorization = k1s.authorization();
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: k1s\r\n{authorization}{accept}\r\n"));
    assert_eq!(client.chunked_head().status, 200);
    let (mut text, mut number) = (Vec::new(), 0);
    while let Some(chunk) = client.chunk() {
        text.extend(chunk);
        k1s.delete(&format!("/job/x{number}"));
        k1s.create(&format!("y{number}"), &cron("true", 1000));
        number += 1;
    }
    assert!(number > 10, "{number} chunks");
    let samples = parse(&String::from_utf8(text).unwrap(), Format::OpenMetrics);
    let told = ids(&samples);
    assert!((number..400).all(|number| told.contains(format!("x{number}").as_str())));
}

// ---- Helpers ----

fn scrape(k1s: &K1s) -> Samples {
    let reply = k1s.get("/metrics");
    assert_eq!(reply.status, 200);
    parse(&reply.text(), Format::Text)
}

fn ask(k1s: &K1s, method: &str, version: &str, headers: &str) -> Reply {
    let mut client = k1s.connect();
    let authorization = k1s.authorization();
    client.send(format!(
        "{method} /metrics HTTP/{version}\r\nHost: k1s\r\n{authorization}{headers}\r\n"
    ));
    client.reply_to(method)
}

fn key(name: &str, labels: &[(&str, &str)]) -> (String, Labels) {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (name.to_owned(), labels.collect())
}

/// A whole number about a job.
#[track_caller]
fn whole(samples: &Samples, name: &str, id: &str) -> u64 {
    let value = samples[&key(name, &[("id", id)])];
    assert_eq!(value.fract(), 0.0, "{name} of {id}");
    value as u64
}

/// Runs by outcome, of one job or of all.
fn outcomes(samples: &Samples, name: &str, id: Option<&str>) -> [u64; 5] {
    ["succeeded", "failed", "timed-out", "killed", "spawn-failed"].map(|outcome| {
        let labels: Vec<_> =
            id.map(|id| ("id", id)).into_iter().chain([("outcome", outcome)]).collect();
        samples[&key(name, &labels)] as u64
    })
}

/// The jobs that appear.
fn ids(samples: &Samples) -> BTreeSet<&str> {
    samples.keys().filter_map(|(_, labels)| labels.get("id")).map(String::as_str).collect()
}
