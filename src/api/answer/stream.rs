//! Answers that are written slice by slice, as the socket drains, and may go on for ever.
//!
//! ```text
//!   begin ─▶ slice ─▶ slice ─▶ … ─▶ over
//!              │ ▲
//!              ▼ │ what it waits for has come: a change of a topic, a deadline
//!            waiting
//! ```
//!
//! What a turn writes is bounded; and so is what a connection holds, whoever reads slowly.

use super::{Document, Events, Logs, Metrics, Pending, Want};
use crate::http::{Connection, Reply};
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};

/// An answer under way.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    want: Want,
}

/// Where its bytes come from.
#[derive(Debug)]
pub(in crate::api) enum Source {
    /// A listing, or a large job.
    Document(Document),
    /// The output of a job, which may be followed.
    Logs(Logs),
    /// What happens, as it happens.
    Events(Events),
    /// All metrics.
    Metrics(Metrics),
}

/// What writing a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// There is more.
    Part,
    /// It goes on when the topic changes, or at the deadline.
    Waits { topic: Topic, until: Option<Mono> },
    /// The same; but nothing may ever come. A client that has ended its side is not kept waiting:
    /// it may be gone, which no silence would tell.
    Idle { topic: Topic, until: Option<Mono> },
    /// That was all.
    Over,
}

impl Stream {
    /// Begins an answer; `None` when it is finished, as one to HEAD is.
    pub(in crate::api) fn begin(
        reply: Reply<'_>,
        source: Source,
        connection: &mut Connection,
        now: Now,
    ) -> Option<Pending> {
        let under_way = connection.start_stream(reply, now);
        under_way.then(|| Stream::under_way(source))
    }

    /// An answer that has begun.
    pub(super) fn under_way(source: Source) -> Pending {
        Pending::Stream(Box::new(Stream { source, want: Want::Room }))
    }

    pub(super) fn want(&self) -> Want {
        self.want
    }

    pub(super) fn follows_events(&self) -> bool {
        matches!(self.source, Source::Events(_))
    }

    pub(super) fn reads_output_of(&self) -> Option<JobKey> {
        match &self.source {
            Source::Logs(logs) => Some(logs.job()),
            Source::Document(_) | Source::Events(_) | Source::Metrics(_) => None,
        }
    }

    /// Goes on as far as it can now. Returns whether the answer is finished.
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        self.want = Want::Room;
        let mut budget = BYTES_A_TURN;
        while connection.wants_output() && budget > 0 {
            let mut slice = Slice::Over;
            connection.push(now, |out| {
                slice = self.source.write_slice(supervisor, out, &mut budget, now);
            });
            let is_over = match slice {
                Slice::Part => continue,
                Slice::Over => true,
                Slice::Idle { .. } if connection.is_half_closed() => true,
                Slice::Waits { topic, until } | Slice::Idle { topic, until } => {
                    self.want = Want::Change { topic, until };
                    false
                }
            };
            if is_over {
                connection.finish_stream(now);
            }
            return is_over;
        }
        connection.is_finished()
    }
}

impl Source {
    /// Adds about a chunk to `out`, while there is something left of the budget, in bytes.
    fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> Slice {
        match self {
            Source::Document(document) => document.write_slice(supervisor, out, budget, now),
            Source::Logs(logs) => logs.write_slice(supervisor, out, budget),
            Source::Events(events) => events.write_slice(supervisor, out, budget, now),
            Source::Metrics(metrics) => metrics.write_slice(supervisor, out, budget, now),
        }
    }
}

/// A chunk ends as soon as it is longer than this: by the fields of a job, or by a few KiB of
/// output, escaped.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes an answer may make at a time.
const BYTES_A_TURN: usize = 32 * 1024;
