//! What a job is: its specification, the records of its runs, their output.
//!
//! This room is data only: it uses no clock, process or file.

mod circle;
pub(crate) mod fields;
mod id;
mod last_lines;
mod layer;
mod lines;
mod log;
pub mod notice;
mod output;
mod parse;
mod probe;
mod read;
mod run;
mod search;
mod signal;
pub mod spec;
pub mod tag;
mod value;
mod variables;
mod words;
mod write;

pub use circle::Circle;
pub use fields::{FieldError, Spelling};
pub use id::JobId;
pub use last_lines::LastLines;
pub use layer::{Layer, is_under};
pub use lines::{CUT_BYTES, LineEnd, LineEnds};
pub use log::{Cursor, Line, LogFilter, LogItem, RunLog, Tail};
pub use output::{Capture, Captured, KeptParts};
pub use parse::{
    Defaults, INVALID_TYPE, field_named, parse, parse_signal_request, parse_with, type_in,
};
pub use read::{LogEnd, LogPlace};
pub use run::{Ending, Reason, RunEnd, RunRecord, Trigger};
pub use search::TextSearch;
pub use signal::Signal;
pub use spec::JobSpec;
pub use value::Value;
pub use variables::{Variables, VariablesError, parse_variables};
pub use write::{Field, HIDDEN, READ_ONLY, Secrets, TextTable, type_name, write, write_given};

/// The id of a process, and of the process group that it leads: getpid(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// Why a run could not be started: recorded as its result, with `reason: "spawn-failed"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// 127 when the executable or its interpreter was not found, 126 for anything else.
    pub exit_code: u8,
    /// The step that failed and the system's reason, for people:
    /// `working directory /srv/x: No such file or directory (ENOENT)`.
    pub error: String,
}

/// How a process ended: waitpid(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// A signal ended it.
    Signal(Signal),
}

/// One of the two output streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}
