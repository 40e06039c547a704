//! The client's side of HTTP/1.1 and 1.0, as far as a probe needs it: one GET, and the status of
//! its answer (RFC 9112, sections 3, 4 and 9.6).
//!
//! ```text
//!   request ─▶ bytes        bytes ─▶ "HTTP/1.1 100 …" ─▶ its head is skipped ─┐
//!                            ▲                                                │
//!                            └────────────────────────────────────────────────┘
//!                                    "HTTP/1.1 200 …" ─▶ its head is skipped ─▶ 200
//! ```
//!
//! Nothing of a head is kept but its current line, as far as it is needed. The body is not read:
//! the connection is dropped before it. A redirect is not followed: it is its status.

/// The bytes of `GET target`, for a server that is addressed as `host`, as in a URL: it contains
/// the port unless that is 80. The connection ends with the answer.
pub fn get(host: &str, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: k1s\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to a request, while it is read.
#[derive(Debug, Default)]
pub struct Answer {
    /// The beginning of the current line, up to [`KEPT_BYTES`].
    line: Vec<u8>,
    /// The status, once its line was read.
    status: Option<u16>,
    /// How much of it was read, with all interim answers before it.
    bytes: usize,
}

impl Answer {
    /// Takes the bytes that were read next. Returns the status once the head that it is in is
    /// complete, or what is wrong with the answer, for people; the rest of the connection means
    /// nothing then.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Option<Result<u16, String>> {
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            self.bytes += 1;
            if self.bytes > MAX_HEAD_BYTES {
                return Some(Err(format!("the head of its answer exceeds {MAX_HEAD_BYTES} bytes")));
            }
            if *byte == b'\n' {
                let outcome = self.end_line();
                if outcome.is_some() {
                    return outcome;
                }
            } else if !self.add(*byte) {
                let line = rest.take_while(|byte| **byte != b'\n');
                self.line.extend(line.take(KEPT_BYTES - self.line.len()));
                return Some(Err(self.complaint()));
            }
        }
        None
    }

    /// The peer has closed the connection before the answer was complete: what is wrong, for
    /// people.
    pub fn handle_eof(&self) -> &'static str {
        match self.bytes {
            0 => "closed without an answer",
            _ => "closed in the head of its answer",
        }
    }

    /// Adds to the current line; returns whether it can still be one of HTTP. What cannot be one
    /// may never come to its end.
    fn add(&mut self, byte: u8) -> bool {
        if self.line.len() < KEPT_BYTES {
            self.line.push(byte);
        }
        self.status.is_some() || begins_like_http(&self.line)
    }

    /// A line has ended, by CRLF or by LF alone (RFC 9112, section 2.2).
    fn end_line(&mut self) -> Option<Result<u16, String>> {
        let Some(status) = self.status else {
            self.status = status_in(&self.line);
            let outcome = self.status.is_none().then(|| Err(self.complaint()));
            self.line.clear();
            return outcome;
        };
        let is_end = matches!(self.line.as_slice(), b"" | b"\r");
        self.line.clear();
        if is_end && is_interim(status) {
            self.status = None;
            return None;
        }
        is_end.then_some(Ok(status))
    }

    fn complaint(&self) -> String {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        format!("not an answer in HTTP/1: {:?}", String::from_utf8_lossy(line))
    }
}

/// `HTTP/1.1 200 OK`, `HTTP/1.0 200`: RFC 9112, section 4. The reason phrase means nothing.
fn status_in(line: &[u8]) -> Option<u16> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (version, rest) = line.split_at_checked(VERSION.len() + 2)?;
    let (code, reason) = rest.split_at_checked(3)?;
    let is_http = begins_like_http(version) && matches!(reason.first(), None | Some(b' '));
    let is_code = is_http && code.iter().all(u8::is_ascii_digit);
    let code = std::str::from_utf8(code).ok().filter(|_| is_code)?;
    code.parse().ok().filter(|code| *code >= 100)
}

