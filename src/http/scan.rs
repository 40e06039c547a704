//! Where a head ends, found as its bytes arrive.
//!
//! Each byte is looked at once, however the head is cut into packets, and the answer never
//! depends on where it was cut. What no head can hold is refused here, as soon as it comes:
//! a line feed or a carriage return on its own (RFC 9112, section 2.2, permits a bare line
//! feed, and so permits two parties to see two different heads), and control characters.

use super::{Limits, Refusal, Status};

/// How much of a head has been looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadScan {
    /// All before it has been looked at.
    position: usize,
    /// Where the head begins, behind empty lines.
    start: usize,
    /// Where the line begins that is being looked at.
    line: usize,
}

impl HeadScan {
    /// Where the head begins: empty lines before it are passed over (RFC 9112, section 2.2).
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// How many bytes have been looked at, and will not be again.
    #[cfg(test)]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Whether all so far is empty lines.
    pub(super) fn is_blank(&self, input: &[u8]) -> bool {
        matches!(input.get(self.start..), None | Some([]) | Some([b'\r']))
    }

    /// Looks at what is new in `input`, which begins as it did last time. `Some(end)` when
    /// the head is complete: `input[start..end]`.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Refusal> {
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
                (Some(b'\r'), Some(_)) => return Err(Refusal::bad("bare CR in the head")),
                (Some(b'\n'), _) => return Err(Refusal::bad("bare LF in the head")),
                _ => return Err(Refusal::bad("control character in the head")),
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

    /// A line has ended, its CRLF at `at`; true when it was the empty one behind the head.
    fn end_line(&mut self, at: usize) -> Result<bool, Refusal> {
        let is_empty = at == self.line;
        self.line = self.position;
        if !is_empty {
            return Ok(false);
        }
        if at != self.start {
            return Ok(true);
        }
        self.start = self.position;
        if self.start > MAX_EMPTY_LINES * 2 {
            return Err(Refusal::bad("empty lines instead of a request"));
        }
        Ok(false)
    }

    fn too_large(&self) -> Refusal {
        if self.line == self.start {
            Refusal::new(Status::UriTooLong, "request line too long")
        } else {
            Refusal::new(Status::HeaderFieldsTooLarge, "headers too large")
        }
    }
}

/// The first byte that is a control character. Sixteen at a time are compared at once;
/// which of them it was is looked up when there is one.
fn find_special(bytes: &[u8]) -> Option<usize> {
    let is_plain = |chunk: &&[u8]| !chunk.iter().fold(false, |any, byte| any | is_special(byte));
    let plain = 16 * bytes.chunks_exact(16).take_while(is_plain).count();
    let rest = bytes.get(plain..).unwrap_or_default();
    rest.iter().position(is_special).map(|at| plain + at)
}

fn is_special(byte: &u8) -> bool {
    *byte < b' ' || *byte == 0x7f
}

/// Empty lines that are passed over before a request line.
const MAX_EMPTY_LINES: usize = 4;
