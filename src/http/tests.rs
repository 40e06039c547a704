//! Tests of the whole codec: what a peer sends, and what it gets.

use std::rc::Rc;
use std::time::Duration;

use super::properties::{check_chunked, check_connection, check_head};
use super::request::{BodyLength, Version};
use super::*;
use crate::time::{Mono, Now, Wall};

#[path = "../../tests/it/hostile/cases.rs"]
mod cases;

use cases::{Case, End, cases, is_permitted};

/// A connection, and a daemon that answers `{path}` with 200.
struct World {
    connection: Connection,
    now: Now,
    sent: Vec<u8>,
    bodies: Vec<Vec<u8>>,
}

impl World {
    fn new() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        let now = Now { mono: Mono(0), wall: Wall(784_111_777_000) };
        World {
            connection: Connection::new(Rc::new(limits), now),
            now,
            sent: Vec::new(),
            bodies: Vec::new(),
        }
    }

    fn receive(&mut self, bytes: impl AsRef<[u8]>) -> &mut World {
        self.connection.handle_bytes(bytes.as_ref(), self.now);
        self.serve()
    }

    fn eof(&mut self) -> &mut World {
        self.connection.handle_eof();
        self.serve()
    }

    /// Serves everything there is.
    fn serve(&mut self) -> &mut World {
        loop {
            match self.connection.poll(self.now) {
                Some(Incoming::Head(head)) => self.connection.proceed(head, self.now),
                Some(Incoming::Request(request)) => {
                    self.bodies.push(request.body);
                    let path: Vec<_> = request.head.path.segments().collect();
                    let path = path.join("/");
                    self.connection.respond(Reply::json(Status::Ok), self.now, |body| {
                        body.extend_from_slice(path.as_bytes());
                    });
                }
                None if self.connection.unsent().is_empty() => return self,
                None => {
                    let unsent = self.connection.unsent();
                    self.sent.extend_from_slice(unsent);
                    let count = unsent.len();
                    self.connection.handle_sent(count, self.now);
                }
            }
        }
    }

    fn wait(&mut self, duration: Duration) -> &mut World {
        self.now.mono = self.now.mono + duration;
        self.connection.handle_deadline(self.now);
        self.serve()
    }

    /// What was sent since the last call.
    fn take(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent)).unwrap()
    }

    /// The statuses of what was sent since the last call.
    fn statuses(&mut self) -> Vec<u16> {
        let sent = self.take();
        let answers = sent.split("HTTP/1.1 ").skip(1);
        answers.filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
    }

    /// The next head, which is left undecided.
    fn head(&mut self, bytes: &str) -> Head {
        self.connection.handle_bytes(bytes.as_bytes(), self.now);
        match self.connection.poll(self.now) {
            Some(Incoming::Head(head)) => head,
            other => panic!("{other:?}"),
        }
    }

    /// The next request, which is left without an answer.
    fn request(&mut self, bytes: &str) -> Request {
        let head = self.head(bytes);
        self.connection.proceed(head, self.now);
        match self.connection.poll(self.now) {
            Some(Incoming::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

fn head_of(request: &str) -> Head {
    World::new().head(request)
}

/// What is wrong with the outcome, if anything.
fn check_case(case: &Case) -> Option<String> {
    let mut world = World::new();
    world.receive(&case.raw);
    let mut answers = case.answers.clone();
    match case.end {
        End::Part => {
            world.eof();
        }
        End::Keep => {
            world.receive("GET /canary HTTP/1.1\r\nHost: a\r\n\r\n");
            answers.push(vec![cases::Answer::Ok]);
        }
        End::Close => {
            world.receive("GET /canary HTTP/1.1\r\nHost: a\r\n\r\n");
        }
    }
    let statuses = world.statuses();
    let is_expected = statuses.len() == answers.len()
        && statuses
            .iter()
            .zip(&answers)
            .all(|(status, permitted)| is_permitted(*status, permitted));
    let ends_well = match case.end {
        End::Keep => world.connection.wants_read(),
        End::Part => world.connection.is_finished(),
        End::Close => world.connection.wants_shutdown_write(),
    };
    (!is_expected || !ends_well).then(|| format!("{}: {statuses:?}, not {answers:?}", case.name))
}

#[test]
fn hostile_requests_get_what_the_rfc_permits() {
    let cases = cases();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let failures: Vec<String> = cases.iter().filter_map(check_case).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn hostile_requests_are_the_same_however_they_are_cut() {
    for (number, case) in cases().iter().enumerate() {
        if case.raw.len() > 32 * 1024 {
            continue;
        }
        for seed in 0..6u64 {
            let mut data = (seed + ((number as u64) << 8)).to_be_bytes().to_vec();
            data.extend_from_slice(&case.raw);
            check_connection(&data);
        }
        check_head(&case.raw);
        if let Some(at) = case.raw.windows(4).position(|window| window == b"\r\n\r\n") {
            let mut data = (number as u64).to_be_bytes().to_vec();
            data.extend_from_slice(&case.raw[at + 4..]);
            check_chunked(&data);
        }
    }
}

#[test]
fn mutated_requests_keep_the_properties() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.raw.len() < 600).collect();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for round in 0..4_000u64 {
        // Several requests in a row, with some bytes changed.
        let mut data = (round ^ 0x5eed_0000).to_be_bytes().to_vec();
        for _ in 0..1 + random(3) {
            data.extend_from_slice(&cases[random(cases.len())].raw);
        }
        for _ in 0..random(4) {
            let at = 8 + random(data.len() - 8);
            match (random(3), at < data.len()) {
                (0, true) => data[at] = b"\r\n\0 :;,%0aZ\x80"[random(12)],
                (1, true) => {
                    data.remove(at);
                }
                _ => data.insert(at, b"\r\n\0 :;,%0aZ\x80"[random(12)]),
            }
        }
        check_connection(&data);
        check_head(&data[8..]);
        check_chunked(&data);
    }
}

#[test]
fn an_answer_is_what_the_rfc_wants_to_the_byte() {
    let mut world = World::new();
    world.request(GET);
    let reply = Reply { allow: Some("GET, HEAD"), ..Reply::json(Status::MethodNotAllowed) };
    world.connection.respond(reply, world.now, |body| body.extend_from_slice(b"{}"));
    let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Content-Type: application/json\r\n\
        X-Content-Type-Options: nosniff\r\n\
        Cache-Control: no-store\r\n\
        Allow: GET, HEAD\r\n\
        Content-Length: 2\r\n\r\n{}";
    assert_eq!(world.serve().take(), expected);
    for length in [0, 9, 10, 999, 1000, 123_456] {
        world.request(GET);
        world.connection.respond(Reply::json(Status::Ok), world.now, |body| {
            body.extend_from_slice("y".repeat(length).as_bytes());
        });
        let answer = world.serve().take();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("\r\nContent-Length: {length}")));
        assert_eq!(body, "y".repeat(length));
    }
}

