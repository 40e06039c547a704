//! The head of a request: parsed by httparse, then held to the letter of the RFCs.

/// What a request says before its body: only what k1s acts on is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is asked.
    pub method: Method,
    /// The version that the peer speaks.
    pub version: Version,
    /// What it is asked of, decoded.
    pub path: Path,
    /// The pairs after `?`, in order, decoded once: `a=1&b` is `("a", "1")`, `("b", "")`.
    ///
    /// `+` is a space, as browsers, `URLSearchParams` and Python's `urlencode` write it
    /// (application/x-www-form-urlencoded); a plus sign is `%2B`.
    pub query: Vec<(String, String)>,
    /// The value of `Authorization`.
    pub authorization: Option<Vec<u8>>,
    /// The value of `Last-Event-ID`, where it is UTF-8 (WHATWG HTML, 9.2).
    pub last_event_id: Option<String>,
    /// How the end of the body is told.
    pub body_length: BodyLength,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the connection can go on after the answer, as far as the peer is concerned.
    pub keep_alive: bool,
}

impl Head {
    /// The token of `Authorization: Bearer TOKEN`, the scheme in any case (RFC 6750, 2.1).
    pub fn bearer(&self) -> Option<&[u8]> {
        None
    }

    /// The value of the first pair of this name in the query.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A request that is here as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was said before the body.
    pub head: Head,
    /// The body, its chunks put together; empty when there is none.
    pub body: Vec<u8>,
}

/// The methods of RFC 9110, section 9.3, and PATCH (RFC 5789). CONNECT, which is for
/// proxies, and all other tokens, are answered 501 by the codec; methods are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: as GET, but the codec leaves the body of the answer out by itself.
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

/// The versions of HTTP that are understood; others are answered 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of a request's body is told (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// `Content-Length`, in bytes; it may be more than is permitted.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A path, decoded: its segments are UTF-8 without control characters.
///
/// It is split before it is decoded, so that `%2F` is a letter of a segment like any other.
/// Nothing is taken away: `/job/` has the segments `job` and an empty one, and `..` is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Each segment after a NUL, which no segment can hold: one allocation for all.
    text: String,
}

impl Path {
    /// What stands between the slashes: one empty segment for `/`, none for `*`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('\0').skip(1)
    }
}
