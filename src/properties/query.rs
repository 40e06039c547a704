//! Any query on what the API shows, of jobs that run, write, end and are removed meanwhile.
//!
//! ```text
//!   a line of the input ─┬─▶ GET of it, on a connection of its own ─▶ an answer, or one under way
//!                        └─▶ something happens to a job
//!   the end of the input ──▶ all jobs are removed: so are the answers that followed them
//! ```

use std::time::Duration;

use serde_json::Value;

use super::exposition::{self, Format};
use super::service::{DIRECTORY, OUTPUT_MEMORY, Peer, Service};
use crate::api::Pending;
use crate::http::Head;
use crate::job::{self, ExitStatus, JobId, Pid, Spelling, Stream};

/// Each line is a step: a target, with `!` before it in HTTP/1.0, with `~` for a client that takes
/// nothing, and a `Last-Event-ID` behind a blank; or what happens to a job (see [`Scene::step`]).
/// Whatever is asked for, the answer is 200, 202, 400, 404 or 405 and well-formed; one of 400 names
/// a parameter; who follows a job is at the end when it is removed; and memory is bounded.
pub(super) fn check_query(data: &[u8]) {
    let mut scene = Scene::new();
    for line in data.split(|byte| *byte == b'\n').take(MOST_STEPS) {
        scene.step(line);
        scene.serve();
    }
    scene.end();
}

struct Scene {
    service: Service,
    clients: Vec<Client>,
}

struct Client {
    peer: Peer,
    is_slow: bool,
}

impl Scene {
    /// Three jobs that have written something: one is restarted, one is over, one has several runs
    /// beside each other.
    fn new() -> Scene {
        let mut scene = Scene { service: Service::of_jobs(JOBS.len()), clients: Vec::new() };
        for (id, spec) in JOBS {
            let (Ok(id), Ok(spec)) = (JobId::parse(id), serde_json::from_str(spec)) else {
                unreachable!("{id}: {spec}");
            };
            let Ok(spec) = job::parse(spec, DIRECTORY, Spelling::Camel) else {
                unreachable!("{id}: a specification");
            };
            assert_eq!(scene.service.supervisor.create(id, spec, scene.service.now), Ok(()));
            scene.service.perform();
        }
        for _ in 0..3 {
            scene.write(Stream::Stderr, b"\xe2\x82\xac in all|of them, and no end");
            scene.exit(b'0');
            scene.run("c");
        }
        scene
    }

    /// | line | |
    /// |---|---|
    /// | `+MS` | time passes |
    /// | `>TEXT`, `<TEXT` | all runs write to stdout, or stderr; a vertical bar is a newline |
    /// | `=C` | the first process of the oldest run ends, with an exit code |
    /// | `*ID` | the job is run, or restarted |
    /// | `-ID` | the job is removed |
    /// | anything else | a request |
    fn step(&mut self, line: &[u8]) {
        let Some((first, rest)) = line.split_first() else { return };
        let text = String::from_utf8_lossy(rest);
        match first {
            b'+' => self.sleep(text.parse().unwrap_or(1_000)),
            b'>' => self.write(Stream::Stdout, rest),
            b'<' => self.write(Stream::Stderr, rest),
            b'=' => self.exit(rest.first().copied().unwrap_or_default()),
            b'*' => self.run(&text),
            b'-' => {
                let _ = self.service.supervisor.remove(&text, self.service.now);
                self.service.perform();
            }
            _ => self.ask(line),
        }
    }

    fn sleep(&mut self, millis: u64) {
        self.service.sleep(Duration::from_millis(millis.min(LONGEST_SLEEP)));
        for client in &mut self.clients {
            client.peer.connection.handle_deadline(self.service.now);
        }
    }

    fn write(&mut self, stream: Stream, text: &[u8]) {
        let newlines = |byte: &u8| if *byte == b'|' { b'\n' } else { *byte };
        let text: Vec<u8> = text.iter().map(newlines).collect();
        for pid in self.service.alive.clone() {
            if let Some(run) = self.service.supervisor.run_of(pid) {
                self.service.supervisor.handle_output(run, stream, &text, self.service.now);
            }
        }
    }

    fn exit(&mut self, code: u8) {
        let Some(pid) = self.service.alive.pop_first() else { return };
        let (status, now) = (ExitStatus::Code(code), self.service.now);
        self.service.supervisor.handle_exit(Pid(pid.0), status, false, now);
        self.service.perform();
    }

