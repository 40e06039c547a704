//! Answers that take more than one turn.
//!
//! ```text
//!   Api::handle ─▶ Pending ─▶ go_on ─▶ finished
//!                    ▲          │ not yet: `want` says what for
//!                    └──────────┘ room in its connection, a change of a topic, a deadline
//! ```
//!
//! The daemon need not know what an answer is: it calls `go_on` when what the answer wants has
//! come, and for no other reason.

mod document;
mod events;
mod listing;
mod logs;
mod many;
mod metrics;
mod reload;
mod reopen;
mod saved;
mod stream;
mod wait;

use crate::http::Connection;
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};

use document::Document;
pub(super) use document::{list, show};
pub(super) use events::Events;
pub(super) use logs::Logs;
use many::Ids;
pub(super) use many::{Ask, Many};
use metrics::Metrics;
pub(super) use metrics::metrics;
pub(super) use reload::Reload;
pub(super) use reopen::Reopen;
pub(super) use saved::{Saved, Then};
use stream::{Slice, Source, Stream};
pub(super) use wait::{Goal, Wait};

/// An answer that is not finished.
#[derive(Debug)]
pub enum Pending {
    /// It is written slice by slice.
    Stream(Box<Stream>),
    /// It waits for a milestone of a job.
    Wait(Wait),
    /// It waits until log files are reopened.
    Reopen(Reopen),
    /// It waits until the config was read again.
    Reload(Reload),
    /// It waits until a change is stored.
    Saved(Box<Saved>),
    /// It waits until many jobs were asked.
    Many(Box<Many>),
}

/// What a pending answer needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Room in its connection.
    Room,
    /// A change of the topic, or the deadline, whichever comes first.
    Change {
        /// The topic.
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
            Pending::Reload(reload) => reload.go_on(supervisor, connection, now),
            Pending::Saved(saved) => {
                let progress = saved.go_on(supervisor, connection, now);
                self.follow(progress, supervisor, connection, now)
            }
            Pending::Many(many) => {
                let progress = many.go_on(supervisor, connection, now);
                self.follow(progress, supervisor, connection, now)
            }
            Pending::Wait(wait) => match wait.clone().go_on(supervisor, connection, now) {
                None => true,
                Some(rest) => {
                    *self = rest;
                    false
                }
            },
        }
    }

    fn follow(
        &mut self,
        progress: saved::Progress,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        match progress {
            saved::Progress::NotYet => false,
            saved::Progress::Over => true,
            saved::Progress::Then(next) => {
                *self = next;
                self.go_on(supervisor, connection, now)
            }
        }
    }

    /// Whether it goes on to show jobs, and does not only say what has become of a request.
    pub fn shows_jobs(&self) -> bool {
        match self {
            Pending::Stream(_) | Pending::Wait(_) => true,
            Pending::Saved(saved) => matches!(saved.then, Then::Wait(_)),
            Pending::Reopen(_) | Pending::Reload(_) | Pending::Many(_) => false,
        }
    }

    /// Whether it reads the event log, which may wait a little.
    pub fn follows_events(&self) -> bool {
        match self {
            Pending::Stream(stream) => stream.follows_events(),
            Pending::Wait(_)
            | Pending::Reopen(_)
            | Pending::Reload(_)
            | Pending::Saved(_)
            | Pending::Many(_) => false,
        }
    }

    /// The job whose output it reads, which may have been removed.
    pub fn reads_output_of(&self) -> Option<JobKey> {
        match self {
            Pending::Stream(stream) => stream.reads_output_of(),
            Pending::Wait(_)
            | Pending::Reopen(_)
            | Pending::Reload(_)
            | Pending::Saved(_)
            | Pending::Many(_) => None,
        }
    }

    /// What it needs to go on.
    pub fn want(&self) -> Want {
        match self {
            Pending::Stream(stream) => stream.want(),
            Pending::Wait(wait) => wait.want(),
            Pending::Reopen(reopen) => reopen.want(),
            Pending::Reload(reload) => reload.want(),
            Pending::Saved(saved) => saved.want(),
            Pending::Many(many) => many.want(),
        }
    }
}

impl Want {
    /// The topic that it waits for.
    pub fn topic(self) -> Option<Topic> {
        match self {
            Want::Room => None,
            Want::Change { topic, .. } => Some(topic),
        }
    }

    /// When the answer goes on, whatever has changed.
    pub fn deadline(self) -> Option<Mono> {
        match self {
            Want::Room => None,
            Want::Change { until, .. } => until,
        }
    }
}
