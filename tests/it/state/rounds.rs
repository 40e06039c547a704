//! A k1s that is killed while clients change jobs as fast as they can, and started again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::with_state;
use crate::harness::{K1s, send_signal, wait_until};

/// `K1S_STATE_ROUNDS` says how often k1s is killed, 20 times by default.
#[test]
fn nothing_that_was_answered_is_forgotten_however_often_k1s_is_killed() {
    let rounds = std::env::var("K1S_STATE_ROUNDS").ok();
    let rounds = rounds.map_or(20, |rounds| rounds.parse::<u64>().unwrap());
    let mut chance = Chance(0x9e37_79b9 + rounds);
    for sync in ["always", "os"] {
        let start = with_state(sync);
        let mark = format!("{}-{sync}", start.dir().display());
        let model = |_| Model { pause: 20, ..Model::default() };
        let mut models: Vec<Model> = (0..CLIENTS).map(model).collect();
        for round in 0..rounds / 2 {
            let k1s = start.clone().start();
            if let Some(error) = compare(&k1s, &mut models, &mark) {
                panic!("round {round}, {sync}: {error}\n{}", k1s.stderr());
            }
            let length = Duration::from_millis(20 + chance.below(200));
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                for (client, model) in models.iter_mut().enumerate() {
                    let (k1s, is_over, mark) = (&k1s, &is_over, &mark);
                    let chance = Chance(chance.next());
                    scope.spawn(move || model.change(k1s, client, chance, is_over, mark));
                }
                let begun = Instant::now();
                wait_until("the moment has come", || begun.elapsed() >= length);
                send_signal(k1s.pid(), Signal::SIGKILL);
                is_over.store(true, Ordering::Relaxed);
            });
            let (_, stderr) = k1s.exit();
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
        let k1s = start.start();
        let error = compare(&k1s, &mut models, &mark);
        assert_eq!(error, None);
        for id in k1s.get("/").json().as_array().unwrap() {
            k1s.delete(&format!("/job/{}", id["id"].as_str().unwrap()));
        }
        wait_until("nothing is left", || processes(&mark).is_empty());
    }
}

/// What a client knows of its jobs.
#[derive(Clone, Default)]
pub(super) struct Model {
    jobs: BTreeMap<String, Known>,
    /// What was asked last, and not answered.
    asked: Asked,
    count: u64,
    /// So large are its jobs, and so many milliseconds they pause.
    padding: usize,
    pause: u64,
    /// Where it was connected from.
    port: u16,
    /// What it knew before each request, and what that asked; for those who need it.
    steps: Option<Vec<(Jobs, Asked)>>,
    /// Results that were shown, and may not be stored yet.
    seen: BTreeMap<String, BTreeMap<u64, u64>>,
}

type Jobs = BTreeMap<String, Known>;
/// A job, and what it is once it is done.
type Asked = Option<(String, Known)>;

/// What was answered of a job.
#[derive(Clone, Default, Debug, PartialEq)]
pub(super) struct Known {
    /// Its first argument; `None`: there is no such job.
    version: Option<String>,
    is_killed: bool,
    created: Option<String>,
    /// The runs whose results were shown, and their exit codes.
    results: BTreeMap<u64, u64>,
    /// Or what it was before, because the answer said that the change is not stored yet.
    unsure: Vec<Known>,
}

