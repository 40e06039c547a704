//! The results of a job: what is kept of its finished runs, within its own limit and the memory
//! budget for all output.

use std::time::Duration;

use super::Job;
use crate::job::{Ending, LastLines, Reason, RunEnd, RunRecord};
use crate::supervisor::memory::Place;
use crate::supervisor::run::End;
use crate::supervisor::{Core, Happened, Topic};
use crate::time::Now;

/// A finished run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its record.
    pub record: RunRecord,
    /// Where it is in the queue of those that hold output.
    pub(super) place: Option<Place>,
}

impl From<RunRecord> for Finished {
    fn from(record: RunRecord) -> Finished {
        Finished { record, place: None }
    }
}

impl Job {
    /// Records how a run ended, as a result and as an event.
    pub(super) fn record(
        &mut self,
        index: usize,
        end: RunEnd,
        reason: Reason,
        success: bool,
        core: &mut Core,
        now: Now,
    ) -> End {
        let spawn_failed = reason == Reason::SpawnFailed;
        let beside = self.unrecorded_runs().count().saturating_sub(1);
        let Some(run) = self.runs.get_mut(index) else {
            return End { success, spawn_failed, lived: Duration::ZERO };
        };
        let lived = now.mono.since(run.started.mono);
        let ending = Ending { run: run.key.number, end: end.clone(), reason, lived, success };
        let call = run.call.clone();
        core.memory.release(run.place.take());
        let (stdout, stderr) = run.take_output();
        let stdout = stdout.finish(&mut self.log_end, now.wall);
        let stderr = stderr.finish(&mut self.log_end, now.wall);
        let record = RunRecord {
            number: run.key.number,
            trigger: run.trigger,
            end,
            reason,
            success,
            started_at: run.started.wall,
            finished_at: now.wall,
            duration: lived,
            log_begin: run.log_begin,
            log_end: self.log_end.place(),
            beside,
            stdout,
            stderr,
        };
        let bytes = record.stdout.allocated() + record.stderr.allocated();
        let place = core.memory.hold(None, run.key, false, bytes);
        self.count_record(&record, core);
        let end = End { success, spawn_failed, lived };
        let weight = self.count_end(end, reason, core);
        if weight.calls {
            self.note_failure(&ending, call.as_ref().map_or(&[], |call| &call.callers));
        }
        let output = weight.is_reported.then(|| LastLines::of(&record, self.log_end));
        self.make_room_for_result();
        self.results.push_back(Finished { record, place });
        self.finished += 1;
        self.trim_results(core);
        core.changed.note(Topic::Output(self.key));
        self.last = Some(ending.clone());
        self.tell(Happened::Ended { ending, output }, core, now);
        end
    }

    /// The memory that the kept output of its runs takes, in bytes.
    pub fn captured_bytes(&self) -> usize {
        let kept =
            self.results().map(|record| record.stdout.allocated() + record.stderr.allocated());
        let live = self.runs.iter().map(|run| run.stdout.allocated() + run.stderr.allocated());
        kept.chain(live).sum()
    }

    /// Grows from room for one result, which is all that most one-off jobs need, and doubles up to
    /// the history limit.
    fn make_room_for_result(&mut self) {
        let (length, room) = (self.results.len(), self.results.capacity());
        if length == room {
            let most = self.spec.output.history_limit.saturating_add(1);
            let wanted = room.saturating_mul(2).min(most).max(length + 1);
            self.results.reserve_exact(wanted - length);
        }
    }

    pub(super) fn trim_results(&mut self, core: &mut Core) {
        while self.results.len() > self.spec.output.history_limit {
            if let Some(oldest) = self.results.pop_front() {
                core.memory.release(oldest.place);
            }
        }
    }

    pub(in crate::supervisor) fn discard_output(&mut self, number: u64) {
        let run = self.runs.iter_mut().find(|run| run.key.number == number && run.place.is_some());
        if let Some(run) = run {
            return run.discard_output();
        }
        let finished = self.results.iter_mut().find(|finished| finished.record.number == number);
        if let Some(finished) = finished {
            finished.record.stdout.discard();
            finished.record.stderr.discard();
            finished.place = None;
        }
    }
}
