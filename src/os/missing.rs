//! What a job needs and this machine does not have, as far as that can be seen before it runs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::SpawnError;
use super::spawn::DEFAULT_PATH;
use super::user::{account, group_id};
use super::variables::variables_of;
use crate::job::Variables;
use crate::job::spec::Command;

/// What is missing, a sentence each: the directory, the executable, the user, the group, files of
/// variables, the directory of the log file at this absolute path. A spawn does not rely on it: it finds out by
/// itself.
pub fn missing(command: &Command, log_file: Option<&str>) -> Vec<String> {
    let said = |error: SpawnError| match error {
        SpawnError::Failed(failure) => failure.error,
        SpawnError::Shortage(why) => why,
    };
    let user = command.user.as_deref().and_then(|user| account(user).err().map(said));
    let group = command.group.as_deref().and_then(|group| group_id(group).err().map(said));
    let logs = log_file.and_then(directory_of);
    let (variables, unread) = match variables_of(command) {
        Ok(variables) => (variables, None),
        Err(error) => (Variables::new(), Some(said(error))),
    };
    let executable = executable(command, &variables);
    [directory(command), executable, user, group, unread, logs].into_iter().flatten().collect()
}

fn directory_of(log_file: &str) -> Option<String> {
    let is_there = Path::new(log_file).parent().is_some_and(Path::is_dir);
    (!is_there).then(|| format!("log file {log_file}: its directory is not there"))
}

fn directory(command: &Command) -> Option<String> {
    let directory = &command.working_directory;
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("working directory {directory}: is not a directory")),
        Err(error) => Some(format!("working directory {directory}: {error}")),
    }
}

fn executable(command: &Command, variables: &Variables) -> Option<String> {
    let executable = &command.executable;
    let here = Path::new(&command.working_directory);
    let is_there = |path: &Path| {
        fs::metadata(here.join(path))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if executable.contains('/') {
        let why = "does not exist, or is not an executable file";
        return (!is_there(Path::new(executable)))
            .then(|| format!("executable {executable}: {why}"));
    }
    let own = std::env::var_os("PATH").filter(|_| !command.clear_environment);
    let read = variables.iter().rev().find(|(name, _)| name == "PATH");
    let read = read.map(|(_, path)| OsStr::from_bytes(path).to_owned());
    let given = command.environment.get("PATH").map(|path| OsStr::new(path).to_owned());
    let is_shown = given.is_some() || read.is_none();
    let path = given.or(read).or(own).unwrap_or_else(|| OsStr::from_bytes(DEFAULT_PATH).to_owned());
    let is_found = std::env::split_paths(&path).any(|place| is_there(&place.join(executable)));
    let path = if is_shown { path.display().to_string() } else { "of its files".to_owned() };
    (!is_found).then(|| format!("executable {executable}: not found in PATH {path}"))
}
