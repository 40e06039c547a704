//! Clients that follow what jobs write and what happens.
//!
//! ```text
//!   Supervisor ─▶ topics ─▶ woken ─▶ Api's answer ─▶ Connection ─▶ a client that takes a little
//!                                        │                           │
//!                                        ▼ checked as it is made     ▼ cut anywhere: it comes back
//!                                      Reader                          with the last it has seen
//! ```
//!
//! They are served as the daemon serves them: when a topic changes that they wait for, when there
//! is room, at a deadline, and for no other reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::access::{Caller, Origin, Tokens};
use crate::api::{Api, Pending, Want};
use crate::http::{Connection, Incoming, Limits};
use crate::job::{ExitStatus, Pid};
use crate::supervisor::{EventRead, Job, JobKey, RunKey, Supervisor};
use crate::time::{Mono, Now};

use super::readers::{Asked, Come, EventReader, LogReader, Rows, Sent, Told, check_rows};
use super::rng::Rng;
use super::{JobModel, Tally};

/// All clients, and what they should be told.
pub(super) struct Followers {
    api: Api,
    /// How many there are at most, and what they hold at most.
    most: usize,
    limits: Rc<Limits>,
    all: Vec<Follower>,
    /// All events, and how many there were when it was last looked.
    told: Vec<Told>,
    cursor: u64,
}

/// What clients ask about.
pub(super) struct Scene<'a> {
    pub(super) supervisor: &'a mut Supervisor,
    pub(super) jobs: &'a BTreeMap<JobKey, JobModel>,
    /// Runs whose first process has ended, which nobody was told yet.
    pub(super) draining: &'a [(RunKey, Pid, ExitStatus)],
    pub(super) ids: &'static [&'static str],
    pub(super) now: Now,
    pub(super) rng: &'a mut Rng,
    pub(super) tally: &'a mut Tally,
}

struct Follower {
    reader: Reader,
    connection: Connection,
    /// `None`: the answer is over, or was broken off.
    pending: Option<Pending>,
    is_over: bool,
    is_woken: bool,
    wire: Wire,
    /// What the client has not taken, and by which byte it has.
    sent: VecDeque<(u64, Item)>,
    taken: u64,
    client: Client,
}

enum Reader {
    Log(JobKey, LogReader),
    Events(EventReader),
}

/// What a client can use.
enum Item {
    Line(u64),
    Lost,
    Event(Sent),
}

/// What a client knows, also when it comes back.
#[derive(Clone, Default)]
struct Client {
    id: &'static str,
    last_line: Option<u64>,
    last_event: Option<String>,
    rows: Rows,
}

impl Followers {
    pub(super) fn new(rng: &mut Rng) -> Followers {
        let limits = Limits {
            max_unsent_bytes: rng.pick(&[1, 1_000, 64 * 1024]),
            write_timeout: Duration::from_secs(rng.pick(&[30, 1_000_000])),
            ..Limits::default()
        };
        Followers {
            api: Api::new(Tokens::of_admin(b"t"), "/".into(), "UTC".into()),
            most: rng.pick(&[0, 0, 1, 3]),
            limits: Rc::new(limits),
            all: Vec::new(),
            told: Vec::new(),
            cursor: 0,
        }
    }

    /// Their share of a turn. Now and then all are served until they wait.
    pub(super) fn turn(&mut self, scene: &mut Scene<'_>) {
        self.wake(scene.supervisor);
        if self.all.len() < self.most && scene.rng.percent(20) {
            self.open(scene);
        }
        if self.all.is_empty() {
            return self.forget(scene.supervisor);
        }
        if scene.rng.percent(10) {
            self.settle(scene);
        }
        for mut follower in std::mem::take(&mut self.all) {
            if scene.rng.percent(40) {
                follower.serve(scene, &self.told, false);
            }
            if follower.is_at_end() {
                scene.tally.count("followed to the end");
            } else if follower.connection.is_finished() || scene.rng.percent(3) {
                let back = self.come_back(follower, scene);
                self.all.extend(back);
            } else {
                self.all.push(follower);
            }
        }
        self.forget(scene.supervisor);
    }

    /// All take all there is, and those who read a job that is gone are told so.
    pub(super) fn settle(&mut self, scene: &mut Scene<'_>) {
        for follower in &mut self.all {
            while follower.serve(scene, &self.told, true) {}
            follower.check_caught_up(scene, &self.told);
        }
    }

