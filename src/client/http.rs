//! A small blocking client for HTTP/1.1, over TCP or a unix socket (RFC 9112).
//!
//! ```text
//!   Place ─▶ connect ─▶ request ─▶ head of the answer ─▶ Body: read to its end, or as it comes
//!                         length, chunks or the end of the connection frame it ─┘
//! ```
//!
//! Each request has its own connection. Nothing is resolved: a host is a number or `localhost`.
//! What is wrong with an answer is an error of reading it; k1s is trusted not to send it for ever.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::slice;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Failure;
use crate::os::local::user_of;
use crate::os::socket::notice_dead_peer;

/// Where a k1s listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `http://HOST:PORT`
    Tcp {
        /// What `HOST` means; `localhost` is two addresses, which are tried in turn.
        hosts: Vec<IpAddr>,
        /// The port.
        port: u16,
    },
    /// `unix:///PATH`
    Unix(PathBuf),
    /// The same, if root or this user listens there; needs no token.
    Own(PathBuf),
}

impl Place {
    /// Reads `http://HOST:PORT` or `unix:///PATH`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(url: &str) -> Result<Place, String> {
        let wrong = |why: &str| {
            format!(
                "{url:?} {why}; it must be http://HOST:PORT or unix:///PATH, HOST a number or localhost"
            )
        };
        if let Some(path) = url.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Place::Unix(path.into())),
                false => Err(wrong("has no absolute path")),
            };
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("is of another kind"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(wrong("has more than a host and a port"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| wrong("has no port from 0 to 65535"))?)
            }
            _ => (authority, HTTP_PORT),
        };
        let hosts = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().map(|host: Ipv6Addr| vec![host.into()]),
            None if host == "localhost" => Ok(LOCALHOST.to_vec()),
            None => host.parse().map(|host: Ipv4Addr| vec![host.into()]),
        };
        Ok(Place::Tcp { hosts: hosts.map_err(|_| wrong("has a host that is a name"))?, port })
    }

    fn connect(&self, silence: Option<Duration>) -> io::Result<Stream> {
        match self {
            Place::Unix(path) | Place::Own(path) => {
                let stream = UnixStream::connect(path)?;
                let user = user_of(&stream)?;
                if matches!(self, Place::Own(_)) && !user.is_owner {
                    return Err(io::Error::other(format!("user {} answers", user.uid)));
                }
                stream.set_read_timeout(silence)?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Stream::Unix(stream))
            }
            Place::Tcp { hosts, port } => {
                let mut result = Err(ErrorKind::AddrNotAvailable.into());
                for host in hosts {
                    result = TcpStream::connect_timeout(&SocketAddr::new(*host, *port), CONNECT);
                    if result.is_ok() {
                        break;
                    }
                }
                let stream = result?;
                stream.set_nodelay(true)?;
                notice_dead_peer(&stream)?;
                stream.set_read_timeout(silence)?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Writes it as [`Place::parse`] reads it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) | Place::Own(path) => write!(f, "unix://{}", path.display()),
            Place::Tcp { hosts, port } => match hosts.as_slice() {
                [host] => write!(f, "http://{}", SocketAddr::new(*host, *port)),
                _ => write!(f, "http://localhost:{port}"),
            },
        }
    }
}

/// A k1s that can be asked.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it may be; the first at which somebody answers counts.
    places: Vec<Place>,
    /// Which of them that was. From then on no other is asked: who answers there while this k1s
    /// starts again is another one.
    found: Arc<OnceLock<Place>>,
    token: Option<String>,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and the query, encoded: see `encode`.
    pub target: &'a str,
    /// The body; `None`: none.
    pub body: Option<&'a [u8]>,
    /// The id of the event that was seen last: `Last-Event-ID`.
    pub last_event: Option<&'a str>,
    /// For how long nothing may come; `None`: for ever.
    pub silence: Option<Duration>,
}

impl<'a> Request<'a> {
    /// A request without a body, whose answer is to come soon.
    pub fn new(method: &'a str, target: &'a str) -> Request<'a> {
        Request { method, target, body: None, last_event: None, silence: Some(SILENCE) }
    }

    /// With a body.
    pub fn with_body(self, body: &'a [u8]) -> Request<'a> {
        Request { body: Some(body), ..self }
    }
}

