//! Answers: the status line, the headers, and the framing of the body.
//!
//! Every answer has `Date` (RFC 9110, 6.6.1), its type with `nosniff`, and `no-store`, because the
//! state of a supervisor is true only for a moment. No answer has CORS headers, so that pages from
//! elsewhere cannot read it.

use crate::calendar::imf_fixdate;
use crate::time::Wall;

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Its status.
    pub status: Status,
    /// The type of the body.
    pub content_type: ContentType,
    /// The value of `Allow`: the methods of the path, for a 405 or an `OPTIONS`.
    pub allow: Option<&'a str>,
    /// Whether it goes on as long as something happens: asks proxies to pass it on at once, without
    /// buffering (`X-Accel-Buffering` for nginx).
    pub is_live: bool,
    /// Whether the connection ends with this answer, whatever the client wants.
    pub close: bool,
    /// Further headers, as names and values.
    pub fields: &'a [(&'a str, &'a str)],
}

impl<'a> Reply<'a> {
    /// An answer with a status and a type, after which the connection does what the client wants.
    pub fn new(status: Status, content_type: ContentType) -> Reply<'a> {
        Reply { status, content_type, allow: None, is_live: false, close: false, fields: &[] }
    }

    /// An answer in JSON.
    pub fn json(status: Status) -> Reply<'a> {
        Reply::new(status, ContentType::Json)
    }
}

/// The statuses that k1s answers with (RFC 9110, section 15; RFC 6585 for 431).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// 200
    Ok,
    /// 202
    Accepted,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 408
    RequestTimeout,
    /// 409
    Conflict,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 417
    ExpectationFailed,
    /// 431
    HeaderFieldsTooLarge,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// The code and the reason phrase, as in the status line.
    pub(super) fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Accepted => "202 Accepted",
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::NotAcceptable => "406 Not Acceptable",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// The type of a body, for `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// JSON values, one on each line.
    Ndjson,
    /// Text in UTF-8.
    Text,
    /// A page in UTF-8.
    Html,
    /// Bytes of any kind.
    Bytes,
    /// Server-Sent Events (WHATWG HTML, 9.2).
    EventStream,
    /// The text format of Prometheus, version 0.0.4.
    Metrics,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl ContentType {
    /// The value of the header.
    pub(super) fn value(self) -> &'static str {
        match self {
            ContentType::Json => "application/json",
            ContentType::Ndjson => "application/x-ndjson",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::Html => "text/html; charset=utf-8",
            ContentType::Bytes => "application/octet-stream",
            ContentType::EventStream => "text/event-stream",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            ContentType::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// How the client finds the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// In chunks (RFC 9112, section 7.1).
    Chunked,
    /// The connection is closed: the only way in HTTP/1.0 when the length is not known.
    UntilClose,
}

/// What `Connection` says in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: in HTTP/1.1 the connection stays.
    Default,
    /// The connection stays, which must be said in HTTP/1.0.
    KeepAlive,
    /// The connection ends with this answer.
    Close,
}

/// Writes an answer whose body `write` appends; `with_body` is false for HEAD. The length is known
/// only after the body, so room is left for it.
pub(super) fn write_sized(
    output: &mut Vec<u8>,
    reply: &Reply<'_>,
    persistence: Persistence,
    wall: Wall,
    with_body: bool,
    write: impl FnOnce(&mut Vec<u8>),
) {
    write_fields(output, reply, persistence, wall);
    output.extend_from_slice(b"Content-Length: ");
    let length_at = output.len();
    output.extend_from_slice(&[b'0'; MAX_DIGITS]);
    output.extend_from_slice(b"\r\n\r\n");
    let body_at = output.len();
    write(output);
    let length = output.len().saturating_sub(body_at);
    if !with_body {
        output.truncate(body_at);
    }
    let surplus = write_decimal(output.get_mut(length_at..).unwrap_or_default(), length);
    output.drain(length_at..length_at + surplus);
}

/// Writes the head of an answer of unknown length.
pub(super) fn write_stream_head(
    output: &mut Vec<u8>,
    reply: &Reply<'_>,
    persistence: Persistence,
    wall: Wall,
    framing: Framing,
) {
    write_fields(output, reply, persistence, wall);
    output.extend_from_slice(match framing {
        Framing::Chunked => b"Transfer-Encoding: chunked\r\n\r\n".as_slice(),
        Framing::UntilClose => b"\r\n",
    });
}

/// Writes what `write` appends as one chunk, unless it is empty: an empty chunk would end the body.
/// The size has leading zeros, which are permitted, so that a large chunk need not be moved to
/// close a gap.
pub(super) fn write_chunk(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let size_at = output.len();
    output.extend_from_slice(b"00000000\r\n");
    let data_at = output.len();
    write(output);
    let mut size = output.len().saturating_sub(data_at);
    if size == 0 {
        output.truncate(size_at);
        return;
    }
    let digits = output.get_mut(size_at..data_at - 2).unwrap_or_default();
    for place in digits.iter_mut().rev() {
        *place = HEX_DIGITS[size & 0xf];
        size >>= 4;
    }
    output.extend_from_slice(b"\r\n");
}

/// The end of a chunked body; there are no trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Says that the client may send the body that it holds back (RFC 9110, section 10.1.1).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes the status line and all headers, except the one for the framing of the body.
fn write_fields(output: &mut Vec<u8>, reply: &Reply<'_>, persistence: Persistence, wall: Wall) {
    output.reserve(COMMON_SIZE);
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(reply.status.line().as_bytes());
    output.extend_from_slice(b"\r\nDate: ");
    output.extend_from_slice(&imf_fixdate(wall));
    output.extend_from_slice(b"\r\nContent-Type: ");
    output.extend_from_slice(reply.content_type.value().as_bytes());
    output.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n");
    if let Some(methods) = reply.allow {
        output.extend_from_slice(b"Allow: ");
        output.extend_from_slice(methods.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
    if reply.is_live {
        output.extend_from_slice(b"X-Accel-Buffering: no\r\n");
    }
    for (name, value) in reply.fields {
        for part in [*name, ": ", *value, "\r\n"] {
            output.extend_from_slice(part.as_bytes());
        }
    }
    output.extend_from_slice(match persistence {
        Persistence::Default => b"".as_slice(),
        Persistence::KeepAlive => b"Connection: keep-alive\r\n",
        Persistence::Close => b"Connection: close\r\n",
    });
}

/// Writes a number to the end of the first [`MAX_DIGITS`] places; returns how many are left.
fn write_decimal(places: &mut [u8], mut number: usize) -> usize {
    let mut surplus = MAX_DIGITS;
    for place in places.iter_mut().take(MAX_DIGITS).rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        surplus -= 1;
        if number == 0 {
            break;
        }
    }
    surplus
}

const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";

/// The digits of the greatest length.
const MAX_DIGITS: usize = 20;

/// What most answers need, so that memory is allocated once.
const COMMON_SIZE: usize = 512;
