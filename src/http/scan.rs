//! Finds the end of a head while its bytes arrive.
//!
//! Each byte is looked at once, and the result never depends on how the head was split into
//! packets. Bytes that no head may contain are refused as soon as they arrive: control characters,
//! and a line feed or a carriage return on its own. RFC 9112, section 2.2, permits a bare line
//! feed, and so lets two parties see two different heads.

use super::{Limits, ProtocolError, Status};

/// How much of a head was scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadScan {
    /// Everything before it was scanned.
    position: usize,
    /// Where the head begins, after empty lines.
    start: usize,
    /// Where the current line begins.
    line: usize,
}

impl HeadScan {
    /// Where the head begins: empty lines before it are skipped (RFC 9112, section 2.2).
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// How many bytes were scanned, and will not be again.
    #[cfg(test)]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Whether there are only empty lines so far.
    pub(super) fn is_blank(&self, input: &[u8]) -> bool {
        matches!(input.get(self.start..), None | Some([]) | Some([b'\r']))
    }

    /// Scans what is new in `input`, which begins like the last one. Returns `Some(end)` when the
    /// head is complete: `input[start..end]`.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let window = input.get(..limits.max_head_bytes).unwrap_or(input);
        while let Some(found) = window.get(self.position..).and_then(find_special) {
            let at = self.position + found;
            self.position = at;
            match (window.get(at), window.get(at + 1)) {
                (Some(b'\t'), _) => self.position += 1,
                (Some(b'\r'), None) => break,
                (Some(b'\r'), Some(b'\n')) => {
                    self.position += 2;
                    if self.end_line(at)? {
                        return Ok(Some(self.position));
                    }
                }
                (Some(b'\r'), Some(_)) => return Err(ProtocolError::bad("bare CR in the head")),
                (Some(b'\n'), _) => return Err(ProtocolError::bad("bare LF in the head")),
                _ => return Err(ProtocolError::bad("control character in the head")),
            }
        }
        if input.len() > limits.max_head_bytes {
            return Err(self.too_large());
        }
        if window.get(self.position) != Some(&b'\r') {
            self.position = window.len();
        }
        Ok(None)
    }

    /// A line has ended with CRLF at `at`; returns whether it was the empty line after the head.
    fn end_line(&mut self, at: usize) -> Result<bool, ProtocolError> {
        let is_empty = at == self.line;
        self.line = self.position;
        if !is_empty {
            return Ok(false);
        }
        if at != self.start {
            return Ok(true);
        }
        if self.position > MAX_EMPTY_LINES * 2 {
            // What follows is no head, whether it is there already or not.
            return Err(ProtocolError::bad("empty lines instead of a request"));
        }
        self.start = self.position;
        Ok(false)
    }

    fn too_large(&self) -> ProtocolError {
        if self.line == self.start {
            ProtocolError::new(Status::UriTooLong, "request line too long")
        } else {
            ProtocolError::new(Status::HeaderFieldsTooLarge, "headers too large")
        }
    }
}

/// Finds the first control character. Sixteen bytes are compared at once; only if one of them
/// matches is it looked for.
fn find_special(bytes: &[u8]) -> Option<usize> {
    let is_plain = |chunk: &&[u8]| !chunk.iter().fold(false, |any, byte| any | is_special(byte));
    let plain = 16 * bytes.chunks_exact(16).take_while(is_plain).count();
    let rest = bytes.get(plain..).unwrap_or_default();
    rest.iter().position(is_special).map(|at| plain + at)
}

fn is_special(byte: &u8) -> bool {
    *byte < b' ' || *byte == 0x7f
}

/// How many empty lines are skipped before a request line.
const MAX_EMPTY_LINES: usize = 4;