impl Model {
    /// One that is to be taken back to any moment.
    pub(super) fn with_steps(padding: usize) -> Model {
        Model { padding, pause: 200, steps: Some(Vec::new()), ..Model::default() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn requests(&self) -> usize {
        self.steps.as_ref().map_or(0, Vec::len)
    }

    /// What it knew when so many requests had been answered.
    pub(super) fn after(&self, answers: usize) -> Model {
        let step = self.steps.as_ref().unwrap().get(answers).cloned();
        let (jobs, asked) = step.unwrap_or_else(|| (self.jobs.clone(), None));
        Model { jobs, asked, count: self.count, ..Model::with_steps(self.padding) }
    }

    pub(super) fn change(
        &mut self,
        k1s: &K1s,
        client: usize,
        mut chance: Chance,
        is_over: &AtomicBool,
        mark: &str,
    ) {
        let Ok(mut connection) = Connection::to(k1s) else { return };
        self.port = connection.socket.local_addr().unwrap().port();
        while !is_over.load(Ordering::Relaxed) {
            let id = format!("c{client}-{}", chance.below(5));
            let known = self.jobs.get(&id).cloned().unwrap_or_default();
            let (method, path, body, next) = self.request(&id, known, &mut chance, mark);
            self.asked = (method != "GET").then(|| (id.clone(), next.clone()));
            let before = (self.jobs.clone(), self.asked.clone());
            self.steps.iter_mut().for_each(|steps| steps.push(before.clone()));
            let Some((status, answer)) = connection.request(method, &path, &body) else { return };
            self.asked = None;
            match (method, status) {
                ("GET", 200) => {
                    let known = self.jobs.entry(id.clone()).or_default();
                    known.created = answer["createdAt"].as_str().map(str::to_owned);
                    let of_disk = self.seen.entry(id).or_default();
                    let of_kernel = &mut known.results;
                    let results = if self.steps.is_some() { of_disk } else { of_kernel };
                    for result in answer["results"].as_array().unwrap() {
                        let run = result["run"].as_u64().unwrap();
                        results.insert(run, result["exitCode"].as_u64().unwrap());
                    }
                }
                (_, 200) => self.note(id, next, !body.is_empty() || method == "DELETE"),
                (_, 503) if answer["error"].as_str().unwrap().contains("was not created") => {}
                (_, 503) => self.doubt(id, next),
                (_, 400 | 404) => {}
                _ => panic!("{method} {path}: {status} {answer}"),
            }
        }
    }

    /// A change was answered: it is stored, if it was one, and so is all that was shown before.
    fn note(&mut self, id: String, next: Known, is_change: bool) {
        let unsure = match is_change {
            true => Vec::new(),
            false => self.jobs.get(&id).map(|known| known.unsure.clone()).unwrap_or_default(),
        };
        if next.version.is_none() || !self.jobs.contains_key(&id) {
            self.seen.remove(&id);
        }
        self.jobs.insert(id, Known { unsure, ..next });
        if is_change {
            for (id, results) in std::mem::take(&mut self.seen) {
                self.jobs.entry(id).or_default().results.extend(results);
            }
        }
    }

    /// It was done, but is not stored yet.
    fn doubt(&mut self, id: String, next: Known) {
        let before = self.jobs.get(&id).cloned().unwrap_or_default();
        let mut unsure = before.unsure.clone();
        unsure.push(Known { unsure: Vec::new(), ..before });
        self.seen.remove(&id);
        self.jobs.insert(id, Known { unsure, ..next });
    }

    fn request(
        &mut self,
        id: &str,
        known: Known,
        chance: &mut Chance,
        mark: &str,
    ) -> (&'static str, String, String, Known) {
        self.count += 1;
        let version = self.count.to_string();
        let padding = "x".repeat(chance.below(self.padding as u64 + 1) as usize);
        let job = json!({"type": "continuous", "executable": "sh",
            "environment": {"MARK": mark, "PADDING": padding},
            "arguments": ["-c", format!("# {version}\nsleep 0.0{} ; exit {}", chance.below(9),
                chance.below(3))], "output": {"historyLimit": 1000},
            "restart": {"initialDelayMs": self.pause, "maxDelayMs": 2 * self.pause}});
        let path = format!("/job/{id}");
        let exists = known.version.is_some();
        match chance.below(10) {
            _ if !exists => {
                let next = Known { version: Some(version), ..Known::default() };
                ("POST", path, job.to_string(), next)
            }
            0..=1 => {
                let next = Known { version: Some(version), ..known };
                ("PUT", path, job.to_string(), next)
            }
            2 => ("PUT", format!("{path}/kill"), String::new(), Known { is_killed: true, ..known }),
            3 => {
                ("PUT", format!("{path}/start"), String::new(), Known { is_killed: false, ..known })
            }
            4 => ("DELETE", path, String::new(), Known::default()),
            _ => ("GET", path, String::new(), known),
        }
    }
}

impl Known {
    /// Whether the job is as it was before the last request, as far as that is known.
    fn is(&self, id: &str, job: Option<&Value>) -> bool {
        check(id, self, job).is_none() || self.unsure.iter().any(|known| known.is(id, job))
    }
}

/// What is wrong with the jobs of a k1s that was just started.
pub(super) fn compare(k1s: &K1s, models: &mut [Model], mark: &str) -> Option<String> {
    let jobs = k1s.get("/").json();
    let mut shown: BTreeMap<String, Value> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["id"].as_str().unwrap().to_owned(), job.clone()))
        .collect();
    for model in models {
        if let Some((id, next)) = model.asked.take() {
            // It may have been done or not: what is there now is what is known.
            let before = model.jobs.get(&id).cloned().unwrap_or_default();
            let there = shown.get(&id);
            if !before.is(&id, there) {
                model.jobs.insert(id, next);
            }
        }
        for (id, known) in &mut model.jobs {
            let there = shown.remove(id);
            let unsure = std::mem::take(&mut known.unsure);
            let Some(error) = check(id, known, there.as_ref()) else { continue };
            let mut unsure = unsure.into_iter();
            let Some(before) = unsure.find(|known| check(id, known, there.as_ref()).is_none())
            else {
                return Some(error);
            };
            *known = before;
        }
    }
    if let Some((id, _)) = shown.first_key_value() {
        return Some(format!("nobody has created {id}"));
    }
    wait_until("what the former k1s has left is gone, and nothing is there twice", || {
        let mut owners = BTreeMap::new();
        for (pid, instance) in processes(mark) {
            owners.entry(instance).or_insert_with(Vec::new).push(pid);
        }
        owners.len() <= 1
    });
    None
}

