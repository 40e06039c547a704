//! What a state directory may contain, whoever has written it.
//!
//! ```text
//!   bytes ─▶ a segment ──────────────────────┐
//!         └▶ entries of a whole frame ───────┴─▶ replay ─▶ restore ─▶ stored again ─▶ replay
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::{HEAD, Ledger, Position, Replay, replay};
use crate::supervisor::{JobKey, Remembered, Settings, Stage, Supervisor};
use crate::time::{Mono, Now, Wall};

/// Any bytes can be read, as a segment and as the entries of a frame, and a k1s can go on with what
/// they mean. What it stores again is read as it was.
pub(super) fn check_state(data: &[u8]) {
    let torn = [HEAD, data].concat();
    go_on(read(&torn));
    go_on(read(data));
    let mut ledger = empty();
    ledger.handle_segment(1, 0);
    let mut frame = Vec::new();
    ledger.begin_frame(&mut frame, Position::default(), NOW);
    frame.extend_from_slice(data);
    ledger.finish_frame(&mut frame);
    let whole = [HEAD, &frame].concat();
    go_on(read(&whole));
    check_again(read(&whole));
}

/// A k1s that starts goes on for a while.
fn go_on(replay: Option<Replay>) {
    let Some(replay) = replay else { return };
    let mut supervisor = supervisor();
    let (heritage, _) = replay.into_heritage("boot", NOW, |job| job.results.len() > 1);
    let left: VecDeque<_> = heritage.left.iter().cloned().collect();
    // Declared jobs are not the state's.
    assert!(supervisor.restore(heritage, Vec::new(), None, 1000, NOW).is_ok());
    left.iter().for_each(|id| supervisor.handle_former_gone(id, NOW));
    for millis in [0, 1, 1_000, 100_000] {
        let now = Now { mono: Mono(NOW.mono.0 + millis), wall: Wall(NOW.wall.0 + millis as i64) };
        for _ in 0..10 {
            supervisor.handle_timeout(now);
        }
        for job in supervisor.jobs_after(None) {
            let _ = (supervisor.message(job, now), job.life(now), job.next_run_at(now));
        }
    }
}

/// Stores what was read, as it was read.
fn check_again(replay: Option<Replay>) {
    let Some(replay) = replay else { return };
    let mut supervisor = supervisor();
    let is_there = |job: &&Remembered| job.life.stage != Stage::Leaves;
    let before: Vec<(JobKey, usize)> =
        replay.jobs.iter().filter(is_there).map(|job| (job.key, job.results.len())).collect();
    let (heritage, _) = replay.into_heritage("boot", NOW, |_| false);
    heritage.jobs.into_iter().for_each(|job| supervisor.exhibit(job));
    let mut ledger = empty();
    ledger.handle_segment(1, 0);
    let mut frame = Vec::new();
    ledger.begin_frame(&mut frame, Position::default(), NOW);
    for (key, _) in &before {
        ledger.write_job(&mut frame, *key, &supervisor, &mut |_| Some(1), NOW);
    }
    ledger.finish_frame(&mut frame);
    let Some(again) = read(&[HEAD, &frame].concat()) else { return };
    assert!(again.damages.is_empty(), "{:?}", again.damages);
    assert_eq!(again.jobs.len(), before.len());
}

fn read(bytes: &[u8]) -> Option<Replay> {
    let read = |_, read: &mut Vec<u8>| {
        bytes.clone_into(read);
        Ok(())
    };
    replay(&[1], read).ok()
}

fn empty() -> Ledger {
    Ledger::default()
}

fn supervisor() -> Supervisor {
    let settings = Settings {
        instance: "k".to_owned(),
        job_limit: 1000,
        output_memory: 1 << 20,
        shutdown_timeout: Duration::from_secs(9),
        main: None,
    };
    Supervisor::new(settings, NOW)
}

/// 2026-03-28T00:00:00Z, long after the boot.
const NOW: Now = Now { mono: Mono(1 << 42), wall: Wall(1_774_656_000_000) };

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte that is wrong although the checksum is right would be a bug of k1s; it must not end
    /// the next one, too.
    #[test]
    fn a_wrong_byte_anywhere_is_borne() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/state");
        for entry in std::fs::read_dir(corpus).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for index in 0..bytes.len().min(700) {
                let mut wrong = bytes.clone();
                wrong[index] ^= 0x81;
                check_state(&wrong);
            }
        }
    }
}
