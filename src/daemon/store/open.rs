//! What is done with the state directory when k1s starts.
//!
//! ```text
//!   lock ─▶ read ─▶ cut a torn end, or write everything anew and put damage aside
//!                ─▶ find what an earlier k1s has left ─▶ Store, Heritage, Former
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::directory::{self, Directory};
use super::{Store, Trouble};
use crate::config::{self, LogLevel, Sync};
use crate::daemon::former::Former;
use crate::gather::gather;
use crate::os;
use crate::os::syncer::Syncer;
use crate::state::{Position, Replay, Unreadable, VERSION, replay};
use crate::supervisor::{Heritage, Remembered};
use crate::time::Now;

/// What an earlier k1s has left.
#[derive(Debug)]
pub(in crate::daemon) struct Inherited {
    /// The state, to go on with.
    pub(in crate::daemon) store: Store,
    /// The jobs.
    pub(in crate::daemon) heritage: Heritage,
    /// Processes of its runs.
    pub(in crate::daemon) former: Former,
}

/// Reads the state in the directory, for a k1s of this instance.
///
/// # Errors
/// Why k1s cannot start, for people.
pub(in crate::daemon) fn open(
    settings: &config::State,
    instance: &str,
    now: Now,
) -> Result<Inherited, String> {
    let directory = Directory::open(&settings.directory)?;
    let mut replay = read(&settings.directory)?;
    let mut notes = rights(&directory);
    cut(&replay, &directory, settings.sync, &mut notes)?;
    let former = Former::find(&replay, &boot());
    let mut instances = vec![instance.to_owned()];
    if former.is_some() {
        let earlier = std::mem::take(&mut replay.session.instances);
        instances.extend(earlier.into_iter().take(MOST_INSTANCES));
    }
    let former = former.unwrap_or_default();
    let damaged: BTreeSet<u64> = gather(replay.damages.iter().map(|(at, _)| at.segment));
    tell_damage(&replay, &directory, &mut notes);
    let had_ended = replay.session.is_complete;
    let left = |job: &Remembered| former.has_job(job.key.number());
    let (heritage, ledger) = replay.into_heritage(&boot(), now, left);
    let failed = |error: io::Error| {
        format!("cannot write to the state directory {:?}: {error}", directory.path())
    };
    let end = ledger.end();
    let is_begun = end != Position::default();
    let file = match is_begun {
        true => directory.open_segment(end.segment),
        false => File::open("/dev/null"),
    };
    let file = file.map_err(failed)?;
    let syncer = Syncer::new().map_err(failed)?;
    let mut store = Store {
        directory,
        sync: settings.sync,
        safe: end,
        ledger,
        file,
        is_spoiled: !is_begun,
        unsafe_files: Vec::new(),
        has_new_name: false,
        is_unnamed: false,
        batch: BTreeSet::new(),
        batch_change: 0,
        written_change: 0,
        unsafe_jobs: BTreeSet::new(),
        syncing: None,
        syncer,
        gone_when_safe: None,
        damaged,
        trouble: None,
        frame: Vec::new(),
        notes,
    };
    store.ledger.set_instances(&boot(), instances);
    store.take_over(is_begun, had_ended, now).map_err(|error| {
        format!("cannot write to the state directory {:?}: {error}", store.directory.path())
    })?;
    Ok(Inherited { store, heritage, former })
}

/// Reads the state in a directory.
///
/// # Errors
/// Why it cannot be read, for people.
pub(in crate::daemon) fn read(path: &Path) -> Result<Replay, String> {
    let numbers = directory::segments(path)
        .map_err(|error| format!("cannot read the state directory {path:?}: {error}"))?;
    replay(&numbers, |number, bytes| directory::read(path, number, bytes)).map_err(|why| match why {
        Unreadable::Newer(version) => format!(
            "the state in {path:?} is of a newer k1s, whose format is {version}; this one reads \
             {VERSION}"
        ),
        Unreadable::Failed(error) => error,
    })
}