impl Client {
    /// A client of the k1s at the first of these places at which somebody answers. A token is not
    /// sent anywhere else, nor to [`Place::Own`], where it does not count.
    ///
    /// # Errors
    /// The token cannot be sent: it is empty, or not visible ASCII.
    pub fn new(places: Vec<Place>, token: Option<String>) -> Result<Client, Failure> {
        let is_sound =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !is_sound(token)) {
            return Err(Failure::Usage("the token must be visible ASCII, without blanks".into()));
        }
        Ok(Client { places, found: Arc::default(), token })
    }

    /// Where it asks, for people.
    pub fn place(&self) -> String {
        let places: Vec<_> = self.candidates().iter().map(Place::to_string).collect();
        places.join(" or ")
    }

    /// Sends a request, and reads the head of the answer.
    ///
    /// # Errors
    /// k1s cannot be reached, or does not answer in HTTP.
    pub fn send(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let (place, mut stream) = self.connect(request.silence)?;
        // An answer may come before the request was read, and close the connection: a 403 or a 413.
        let sent = stream
            .write_all(&self.head_of(request, place))
            .and_then(|()| stream.write_all(request.body.unwrap_or_default()));
        let answer = Answer::read(BufReader::with_capacity(BUFFER, stream));
        match (answer, sent) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(self.unreachable(&error)),
        }
    }

    fn connect(&self, silence: Option<Duration>) -> Result<(&Place, Stream), Failure> {
        let mut looked = Vec::new();
        for place in self.candidates() {
            match place.connect(silence) {
                Ok(stream) => return Ok((self.found.get_or_init(|| place.clone()), stream)),
                Err(error) => looked.push(format!("{place}: {}", reason(&error))),
            }
        }
        Err(not_reached(&looked.join(", nor at ")))
    }

    /// Where it asks next.
    fn candidates(&self) -> &[Place] {
        self.found.get().map_or(&self.places, slice::from_ref)
    }

    /// Why k1s cannot be reached, as a failure.
    pub(super) fn unreachable(&self, error: &io::Error) -> Failure {
        not_reached(&format!("{}: {}", self.place(), reason(error)))
    }

    fn head_of(&self, request: &Request<'_>, place: &Place) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: k1s\r\nConnection: close\r\n",
            request.method, request.target
        );
        let mut field = |name: &str, value: &dyn fmt::Display| {
            head.push_str(&format!("{name}: {value}\r\n"));
        };
        let is_wanted = !matches!(place, Place::Own(_));
        if let Some(token) = self.token.as_ref().filter(|_| is_wanted) {
            field("Authorization", &format_args!("Bearer {token}"));
        }
        if let Some(id) = request.last_event {
            field("Last-Event-ID", &id);
        }
        if let Some(body) = request.body {
            field("Content-Length", &body.len());
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The answer to a request, whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Body,
}

impl Answer {
    /// Whether k1s has done what was asked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// The connection broke off, or nothing came for too long.
    pub fn bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the whole body, as JSON.
    ///
    /// # Errors
    /// Those of [`Answer::bytes`], and a body that is not such JSON.
    pub fn json<T: DeserializeOwned>(self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }

