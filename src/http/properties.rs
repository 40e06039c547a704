//! Properties that hold for any bytes: the fuzz targets and the replay of their corpora call them.
//! A property panics when it does not hold; k1s itself calls none.

use std::rc::Rc;

use super::chunked::Chunked;
use super::client::Answer;
use super::request::{BodyLength, Version, parse_head};
use super::response::CONTINUE;
use super::scan::HeadScan;
use super::{Connection, Head, Incoming, Limits, Method, ProtocolError, Reply, Request, Status};
use crate::time::{Mono, Now, Wall};

/// The same bytes, whole or split anywhere, give the same requests and answers; buffers stay within
/// the sum of the limits; answers are well-formed; and whatever the peer does or does not do, the
/// connection ends. The first 8 bytes are the seed for the splits.
pub fn check_connection(data: &[u8]) {
    let (seed, input) = data.split_at(data.len().min(8));
    let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let limits = Rc::new(if seed & 1 == 0 { small_limits() } else { Limits::default() });
    let falls_silent = seed & 2 != 0;
    let mut whole = Peer::new(&limits, None);
    whole.send(input);
    let whole = whole.leave(falls_silent);
    let mut random = Random(seed);
    let mut cut = Peer::new(&limits, Some(Random(!seed)));
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.up_to(rest.len()));
        cut.send(piece);
        rest = after;
    }
    let cut = cut.leave(falls_silent);
    assert_eq!(whole.requests, cut.requests);
    assert_eq!(String::from_utf8_lossy(&whole.answers), String::from_utf8_lossy(&cut.answers));
    check_answers(&whole.answers, &whole.methods);
}

