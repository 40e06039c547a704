//! State that survives the end of k1s: what is remembered of jobs, as bytes and back.
//!
//! ```text
//!   Supervisor ─ jobs that have changed ─▶ Ledger ─▶ entries ─▶ a frame, appended to a segment
//!                                                                             │
//!   Supervisor ◀─ restore ─ Heritage ◀─ Replay ◀─ entries ◀─ frames ◀─ segments, in order
//! ```
//!
//! This room knows no file and no clock: the daemon appends what [`Ledger`] has it append, and reads
//! what [`replay`] asks for.
//!
//! - `codec.rs`: numbers, texts and values as bytes; `checksum.rs`.
//! - `entry.rs`: one thing that is remembered: a specification, a life, a result, a removal.
//! - `frame.rs`: entries that are written at once, and are there as a whole or not at all.
//! - `ledger.rs`: what is written where, and which segments can go.
//! - `replay.rs`: reads segments, whatever is missing or broken.
//!
//! A change costs what has changed: a run adds its result and the life of its job.

mod checksum;
mod codec;
mod entry;
mod frame;
mod ledger;
mod replay;

pub use entry::{Process, Session};
pub use frame::{HEAD, Position, VERSION};
pub use ledger::Ledger;
pub use replay::{Replay, Unreadable, replay};