    /// Everything is over: so are their answers, except those that tell of events.
    pub(super) fn wind_up(&mut self, scene: &mut Scene<'_>) {
        self.wake(scene.supervisor);
        self.settle(scene);
        self.all.retain(|follower| follower.pending.is_some());
        let is_log = |follower: &Follower| matches!(follower.reader, Reader::Log(..));
        assert!(!self.all.iter().any(is_log), "somebody still follows a job");
        self.forget(scene.supervisor);
    }

    /// Whether somebody reads what jobs write.
    pub(super) fn read_logs(&self) -> bool {
        self.all.iter().any(|follower| matches!(follower.reader, Reader::Log(..)))
    }

    fn wake(&mut self, supervisor: &mut Supervisor) {
        while let Some(read) = supervisor.events().read(&mut self.cursor) {
            match read {
                EventRead::Event(_, event) => self.told.push(Told::of(event)),
                EventRead::Lost(count) => panic!("{count} events were not told in one turn"),
            }
        }
        while let Some(topic) = supervisor.poll_changed() {
            for follower in &mut self.all {
                let want = follower.pending.as_ref().map(Pending::want);
                follower.is_woken |= want.and_then(Want::topic) == Some(topic);
            }
        }
    }

    fn forget(&self, supervisor: &mut Supervisor) {
        let read = self.all.iter().filter_map(|it| it.pending.as_ref()?.reads_output_of());
        let read: BTreeSet<JobKey> = read.collect();
        supervisor.forget_departed(|job| read.contains(&job));
    }

    fn open(&mut self, scene: &mut Scene<'_>) {
        let id = scene.rng.pick(scene.ids);
        let client = Client { id, ..Client::default() };
        let opened = if scene.rng.percent(20) {
            Some(self.follow_events(client, scene))
        } else if let Some(job) = scene.supervisor.job(id) {
            let asked = Asked::random(job, scene.rng);
            self.follow_log(client, asked, scene)
        } else {
            None
        };
        self.all.extend(opened);
    }

    /// A client that has lost its connection goes on where it was, if it can.
    fn come_back(&mut self, follower: Follower, scene: &mut Scene<'_>) -> Option<Follower> {
        let Follower { reader, client, .. } = follower;
        scene.tally.count("cut");
        match reader {
            Reader::Events(_) => Some(self.follow_events(client, scene)),
            Reader::Log(key, reader) => {
                let is_same = scene.supervisor.job(client.id).is_some_and(|job| job.key() == key);
                let asked = reader.asked().clone();
                let tail = asked.tail.filter(|_| client.last_line.is_none());
                let after = client.last_line.or(asked.after);
                let run = asked.run;
                let job = scene.supervisor.job(client.id).filter(|_| is_same)?;
                let is_kept = run.is_none_or(|run| job.log_of(run).is_some());
                is_kept.then(|| self.follow_log(client, Asked { tail, after, ..asked }, scene))?
            }
        }
    }

    fn follow_log(
        &mut self,
        client: Client,
        asked: Asked,
        scene: &mut Scene<'_>,
    ) -> Option<Follower> {
        let job = scene.supervisor.job(client.id)?;
        let reader = LogReader::new(asked.clone(), job, &scene.jobs[&job.key()].output);
        let reader = Reader::Log(job.key(), reader);
        let target = format!("/job/{}/logs?{}", client.id, asked.query());
        scene.tally.count("follow log");
        let mut follower = self.ask(&target, reader, client, scene);
        if asked.tail.is_some() {
            // The last lines are looked for at once: what is written until then may be among them.
            follower.serve(scene, &self.told, true);
            follower.serve(scene, &self.told, true);
        }
        Some(follower)
    }

    fn follow_events(&mut self, client: Client, scene: &mut Scene<'_>) -> Follower {
        let log = scene.supervisor.events();
        let seen = client.last_event.as_deref().and_then(|id| id.strip_prefix("k-"));
        let seen = seen.map(|seen| seen.parse().expect("a number"));
        let seen = seen.filter(|seen| (log.first()..=log.next()).contains(seen));
        let (ids, query) = match scene.ids {
            [first, _, ..] if client.id == *first => (vec![*first], format!("?job={first}")),
            _ => (vec![], String::new()),
        };
        scene.tally.count(if seen.is_some() { "resume events" } else { "follow events" });
        let reader = Reader::Events(EventReader { ids, seen, come: Come::Part });
        self.ask(&format!("/events{query}"), reader, client, scene)
    }