#[test]
fn the_codecs_own_answers_are_json_and_close() {
    let answer = World::new().receive("GET / HTTP/3.0\r\n\r\n").take();
    assert!(answer.starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\nDate: Sun"));
    assert!(answer.contains("\r\nConnection: close\r\n"));
    assert!(answer.ends_with("\r\n\r\n{\"error\":\"only HTTP/1.1 and 1.0\"}\n"));
}

#[test]
fn a_head_is_answered_with_the_length_and_nothing_else() {
    let mut world = World::new();
    let get = world.receive(GET).take();
    let head = world.receive(GET.replace("GET", "HEAD")).take();
    assert_eq!(head, get.strip_suffix("x").unwrap());
    // Although malformed, this one expects no body, either.
    let refused = world.receive("HEAD / HTTP/1.1\r\n\r\n").take();
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.ends_with("\r\n\r\n"));
}

#[test]
fn targets_are_decoded_once_and_after_they_are_split() {
    let check = |target: &str, path: &[&str], query: &[(&str, &str)]| {
        let head = head_of(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(head.path.segments().collect::<Vec<_>>(), path, "{target}");
        let pairs: Vec<_> = head.query.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(pairs, query, "{target}");
    };
    check("/", &[""], &[]);
    check("/job/x", &["job", "x"], &[]);
    check("/job/", &["job", ""], &[]);
    check("//x", &["", "x"], &[]);
    check("/a%2Fb/c", &["a/b", "c"], &[]);
    check("/%2541", &["%41"], &[]);
    check("/a+b", &["a+b"], &[]);
    check("/%c3%A9%3f", &["é?"], &[]);
    check("/..%2f..", &["../.."], &[]);
    check("/?", &[""], &[]);
    check("/?a=1&b&=c&&d==", &[""], &[("a", "1"), ("b", ""), ("", "c"), ("d", "=")]);
    check("/?a+b=c%2Bd+e", &[""], &[("a b", "c+d e")]);
    check("/?a%26b=%3D", &[""], &[("a&b", "=")]);
    check("/?label=k=v", &[""], &[("label", "k=v")]);
    check("http://b", &[""], &[]);
    check("http://b?c=d", &[""], &[("c", "d")]);
    check("HTTPS://[::1]:80/job/x?c", &["job", "x"], &[("c", "")]);
    let head = head_of("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.path.segments().count(), 0);
    let head = head_of("GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.query_value("a"), Some("1"));
    assert_eq!(head.query_value("b"), None);
}

#[test]
fn a_query_has_so_many_pairs_and_no_more() {
    let asked = |pairs: usize| {
        let query = "a&".repeat(pairs);
        World::new().receive(format!("GET /x?&{query} HTTP/1.1\r\nHost: a\r\n\r\n")).statuses()
    };
    assert_eq!(asked(100), [200]);
    assert_eq!(asked(101), [400]);
}

#[test]
fn the_bearer_token_is_found_in_any_case_of_its_scheme() {
    let check = |value: &str, token: Option<&str>| {
        let head = head_of(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\r\n\r\n"));
        assert_eq!(head.bearer(), token.map(str::as_bytes), "{value}");
    };
    check("Bearer abc123", Some("abc123"));
    check("bearer abc123", Some("abc123"));
    check("BEARER   abc123", Some("abc123"));
    check("Bearer a b", Some("a b"));
    check("Bearer", None);
    check("Bearer ", None);
    check("Bearerabc123", None);
    check("Basic abc123", None);
    check("", None);
    assert_eq!(head_of(GET).bearer(), None);
}

#[test]
fn what_k1s_acts_on_is_kept() {
    let head = head_of(
        "PUT / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 17\r\nExpect: 100-continue\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(head.method, Method::Put);
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.last_event_id.as_deref(), Some("17"));
    assert_eq!(head.body_length, BodyLength::Chunked);
    assert!(head.expects_continue && head.keep_alive);
    let head = head_of("GET / HTTP/1.0\r\nContent-Length: 007\r\n\r\n");
    assert_eq!(head.body_length, BodyLength::Known(7));
    assert!(!head.keep_alive);
}

#[test]
fn all_lines_of_accept_are_kept_but_those_for_any_type() {
    for (lines, accept) in [
        ("", ""),
        ("Accept: */*\r\n", ""),
        ("accept:  a/b;q=0.5\r\nACCEPT: */*\r\nAccept: c/d, */*\r\n", "a/b;q=0.5,c/d, */*"),
        ("Accept: \r\nAccept: a/b\r\n", "a/b"),
        ("Accept: \u{fffd}\r\n", "\u{fffd}"),
    ] {
        let head = head_of(&format!("GET / HTTP/1.1\r\nHost: k1s\r\n{lines}\r\n"));
        assert_eq!(head.accept, accept, "{lines:?}");
    }
}

#[test]
fn bodies_come_as_they_were_sent() {
    let check = |rest: &str, body: &str| {
        let mut world = World::new();
        world.receive(format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}"));
        assert_eq!(world.bodies, [body.as_bytes()], "{rest}");
    };
    check("Content-Length: 5\r\n\r\nhello", "hello");
    check("Content-Length: 0\r\n\r\n", "");
    check("\r\n", "");
    let chunks = "5\r\nhello\r\n7;a=\"b\\\"\"\r\n, world\r\n0\r\nX: y\r\n\r\n";
    check(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"), "hello, world");
}

#[test]
fn continue_is_said_when_the_body_is_asked_for_and_not_before() {
    const HEAD: &str =
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut world = World::new();
    let head = world.head(HEAD);
    assert_eq!(world.connection.unsent(), b"");
    world.connection.proceed(head, world.now);
    assert_eq!(world.connection.unsent(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.serve().statuses(), [100]);
    assert_eq!(world.receive("{}").statuses(), [200]);
    // Not when the body is already there,
    assert_eq!(world.receive(format!("{HEAD}{{}}")).statuses(), [200]);
    // nor when there is none,
    let none = HEAD.replace("Length: 2", "Length: 0");
    assert_eq!(world.receive(none).statuses(), [200]);
    // nor when it is too large, nor when the request is refused.
    let large = HEAD.replace("Length: 2", "Length: 2000000");
    assert_eq!(World::new().receive(large).statuses(), [413]);
    world.head(HEAD);
    world.connection.respond(Reply::json(Status::Forbidden), world.now, |_| {});
    assert_eq!(world.serve().statuses(), [403]);
    assert!(world.connection.wants_shutdown_write());
}

#[test]
fn a_refused_body_ends_the_connection_without_a_reset() {
    let mut world = World::new();
    world.head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
    world.connection.handle_bytes(&[b'x'; 1000], world.now);
    world.connection.respond(Reply::json(Status::Forbidden), world.now, |_| {});
    // The peer may be in the middle of its body, which must still be read.
    assert!(world.connection.wants_read());
    let answer = world.serve().take();
    assert!(answer.contains("\r\nConnection: close\r\n"));
    assert!(world.connection.wants_shutdown_write());
    world.connection.handle_shutdown_write(world.now);
    assert!(!world.connection.wants_shutdown_write() && !world.connection.is_finished());
    world.receive([b'x'; 89_000]);
    assert_eq!(world.connection.memory(), 0);
    assert!(!world.connection.is_finished());
    world.eof();
    assert!(world.connection.is_finished());
}

#[test]
fn a_peer_that_never_stops_is_left_in_the_end() {
    let over = |world: &mut World| {
        world.receive("nonsense\r\n\r\n");
        world.connection.handle_shutdown_write(world.now);
        assert!(!world.connection.is_finished());
    };
    let mut world = World::new();
    over(&mut world);
    let later = world.connection.deadline().unwrap();
    assert!(later.since(world.now.mono) <= Duration::from_secs(5));
    world.wait(Duration::from_secs(5));
    assert!(world.connection.is_finished());
    let mut world = World::new();
    over(&mut world);
    for _ in 0..17 * 16 {
        world.receive([0; 64 * 1024]);
    }
    assert!(world.connection.is_finished());
}

#[test]
fn a_refusal_without_a_body_keeps_the_connection() {
    let mut world = World::new();
    world.head(GET);
    world.connection.respond(Reply::json(Status::NotFound), world.now, |_| {});
    assert_eq!(world.receive(GET).statuses(), [404, 200]);
    world.head(GET);
    let reply = Reply { close: true, ..Reply::json(Status::Forbidden) };
    world.connection.respond(reply, world.now, |_| {});
    assert_eq!(world.receive(GET).statuses(), [403]);
}

#[test]
fn half_closed_peers_get_their_answers() {
    let mut world = World::new();
    world.request(&GET.repeat(3));
    world.eof();
    assert!(!world.connection.is_finished() && world.connection.is_waiting_for_answer());
    assert_eq!(world.connection.deadline(), None);
    world.connection.respond(Reply::json(Status::Accepted), world.now, |_| {});
    assert_eq!(world.serve().statuses(), [202, 200, 200]);
    assert!(world.connection.is_finished());
}

#[test]
fn streams_are_chunked_and_go_to_the_end_in_http_1_0() {
    let stream = |request: &str| {
        let mut world = World::new();
        world.request(request);
        let reply = Reply::new(Status::Ok, ContentType::Text);
        if world.connection.start_stream(reply, world.now) {
            assert!(world.connection.wants_output());
            for piece in ["hello", "", ", a longer world"] {
                world
                    .connection
                    .push(world.now, |output| output.extend_from_slice(piece.as_bytes()));
            }
            world.connection.finish_stream(world.now);
        }
        let answer = world.serve().take();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"));
        assert!(!head.contains("Content-Length"));
        let is_chunked = head.contains("\r\nTransfer-Encoding: chunked");
        let goes_on = world.receive(GET).statuses() == [200];
        (is_chunked, body.to_owned(), goes_on)
    };
    let chunks = "00000005\r\nhello\r\n00000010\r\n, a longer world\r\n0\r\n\r\n".to_owned();
    assert_eq!(stream(GET), (true, chunks, true));
    assert_eq!(stream(&GET.replace("GET", "HEAD")), (true, String::new(), true));
    let whole = "hello, a longer world".to_owned();
    assert_eq!(stream("GET / HTTP/1.0\r\n\r\n"), (false, whole.clone(), false));
    let stays = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(stream(stays), (false, whole, false));
}

#[test]
fn a_stream_pauses_while_its_reader_does() {
    let mut world = World::new();
    world.request(GET);
    let reply = Reply::json(Status::Ok);
    assert!(world.connection.start_stream(reply, world.now));
    let mut pushed = 0;
    while world.connection.wants_output() {
        pushed += 1;
        world.connection.push(world.now, |output| output.extend_from_slice(&[b'x'; 1000]));
    }
    assert_eq!(pushed, 65);
    let sent = world.connection.unsent().len();
    world.connection.handle_sent(2000, world.now);
    assert!(world.connection.wants_output());
    assert_eq!(world.connection.unsent().len(), sent - 2000);
    // Memory of what was taken is freed, even if something is always left.
    for _ in 0..1000 {
        world.connection.push(world.now, |output| output.extend_from_slice(&[b'x'; 1000]));
        world.connection.handle_sent(1012, world.now);
    }
    assert_eq!(world.connection.unsent().len(), sent - 2000);
    assert!(world.connection.memory() <= 4 * sent);
}

#[test]
fn http_1_0_is_told_that_the_connection_stays() {
    let mut world = World::new();
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = world.receive(request).take();
    assert!(answer.contains("\r\nConnection: keep-alive\r\n"));
    assert!(!world.receive(GET).take().contains("Connection"));
}

#[test]
fn each_byte_of_a_head_is_looked_at_once() {
    let limits = Limits { max_head_bytes: 100, ..Limits::default() };
    let check = |text: &str, looked_at: usize, is_refused: bool| {
        let mut scan = scan::HeadScan::default();
        let end = scan.advance(text.as_bytes(), &limits);
        assert_eq!(end.is_err(), is_refused, "{text}");
        if !is_refused {
            assert_eq!((end, scan.position()), (Ok(None), looked_at), "{text}");
        }
    };
    check("", 0, false);
    check("GET / HTTP/1.1", 14, false);
    check("GET / HTTP/1.1\r", 14, false);
    check("GET / HTTP/1.1\r\n", 16, false);
    check("GET / HTTP/1.1\r\nA:\tb", 20, false);
    check(&"x".repeat(100), 100, false);
    check(&"x".repeat(101), 101, true);
    check(&format!("{}\r", "x".repeat(99)), 99, false);
    check(&format!("{}\r\n", "x".repeat(99)), 99, true);
}

#[test]
fn a_late_answer_to_nobody_does_nothing() {
    let mut world = World::new();
    let reply = Reply::json(Status::Ok);
    world.connection.respond(reply, world.now, |_| {});
    assert!(!world.connection.start_stream(reply, world.now));
    world.connection.push(world.now, |output| output.push(b'x'));
    world.connection.finish_stream(world.now);
    let head = head_of(GET);
    world.connection.proceed(head, world.now);
    assert_eq!(world.connection.unsent(), b"");
    assert_eq!(world.receive(GET).statuses(), [200]);
}

#[test]
fn the_head_has_one_deadline_for_all_of_it() {
    let mut world = World::new();
    for byte in GET.bytes().take(9) {
        world.receive([byte]).wait(Duration::from_secs(1));
        assert_eq!(world.statuses(), [0; 0]);
    }
    world.wait(Duration::from_secs(1));
    assert_eq!(world.statuses(), [408]);
    assert!(world.connection.wants_shutdown_write());
}

#[test]
fn silence_is_met_with_silence() {
    // Before the first request,
    let mut world = World::new();
    assert_eq!(world.connection.deadline(), Some(Mono(10_000)));
    world.wait(Duration::from_millis(9_999));
    assert!(!world.connection.is_finished());
    world.wait(Duration::from_millis(1));
    assert!(world.connection.is_finished() && world.take().is_empty());
    // after an empty line, which is no request,
    let mut world = World::new();
    world.receive("\r\n").wait(Duration::from_secs(10));
    assert!(world.connection.is_finished() && world.take().is_empty());
    // or several,
    let mut world = World::new();
    for byte in "\r\n\r\n\r".bytes() {
        world.receive([byte]).wait(Duration::from_secs(2));
    }
    assert!(world.connection.is_finished() && world.take().is_empty());
    // and between requests.
    let mut world = World::new();
    world.receive(GET).take();
    assert_eq!(world.connection.idle_since(), Some(Mono(0)));
    assert_eq!(world.connection.deadline(), Some(Mono(75_000)));
    assert_eq!(world.connection.memory(), 0);
    world.wait(Duration::from_secs(75));
    assert!(world.connection.is_finished() && world.take().is_empty());
}

/// RFC 9112, section 2.2: some clients send one after a body.
#[test]
fn the_answer_to_too_many_empty_lines_had_no_body_if_head_came_with_them() {
    for input in ["\r\n".repeat(5), format!("{}HEAD ", "\r\n".repeat(5))] {
        let mut world = World::new();
        let answer = world.receive(&input).take();
        assert!(answer.ends_with("{\"error\":\"empty lines instead of a request\"}\n"), "{answer}");
    }
}

#[test]
fn an_empty_line_after_a_request_begins_no_other() {
    let mut world = World::new();
    world.request(&format!("{GET}\r\n"));
    world.connection.respond(Reply::json(Status::Ok), world.now, |body| {
        body.extend_from_slice(&[b'x'; 100]);
    });
    // A peer that takes the answer slowly gets all of it in the end,
    for _ in 0..3 {
        assert!(world.connection.poll(world.now).is_none());
        world.sent.extend_from_slice(&world.connection.unsent()[..20]);
        world.connection.handle_sent(20, world.now);
        world.now.mono = world.now.mono + Duration::from_secs(20);
        world.connection.handle_deadline(world.now);
    }
    assert!(world.serve().take().ends_with(&"x".repeat(100)));
    // is idle after that,
    assert_eq!(world.connection.idle_since(), Some(Mono(60_000)));
    assert_eq!(world.connection.deadline(), Some(Mono(60_000 + 75_000)));
    // and has the full time for the next request.
    world.wait(Duration::from_secs(70)).receive("GET ");
    assert_eq!(world.connection.deadline(), Some(Mono(130_000 + 10_000)));
    assert_eq!(world.receive(GET.trim_start_matches("GET ")).statuses(), [200]);
}

#[test]
fn a_body_has_a_deadline_of_its_own() {
    let mut world = World::new();
    world.wait(Duration::from_secs(9));
    world.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n");
    for _ in 0..29 {
        world.receive("x").wait(Duration::from_secs(1));
        assert_eq!(world.statuses(), [0; 0]);
    }
    world.wait(Duration::from_secs(1));
    assert_eq!(world.statuses(), [408]);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_and_one_that_is_slow_is_not() {
    let mut world = World::new();
    world.request(GET);
    world.connection.respond(Reply::json(Status::Ok), world.now, |body| {
        body.extend_from_slice(&[b'x'; 100]);
    });
    for _ in 0..10 {
        world.now.mono = world.now.mono + Duration::from_secs(29);
        world.connection.handle_deadline(world.now);
        assert!(!world.connection.is_finished());
        world.connection.handle_sent(1, world.now);
    }
    world.now.mono = world.now.mono + Duration::from_secs(30);
    assert_eq!(world.connection.deadline(), Some(world.now.mono));
    world.connection.handle_deadline(world.now);
    assert!(world.connection.is_finished());
    assert_eq!(world.connection.memory(), 0);
}

#[test]
fn an_answer_has_its_time_from_when_it_is_there() {
    let mut world = World::new();
    world.request(GET);
    world.wait(Duration::from_secs(100));
    world.connection.respond(Reply::json(Status::Ok), world.now, |_| {});
    assert_eq!(world.connection.deadline(), Some(Mono(130_000)));
    // A peer that is taking its answer is not idle, nor is it just after that.
    for second in 101..200 {
        world.now.mono = Mono(second * 1000);
        world.connection.handle_sent(1, world.now);
        world.connection.handle_deadline(world.now);
        assert!(!world.connection.is_finished());
        assert_eq!(world.connection.deadline(), Some(world.now.mono + Duration::from_secs(30)));
    }
    world.serve();
    assert_eq!(world.connection.deadline(), Some(Mono(199_000 + 75_000)));
}

#[test]
fn a_waiting_request_has_no_deadline() {
    let mut world = World::new();
    world.request(GET);
    assert_eq!(world.connection.deadline(), None);
    world.wait(Duration::from_secs(1_000_000));
    assert!(world.connection.is_waiting_for_answer());
    world.connection.respond(Reply::json(Status::Ok), world.now, |_| {});
    assert_eq!(world.serve().statuses(), [200]);
}

#[test]
fn a_peer_that_takes_no_answers_is_not_read_and_not_late() {
    let mut world = World::with(Limits { max_unsent_bytes: 1000, ..Limits::default() });
    world.connection.handle_bytes(GET.repeat(100).as_bytes(), world.now);
    let mut answered = 0;
    while let Some(incoming) = world.connection.poll(world.now) {
        match incoming {
            Incoming::Head(head) => world.connection.proceed(head, world.now),
            Incoming::Request(_) => {
                answered += 1;
                world.connection.respond(Reply::json(Status::Ok), world.now, |_| {});
            }
        }
    }
    assert!((4..10).contains(&answered), "{answered}");
    assert!(!world.connection.wants_read());
    // While it reads slowly, there is no 408 for the next head,
    assert_eq!(world.connection.deadline(), Some(Mono(30_000)));
    world.now.mono = Mono(29_000);
    // and the time for that begins when it has taken some.
    world.sent.extend_from_slice(&world.connection.unsent()[..500]);
    world.connection.handle_sent(500, world.now);
    assert_eq!(world.connection.deadline(), Some(Mono(39_000)));
    assert_eq!(world.serve().statuses().len(), 100);
    assert!(world.connection.wants_read());
}

#[test]
fn limits_of_nothing_refuse_and_do_not_hang() {
    let mut world =
        World::with(Limits { max_unsent_bytes: 0, max_body_bytes: 0, ..Limits::default() });
    assert_eq!(world.receive(GET.repeat(2)).statuses(), [200, 200]);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(world.receive(post).statuses(), [413]);
    let mut world = World::with(Limits { max_head_bytes: 0, max_headers: 0, ..Limits::default() });
    assert_eq!(world.receive(GET).statuses(), [414]);
}

#[test]
fn what_waits_behind_a_request_is_bounded() {
    let mut world = World::new();
    world.request(GET);
    let mut received = 0;
    while world.connection.wants_read() {
        world.connection.handle_bytes(&[b'x'; 1000], world.now);
        received += 1000;
    }
    assert_eq!(received, 17_000);
    assert!(world.connection.memory() <= 16 * 1024 + 1000);
}

#[test]
fn an_announced_body_costs_nothing_until_it_comes() {
    let mut world = World::new();
    world.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(world.connection.memory(), 0);
    world.receive([b'x'; 100]);
    assert!(world.connection.memory() < 1000);
}
