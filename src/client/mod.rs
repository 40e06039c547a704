//! The client: commands that ask a k1s over its API, and show the answers to people.
//!
//! ```text
//!   Command ─▶ place: where is k1s? ─▶ http: ask ─▶ job, table: what it said, for people
//!                                                └▶ --json: what it said
//! ```
//!
//! It knows the API alone, as any other client does: nothing of the supervisor or the daemon. It
//! may block, and have threads, because it supervises nothing. What jobs have written or are
//! called goes to a terminal as text only: `text` escapes what a terminal would obey. `k1s logs`
//! and `k1s exec` pass output on as it is, because that is what they are for.
//!
//! Exit codes: 0; 1 if k1s refuses; 2 for errors in the command line; 3 if k1s cannot be reached.

mod against;
mod apply;
mod completions;
mod events;
mod exec;
mod http;
mod job;
mod logs;
mod own_screen;
mod place;
mod ps;
mod reload;
mod screen;
mod session;
mod set;
mod show;
mod table;
mod text;
mod top;
mod verbs;
mod wait;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

pub use against::against;
pub use apply::Apply;
pub use completions::Completions;
pub use events::Events;
pub use exec::Exec;
pub use http::{Answer, Body, Client, Place, Request};
pub use logs::Logs;
pub use ps::Ps;
pub use reload::Reload;
use session::Session;
pub use set::Set;
pub use show::Show;
pub use top::Top;
pub use verbs::{Kill, Remove, Restart, Run, Signal, Start};
pub use wait::Wait;

/// A command of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `k1s ps`
    Ps(Ps),
    /// `k1s show`
    Show(Show),
    /// `k1s start`
    Start(Start),
    /// `k1s kill`
    Kill(Kill),
    /// `k1s restart`
    Restart(Restart),
    /// `k1s run`
    Run(Run),
    /// `k1s rm`
    Remove(Remove),
    /// `k1s signal`
    Signal(Signal),
    /// `k1s events`
    Events(Events),
    /// `k1s wait`
    Wait(Wait),
    /// `k1s logs`
    Logs(Logs),
    /// `k1s exec`
    Exec(Exec),
    /// `k1s apply`
    Apply(Apply),
    /// `k1s set`
    Set(Set),
    /// `k1s reload`
    Reload(Reload),
    /// `k1s top`
    Top(Top),
    /// `k1s completions`
    Completions(Completions),
}

/// What all commands have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where k1s is: `http://HOST:PORT` or `unix:///PATH`.
    pub url: Option<String>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// Whether to print what the API said, instead of something for people.
    pub json: bool,
}

/// Why a command has not done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// k1s has refused, for this reason.
    Refused(String),
    /// The command line or the environment is wrong.
    Usage(String),
    /// k1s cannot be reached, or does not answer.
    Unreachable(String),
    /// Nobody reads what is printed any more, which is no error.
    Unread,
}

impl Failure {
    /// An error of writing to stdout.
    fn of_writing(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::Refused(format!("cannot write to stdout: {error}")),
        }
    }

    /// The exit code of the process.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Unread => 0,
            Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
        }
    }
}

/// One line, for stderr.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(why) | Failure::Usage(why) | Failure::Unreachable(why) => {
                f.write_str(why)
            }
            Failure::Unread => Ok(()),
        }
    }
}

/// Carries a command out. Returns the exit code, and what is to be said on stderr, if anything.
pub fn run(command: &Command, options: &Options) -> (ExitCode, Option<String>) {
    let done = Session::begin(options).and_then(|session| match command {
        Command::Ps(ps) => ps.run(&session),
        Command::Show(show) => show.run(&session),
        Command::Start(start) => start.run(&session),
        Command::Kill(kill) => kill.run(&session),
        Command::Restart(restart) => restart.run(&session),
        Command::Run(run) => run.run(&session),
        Command::Remove(remove) => remove.run(&session),
        Command::Signal(signal) => signal.run(&session),
        Command::Events(events) => events.run(&session),
        Command::Wait(wait) => wait.run(&session),
        Command::Logs(logs) => logs.run(&session),
        Command::Exec(exec) => exec.run(&session),
        Command::Apply(apply) => apply.run(&session),
        Command::Set(set) => set.run(&session),
        Command::Reload(reload) => reload.run(&session),
        Command::Top(top) => top.run(&session),
        Command::Completions(completions) => completions.run(&session),
    });
    finish(done)
}

/// The exit code, and what is to be said on stderr, if anything.
fn finish(done: Result<ExitCode, Failure>) -> (ExitCode, Option<String>) {
    match done {
        Ok(code) => (code, None),
        Err(failure) => {
            let said = (failure != Failure::Unread).then(|| failure.to_string());
            (ExitCode::from(failure.exit_code()), said)
        }
    }
}