impl Store {
    /// Begins, and makes safe before the first run that the end of the k1s before counts no more.
    fn take_over(&mut self, is_begun: bool, had_ended: bool, now: Now) -> io::Result<()> {
        self.begin(is_begun, now)?;
        match self.sync {
            Sync::Always if had_ended => {
                self.file.sync_data()?;
                self.directory.sync()
            }
            Sync::Always | Sync::Os => Ok(()),
        }
    }

    /// Says in the first frame which k1s this is, so that the next one finds what it has left.
    fn begin(&mut self, is_begun: bool, now: Now) -> io::Result<()> {
        let written = if is_begun && self.damaged.is_empty() {
            self.begin_frame(now);
            self.ledger.write_session(&mut self.frame);
            self.write_frame()
        } else {
            self.begin_segment(now)
        };
        if !self.damaged.is_empty() {
            self.ledger.clean_all();
        }
        match written {
            Err(error) if is_begun && os::syncer::is_full(&error) => {
                let why = os::syncer::reason(&error);
                let text = format!("the state cannot be stored: {error}; no job is created");
                self.notes.push((LogLevel::Error, text));
                let (retry_at, delay) = (now.mono, super::FIRST_RETRY);
                self.trouble = Some(Trouble { why, retry_at, delay, told: 0, written: None });
                self.is_unnamed = true;
                Ok(())
            }
            written => written,
        }
    }
}

/// Removes segments that do not count, and cuts a torn end. What is then there is safe if it is to
/// be, because nobody knows what the k1s before has made safe.
fn cut(
    replay: &Replay,
    directory: &Directory,
    sync: Sync,
    notes: &mut Vec<(LogLevel, String)>,
) -> Result<(), String> {
    let failed = |error: io::Error| {
        format!("cannot make safe what is in the state directory {:?}: {error}", directory.path())
    };
    let ledger = &replay.ledger;
    let mut gone = directory::segments(directory.path()).map_err(failed)?;
    gone.retain(|number| !ledger.has_segment(*number));
    let mut bytes = 0;
    if sync == Sync::Always || !gone.is_empty() {
        for number in ledger.segments() {
            directory.sync_segment(number).map_err(failed)?;
        }
        for number in gone {
            bytes += directory.try_remove(number).map_err(failed)?;
        }
        directory.sync().map_err(failed)?;
    }
    let Some(torn) = replay.torn else { return Ok(()) };
    // Last: without the torn end, what followed it would count.
    let path = directory::segment(directory.path(), torn.segment);
    if ledger.has_segment(torn.segment) {
        let file = directory.open_segment(torn.segment).map_err(failed)?;
        bytes += file.metadata().map_err(failed)?.len().saturating_sub(torn.offset);
        file.set_len(torn.offset).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    let text = format!(
        "the state ends in the middle of a change that nobody was told of: cut {bytes} bytes at \
         the end of {path:?}"
    );
    notes.push((LogLevel::Warn, text));
    Ok(())
}

/// What is wrong with the rights that others have.
fn rights(directory: &Directory) -> Vec<(LogLevel, String)> {
    let note = |mode: u32| {
        let text = format!(
            "the state directory {:?} has mode {mode:04o}: others can change or remove what is \
             stored, and with it what runs; take that from them: chmod go-w",
            directory.path()
        );
        (LogLevel::Warn, text)
    };
    directory.mode_for_others().map(note).into_iter().collect()
}

fn tell_damage(replay: &Replay, directory: &Directory, notes: &mut Vec<(LogLevel, String)>) {
    for (at, what) in replay.damages.iter().take(MOST_TOLD) {
        let path = directory::segment(directory.path(), at.segment);
        let text = format!("the state is damaged: {path:?}, offset {}: {what}", at.offset);
        notes.push((LogLevel::Error, text));
    }
    if !replay.damages.is_empty() {
        let text = format!(
            "the state is damaged in {} places: what can be read is kept, and written anew; the \
             damaged files are kept as damaged-…",
            replay.damages.len(),
        );
        notes.push((LogLevel::Error, text));
    }
}

/// The boot of this machine and the pid namespace.
pub(in crate::daemon) fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

const MOST_INSTANCES: usize = 1000;
const MOST_TOLD: usize = 10;
