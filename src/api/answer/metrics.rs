//! The answer to `GET /metrics`: waits for a measurement, then writes metric by metric, as the
//! client takes them.

use super::stream::CHUNK_BYTES;
use super::{Pending, Slice, Stream, stream};
use crate::access::Visible;
use crate::api::exposition::{Format, Lines};
use crate::api::metrics::{ByState, METRICS, Sight, Source};
use crate::api::view::BYTES_A_PATTERN;
use crate::http::{Connection, Head, Method};
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::Now;

/// An unfinished answer. Both formats demand that all lines of a metric stand together, so it goes
/// through all jobs once for each metric. A job that is created or removed meanwhile may appear in
/// some metrics only.
#[derive(Debug)]
pub(in crate::api) struct Metrics {
    format: Format,
    /// The jobs that it shows.
    visible: Visible,
    /// The number of the measurement to wait for.
    measurement: u64,
    /// The current one of [`METRICS`].
    index: usize,
    /// The last job that was written for it.
    at: Option<JobKey>,
    by_state: ByState,
}

/// Requests a measurement for the answer. HEAD is answered at once.
pub(in crate::api) fn metrics(
    format: Format,
    visible: Visible,
    head: &Head,
    connection: &mut Connection,
    supervisor: &mut Supervisor,
    now: Now,
) -> Option<Pending> {
    if head.method == Method::Head {
        let _ = connection.start_stream(format.reply(), now);
        return None;
    }
    let metrics = Metrics {
        format,
        visible,
        measurement: supervisor.measure(),
        index: 0,
        at: None,
        by_state: ByState::default(),
    };
    Stream::begin(format.reply(), stream::Source::Metrics(metrics), connection, now)
}

impl Metrics {
    /// Writes lines until there are enough bytes for a chunk, or the budget in bytes is used up.
    pub(super) fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> Slice {
        if supervisor.measured() < self.measurement {
            return Slice::Waits { topic: Topic::Measured, until: None };
        }
        let until = out.len() + CHUNK_BYTES;
        let patterns = self.visible.patterns().len();
        while let Some(metric) = METRICS.get(self.index) {
            if metric.source.is_sum() && !self.visible.is_all() {
                self.index += 1;
                continue;
            }
            if self.at.is_none() {
                self.format.begin(out, &metric.name);
            }
            let mut sight = Sight { supervisor, now, by_state: &mut self.by_state };
            match metric.source {
                Source::Own(write) | Source::Sum(write) => {
                    write(&sight, &mut Lines::new(out, &metric.name, None))
                }
                Source::Jobs(write) => {
                    for job in supervisor.jobs_after(self.at) {
                        let begin = out.len();
                        let id = Some(job.id().as_str());
                        let mut lines = Lines::new(out, &metric.name, id);
                        if self.visible.has(job.id().as_str()) {
                            write(job, &mut sight, &mut lines);
                        }
                        let cost = lines.cost + BYTES_A_LOOK + patterns * BYTES_A_PATTERN;
                        self.at = Some(job.key());
                        *budget = budget.saturating_sub(out.len() - begin + cost);
                        if *budget == 0 || out.len() >= until {
                            return Slice::Part;
                        }
                    }
                }
            }
            self.index += 1;
            self.at = None;
        }
        self.format.end(out);
        Slice::Over
    }
}

/// The cost of a job without a line, as the time to write so many bytes.
const BYTES_A_LOOK: usize = 32;
