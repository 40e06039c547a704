//! Answers that are written slice by slice, as the client takes them, and may never end.
//!
//! ```text
//!   begin ─▶ slice ─▶ slice ─▶ … ─▶ over
//!              │ ▲
//!              ▼ │ a change of the topic that it waits for, or its deadline
//!            waiting
//! ```
//!
//! A turn writes a limited amount, and a connection buffers a limited amount for a slow client.

use super::{Document, Events, Ids, Logs, Metrics, Pending, Want};
use crate::http::{Connection, Reply};
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};

/// An answer that was begun.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    want: Want,
}

/// The source of its bytes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "its stream is in a box")]
pub(in crate::api) enum Source {
    /// A listing, or a large job.
    Document(Document),
    /// The output of a job, which may be followed.
    Logs(Logs),
    /// Events as they happen.
    Events(Events),
    /// All metrics.
    Metrics(Metrics),
    /// The ids of jobs.
    Ids(Ids),
}

/// The outcome of writing a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// There is more.
    Part,
    /// It waits for a change of the topic, or for the deadline.
    Waits { topic: Topic, until: Option<Mono> },
    /// The same, but nothing may ever come. For a client that has closed its sending side the
    /// answer ends, because k1s could not notice that the client is gone.
    Idle { topic: Topic, until: Option<Mono> },
    /// That was all.
    Over,
}

impl Stream {
    /// Begins an answer; `None` if it is finished, as for HEAD.
    pub(in crate::api) fn begin(
        reply: Reply<'_>,
        source: Source,
        connection: &mut Connection,
        now: Now,
    ) -> Option<Pending> {
        let under_way = connection.start_stream(reply, now);
        under_way.then(|| Stream::under_way(source))
    }

    /// An answer whose head was written.
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
            Source::Document(_) | Source::Events(_) | Source::Metrics(_) | Source::Ids(_) => None,
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
    /// Adds about a chunk to `out`, within the budget in bytes.
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
            Source::Ids(ids) => ids.write_slice(out, budget),
        }
    }
}

/// A chunk ends when it is longer than this; it may be longer by the fields of a job, or by a few
/// KiB of escaped output.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes an answer may write at a time.
const BYTES_A_TURN: usize = 32 * 1024;
