//! Writes JSON piece by piece to the output of a connection.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io;

/// Writes a whole answer, with a newline at its end, so that a terminal's prompt comes on a new
/// line.
pub(super) fn write_line(out: &mut Vec<u8>, body: &impl Serialize) {
    write_json(out, body);
    out.push(b'\n');
}

/// Writes a value. This cannot fail: it writes to memory, and all keys are strings.
pub(super) fn write_json(out: &mut Vec<u8>, body: &impl Serialize) {
    let _ = serde_json::to_writer(out, body);
}

/// The first `at_most` bytes of a text (4 or more), or a few less, so that no character is split.
/// Every byte except a continuation byte begins a character, valid or not, and a character has at
/// most three of those (RFC 3629).
pub(super) fn slice_of_text(text: &[u8], at_most: usize) -> &[u8] {
    let begins_character = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (at_most.saturating_sub(3)..=at_most).rev().find(begins_character);
    text.get(..end.unwrap_or(at_most)).unwrap_or(text)
}

/// Writes bytes as a part of a JSON string; those that are not UTF-8 become U+FFFD.
pub(super) fn write_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut serializer = Serializer::with_formatter(out, Unquoted);
    // Most output is UTF-8, and checking that is faster than replacing. Writing to memory cannot
    // fail.
    let _ = match str::from_utf8(bytes) {
        Ok(text) => text.serialize(&mut serializer),
        Err(_) => String::from_utf8_lossy(bytes).serialize(&mut serializer),
    };
}

/// Compact JSON with strings that have no quotation marks around them.
struct Unquoted;

impl Formatter for Unquoted {
    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an object without its closing brace, for more fields to follow.
pub(super) fn open_object(out: &mut Vec<u8>, fields: &impl Serialize) {
    write_json(out, fields);
    out.pop();
}

/// Writes the last fields of an object, and its closing brace.
pub(super) fn close_object(out: &mut Vec<u8>, fields: &impl Serialize) {
    let begin = out.len();
    write_json(out, fields);
    if let Some(brace) = out.get_mut(begin) {
        *brace = b',';
    }
}

/// How many bytes of a text are written before the length of the output is checked again.
pub(super) const TEXT_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_text_make_the_text_that_the_whole_would() {
        let pieces: [&[u8]; 14] = [
            b"a",
            b"\"\\\n\x01\x7f",
            "é".as_bytes(),
            "€".as_bytes(),
            "🦀".as_bytes(),
            b"\x80",
            b"\xbf\x80\x80\x80\x80",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9f\xa6",
            b"\xf0\x9f",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"\xff\xfe",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let text = [first, second, third, first].concat();
                    for at_most in 4..=text.len() + 1 {
                        check_text(&text, at_most);
                    }
                }
            }
        }
    }

    fn check_text(text: &[u8], at_most: usize) {
        let (mut rest, mut out) = (text, b"\"".to_vec());
        while !rest.is_empty() {
            let slice = slice_of_text(rest, at_most);
            assert!((1..=at_most).contains(&slice.len()), "{text:x?} by {at_most}");
            write_text(&mut out, slice);
            rest = &rest[slice.len()..];
        }
        out.push(b'"');
        let whole = serde_json::to_vec(&String::from_utf8_lossy(text)).unwrap();
        assert_eq!(out, whole, "{text:x?} by {at_most}");
    }
}