/// An accepted head that is printed and parsed again is the same; `Content-Length` is what plain
/// arithmetic says; and the head ends in the same place when its bytes come one by one.
pub fn check_head(data: &[u8]) {
    let limits = Limits::default();
    let mut scan = HeadScan::default();
    let end = scan.advance(data, &limits);
    assert_eq!((scan.start(), end), scan_by_bytes(data, &limits));
    let Ok(Some(end)) = end else {
        return;
    };
    let bytes = data.get(scan.start()..end).unwrap_or_default();
    assert!(bytes.ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    let Ok(head) = parse_head(bytes, &limits) else {
        return;
    };
    check_content_length(bytes, &head);
    let printed = print_head(&head);
    let limits = Limits {
        // When it is encoded again, a byte may become three.
        max_head_bytes: usize::MAX,
        ..limits
    };
    assert_eq!(parse_head(&printed, &limits), Ok(head));
}

/// A chunked body, whole or split anywhere, is decoded the same way as by a plain line-by-line
/// reading of the grammar. The first 8 bytes are the seed.
pub fn check_chunked(data: &[u8]) {
    let (seed, input) = data.split_at(data.len().min(8));
    let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let limits = small_limits();
    let whole = decode_in_pieces(input, &limits, |left| left);
    let mut random = Random(seed);
    let cut = decode_in_pieces(input, &limits, |left| random.up_to(left));
    assert_eq!(whole, cut);
    let expected = decode_by_lines(input);
    match whole {
        Ok(decoded) => assert_eq!(decoded, expected),
        Err(error) => assert!(
            error.status != Status::BadRequest || expected.is_none(),
            "{error:?}: {expected:?}"
        ),
    }
}

/// An answer to a probe, whole or split anywhere, has the status that a plain line-by-line reading
/// finds, or none. The first 8 bytes are the seed for the splits.
pub fn check_answer(data: &[u8]) {
    let (seed, input) = data.split_at(data.len().min(8));
    let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let whole = Answer::default().handle_bytes(input);
    let (mut random, mut answer, mut rest) = (Random(seed), Answer::default(), input);
    let mut cut = None;
    while cut.is_none() && !rest.is_empty() {
        let (piece, after) = rest.split_at(random.up_to(rest.len()));
        cut = answer.handle_bytes(piece);
        rest = after;
    }
    // What is shown of a wrong one depends on the pieces.
    let status = |outcome: Option<Result<u16, String>>| outcome.map(Result::ok);
    let (whole, cut) = (status(whole), status(cut));
    assert_eq!(whole, cut);
    assert_eq!(whole.flatten(), status_by_lines(input));
}

/// The status of the first final answer whose head is complete.
fn status_by_lines(input: &[u8]) -> Option<u16> {
    let head = input.get(..16 * 1024).unwrap_or(input);
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let mut next = || {
        let line = lines.next()?.strip_suffix(b"\n")?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    loop {
        let line = next()?.strip_prefix(b"HTTP/1.")?;
        let (_, code) = line.split_first().filter(|(minor, _)| minor.is_ascii_digit())?;
        let words: Vec<&[u8]> = code.split(|byte| *byte == b' ').collect();
        let [b"", code, ..] = words.as_slice() else { return None };
        let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
        let code: u16 = str::from_utf8(code).ok().filter(|_| is_code)?.parse().ok()?;
        if code < 100 {
            return None;
        }
        while !next()?.is_empty() {}
        if code == 101 || code >= 200 {
            return Some(code);
        }
    }
}

/// Limits that a few hundred bytes reach.
fn small_limits() -> Limits {
    Limits {
        max_head_bytes: 256,
        max_headers: 6,
        max_body_bytes: 300,
        max_unsent_bytes: 400,
        ..Limits::default()
    }
}

/// The peer of a connection, the daemon behind it, and what the two have seen.
struct Peer {
    connection: Connection,
    limits: Rc<Limits>,
    now: Now,
    requests: Vec<String>,
    methods: Vec<Method>,
    answers: Vec<u8>,
    /// How much a write takes; `None`: everything.
    takes: Option<Random>,
    longest_piece: usize,
}

impl Peer {
    fn new(limits: &Rc<Limits>, takes: Option<Random>) -> Peer {
        let now = Now { mono: Mono(1_000), wall: Wall(784_111_777_000) };
        Peer {
            connection: Connection::new(Rc::clone(limits), now),
            limits: Rc::clone(limits),
            now,
            requests: Vec::new(),
            methods: Vec::new(),
            answers: Vec::new(),
            takes,
            longest_piece: 0,
        }
    }

    /// Sends a piece as soon as the connection reads it.
    fn send(&mut self, piece: &[u8]) {
        while !self.connection.wants_read() {
            if self.connection.is_finished() {
                return;
            }
            assert!(self.make_progress(), "neither reads nor writes nor ends");
        }
        self.longest_piece = self.longest_piece.max(piece.len());
        self.connection.handle_bytes(piece, self.now);
        self.serve();
        if self.takes.as_mut().is_some_and(|takes| takes.up_to(2) == 1) {
            self.make_progress();
        }
    }

    /// Sends no more, by closing its side or by doing nothing.
    fn leave(mut self, falls_silent: bool) -> Peer {
        if !falls_silent {
            self.connection.handle_eof();
            self.serve();
        }
        let mut turns = 0;
        while !self.connection.is_finished() {
            if !self.make_progress() {
                let deadline = self.connection.deadline();
                assert!(deadline.is_some(), "waits for ever: {:?}", self.connection);
                self.now.mono = deadline.unwrap_or_default();
                self.connection.handle_deadline(self.now);
                self.serve();
            }
            turns += 1;
            assert!(turns < 100_000, "never ends");
        }
        assert_eq!(self.connection.memory(), 0);
        self.answers = without_interim(&self.answers);
        self
    }

    /// Takes output, or shuts down the writing side; returns false when there is nothing to do.
    fn make_progress(&mut self) -> bool {
        let unsent = self.connection.unsent();
        if !unsent.is_empty() {
            let count = match &mut self.takes {
                Some(takes) => takes.up_to(unsent.len()),
                None => unsent.len(),
            };
            self.answers.extend_from_slice(unsent.get(..count).unwrap_or_default());
            self.connection.handle_sent(count, self.now);
        } else if self.connection.wants_shutdown_write() {
            self.connection.handle_shutdown_write(self.now);
        } else {
            return false;
        }
        self.serve();
        true
    }

    fn serve(&mut self) {
        while let Some(incoming) = self.connection.poll(self.now) {
            assert!(self.connection.is_waiting_for_answer());
            match incoming {
                Incoming::Head(head) => self.serve_head(head),
                Incoming::Request(request) => self.answer(&request),
            }
            self.check_memory();
        }
        self.check_memory();
    }

    fn serve_head(&mut self, head: Head) {
        self.requests.push(format!("{head:?}"));
        self.methods.push(head.method);
        if taste(&head) == 0 {
            let reply = Reply::json(Status::Forbidden);
            self.connection.respond(reply, self.now, |body| body.extend_from_slice(b"{}"));
        } else {
            self.connection.proceed(head, self.now);
        }
    }

    /// Answers in one of several ways, depending on the request alone.
    fn answer(&mut self, request: &Request) {
        self.requests.push(format!("{:?}", request.body));
        let size = match taste(&request.head) {
            1 => 0,
            2 => LARGE_ANSWER,
            3 => {
                let reply = Reply::json(Status::Ok);
                if self.connection.start_stream(reply, self.now) {
                    for piece in [b"one".as_slice(), b"", b"a bit more than sixteen bytes"] {
                        self.connection.push(self.now, |output| output.extend_from_slice(piece));
                    }
                    self.connection.finish_stream(self.now);
                }
                return;
            }
            _ => 5,
        };
        let reply = Reply::json(Status::Ok);
        self.connection.respond(reply, self.now, |body| {
            body.resize(body.len() + size, b'x');
        });
    }

    fn check_memory(&self) {
        let limits = &self.limits;
        let input = limits.max_head_bytes + self.longest_piece;
        // A buffer that grows in steps may be twice as large as its content.
        let output = 2 * (limits.max_unsent_bytes + 2 * (LARGE_ANSWER + 512));
        let bound = input + limits.max_body_bytes + output;
        assert!(self.connection.memory() <= bound, "{} > {bound}", self.connection.memory());
    }
}

/// A number from 0 to 5 that depends on the path.
fn taste(head: &Head) -> usize {
    let bytes = head.path.segments().flat_map(str::bytes);
    bytes.fold(1, |sum, byte| (sum + usize::from(byte)) % 6)
}

/// Answers without the interim ones, which depend on how much of the body had come, and so on the
/// splits.
pub(crate) fn without_interim(answers: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = answers;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(CONTINUE) {
            rest = after;
        } else {
            kept.push(*first);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    kept
}

/// Each request has one answer, in order. One more may follow, from the codec itself. The last may
/// be incomplete only in a body that is chunked or ends with the connection. Returns the status and
/// the body of each.
pub(crate) fn check_answers(answers: &[u8], methods: &[Method]) -> Vec<(u16, Vec<u8>)> {
    let mut read = Vec::new();
    let mut methods = methods.iter();
    let mut rest = answers;
    let mut is_over = false;
    while !rest.is_empty() {
        assert!(!is_over, "an answer behind the last");
        let method = methods.next();
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(rest);
        let Ok(httparse::Status::Complete(length)) = parsed else {
            unreachable!("{parsed:?}: {}", String::from_utf8_lossy(rest));
        };
        let field = |name: &str| {
            let mut found = response.headers.iter().filter(|header| header.name == name);
            let value = found.next().map(|header| header.value);
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        assert!(field("Date").is_some_and(|date| date.len() == 29));
        is_over = method.is_none() || field("Connection") == Some(b"close");
        let body = rest.get(length..).unwrap_or_default();
        let decoded = match (field("Content-Length"), field("Transfer-Encoding")) {
            _ if method == Some(&Method::Head) || is_head_refusal(response.code, body) => {
                Some((Vec::new(), 0))
            }
            (Some(length), None) => {
                let length = String::from_utf8_lossy(length).parse().unwrap_or(usize::MAX);
                body.get(..length).map(|body| (body.to_vec(), length))
            }
            (None, Some(b"chunked")) => decode_by_lines(body),
            _ => Some((body.to_vec(), body.len())),
        };
        let Some((decoded, length)) = decoded else {
            unreachable!("an answer without its end");
        };
        read.push((response.code.unwrap_or_default(), decoded));
        rest = body.get(length..).unwrap_or_default();
    }
    assert!(methods.next().is_none() || is_over, "no answer to a request");
    read
}

/// Whether this is the codec's answer to a malformed HEAD, which has no body.
fn is_head_refusal(code: Option<u16>, body: &[u8]) -> bool {
    body.is_empty() && code >= Some(400)
}

fn scan_by_bytes(data: &[u8], limits: &Limits) -> (usize, Result<Option<usize>, ProtocolError>) {
    let mut scan = HeadScan::default();
    for length in 0..=data.len() {
        let so_far = data.get(..length).unwrap_or_default();
        let end = scan.advance(so_far, limits);
        if end != Ok(None) {
            return (scan.start(), end);
        }
    }
    (scan.start(), Ok(None))
}

/// Reads `Content-Length` in the simplest way, with numbers that are large enough.
fn check_content_length(bytes: &[u8], head: &Head) {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let values = text.split("\r\n").skip(1).filter_map(|line| line.strip_prefix("content-length:"));
    let lengths: Vec<u64> = values
        .map(|value| match value.trim().parse::<u128>() {
            Ok(length) => u64::try_from(length).unwrap_or(u64::MAX),
            Err(_) => u64::MAX,
        })
        .collect();
    match head.body_length {
        BodyLength::Known(length) => assert_eq!(lengths, [length]),
        BodyLength::None | BodyLength::Chunked => assert!(lengths.is_empty()),
    }
}

fn print_head(head: &Head) -> Vec<u8> {
    let mut text = format!("{} {} ", head.method.name(), print_target(head));
    text += match head.version {
        Version::Http10 => "HTTP/1.0\r\n",
        Version::Http11 => "HTTP/1.1\r\n",
    };
    text += match (head.version, head.keep_alive) {
        (Version::Http11, false) => "Host: a\r\nConnection: close\r\n",
        (_, true) => "Host: a\r\nConnection: Keep-Alive\r\n",
        (Version::Http10, false) => "Host: a\r\n",
    };
    text += &match head.body_length {
        BodyLength::None => String::new(),
        BodyLength::Known(length) => format!("Content-Length: {length}\r\n"),
        BodyLength::Chunked => "Transfer-Encoding: Chunked\r\n".to_owned(),
    };
    if head.expects_continue {
        text += "Expect: 100-Continue\r\n";
    }
    if !head.accept.is_empty() {
        text += &format!("Accept: {}\r\n", head.accept);
    }
    if head.accepts_gzip {
        text += "Accept-Encoding: gzip\r\n";
    }
    if let Some(id) = &head.last_event_id {
        text += &format!("Last-Event-ID: {id}\r\n");
    }
    let mut bytes = text.into_bytes();
    if let Some(value) = &head.authorization {
        bytes.extend_from_slice(b"Authorization: ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn print_target(head: &Head) -> String {
    let path: String =
        head.path.segments().map(|segment| format!("/{}", encode(segment))).collect();
    if path.is_empty() {
        return "*".to_owned();
    }
    let pairs: Vec<String> = head
        .query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

/// A body, and how many bytes it took; `None` when it is incomplete.
type Decoded = Option<(Vec<u8>, usize)>;

fn decode_in_pieces(
    input: &[u8],
    limits: &Limits,
    mut length: impl FnMut(usize) -> usize,
) -> Result<Decoded, ProtocolError> {
    let mut chunked = Chunked::new();
    let mut body = Vec::new();
    let mut used = 0;
    while used < input.len() && !chunked.is_complete() {
        let rest = input.get(used..).unwrap_or_default();
        let piece = rest.get(..length(rest.len())).unwrap_or(rest);
        let taken = chunked.decode(piece, &mut body, limits)?;
        assert!(taken == piece.len() || chunked.is_complete());
        assert!(body.capacity() <= limits.max_body_bytes);
        used += taken;
    }
    Ok(chunked.is_complete().then_some((body, used)))
}

/// Decodes by the grammar of RFC 9112, section 7.1, a line at a time; `None` for a body that is
/// malformed or incomplete.
fn decode_by_lines(input: &[u8]) -> Decoded {
    let mut body = Vec::new();
    let mut rest = input;
    loop {
        let line = next_line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (digits, extensions) = line.split_at(digits.count());
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if digits.len() > 16 || !are_extensions(extensions) {
            return None;
        }
        if size == 0 {
            break;
        }
        let (data, after) = rest.split_at_checked(size)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    loop {
        let line = next_line(&mut rest)?;
        if line.is_empty() {
            return Some((body, input.len() - rest.len()));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let is_value = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        if token_length(name) != name.len() || name.is_empty() || !is_value {
            return None;
        }
    }
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, after) = rest.split_at(end);
    *rest = after.get(2..)?;
    Some(line)
}

fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(after) = skip_blanks(text).strip_prefix(b";") else {
            return false;
        };
        let name = skip_blanks(after);
        let (name, after) = name.split_at(token_length(name));
        if name.is_empty() {
            return false;
        }
        text = after;
        if let Some(value) = skip_blanks(after).strip_prefix(b"=") {
            let value = skip_blanks(value);
            let length = quoted_length(value).unwrap_or_else(|| token_length(value));
            if length == 0 {
                return false;
            }
            text = value.get(length..).unwrap_or_default();
        }
    }
    true
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    text.get(blanks.count()..).unwrap_or_default()
}

fn token_length(text: &[u8]) -> usize {
    let is_delimiter = |byte: u8| b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    text.iter().take_while(|byte| byte.is_ascii_graphic() && !is_delimiter(**byte)).count()
}

fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut bytes = text.iter().enumerate();
    bytes.next().filter(|(_, byte)| **byte == b'"')?;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => {
                bytes.next().filter(|(_, byte)| !is_control(**byte))?;
            }
            _ if is_control(*byte) => return None,
            _ => {}
        }
    }
    None
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 1 to `most`, small ones more often.
    fn up_to(&mut self, most: usize) -> usize {
        let bound = match self.next() % 4 {
            0 => most as u64,
            1 => 16,
            _ => 3,
        };
        let number = 1 + self.next() % bound.max(1);
        usize::try_from(number).unwrap_or(most).min(most)
    }
}

/// Larger than the small limit on unsent output.
const LARGE_ANSWER: usize = 1000;
