//! Decodes bodies of unknown length (RFC 9112, section 7.1), byte by byte.
//!
//! ```text
//!          ┌──────────────────────────── DataLf ◀── DataCr ◀─┐
//!          ▼        CR            LF  size > 0                │
//!   ──▶  Size ────────▶ SizeLf ───────────────────────────▶ Data
//!          │ ; or blank   ▲  │ LF  size 0
//!          ▼              │  ▼
//!       Extension ────────┘ Trailer ⇄ name, value ──CR──▶ LastLf ──▶ Complete
//! ```
//!
//! A size has 1 to 16 digits. Extensions must follow their grammar, are limited in size, and are
//! ignored. So are trailers.

use super::{Limits, ProtocolError, Status, append};

/// The state of decoding a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of extensions and trailers so far, which together may be as large as a head.
    overhead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u32 },
    Extension { size: u64, part: Extension },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Complete,
}

/// The position of the last byte in `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// In the blanks after the size or a value: a semicolon must follow.
    Blank,
    Semicolon,
    Name,
    BlankAfterName,
    Equals,
    Token,
    Quoted,
    Escape,
    EndOfQuoted,
}

impl Chunked {
    pub(super) fn new() -> Chunked {
        Chunked { state: NEXT_CHUNK, overhead: 0 }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Takes bytes up to the end of the body, and appends their data to `body`. Returns how many
    /// bytes it took.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            if let State::Data { left } = self.state {
                let length = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                append(body, rest.get(..length).unwrap_or_default(), limits.max_body_bytes);
                taken += length;
                self.state = match left - length as u64 {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                continue;
            }
            let Some(byte) = rest.first().filter(|_| !self.is_complete()) else {
                break;
            };
            self.state = self.next(*byte, body.len(), limits)?;
            taken += 1;
        }
        Ok(taken)
    }

    /// The state after a byte that is not data.
    fn next(&mut self, byte: u8, so_far: usize, limits: &Limits) -> Result<State, ProtocolError> {
        self.count_overhead(limits)?;
        match (self.state, byte) {
            (State::Size { size, digits }, _) => next_of_size(size, digits, byte),
            (State::Extension { size, part }, _) => next_of_extension(size, part, byte),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeLf { size }, b'\n') => {
                if size > limits.max_body_bytes.saturating_sub(so_far) as u64 {
                    return Err(ProtocolError::new(Status::ContentTooLarge, "body too large"));
                }
                Ok(State::Data { left: size })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(NEXT_CHUNK),
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf, b'\n') => Ok(State::Complete),
            (State::SizeLf { .. } | State::DataCr | State::DataLf, _) => {
                Err(ProtocolError::bad("chunk without its line end"))
            }
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                Err(ProtocolError::bad("malformed trailer"))
            }
            (State::TrailerLf | State::LastLf, _) => {
                Err(ProtocolError::bad("bare CR in a trailer"))
            }
            (State::Data { .. } | State::Complete, _) => Ok(self.state),
        }
    }

    /// Counts bytes of extensions and trailers; the length of sizes is limited elsewhere.
    fn count_overhead(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        self.overhead += match self.state {
            State::Extension { .. }
            | State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf => 1,
            State::Size { .. }
            | State::SizeLf { .. }
            | State::Data { .. }
            | State::DataCr
            | State::DataLf
            | State::Complete => 0,
        };
        if self.overhead > limits.max_head_bytes {
            return Err(ProtocolError::new(
                Status::HeaderFieldsTooLarge,
                "chunk extensions and trailers too large",
            ));
        }
        Ok(())
    }
}

fn next_of_size(size: u64, digits: u32, byte: u8) -> Result<State, ProtocolError> {
    let extension = |part| Ok(State::Extension { size, part });
    match (char::from(byte).to_digit(16), byte) {
        (Some(_), _) if digits == MAX_DIGITS => {
            Err(ProtocolError::bad("chunk size of too many digits"))
        }
        (Some(digit), _) => {
            Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
        }
        (None, b'\r') if digits > 0 => Ok(State::SizeLf { size }),
        (None, b';') if digits > 0 => extension(Extension::Semicolon),
        (None, b' ' | b'\t') if digits > 0 => extension(Extension::Blank),
        (None, _) => Err(ProtocolError::bad("malformed chunk size")),
    }
}

fn next_of_extension(size: u64, part: Extension, byte: u8) -> Result<State, ProtocolError> {
    use Extension as E;
    let next = match (part, byte) {
        (E::Name | E::Token | E::EndOfQuoted, b'\r') => return Ok(State::SizeLf { size }),
        (E::Blank | E::Token | E::EndOfQuoted, b' ' | b'\t') => E::Blank,
        (E::Blank | E::Name | E::BlankAfterName | E::Token | E::EndOfQuoted, b';') => E::Semicolon,
        (E::Semicolon, b' ' | b'\t') => E::Semicolon,
        (E::Semicolon | E::Name, _) if is_token_byte(byte) => E::Name,
        (E::Name | E::BlankAfterName, b' ' | b'\t') => E::BlankAfterName,
        (E::Name | E::BlankAfterName, b'=') => E::Equals,
        (E::Equals, b' ' | b'\t') => E::Equals,
        (E::Equals, b'"') => E::Quoted,
        (E::Equals | E::Token, _) if is_token_byte(byte) => E::Token,
        (E::Quoted, b'"') => E::EndOfQuoted,
        (E::Quoted, b'\\') => E::Escape,
        (E::Quoted | E::Escape, _) if is_text_byte(byte) => E::Quoted,
        _ => return Err(ProtocolError::bad("malformed chunk extension")),
    };
    Ok(State::Extension { size, part: next })
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a byte is allowed in a field value or a quoted string: all but controls (RFC 9110, 5.5).
fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

const NEXT_CHUNK: State = State::Size { size: 0, digits: 0 };

/// The most digits of a chunk size: 64 bits, including leading zeros, so that lines are bounded.
const MAX_DIGITS: u32 = 16;
