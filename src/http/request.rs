//! The head of a request: parsed by httparse, then checked against the RFCs.
//!
//! httparse gets a head that [`scan`](super::scan) has found to be complete, so it runs once for
//! each request. It only finds the parts: it accepts any target and any token as a method, and does
//! not know what headers mean. This module and [`target`](super::target) check the parts.

use std::mem::MaybeUninit;

use super::accept::AcceptedCodings;
use super::target::{Path, is_authority, parse_target};
use super::{Limits, ProtocolError, Status};

/// The head of a request: the parts that k1s uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The version of HTTP.
    pub(super) version: Version,
    /// The path, decoded.
    pub path: Path,
    /// The pairs after `?`, in order, decoded once: `a=1&b` is `("a", "1")`, `("b", "")`.
    ///
    /// `+` means a space, as browsers, `URLSearchParams` and Python's `urlencode` write it
    /// (application/x-www-form-urlencoded); a plus sign is written `%2B`.
    pub(super) query: Vec<(String, String)>,
    /// The value of `Authorization`.
    pub(super) authorization: Option<Vec<u8>>,
    /// The values of all `Accept` lines, for [`media_ranges`](super::media_ranges). Empty when the
    /// client accepts any type.
    pub accept: String,
    /// Whether the client accepts an answer that is compressed with gzip.
    pub accepts_gzip: bool,
    /// The value of `Last-Event-ID`, if it is UTF-8 (WHATWG HTML, 9.2).
    pub last_event_id: Option<String>,
    /// How long the body is.
    pub(super) body_length: BodyLength,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the peer allows the connection to go on after the answer.
    pub(super) keep_alive: bool,
}

impl Head {
    /// The token of `Authorization: Bearer TOKEN`; the case of the scheme does not matter (RFC
    /// 6750, 2.1).
    pub fn bearer(&self) -> Option<&[u8]> {
        let value = self.authorization.as_deref()?;
        let (scheme, token) = value.split_at_checked(BEARER.len())?;
        let token = token.strip_prefix(b" ")?.trim_ascii_start();
        (scheme.eq_ignore_ascii_case(BEARER) && !token.is_empty()).then_some(token)
    }

    /// The values of all pairs of this name in the query.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of the first pair of this name in the query.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its body, without the framing of chunks; empty when there is none.
    pub body: Vec<u8>,
}

/// The methods of RFC 9110, section 9.3, and PATCH (RFC 5789). The codec answers 501 to CONNECT,
/// which is for proxies, and to all other tokens. Methods are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: like GET, but the codec omits the body of the answer.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
}

impl Method {
    /// The method as written in a request line, and in `Allow`.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
        }
    }
}

/// The supported versions of HTTP; the codec answers 505 to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How long the body of a request is (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// There is no body.
    None,
    /// `Content-Length`, in bytes; it may exceed the limit.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Parses a complete head: from the request line to the empty line.
pub(super) fn parse_head(bytes: &[u8], limits: &Limits) -> Result<Head, ProtocolError> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_HEADERS];
    let mut many = Vec::new();
    let headers = match few.get_mut(..limits.max_headers) {
        Some(headers) => headers,
        None => {
            many.resize(limits.max_headers, MaybeUninit::uninit());
            many.as_mut_slice()
        }
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, headers) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(ProtocolError::bad("malformed head")),
        Err(error) => return Err(explain(error, bytes)),
    }
    let method = parse_method(request.method.unwrap_or_default())?;
    let target = request.path.unwrap_or_default();
    let (path, query) = parse_target(target.as_bytes(), method == Method::Options)?;
    let version = match request.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.add(header.name, header.value)?;
    }
    fields.check_host(version)?;
    Ok(Head {
        method,
        version,
        path,
        query,
        body_length: fields.body_length(version)?,
        expects_continue: fields.expects_continue(version)?,
        keep_alive: fields.keep_alive(version),
        authorization: fields.authorization.map(<[u8]>::to_vec),
        last_event_id: fields.last_event_id(),
        accepts_gzip: fields.accepted_codings.has_gzip(),
        accept: fields.accept,
    })
}

/// The headers that k1s uses, as they are in the head.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    last_event_id: Option<&'a [u8]>,
    accept: String,
    accepted_codings: AcceptedCodings,
    content_length: Option<&'a [u8]>,
    codings: Option<Codings>,
    expectation: Option<&'a [u8]>,
    says_close: bool,
    says_keep_alive: bool,
}

/// What `Transfer-Encoding` lists, in all of its lines.
#[derive(Clone, Copy, Default)]
struct Codings {
    all: usize,
    chunked: usize,
    ends_with_chunked: bool,
}