    fn ask(
        &mut self,
        target: &str,
        reader: Reader,
        client: Client,
        scene: &mut Scene<'_>,
    ) -> Follower {
        let is_chunked = scene.rng.percent(70);
        let version = if is_chunked { "1.1" } else { "1.0" };
        let last = client.last_event.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!(
            "GET {target} HTTP/{version}\r\nHost: k1s\r\nAuthorization: Bearer t\r\n{}\r\n",
            last.unwrap_or_default()
        );
        let mut connection = Connection::new(Rc::clone(&self.limits), scene.now);
        connection.handle_bytes(request.as_bytes(), scene.now);
        let (mut pending, mut caller) = (None, Caller::Stranger);
        while let Some(incoming) = connection.poll(scene.now) {
            let is_request = matches!(incoming, Incoming::Request(_));
            if let Incoming::Head(head) = &incoming {
                caller = self.api.identify(head, Origin::Network);
            }
            pending =
                self.api.handle(incoming, &caller, &mut connection, scene.supervisor, scene.now);
            assert_eq!(pending.is_some(), is_request, "{target}");
        }
        let wire = Wire { is_chunked, ..Wire::default() };
        let mut follower = Follower {
            reader,
            connection,
            pending,
            is_over: false,
            is_woken: false,
            wire,
            sent: VecDeque::new(),
            taken: 0,
            client,
        };
        follower.begin(scene, &self.told);
        follower
    }
}

impl Follower {
    /// The head of the answer, and what comes with it.
    fn begin(&mut self, scene: &Scene<'_>, told: &[Told]) {
        let made = self.connection.unsent().to_vec();
        let end = made.windows(4).position(|part| part == b"\r\n\r\n").expect("a head") + 4;
        assert!(made.starts_with(b"HTTP/1.1 200 OK\r\n"));
        self.wire.made = end as u64;
        self.check(&made[end..], Come::Part, scene, told);
    }

    /// One service by the daemon, and one read by the client. Returns whether there may be more.
    fn serve(&mut self, scene: &mut Scene<'_>, told: &[Told], is_greedy: bool) -> bool {
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= scene.now.mono);
        if is_due(self.connection.deadline()) {
            self.connection.handle_deadline(scene.now);
        }
        if self.connection.is_finished() {
            // It was too slow.
            self.pending = None;
        }
        let want = self.pending.as_ref().map(Pending::want);
        let has_room = want == Some(Want::Room) && self.connection.wants_output();
        if self.is_woken || has_room || is_due(want.and_then(Want::deadline)) {
            self.go_on(scene, told);
        }
        let unsent = self.connection.unsent().len();
        let most = if is_greedy { unsent } else { scene.rng.below(unsent as u64 + 1) as usize };
        self.take(most, scene);
        let want = self.pending.as_ref().map(Pending::want);
        unsent > 0 || (want == Some(Want::Room) && !self.connection.is_finished())
    }

    fn go_on(&mut self, scene: &Scene<'_>, told: &[Told]) {
        self.is_woken = false;
        let Some(pending) = &mut self.pending else { return };
        let before = self.connection.unsent().len();
        let is_over = pending.go_on(scene.supervisor, &mut self.connection, scene.now);
        let come = match (is_over, pending.want()) {
            (true, _) => Come::Over,
            (false, Want::Room) => Come::Part,
            (false, Want::Change { .. }) => Come::Idle,
        };
        let made = self.connection.unsent()[before..].to_vec();
        self.check(&made, come, scene, told);
        if is_over {
            self.check_end(scene);
            self.pending = None;
            self.is_over = true;
        }
    }

    /// What was made is held against what is to be told now.
    fn check(&mut self, made: &[u8], come: Come, scene: &Scene<'_>, told: &[Told]) {
        let pieces = self.wire.pieces(made);
        match &mut self.reader {
            Reader::Events(reader) => {
                let (items, ends) = self.wire.items(&pieces, b"\n\n");
                let sent = reader.check(&items, come, told);
                self.sent.extend(ends.into_iter().zip(sent.into_iter().map(Item::Event)));
            }
            Reader::Log(key, reader) => {
                let (job, _) = scene.supervisor.followed(*key).expect("it is still read");
                let written = &scene.jobs[key].output;
                if !reader.asked().is_lines {
                    let bytes: Vec<u8> = pieces.into_iter().flat_map(|(_, piece)| piece).collect();
                    return reader.check_bytes(&bytes, come, written, job);
                }
                let (items, ends) = self.wire.items(&pieces, b"\n");
                let numbers = reader.check_lines(&items, come, written, job).into_iter();
                let items = numbers.map(|number| number.map_or(Item::Lost, Item::Line));
                self.sent.extend(ends.into_iter().zip(items));
            }
        }
    }

    /// An answer may be over only when nothing can come any more, or who reads it was too slow.
    fn check_end(&self, scene: &Scene<'_>) {
        assert!(self.wire.is_complete || !self.wire.is_chunked, "no last chunk");
        match &self.reader {
            Reader::Log(key, reader) => {
                let (job, is_gone) = scene.supervisor.followed(*key).expect("it is still read");
                let is_over = |run| job.log_of(run).is_none_or(|(_, end)| end.is_some());
                let asked = reader.asked();
                assert!(is_gone || !asked.follows || asked.run.is_some_and(is_over));
            }
            Reader::Events(reader) => {
                let first = scene.supervisor.events().first();
                assert!(reader.seen.is_some_and(|seen| seen < first), "events have no end");
            }
        }
    }

    /// The client takes so many bytes.
    fn take(&mut self, count: usize, scene: &mut Scene<'_>) {
        self.connection.handle_sent(count, scene.now);
        self.taken += count as u64;
        while let Some((_, item)) = self.sent.pop_front_if(|(end, _)| *end <= self.taken) {
            match item {
                Item::Line(number) => {
                    scene.tally.count("line read");
                    self.client.last_line = Some(number);
                }
                Item::Lost => scene.tally.count("lost told"),
                Item::Event(sent) => {
                    scene.tally.count("event read");
                    sent.apply(&mut self.client.rows);
                    if let Sent::Event { id, .. } | Sent::Id(id) = sent {
                        self.client.last_event = Some(id);
                    }
                }
            }
        }
    }

    /// The client has the whole answer.
    fn is_at_end(&self) -> bool {
        let is_log = matches!(self.reader, Reader::Log(..));
        is_log && self.is_over && self.connection.unsent().is_empty()
    }

    /// It has everything, and waits for what comes next.
    fn check_caught_up(&self, scene: &Scene<'_>, told: &[Told]) {
        if self.pending.is_none() {
            return;
        }
        match &self.reader {
            Reader::Log(key, reader) => {
                let is_gone = scene.supervisor.followed(*key).is_none_or(|(_, is_gone)| is_gone);
                assert!(!is_gone, "nobody said that it is gone: {reader:?}");
                reader.check_caught_up(&scene.jobs[key].output);
            }
            Reader::Events(reader) => {
                let is_all = reader.seen == Some(told.len() as u64);
                assert!(reader.come == Come::Idle && is_all, "nobody woke {reader:?}");
                let has_ended = |job: &Job| scene.draining.iter().any(|it| it.0.job == job.key());
                let is_unclear = |job: &Job| scene.jobs[&job.key()].allows || has_ended(job);
                check_rows(&self.client.rows, &reader.ids, scene.supervisor, is_unclear);
            }
        }
    }
}

