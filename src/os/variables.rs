//! The variables that a run gets from files: `environmentFile` and `environmentFromFile`.
//!
//! k1s reads them anew before each spawn, with its own rights, and so also files that the user of
//! the job may not read. Nothing waits: only regular files are opened, and only so much is read. No
//! error shows what is in a file.

use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;

use super::failure::{SpawnError, cannot_run};
use super::file::open_regular;
use crate::job::spec::Command;
use crate::job::{Variables, parse_variables};

/// The variables of all files of a command; those that come later win.
///
/// # Errors
/// A file is missing or wrong: named with its line. [`SpawnError::Shortage`]: it cannot be read
/// just now.
pub fn variables_of(command: &Command) -> Result<Variables, SpawnError> {
    let (mut variables, mut room) = (Vec::new(), MOST_BYTES);
    for file in &command.environment_files {
        let optional = file.strip_prefix('-');
        let path = optional.unwrap_or(file);
        let step = format!("environmentFile {path}");
        let text = match read(path, &step, &mut room) {
            Err(Unread::Missing(_)) if optional.is_some() => continue,
            text => text.map_err(|unread| unread.error(&step))?,
        };
        let read = parse_variables(&text);
        variables.extend(read.map_err(|error| cannot_run(format!("{step}: {error}")))?);
    }
    for (name, path) in &command.environment_from_file {
        let step = format!("environmentFromFile {name}: {path}");
        let mut value = read(path, &step, &mut room).map_err(|unread| unread.error(&step))?;
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        if value.contains(&0) {
            return Err(cannot_run(format!("{step}: holds a NUL byte")));
        }
        variables.push((name.clone(), value));
    }
    Ok(variables)
}

/// Why a file was not read.
enum Unread {
    /// It is not there.
    Missing(Errno),
    Failed(SpawnError),
}

impl Unread {
    fn error(self, step: &str) -> SpawnError {
        match self {
            Unread::Missing(errno) => SpawnError::at(step, errno),
            Unread::Failed(error) => error,
        }
    }
}

/// Reads a file, and takes its size from the room that is left.
fn read(path: &str, step: &str, room: &mut u64) -> Result<Vec<u8>, Unread> {
    let failed = |error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => Unread::Missing(errno),
        Some(errno) => Unread::Failed(SpawnError::at(step, errno)),
        None => Unread::Failed(cannot_run(format!("{step}: {error}"))),
    };
    let file = open_regular(Path::new(path)).map_err(failed)?;
    let mut bytes = Vec::new();
    let read = file.take(*room + 1).read_to_end(&mut bytes);
    read.map_err(failed)?;
    *room = room.checked_sub(bytes.len() as u64).ok_or_else(|| {
        let error = format!("{step}: the files of a run may have {MOST_BYTES} bytes together");
        Unread::Failed(cannot_run(error))
    })?;
    Ok(bytes)
}

/// How much is read for a run.
const MOST_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::command;

    fn error_of(command: &Command) -> String {
        match variables_of(command) {
            Err(SpawnError::Failed(failure)) => {
                assert_eq!(failure.exit_code, 126);
                failure.error
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_regular_file_or_too_large_is_not_read() {
        let mut command = command("true", &[]);
        for (path, error) in [
            ("/dev/zero", "is not a regular file"),
            ("/dev", "is not a regular file"),
            ("/nowhere", "No such file or directory (ENOENT)"),
        ] {
            command.environment_files = vec![path.to_owned()];
            assert_eq!(error_of(&command), format!("environmentFile {path}: {error}"));
        }
        // What is there must be right, also where it may be missing.
        command.environment_files = ["-/nowhere", "-/dev/zero"].map(str::to_owned).into();
        assert_eq!(error_of(&command), "environmentFile /dev/zero: is not a regular file");
        command.environment_files = vec!["-/nowhere".to_owned()];
        assert_eq!(variables_of(&command), Ok(Vec::new()));
        let large = format!("/tmp/k1s-variables-{}", std::process::id());
        std::fs::write(&large, vec![b'#'; 200 * 1024]).unwrap();
        command.environment_files = vec![large.clone()];
        assert_eq!(variables_of(&command), Ok(Vec::new()));
        command.environment_files.push(large.clone());
        let error = error_of(&command);
        std::fs::remove_file(&large).unwrap();
        assert!(error.ends_with("may have 262144 bytes together"), "{error}");
    }
}