    fn read(mut stream: BufReader<Stream>) -> io::Result<Answer> {
        let mut room = MOST_HEAD;
        let status_line = line(&mut stream, &mut room)?;
        let mut words = status_line.split(' ');
        let status = match (words.next(), words.next().and_then(|code| code.parse().ok())) {
            (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => status,
            _ => return Err(malformed("this is not HTTP")),
        };
        let mut framing = Framing::ToEnd;
        loop {
            let field = line(&mut stream, &mut room)?;
            if field.is_empty() {
                return Ok(Answer { status, body: Body { stream, framing } });
            }
            let (name, value) = field.split_once(':').ok_or_else(|| malformed("a bad header"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let left = value.parse().map_err(|_| malformed("a bad length"))?;
                framing = Framing::Length { left };
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Framing::Chunks { left: 0, is_first: true };
            }
        }
    }
}

/// A body that is read as it comes.
#[derive(Debug)]
pub struct Body {
    stream: BufReader<Stream>,
    framing: Framing,
}

/// How the end of a body is known.
#[derive(Debug)]
enum Framing {
    Length { left: u64 },
    Chunks { left: u64, is_first: bool },
    ToEnd,
    Complete,
}

impl Body {
    /// How many bytes may be read now, as far as its framing says.
    fn room(&mut self) -> io::Result<u64> {
        if let Framing::Chunks { left: 0, is_first } = self.framing {
            let mut room = MOST_HEAD;
            if !is_first {
                line(&mut self.stream, &mut room)?;
            }
            let size = line(&mut self.stream, &mut room)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let left = u64::from_str_radix(digits, 16).map_err(|_| malformed("a bad chunk"))?;
            self.framing = match left {
                0 => Framing::Complete,
                left => Framing::Chunks { left, is_first: false },
            };
        }
        Ok(match self.framing {
            Framing::Length { left } | Framing::Chunks { left, .. } => left,
            Framing::ToEnd => u64::MAX,
            Framing::Complete => 0,
        })
    }
}

impl Body {
    /// Whether reading more may have to wait for k1s. It may be that more is there.
    pub(super) fn would_wait(&self) -> bool {
        let is_between = matches!(self.framing, Framing::Chunks { left: 0, .. });
        is_between || self.stream.buffer().is_empty()
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let room = self.room()?;
        if room == 0 {
            return Ok(&[]);
        }
        let buffer = self.stream.fill_buf()?;
        if buffer.is_empty() && !matches!(self.framing, Framing::ToEnd) {
            return Err(broken_off());
        }
        let length = usize::try_from(room).map_or(buffer.len(), |room| room.min(buffer.len()));
        Ok(buffer.get(..length).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
        match &mut self.framing {
            Framing::Length { left } | Framing::Chunks { left, .. } => {
                *left = left.saturating_sub(amount as u64);
            }
            Framing::ToEnd | Framing::Complete => {}
        }
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(into)?;
        self.consume(length);
        Ok(length)
    }
}

/// Encodes a segment of a path, or a name or value of a query (RFC 3986, section 2.1).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a line without its end; takes its length from `room`.
fn line(stream: &mut BufReader<Stream>, room: &mut u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(*room).read_until(b'\n', &mut bytes)?;
    *room -= bytes.len() as u64;
    match bytes.strip_suffix(b"\n") {
        Some(line) => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            String::from_utf8(line.to_vec()).map_err(|_| malformed("a header that is not UTF-8"))
        }
        None if *room == 0 => Err(malformed("a head that is too long")),
        None => Err(broken_off()),
    }
}

fn not_reached(at: &str) -> Failure {
    Failure::Unreachable(format!("k1s cannot be reached at {at}"))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it does not answer".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what} came instead of an answer"))
}

fn broken_off() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before the answer did")
}

