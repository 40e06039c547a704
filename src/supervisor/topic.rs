//! What can be waited for: an answer that waits names a topic, and is woken when that has changed.

use std::collections::BTreeSet;

use super::JobKey;

/// A part of what the supervisor shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A job: its state, specification or results have changed, or it was removed.
    Job(JobKey),
    /// A job's output: there is more, or the job was removed and no more will come.
    Output(JobKey),
    /// The event log.
    Events,
    /// A measurement has finished.
    Measured,
    /// All log files were reopened.
    LogFilesReopened,
    /// The config was read again.
    Reloaded,
    /// More of what has changed is stored, or cannot be stored.
    Saved,
    /// A request for many jobs is done.
    Batches,
}

/// The topics that have changed since they were last asked for, each once.
#[derive(Debug, Default)]
pub(super) struct Changed(BTreeSet<Topic>);

impl Changed {
    pub(super) fn note(&mut self, topic: Topic) {
        self.0.insert(topic);
    }

    pub(super) fn take(&mut self) -> Option<Topic> {
        self.0.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Pid, Spelling, Stream, Value, parse};
    use crate::supervisor::{Settings, Supervisor};
    use crate::time::Now;

    fn changed(supervisor: &mut Supervisor) -> Vec<Topic> {
        std::iter::from_fn(|| supervisor.poll_changed()).collect()
    }

    /// Any change of any job used to wake everyone who waited, and output nobody.
    #[test]
    fn what_has_changed_is_said_and_nothing_else() {
        let settings = Settings { job_limit: 10, output_memory: 1000, ..Settings::for_tests() };
        let (now, mut supervisor) = (Now::default(), Supervisor::new(settings, Now::default()));
        let fields = [("type", "continuous"), ("executable", "x")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        let spec = parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap();
        let mut start = |id: &str, pid| {
            supervisor.create(JobId::parse(id).unwrap(), spec.clone(), now).unwrap();
            let launch = supervisor.poll_spawn().unwrap();
            let run = launch.run;
            supervisor.handle_spawned(launch, Pid(pid), now);
            run
        };
        let (a, b) = (start("a", 11), start("b", 12));
        let wanted = [Topic::Job(a.job), Topic::Job(b.job), Topic::Events];
        assert_eq!(changed(&mut supervisor), wanted, "each once");
        supervisor.handle_output(b, Stream::Stdout, b"x", now);
        assert_eq!(changed(&mut supervisor), [Topic::Output(b.job)]);
        supervisor.kill("a", now).unwrap();
        assert_eq!(changed(&mut supervisor), [Topic::Job(a.job), Topic::Events]);
        supervisor.remove("b", now).unwrap();
        let wanted = [Topic::Job(b.job), Topic::Output(b.job), Topic::Events];
        assert_eq!(changed(&mut supervisor), wanted, "who follows its output is at the end");
    }
}