/// Whether what has come so far can be the beginning of a status line: `HTTP/1.`, a digit, a blank.
fn begins_like_http(line: &[u8]) -> bool {
    line.iter().enumerate().all(|(index, byte)| match VERSION.get(index) {
        Some(expected) => byte == expected,
        None if index == VERSION.len() => byte.is_ascii_digit(),
        None if index == VERSION.len() + 1 => *byte == b' ',
        None => true,
    })
}

/// Whether another answer follows (RFC 9110, section 15.2). After a 101 no HTTP follows, and no
/// protocol was asked for.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

const VERSION: &[u8] = b"HTTP/1.";
/// The most bytes of the head of an answer, with the interim answers before it.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How much of a line is kept: enough for its status, or to say what came in place of it.
const KEPT_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, expected: Option<Result<u16, &str>>) {
        let outcome = Answer::default().handle_bytes(answer.as_bytes());
        assert_eq!(outcome, expected.map(|outcome| outcome.map_err(str::to_owned)), "{answer:?}");
    }

    #[test]
    fn a_request_names_its_host_and_closes() {
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: [::1]:81\r\nUser-Agent: k1s\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(get("[::1]:81", "/a?b=c"), expected.as_bytes());
    }

    #[test]
    fn the_status_of_an_answer_is_read_when_its_head_is_complete() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody", Some(Ok(200)));
        check("HTTP/1.0 404\r\n\r\n", Some(Ok(404)));
        check("HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", Some(Ok(302)));
        check("HTTP/1.1 503 \r\n\r\n", Some(Ok(503)));
        check("HTTP/1.1 999 Blocked\r\n\r\n", Some(Ok(999)));
        check("HTTP/1.0 200 OK\n\n", Some(Ok(200)));
        check("HTTP/1.1 200 \u{fc}\r\nX: \0\r\n\r\n", Some(Ok(200)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", None);
        check("HTT", None);
    }

    #[test]
    fn interim_answers_are_skipped() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        check(
            &format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 204 X\r\n\r\n"),
            Some(Ok(204)),
        );
        check(hints, None);
        check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Some(Ok(101)));
    }

    #[test]
    fn what_is_no_answer_is_shown() {
        let no_answer = |begin: &str| format!("not an answer in HTTP/1: {begin:?}");
        for (answer, shown) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
            ("<html>", "<html>"),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
            ("\nHTTP/1.1 200 OK\r\n\r\n", ""),
            ("HTTP/2 200\r\n\r\n", "HTTP/2 200"),
            ("HTTP/1.1200 OK\r\n\r\n", "HTTP/1.1200 OK"),
            ("HTTP/1.1\r\n\r\n", "HTTP/1.1"),
            ("HTTP/1.1 \r\n\r\n", "HTTP/1.1 "),
            ("HTTP/1.1 20\r\n\r\n", "HTTP/1.1 20"),
            ("HTTP/1.1 2000\r\n\r\n", "HTTP/1.1 2000"),
            ("HTTP/1.1 +20\r\n\r\n", "HTTP/1.1 +20"),
            ("HTTP/1.1 099 Low\r\n\r\n", "HTTP/1.1 099 Low"),
            ("HTTP/1.1 100 A\r\n\r\nHTTP/3 200", "HTTP/3 200"),
        ] {
            check(answer, Some(Err(&no_answer(shown))));
        }
        let long = format!("HTTP/1.1 no {}\n", "x".repeat(100));
        check(&long, Some(Err(&no_answer(&long[..KEPT_BYTES]))));
    }

    #[test]
    fn a_head_has_a_limit_and_so_have_interim_answers() {
        let too_long = Some(Err("the head of its answer exceeds 16384 bytes"));
        check(&format!("HTTP/1.1 200 {}", "x".repeat(20_000)), too_long);
        check(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(4000)), too_long);
        check(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), too_long);
    }

    #[test]
    fn an_end_before_the_answer_is_told_apart() {
        let mut answer = Answer::default();
        assert_eq!(answer.handle_eof(), "closed without an answer");
        assert_eq!(answer.handle_bytes(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(answer.handle_eof(), "closed in the head of its answer");
    }
}
