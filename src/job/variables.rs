//! Reads a file of variables: `environmentFile` of a job.
//!
//! ```text
//!   # a comment            NAME=value                  the rest of the line, without blanks at its end
//!                          export NAME='value'         as it is
//!                          NAME="a\tb"                 knows \n \t \" \\
//! ```
//!
//! Each line is by itself. An error names the line and never shows what is in it, which may be
//! secret.

use std::fmt;

/// Names and values, in the order of the lines; of those with the same name the last counts. Values
/// may hold any bytes but NUL.
pub type Variables = Vec<(String, Vec<u8>)>;

/// What is wrong in a file of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariablesError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Writes `line 3: must be NAME=VALUE …`.
impl fmt::Display for VariablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads the content of a file.
///
/// # Errors
/// The first line that is neither empty, a comment, nor a variable.
pub fn parse_variables(text: &[u8]) -> Result<Variables, VariablesError> {
    // Some editors begin a file with the mark of UTF-8.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut variables = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        match variable(line) {
            Ok(variable) => variables.extend(variable),
            Err(message) => return Err(VariablesError { line: index + 1, message }),
        }
    }
    Ok(variables)
}

/// What is wrong with the name of a variable that a user gives to a job: environ(7).
///
/// # Errors
/// The name is empty, contains `=` or NUL, or is one that k1s sets for every run.
pub(super) fn check_variable_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("a variable's name must not be empty".into()),
        "K1S_JOB" | "K1S_RUN" => Err("is set by k1s for every run".into()),
        _ if name.contains(['=', '\0']) => {
            Err("a variable's name must not contain `=` or NUL".into())
        }
        _ => Ok(()),
    }
}

/// The variable of a line; `None` for an empty line or a comment.
fn variable(line: &[u8]) -> Result<Option<(String, Vec<u8>)>, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    if line.contains(&0) {
        return Err("holds a NUL byte".into());
    }
    let Some(at) = line.iter().position(|byte| *byte == b'=') else {
        return Err("must be NAME=VALUE, or a comment that begins with #".into());
    };
    let (name, given) = (line.get(..at), line.get(at + 1..));
    let (name, given) = (name.unwrap_or_default(), given.unwrap_or_default());
    let name = match name.strip_prefix(b"export") {
        Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii_start(),
        Some(_) | None => name,
    };
    if given.first().is_some_and(u8::is_ascii_whitespace) && !given.trim_ascii().is_empty() {
        return Err("must have no blank after `=`".into());
    }
    let name = str::from_utf8(name).map_err(|_| "has a name that is not UTF-8".to_owned())?;
    if name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err("must be NAME=VALUE, without blanks in or after the name".into());
    }
    check_variable_name(name).map_err(|why| match name {
        "" => why,
        _ => format!("{name}: {why}"),
    })?;
    Ok(Some((name.to_owned(), value(given)?)))
}

fn value(given: &[u8]) -> Result<Vec<u8>, String> {
    match given.split_first() {
        Some((b'\'', rest)) => single_quoted(rest),
        Some((b'"', rest)) => double_quoted(rest),
        Some(_) | None => Ok(given.to_vec()),
    }
}

fn single_quoted(rest: &[u8]) -> Result<Vec<u8>, String> {
    match rest.iter().position(|byte| *byte == b'\'') {
        Some(end) if end + 1 == rest.len() => Ok(rest.get(..end).unwrap_or_default().to_vec()),
        Some(_) => Err("must end with the `'` that closes the value".into()),
        None => Err("has a `'` that is not closed on the line".into()),
    }
}

fn double_quoted(rest: &[u8]) -> Result<Vec<u8>, String> {
    let (mut value, mut bytes) = (Vec::with_capacity(rest.len()), rest.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if bytes.len() == 0 => return Ok(value),
            b'"' => return Err("must end with the `\"` that closes the value".into()),
            b'\\' => value.push(match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(known @ (b'"' | b'\\')) => *known,
                Some(_) | None => {
                    let known = r#"knows only \n, \t, \" and \\ in "…""#;
                    return Err(format!("{known}; within '…' a backslash is itself"));
                }
            }),
            _ => value.push(*byte),
        }
    }
    Err("has a `\"` that is not closed on the line; a newline in it is \\n".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let variables = parse_variables(text.as_bytes()).map_err(|error| error.to_string())?;
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        Ok(variables.into_iter().map(|(name, value)| (name, text(value))).collect())
    }

    #[test]
    fn each_line_is_a_variable() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("A=", "A", ""),
            ("A= ", "A", ""),
            ("  A=b c \t\r\n", "A", "b c"),
            ("export A=b", "A", "b"),
            ("export\t A=b", "A", "b"),
            ("exported=b", "exported", "b"),
            ("export=b", "export", "b"),
            ("A=b=c # d", "A", "b=c # d"),
            ("A=it's \\n \"x\"", "A", "it's \\n \"x\""),
            ("A='b \\n \" # '", "A", "b \\n \" # "),
            ("A=''", "A", ""),
            (r#"A="a\nb\tc\"d\\n'""#, "A", "a\nb\tc\"d\\n'"),
            ("A=\"\"\r", "A", ""),
            ("\u{feff}A=b", "A", "b"),
            ("K1S_X=b", "K1S_X", "b"),
            ("\n# A=x\n  #\n\nA=\u{e4}\n", "A", "\u{e4}"),
        ] {
            assert_eq!(read(text), Ok(vec![(name.into(), value.into())]), "{text:?}");
        }
        assert_eq!(read(" \n#\n"), Ok(vec![]));
        let twice = vec![("A".into(), "1".into()), ("A".into(), "2".into())];
        assert_eq!(read("A=1\nA=2"), Ok(twice), "the last counts");
        assert_eq!(parse_variables(b"A=\xff"), Ok(vec![("A".into(), b"\xff".to_vec())]));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_without_what_is_in_it() {
        for (text, error) in [
            ("\n\ns3cret", "line 3: must be NAME=VALUE, or a comment that begins with #"),
            ("export s3cret", "line 1: must be NAME=VALUE, or a comment"),
            ("A=1\n=s3cret", "line 2: a variable's name must not be empty"),
            ("export =s3cret", "line 1: a variable's name must not be empty"),
            ("A =s3cret", "line 1: must be NAME=VALUE, without blanks in or after the name"),
            ("A B=s3cret", "line 1: must be NAME=VALUE, without blanks in or after the name"),
            ("A= s3cret", "line 1: must have no blank after `=`"),
            ("K1S_RUN=s3cret", "line 1: K1S_RUN: is set by k1s for every run"),
            ("A='s3cret", "line 1: has a `'` that is not closed on the line"),
            ("A='s3'cret", "line 1: must end with the `'` that closes the value"),
            ("A=\"s3cret", "line 1: has a `\"` that is not closed on the line"),
            ("A=\"s3cret\\\"", "line 1: has a `\"` that is not closed on the line"),
            ("A=\"s3\"cret", "line 1: must end with the `\"` that closes the value"),
            (r#"A="s3\cret""#, r#"line 1: knows only \n, \t, \" and \\ in "…"; within '…'"#),
            ("A=s3\0cret", "line 1: holds a NUL byte"),
        ] {
            let found = read(text).expect_err(text);
            assert!(found.starts_with(error), "{text:?}: {found}");
            assert!(!found.contains("s3"), "{text:?}: {found}");
        }
        let error = parse_variables(b"A=1\n\xff=s3cret").unwrap_err();
        assert_eq!(error.to_string(), "line 2: has a name that is not UTF-8");
    }
}