/// What `localhost` means (RFC 6761, section 6.3).
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// The port of a URL without one (RFC 9110, section 4.2.1).
const HTTP_PORT: u16 = 80;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long nothing may come of an answer, and nothing be taken of a request.
const SILENCE: Duration = Duration::from_secs(30);
/// The most bytes of a head, and of what stands between two chunks.
const MOST_HEAD: u64 = 64 * 1024;
/// As much as is read at once.
const BUFFER: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers one request with `answer`; returns what was asked.
    fn serve(mut stream: impl Read + Write, answer: &[u8]) -> String {
        let mut asked = Vec::new();
        let mut buffer = [0; 1024];
        while !asked.windows(4).any(|four| four == b"\r\n\r\n") {
            let length = stream.read(&mut buffer).unwrap();
            asked.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(answer).unwrap();
        String::from_utf8(asked).unwrap()
    }

    fn place(listener: &TcpListener) -> Place {
        Place::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
    }

    /// What is read of an answer, and its status.
    fn answered(answer: &'static [u8]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(vec![place(&listener)], None).unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer));
        let answer = client.send(&Request::new("GET", "/"));
        server.join().unwrap();
        let answer = answer.map_err(|failure| io::Error::other(failure.to_string()))?;
        let status = answer.status;
        Ok((status, String::from_utf8(answer.bytes()?).unwrap()))
    }

    #[track_caller]
    fn check(answer: &'static [u8], status: u16, body: &str) {
        assert_eq!(answered(answer).unwrap(), (status, body.to_owned()));
    }

    #[track_caller]
    fn check_refused(answer: &'static [u8], wanted: &str) {
        let error = answered(answer).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn answers_are_read_however_they_are_framed() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", 200, "ab");
        check(b"HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nto the end", 404, "to the end");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\nc\r\n0A;x=y\r\ndefghijklm\r\n0\r\n\r\n";
        check(chunked, 200, "cdefghijklm");
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, "");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        check_refused(b"", "the connection ended before the answer did");
        check_refused(b"SSH-2.0-x\r\n", "this is not HTTP");
        check_refused(b"HTTP/1.1 200 OK\r\n", "the connection ended");
        check_refused(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a bad header");
        check_refused(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "the connection ended");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check_refused(format!("{chunked}x\r\n").leak().as_bytes(), "a bad chunk");
        check_refused(format!("{chunked}3\r\nab").leak().as_bytes(), "the connection ended");
        check_refused(vec![b'a'; 100_000].leak(), "too long");
    }

    #[test]
    fn a_request_holds_the_token_the_body_and_the_last_event() {
        let dir = std::env::temp_dir().join(format!("k1s-client-{}", std::process::id()));
        let _ = std::fs::remove_file(&dir);
        let listener = UnixListener::bind(&dir).unwrap();
        let place = Place::parse(&format!("unix://{}", dir.display())).unwrap();
        let client = Client::new(vec![place], Some("secret".into())).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue";
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer));
        let request =
            Request { last_event: Some("x-1"), ..Request::new("POST", "/job/x").with_body(b"{}") };
        assert!(client.send(&request).unwrap().json::<bool>().unwrap());
        let asked = server.join().unwrap();
        for line in [
            "POST /job/x HTTP/1.1\r\n",
            "Host: k1s\r\n",
            "Authorization: Bearer secret\r\n",
            "Last-Event-ID: x-1\r\n",
            "Content-Length: 2\r\n",
        ] {
            assert!(asked.contains(line), "{asked}");
        }
        std::fs::remove_file(&dir).unwrap();
        let failure = client.send(&Request::new("GET", "/")).unwrap_err().to_string();
        assert!(failure.ends_with("there is no such socket"), "{failure}");
    }

    #[test]
    fn who_does_not_listen_or_answer_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = place(&listener);
        let client = Client::new(vec![place.clone()], None).unwrap();
        let silence = Some(Duration::from_millis(20));
        let request = Request { silence, ..Request::new("GET", "/") };
        let failure = client.send(&request).unwrap_err();
        let wanted = format!("k1s cannot be reached at {place}: it does not answer");
        assert_eq!(failure, Failure::Unreachable(wanted));
        drop(listener);
        let failure = client.send(&request).unwrap_err();
        let wanted = format!("k1s cannot be reached at {place}: connection refused");
        assert_eq!(failure, Failure::Unreachable(wanted));
    }

    #[test]
    fn places_are_written_as_they_are_read() {
        for (url, shown) in [
            ("http://127.0.0.1:1298", "http://127.0.0.1:1298"),
            ("http://127.0.0.1/", "http://127.0.0.1:80"),
            ("http://[::1]:9", "http://[::1]:9"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://localhost:9/", "http://localhost:9"),
            ("unix:///run/k1s.sock", "unix:///run/k1s.sock"),
        ] {
            assert_eq!(Place::parse(url).unwrap().to_string(), shown);
        }
        for (url, wanted) in [
            ("", "is of another kind"),
            ("https://127.0.0.1", "is of another kind"),
            ("127.0.0.1:9", "is of another kind"),
            ("http://example.org", "has a host that is a name"),
            ("http://::1:9", "has a host that is a name"),
            ("http://127.0.0.1:99999", "has no port"),
            ("http://127.0.0.1:9/ui", "has more than a host and a port"),
            ("http://user@127.0.0.1:9", "has more than a host and a port"),
            ("unix://run/k1s.sock", "has no absolute path"),
        ] {
            let error = Place::parse(url).unwrap_err();
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }

    #[test]
    fn a_token_that_could_change_the_request_is_refused() {
        for token in ["", "a b", "a\r\nX: y", "ä"] {
            let place = Place::Unix("/x".into());
            let failure = Client::new(vec![place], Some(token.into())).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{token:?}");
        }
    }

    #[test]
    fn what_is_special_in_a_target_is_encoded() {
        assert_eq!(encode("web-1.a_b~"), "web-1.a_b~");
        assert_eq!(encode("a b/ä?&=%+:"), "a%20b%2F%C3%A4%3F%26%3D%25%2B%3A");
    }
}
