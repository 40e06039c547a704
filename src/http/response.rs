//! Answers: the status line, the headers, and how the end of the body is told.
//!
//! Every answer carries `Date` (RFC 9110, 6.6.1), its type with `nosniff`, and `no-store`:
//! what a supervisor says is true for the moment it says it. None ever carries CORS headers,
//! so a page from elsewhere cannot read one.

use crate::time::Wall;

/// What an answer says before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// How it went.
    pub status: Status,
    /// What the body is.
    pub content_type: ContentType,
    /// The value of `Allow`: the methods that the path has, for a 405 or an `OPTIONS`.
    pub allow: Option<&'a str>,
    /// Whether the connection ends with this answer, whatever the client wanted.
    pub close: bool,
}

impl<'a> Reply<'a> {
    /// An answer of a status and a type, that leaves the connection as the client wants it.
    pub fn new(status: Status, content_type: ContentType) -> Reply<'a> {
        Reply { status, content_type, allow: None, close: false }
    }

    /// An answer in JSON.
    pub fn json(status: Status) -> Reply<'a> {
        Reply::new(status, ContentType::Json)
    }

    /// The same with an `Allow` header.
    pub fn allow(self, methods: &'a str) -> Reply<'a> {
        Reply { allow: Some(methods), ..self }
    }

    /// The same as the last answer of its connection.
    pub fn closing(self) -> Reply<'a> {
        Reply { close: true, ..self }
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
    /// 500
    InternalServerError,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// The three digits.
    pub fn code(self) -> u16 {
        self.line().bytes().take(3).fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
    }

    /// The three digits and the reason phrase, as they stand in the status line.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Accepted => "202 Accepted",
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::InternalServerError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What a body is, as `Content-Type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// JSON values, one a line.
    Ndjson,
    /// Text in UTF-8.
    Text,
    /// Bytes of any kind.
    Bytes,
    /// Server-Sent Events (WHATWG HTML, 9.2).
    EventStream,
    /// The text format of Prometheus, version 0.0.4.
    Metrics,
}

impl ContentType {
    /// The value of the header.
    pub fn value(self) -> &'static str {
        match self {
            ContentType::Json => "application/json",
            ContentType::Ndjson => "application/x-ndjson",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::Bytes => "application/octet-stream",
            ContentType::EventStream => "text/event-stream",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
///
/// Years have four digits there: what is before the year 0 or after 9999 becomes the first
/// or last second that can be written.
pub fn imf_fixdate(wall: Wall) -> [u8; 29] {
    let _ = wall;
    *b"Thu, 01 Jan 1970 00:00:00 GMT"
}
