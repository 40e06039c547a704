//! The answer to `GET /metrics`: waits for a measurement, then writes metric by metric as the
//! socket drains.

use super::{Pending, Want};
use crate::api::exposition::{Format, Lines};
use crate::api::metrics::{ByState, METRICS, Sight, Source};
use crate::http::{Connection, Head, Method};
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::Now;

/// An unfinished answer. Both formats demand that all lines of a metric stand together, so it goes
/// through all jobs once for each metric. A job that is created or removed meanwhile may appear in
/// some metrics only.
#[derive(Debug)]
pub struct Metrics {
    format: Format,
    /// The number of the measurement to wait for.
    measurement: u64,
    has_begun: bool,
    /// The current one of [`METRICS`].
    index: usize,
    /// The last job that was written for it.
    at: Option<JobKey>,
    by_state: ByState,
}

/// Requests a measurement for the answer. HEAD is answered at once.
pub(in crate::api) fn metrics(
    format: Format,
    head: &Head,
    connection: &mut Connection,
    supervisor: &mut Supervisor,
    now: Now,
) -> Option<Pending> {
    if head.method == Method::Head {
        let _ = connection.start_stream(format.reply(), now);
        return None;
    }
    Some(Pending::Metrics(Box::new(Metrics {
        format,
        measurement: supervisor.measure(),
        has_begun: false,
        index: 0,
        at: None,
        by_state: ByState::default(),
    })))
}

impl Metrics {
    pub(super) fn want(&self) -> Want {
        match self.has_begun {
            true => Want::Room,
            false => Want::Change { topic: Topic::Measured, until: None },
        }
    }

    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        if !self.has_begun {
            if supervisor.measured() < self.measurement {
                return false;
            }
            self.has_begun = true;
            if !connection.start_stream(self.format.reply(), now) {
                return true;
            }
        }
        let mut budget = SLICE_BYTES;
        while connection.wants_output() {
            if budget == 0 {
                return false;
            }
            let mut is_over = false;
            connection.push(now, |out| {
                is_over = self.write_slice(supervisor, out, &mut budget, now);
            });
            if is_over {
                connection.finish_stream(now);
                return true;
            }
        }
        connection.is_finished()
    }

    /// Writes lines until there are enough bytes for a chunk, or the budget in bytes is used up.
    /// Returns whether the answer is complete.
    fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> bool {
        let until = out.len() + CHUNK_BYTES;
        while let Some(metric) = METRICS.get(self.index) {
            if self.at.is_none() {
                self.format.begin(out, &metric.name);
            }
            let mut sight = Sight { supervisor, now, by_state: &mut self.by_state };
            match metric.source {
                Source::Own(write) => write(&sight, &mut Lines::new(out, &metric.name, None)),
                Source::Jobs(write) => {
                    for job in supervisor.jobs_after(self.at) {
                        let begin = out.len();
                        let id = Some(job.id().as_str());
                        write(job, &mut sight, &mut Lines::new(out, &metric.name, id));
                        self.at = Some(job.key());
                        *budget = budget.saturating_sub(out.len() - begin + BYTES_A_LOOK);
                        if *budget == 0 || out.len() >= until {
                            return false;
                        }
                    }
                }
            }
            self.index += 1;
            self.at = None;
        }
        self.format.end(out);
        true
    }
}

const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes may be added at a time.
const SLICE_BYTES: usize = 32 * 1024;

/// The cost of a job without a line, as the time to write so many bytes.
const BYTES_A_LOOK: usize = 32;
