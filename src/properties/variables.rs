//! A file of variables.
//!
//! ```text
//!   bytes ─▶ variables ─▶ NAME="value" lines ─▶ the same variables
//!     └───▶ an error: a line that is there, all before it are right, nothing of it is shown
//! ```

use crate::job::{Variables, parse_variables};

/// What is read can be written and read again; what is wrong is one line, and stays secret.
pub(super) fn check_variables(data: &[u8]) {
    let error = match parse_variables(data) {
        Ok(variables) => return check_read(&variables),
        Err(error) => error,
    };
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let (before, rest) = lines.split_at(error.line - 1);
    assert!(parse_variables(&before.join(&b'\n')).is_ok(), "line {} is not the first", error.line);
    // The mark of UTF-8 counts only at the beginning.
    let alone = [if before.is_empty() { &b""[..] } else { b"\n" }, rest[0]].concat();
    let said = parse_variables(&alone).map_err(|error| error.message);
    assert_eq!(said, Err(error.message.clone()), "a line is wrong by itself");
    let words = rest[0].split(|byte| !byte.is_ascii_alphanumeric());
    for word in words.filter(|word| word.len() >= SHOWN_BY_CHANCE) {
        let word = String::from_utf8_lossy(word);
        assert!(!error.message.contains(&*word), "{word:?} is shown: {}", error.message);
    }
}

fn check_read(variables: &Variables) {
    let mut written = Vec::new();
    for (name, value) in variables {
        written.extend_from_slice(b"export ");
        written.extend_from_slice(name.as_bytes());
        written.extend_from_slice(b"=\"");
        for byte in value {
            match byte {
                b'\n' => written.extend_from_slice(b"\\n"),
                b'"' | b'\\' => written.extend_from_slice(&[b'\\', *byte]),
                _ => written.push(*byte),
            }
        }
        written.extend_from_slice(b"\"\r\n# and the next\n");
    }
    assert_eq!(parse_variables(&written).as_ref(), Ok(variables));
    for (name, value) in variables {
        assert!(!name.is_empty() && !name.contains(['=', '\0', ' ', '\n']), "{name:?}");
        assert!(!value.contains(&0), "a value must be one of environ(7)");
    }
}

/// Shorter words are also among those of the message.
const SHOWN_BY_CHANCE: usize = 10;