    fn run(&mut self, id: &str) {
        let Service { supervisor, now, .. } = &mut self.service;
        if supervisor.run(id, *now).is_err() {
            let _ = supervisor.restart(id, *now);
        }
        self.service.perform();
    }

    fn ask(&mut self, line: &[u8]) {
        let (is_slow, line) = match line.strip_prefix(b"~") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (version, line) = match line.strip_prefix(b"!") {
            Some(line) => ("1.0", line),
            None => ("1.1", line),
        };
        let blank = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (target, id) = line.split_at(blank);
        let mut request = [b"GET ", target].concat();
        request.extend_from_slice(format!(" HTTP/{version}\r\nHost: a\r\n").as_bytes());
        request.extend_from_slice(b"Authorization: Bearer t\r\n");
        if let Some(id) = id.get(1..) {
            request.extend_from_slice(&[b"Last-Event-ID: ", id, b"\r\n"].concat());
        }
        request.extend_from_slice(b"\r\n");
        let mut peer = self.service.connect();
        peer.connection.handle_bytes(&request, self.service.now);
        self.clients.push(Client { peer, is_slow });
    }

    /// Serves all until they wait.
    fn serve(&mut self) {
        let mut rounds = 0;
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for client in &mut self.clients {
                let takes = if client.is_slow { 0 } else { usize::MAX };
                is_idle &= !self.service.advance(&mut client.peer, takes);
                let buffered = client.peer.connection.buffer_bytes();
                assert!(buffered <= MOST_BUFFERED, "{buffered} bytes wait for a client");
            }
            rounds += 1;
            assert!(rounds < MOST_ROUNDS, "never waits");
        }
        let pending = self.clients.iter().filter_map(|client| client.peer.pending.as_ref());
        self.service.forget_departed(pending.filter_map(Pending::reads_output_of));
        assert!(self.service.supervisor.output_memory() <= OUTPUT_MEMORY);
    }

    /// All jobs go, and all clients with them.
    fn end(mut self) {
        for (id, _) in JOBS {
            let _ = self.service.supervisor.remove(id, self.service.now);
        }
        self.service.perform();
        self.sleep(LONGEST_SLEEP);
        assert!(self.service.supervisor.jobs_after(None).next().is_none());
        assert_eq!(self.service.supervisor.live_runs(), 0);
        self.clients.retain(|client| !client.is_slow || !client.peer.connection.is_finished());
        self.clients.iter_mut().for_each(|client| client.is_slow = false);
        self.serve();
        for client in &mut self.clients {
            let pending = client.peer.pending.as_ref();
            assert!(pending.is_none_or(Pending::follows_events), "{pending:?} has no end");
            client.peer.connection.handle_eof();
        }
        self.serve();
        assert_eq!(self.service.supervisor.output_memory(), 0);
        for Client { peer, .. } in &self.clients {
            assert!(peer.pending.is_none() && peer.connection.is_finished());
            let heads = peer.heads.iter().map(Some).chain(std::iter::repeat(None));
            for ((status, body), head) in peer.answers().iter().zip(heads) {
                check_answer(head, *status, body);
            }
        }
    }
}

/// Without a head, it was malformed.
fn check_answer(head: Option<&Head>, status: u16, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    match (status, head) {
        (200, Some(head)) => check_body(head, body),
        (202, Some(head)) => {
            assert!(head.query_value("wait").is_some(), "nobody waits");
            check_body(head, body);
        }
        (400, Some(head)) => {
            let error = error(&text);
            let name = error.split(':').next().unwrap_or_default();
            assert!(head.query_value(name).is_some(), "{error}: names no parameter");
        }
        (404 | 405, Some(_)) | (400 | 414 | 431, None) => drop(error(&text)),
        _ => unreachable!("{status} {text}"),
    }
}

fn error(text: &str) -> String {
    json(text)["error"].as_str().map(str::to_owned).unwrap_or_default()
}

fn number(head: &Head, name: &str) -> Option<u64> {
    head.query_value(name)?.parse().ok()
}

fn json(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => unreachable!("{error}: {text}"),
    }
}