/// The bytes of an answer as they are made, without their framing.
#[derive(Default)]
struct Wire {
    is_chunked: bool,
    /// How many bytes were made.
    made: u64,
    /// The last chunk was made.
    is_complete: bool,
    /// What has begun and is not whole.
    begun: Vec<u8>,
}

impl Wire {
    /// The content, each piece with the place of its first byte.
    fn pieces(&mut self, mut made: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut pieces = Vec::new();
        while !made.is_empty() {
            let (head, size) = match self.is_chunked {
                false => (0, made.len()),
                true => {
                    let line = made.windows(2).position(|end| end == b"\r\n").expect("a size");
                    let size = std::str::from_utf8(&made[..line]).unwrap();
                    (line + 2, usize::from_str_radix(size, 16).unwrap())
                }
            };
            let end = if self.is_chunked { 2 } else { 0 };
            assert!(!self.is_complete, "a chunk behind the last");
            self.is_complete |= size == 0;
            pieces.push((self.made + head as u64, made[head..head + size].to_vec()));
            assert!(end == 0 || made[head + size..].starts_with(b"\r\n"));
            made = &made[head + size + end..];
            self.made += (head + size + end) as u64;
        }
        pieces
    }

    /// Whole items without what ends them, and by which byte each is there.
    fn items(&mut self, pieces: &[(u64, Vec<u8>)], end: &[u8]) -> (Vec<Vec<u8>>, Vec<u64>) {
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        for (place, piece) in pieces {
            let before = self.begun.len();
            self.begun.extend_from_slice(piece);
            // What is between two ends may begin in an earlier piece.
            let (mut begin, mut from) = (0, before.saturating_sub(end.len() - 1));
            while let Some(index) = find(&self.begun[from..], end) {
                items.push(self.begun[begin..from + index].to_vec());
                begin = from + index + end.len();
                from = begin;
                ends.push(place + (begin - before) as u64);
            }
            self.begun.drain(..begin);
        }
        (items, ends)
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
