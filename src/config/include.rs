//! The files that a config includes: `include = ["conf.d/*.toml"]`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Environment, LARGEST_FILE};
use crate::job::Value;
use crate::job::fields::{self, FieldError};
use crate::pattern;

type Parsed<T> = Result<T, FieldError>;

/// Reads the patterns.
pub(super) fn patterns(value: Value) -> Parsed<Vec<String>> {
    fields::list(pattern)(value)
}

/// The files that the patterns match, from the directory of the config `main`: in the order of the
/// patterns, then of their names, each once, with the index of its pattern. The config itself is
/// not among them.
///
/// # Errors
/// A directory cannot be read, or a pattern without `*` matches nothing.
pub(super) fn files(
    patterns: &[String],
    main: &str,
    environment: &Environment,
) -> Parsed<Vec<(usize, PathBuf)>> {
    let base = Path::new(main).parent().unwrap_or(Path::new(""));
    let mut known = BTreeSet::from([PathBuf::from(main)]);
    let mut files = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        for path in matches(pattern, base, environment).map_err(|message| at(index, message))? {
            if known.insert(path.clone()) {
                files.push((index, path));
            }
        }
    }
    Ok(files)
}

fn at(index: usize, message: String) -> FieldError {
    FieldError { path: vec!["include".to_owned(), index.to_string()], message }
}

fn pattern(value: Value) -> Parsed<String> {
    let pattern = fields::nonempty(value)?;
    let (directory, name) = split(&pattern);
    if has_wildcard(directory) {
        return fields::fail(format!(
            "must have `*` and `?` after the last `/` alone, not as in {pattern:?}"
        ));
    }
    if ["", ".", ".."].contains(&name) {
        return fields::fail(format!("must be the path of files, not {pattern:?}"));
    }
    Ok(pattern)
}

/// The paths that a pattern matches, in the order of their names.
fn matches(pattern: &str, base: &Path, environment: &Environment) -> Result<Vec<PathBuf>, String> {
    let (directory, name) = split(pattern);
    let directory = base.join(directory);
    if !has_wildcard(name) {
        return Ok(vec![directory.join(name)]);
    }
    // The path of the current directory is not empty.
    let listed = if directory == Path::new("") { Path::new(".") } else { &directory };
    let mut names = (environment.list)(listed)
        .map_err(|error| format!("the directory {listed:?} cannot be read: {error}"))?;
    // As in a shell, only a pattern with the dot finds hidden files.
    let is_hidden = |found: &OsStr| found.as_encoded_bytes().starts_with(b".");
    names.retain(|found| {
        pattern::matches(name, &found.to_string_lossy())
            && (name.starts_with('.') || !is_hidden(found))
    });
    names.sort();
    if names.is_empty() && !name.contains('*') {
        return Err(format!("{pattern:?} matches no file"));
    }
    Ok(names.into_iter().map(|found| directory.join(found)).collect())
}

/// Reads an included file of at most `left` bytes, and takes them from it.
///
/// # Errors
/// It cannot be read, is not UTF-8, or larger.
pub(super) fn text(
    path: &Path,
    left: &mut u64,
    environment: &Environment,
) -> Result<String, String> {
    let bytes =
        (environment.read)(path).map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    *left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
        format!("{path:?} makes the included files larger than {LARGEST_FILE} bytes together")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = super::line_of_error(error.as_bytes(), error.utf8_error());
        format!("{path:?} is not UTF-8 in line {line}")
    })
}

/// The directory of a path, with its `/`, and the name.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}