fn check_body(head: &Head, body: &[u8]) {
    let path: Vec<&str> = head.path.segments().collect();
    let text = String::from_utf8_lossy(body);
    match path.as_slice() {
        ["metrics"] => drop(exposition::parse(&text, Format::Text)),
        ["events"] => check_events(head, &text),
        ["job", _, "logs"] if head.query_value("format") == Some("ndjson") => {
            check_lines(head, &text);
        }
        ["job", _, "logs"] => {
            let is_empty =
                number(head, "tail") == Some(0) && head.query_value("follow") != Some("true");
            assert!(!is_empty || body.is_empty(), "a tail of nothing: {text}");
        }
        [""] => {
            for job in json(&text).as_array().into_iter().flatten() {
                check_job(head, job);
            }
        }
        ["job", id] => {
            let job = json(&text);
            assert_eq!(job["id"], *id);
            check_job(head, &job);
        }
        _ => drop(json(&text)),
    }
}

/// No more is shown of a job than was asked for.
fn check_job(head: &Head, job: &Value) {
    let most = number(head, "results");
    let kind = head.query_value("type");
    assert!(kind.is_none_or(|kind| job["type"] == kind) || head.path.segments().nth(1).is_some());
    let Some(results) = job["results"].as_array() else { unreachable!("{job}") };
    assert!(most.is_none_or(|most| results.len() as u64 <= most), "{job}");
    for result in results {
        let has_output = head.query_value("output") != Some("false");
        assert_eq!(result["stdout"].is_string(), has_output, "{result}");
    }
}

/// Lines are those that were asked for, with growing numbers; what is lost is between them.
fn check_lines(head: &Head, text: &str) {
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines: Vec<Value> = text.lines().map(json).collect();
    // A number that is not there yet is of another log.
    let first = lines.iter().find_map(|line| line["seq"].as_u64());
    let after = number(head, "after").filter(|after| first.is_none_or(|first| first > *after));
    let (mut last, mut lost, mut count) = (after.unwrap_or(0), 0, 0);
    for line in lines {
        if let Some(more) = line["lost"].as_u64() {
            assert!(more > 0);
            lost += more;
            continue;
        }
        let seq = line["seq"].as_u64().unwrap_or_default();
        assert!(seq > last && seq - last > lost, "{line} after {last} and {lost} lost");
        let is_of_run = number(head, "run").is_none_or(|run| line["run"] == run);
        let is_of_stream = head.query_value("stream").is_none_or(|stream| line["stream"] == stream);
        assert!(is_of_run && is_of_stream, "{line}");
        (last, lost, count) = (seq, 0, count + 1);
    }
    let is_whole = head.query_value("follow") != Some("true");
    assert!(!is_whole || number(head, "tail").is_none_or(|tail| count <= tail), "{count} lines");
}

/// Events have growing ids, and are about the jobs that were asked for.
fn check_events(head: &Head, text: &str) {
    let mut blocks = text.split_terminator("\n\n");
    assert_eq!(blocks.next(), Some("retry: 1000"));
    let mut seen = None;
    for block in blocks.filter(|block| *block != ":") {
        let lines: Vec<&str> = block.split('\n').collect();
        let (id, event) = match lines.as_slice() {
            [id] => (id, None),
            [id, name, data] => (id, Some((name, data))),
            _ => unreachable!("{block}"),
        };
        let id = id.strip_prefix("id: k-").and_then(|id| id.parse::<u64>().ok());
        assert!(id.is_some() && (seen.is_none() || seen < id), "{block} after {seen:?}");
        seen = id;
        let Some((name, data)) = event else { continue };
        let data = json(data.strip_prefix("data: ").unwrap_or_default());
        let is_asked = |id: &Value| {
            let mut ids = head.query_values("job").peekable();
            ids.peek().is_none() || ids.any(|asked| id == asked)
        };
        if *name == "event: snapshot" {
            let jobs = data["jobs"].as_array().into_iter().flatten();
            jobs.for_each(|job| assert!(is_asked(&job["id"]), "{job}"));
        } else {
            assert!(is_asked(&data["job"]) && data["message"].is_string(), "{block}");
        }
    }
}

const JOBS: [(&str, &str); 3] = [
    ("a", r#"{"type":"continuous","executable":"x","restart":{"initialDelayMs":0}}"#),
    ("b", r#"{"type":"one-off","executable":"x","retries":2,"output":{"limitBytes":20}}"#),
    (
        "c",
        r#"{"type":"cron","executable":"x","schedule":"@yearly","concurrencyPolicy":"allow",
            "output":{"historyLimit":2},"labels":{"l":"v"}}"#,
    ),
];
/// Longer inputs find nothing new.
const MOST_STEPS: usize = 40;
const LONGEST_SLEEP: u64 = 100_000;
const MOST_ROUNDS: usize = 10_000;
/// What may wait for a client, a slice of it that was escaped, and room to grow.
const MOST_BUFFERED: usize = 512 * 1024;