impl<'a> Fields<'a> {
    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), ProtocolError> {
        if name.eq_ignore_ascii_case("host") {
            return set_once(&mut self.host, value, "more than one Host");
        }
        if name.eq_ignore_ascii_case("authorization") {
            return set_once(&mut self.authorization, value, "more than one Authorization");
        }
        if name.eq_ignore_ascii_case("content-length") {
            return set_once(&mut self.content_length, value, "more than one Content-Length");
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            let codings = self.codings.get_or_insert_default();
            list(value).for_each(|coding| codings.add(coding));
        } else if name.eq_ignore_ascii_case("connection") {
            for option in list(value) {
                self.says_close |= option.eq_ignore_ascii_case(b"close");
                self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case("expect") {
            // Several lines are an expectation that cannot be met.
            self.expectation = Some(self.expectation.map_or(value, |_| b"several"));
        } else if name.eq_ignore_ascii_case("last-event-id") {
            self.last_event_id = Some(value);
        } else if name.eq_ignore_ascii_case("accept") {
            self.add_accept(value);
        } else if name.eq_ignore_ascii_case("accept-encoding") {
            self.accepted_codings.add(str::from_utf8(value).unwrap_or_default());
        }
        Ok(())
    }

    /// Most clients send `*/*`, which is as good as nothing.
    fn add_accept(&mut self, value: &[u8]) {
        if let Some(value) = str::from_utf8(value).ok().filter(|value| *value != "*/*") {
            let comma = if self.accept.is_empty() { "" } else { "," };
            self.accept.push_str(comma);
            self.accept.push_str(value);
        }
    }

    /// There must be exactly one `Host` in 1.1, and at most one in 1.0 (RFC 9112, section 3.2).
    fn check_host(&self, version: Version) -> Result<(), ProtocolError> {
        match (self.host, version) {
            (Some(host), _) if is_authority(host) => Ok(()),
            (Some(_), _) => Err(ProtocolError::bad("malformed Host")),
            (None, Version::Http10) => Ok(()),
            (None, Version::Http11) => Err(ProtocolError::bad("no Host")),
        }
    }

    /// RFC 9112, section 6.3, but errors that it lets a server repair are refused: they smuggle
    /// requests past a proxy that repairs them differently.
    fn body_length(&self, version: Version) -> Result<BodyLength, ProtocolError> {
        match (self.codings, self.content_length) {
            (None, None) => Ok(BodyLength::None),
            (None, Some(value)) => parse_content_length(value).map(BodyLength::Known),
            (Some(_), Some(_)) => {
                Err(ProtocolError::bad("both Content-Length and Transfer-Encoding"))
            }
            (Some(_), None) if version == Version::Http10 => {
                Err(ProtocolError::bad("Transfer-Encoding in HTTP/1.0"))
            }
            (Some(codings), None) => match (codings.all, codings.chunked) {
                (1, 1) => Ok(BodyLength::Chunked),
                (_, 1) if codings.ends_with_chunked => Err(ProtocolError::new(
                    Status::NotImplemented,
                    "a transfer coding other than chunked",
                )),
                _ => Err(ProtocolError::bad("Transfer-Encoding must end with chunked")),
            },
        }
    }

    /// RFC 9110, section 10.1.1; in 1.0 an expectation is ignored.
    fn expects_continue(&self, version: Version) -> Result<bool, ProtocolError> {
        match (self.expectation, version) {
            (None, _) | (_, Version::Http10) => Ok(false),
            (Some(value), Version::Http11) if value.eq_ignore_ascii_case(b"100-continue") => {
                Ok(true)
            }
            (Some(_), Version::Http11) => Err(ProtocolError::new(
                Status::ExpectationFailed,
                "an expectation other than 100-continue",
            )),
        }
    }

    /// RFC 9112, section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http10 => self.says_keep_alive && !self.says_close,
            Version::Http11 => !self.says_close,
        }
    }

    fn last_event_id(&self) -> Option<String> {
        let value = str::from_utf8(self.last_event_id?).ok()?;
        Some(value.to_owned())
    }
}

impl Codings {
    fn add(&mut self, coding: &[u8]) {
        self.ends_with_chunked = coding.eq_ignore_ascii_case(b"chunked");
        self.chunked += usize::from(self.ends_with_chunked);
        self.all += 1;
    }
}

fn set_once<'a>(
    field: &mut Option<&'a [u8]>,
    value: &'a [u8],
    complaint: &'static str,
) -> Result<(), ProtocolError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(ProtocolError::bad(complaint)),
    }
}

/// The members of a comma-separated list, without empty ones (RFC 9110, 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn parse_method(token: &str) -> Result<Method, ProtocolError> {
    match token {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" => Ok(Method::Post),
        "PUT" => Ok(Method::Put),
        "DELETE" => Ok(Method::Delete),
        "OPTIONS" => Ok(Method::Options),
        "PATCH" => Ok(Method::Patch),
        "TRACE" => Ok(Method::Trace),
        _ => Err(ProtocolError::new(Status::NotImplemented, "unknown method")),
    }
}

/// Only digits are allowed. A number of more than 64 bits exceeds every limit, too.
fn parse_content_length(value: &[u8]) -> Result<u64, ProtocolError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::bad("malformed Content-Length"));
    }
    Ok(value.iter().fold(0, |length: u64, digit| {
        length.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

/// Why httparse refused this head. It has one error for everything that is not a version it knows,
/// so this finds out whether it is a version.
fn explain(error: httparse::Error, bytes: &[u8]) -> ProtocolError {
    match error {
        httparse::Error::TooManyHeaders => {
            ProtocolError::new(Status::HeaderFieldsTooLarge, "too many headers")
        }
        httparse::Error::Version if is_version(third_word(bytes)) => {
            ProtocolError::new(Status::VersionNotSupported, "only HTTP/1.1 and 1.0")
        }
        httparse::Error::HeaderName => ProtocolError::bad("malformed header name"),
        httparse::Error::HeaderValue => ProtocolError::bad("malformed header value"),
        httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => ProtocolError::bad("malformed request line"),
    }
}

fn third_word(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\r').next();
    let mut words = line.unwrap_or_default().splitn(3, |byte| *byte == b' ');
    words.nth(2).unwrap_or_default()
}

/// `HTTP-version` of RFC 9112, section 2.3: one digit, a dot, one digit.
fn is_version(word: &[u8]) -> bool {
    match word.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

const BEARER: &[u8] = b"Bearer";

/// How many headers are parsed without allocating memory.
const FEW_HEADERS: usize = 128;
