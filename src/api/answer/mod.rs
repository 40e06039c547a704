//! Answers that take more than one turn.
//!
//! ```text
//!   Api::handle ─▶ Pending ─▶ go_on ─▶ finished
//!                    ▲          │ not yet: `want` says what for
//!                    └──────────┘ room in its connection, a change of a topic, a deadline
//! ```
//!
//! Whoever holds one need not know what it is: it is told to go on when what it wants has come,
//! and for no other reason.

mod document;
mod events;
mod listing;
mod logs;
mod metrics;
mod reopen;
mod stream;
mod wait;

use crate::http::Connection;
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};

use document::Document;
pub(super) use document::{list, show};
pub(super) use events::Events;
pub(super) use logs::Logs;
use metrics::Metrics;
pub(super) use metrics::metrics;
pub(super) use reopen::Reopen;
use stream::{Slice, Source, Stream};
pub(super) use wait::{Goal, Wait};

/// An answer that is not finished.
#[derive(Debug)]
pub enum Pending {
    /// One that is written slice by slice.
    Stream(Box<Stream>),
    /// A job that is to come so far: goes on when it changes.
    Wait(Wait),
    /// Log files that are to be reopened.
    Reopen(Reopen),
}

/// What a pending answer needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Room in its connection.
    Room,
    /// That the topic changes, or that the deadline is here, whichever comes first.
    Change {
        /// What it is about.
        topic: Topic,
        /// The deadline; `None`: there is none.
        until: Option<Mono>,
    },
}

impl Pending {
    /// Goes on as far as it can now. Returns whether the answer is finished.
    pub fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        match self {
            Pending::Stream(stream) => stream.go_on(supervisor, connection, now),
            Pending::Reopen(reopen) => reopen.go_on(supervisor, connection, now),
            Pending::Wait(wait) => match wait.go_on(supervisor, connection, now) {
                None => true,
                Some(rest) => {
                    *self = rest;
                    false
                }
            },
        }
    }

    /// Whether it reads the event log, which it may do a little later than others.
    pub fn follows_events(&self) -> bool {
        match self {
            Pending::Stream(stream) => stream.follows_events(),
            Pending::Wait(_) | Pending::Reopen(_) => false,
        }
    }

    /// The job whose output it reads, which may be gone meanwhile.
    pub fn reads_output_of(&self) -> Option<JobKey> {
        match self {
            Pending::Stream(stream) => stream.reads_output_of(),
            Pending::Wait(_) | Pending::Reopen(_) => None,
        }
    }

    /// What it needs to go on.
    pub fn want(&self) -> Want {
        match self {
            Pending::Stream(stream) => stream.want(),
            Pending::Wait(wait) => wait.want(),
            Pending::Reopen(reopen) => reopen.want(),
        }
    }
}

impl Want {
    /// The topic whose change is waited for.
    pub fn topic(self) -> Option<Topic> {
        match self {
            Want::Room => None,
            Want::Change { topic, .. } => Some(topic),
        }
    }

    /// When the answer is to be told to go on, whatever has changed.
    pub fn deadline(self) -> Option<Mono> {
        match self {
            Want::Room => None,
            Want::Change { until, .. } => until,
        }
    }
}