fn check(id: &str, known: &Known, job: Option<&Value>) -> Option<String> {
    let (version, job) = match (&known.version, job) {
        (None, None) => return None,
        (None, Some(job)) => return Some(format!("{id} has come back: {job}")),
        (Some(_), None) => return Some(format!("{id} is lost: {known:?}")),
        (Some(version), Some(job)) => (version, job),
    };
    let script = job["arguments"][1].as_str().unwrap();
    if script.lines().next() != Some(&format!("# {version}")) {
        return Some(format!("{id} is not of version {version}: {job}"));
    }
    if job["killRequested"] != known.is_killed {
        return Some(format!("{id} was killed: {}; {job}", known.is_killed));
    }
    if known.created.is_some() && job["createdAt"].as_str() != known.created.as_deref() {
        return Some(format!("{id} was created at {:?}: {job}", known.created));
    }
    let mut results = BTreeMap::new();
    for result in job["results"].as_array().unwrap() {
        let run = result["run"].as_u64().unwrap();
        if results.insert(run, result["exitCode"].as_u64().unwrap()).is_some() {
            return Some(format!("run {run} of {id} is there twice: {job}"));
        }
    }
    let is_there = |(run, code): (&u64, &u64)| results.get(run) == Some(code);
    let is_kept = known.results.iter().all(is_there) || results.len() >= 1000;
    (!is_kept).then(|| format!("results of {id} are lost: {:?}; {results:?}", known.results))
}

/// The processes of jobs with this mark, and the instance of k1s that has started each.
pub(super) fn processes(mark: &str) -> Vec<(u32, String)> {
    let mark = format!("MARK={mark}");
    let entries = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let of = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
        let run = variables.iter().find_map(|it| it.strip_prefix(b"K1S_RUN="))?;
        let instance = run.split(|byte| *byte == b'-').next()?;
        let is_ours = variables.contains(&mark.as_bytes());
        is_ours.then(|| (pid, String::from_utf8_lossy(instance).into_owned()))
    };
    entries.filter_map(of).collect()
}

/// A connection that may end at any moment.
struct Connection {
    socket: std::net::TcpStream,
    head: String,
}

impl Connection {
    fn to(k1s: &K1s) -> std::io::Result<Connection> {
        let socket = std::net::TcpStream::connect(k1s.address())?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, head: k1s.authorization() })
    }

    fn request(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        use std::io::{Read, Write};
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: k1s\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        self.socket.write_all(request.as_bytes()).ok()?;
        let mut reply = Vec::new();
        let mut buffer = [0; 65_536];
        loop {
            let count = self.socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
            reply.extend_from_slice(&buffer[..count]);
            if let Some(answer) = whole(&reply) {
                return Some(answer);
            }
        }
    }
}

/// The status and the body of an answer, once it is whole.
fn whole(reply: &[u8]) -> Option<(u16, Value)> {
    let text = String::from_utf8_lossy(reply);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let body = match length {
        Some(length) => body.get(..length.parse().ok()?)?.to_owned(),
        None => unchunked(body)?,
    };
    Some((status, serde_json::from_str(&body).ok()?))
}

fn unchunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}

pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

pub(super) const CLIENTS: usize = 3;
