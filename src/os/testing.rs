//! What the tests of this room share.

use crate::job::spec::Command;

/// A command with every default.
pub(crate) fn command(executable: &str, arguments: &[&str]) -> Command {
    Command {
        executable: executable.to_owned(),
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        working_directory: "/".to_owned(),
        environment: [].into(),
        clear_environment: false,
        stdin: None,
        user: None,
        group: None,
        umask: None,
        nice: None,
        limits: Vec::new(),
    }
}
