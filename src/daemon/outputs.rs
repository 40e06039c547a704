//! The pipes that jobs and commands beside them write to; what is read is kept, forwarded, and written to log files.
//!
//! ```text
//!   open ─▶ ready ──▶ read, a share a turn ──▶ the first process has ended: draining ──▶ closed
//!             ▲            │ backpressure          a share a turn, too
//!             └────────────┘
//! ```
//!
//! The end of a pipe and the end of its run come in any order. When the first process of a run has
//! ended, what it has written may still be in the pipe. That much is read, and then the pipe is
//! closed, even if other processes hold it. Until then the run is *draining*: it has ended, but the
//! supervisor does not know yet.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};

use mio::event::Event;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

use super::FIRST_TOKEN;
use super::console::{Console, Forwarder};
use super::logfiles::{FileKey, LogFiles};
use super::shares::{Flow, PIPE_BUFFER_BYTES, Reading};
use crate::config::Forward;
use crate::job::{JobId, JobSpec, Stream};
use crate::os;
use crate::supervisor::{JobKey, Launch, ProcessKey, Purpose, RunKey, Supervisor};
use crate::time::Now;

/// All open pipes.
#[derive(Debug)]
pub(super) struct Outputs {
    /// The log files of jobs that want one.
    pub(super) files: LogFiles,
    pipes: BTreeMap<Token, Pipe>,
    tokens: BTreeMap<(ProcessKey, Stream), Token>,
    /// Pipes that may have more to read.
    ready: VecDeque<Token>,
    /// Pipes that are ready, and wait until k1s's own reader has caught up.
    held_back: Vec<Token>,
    /// Pipes of runs whose first process has ended, with something left to read.
    draining: VecDeque<Token>,
    /// What has ended and whose pipes were read and closed.
    drained: VecDeque<ProcessKey>,
    last_token: usize,
    /// How fast they are written to.
    flow: Flow,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Pipe {
    receiver: Receiver,
    /// Who writes to it.
    writer: ProcessKey,
    stream: Stream,
    /// Forwards it to k1s's own stream.
    forwarder: Forwarder,
    file: Option<FileKey>,
    is_ready: bool,
    /// How much was read since it was last empty.
    in_a_row: usize,
    /// It was made larger.
    is_wide: bool,
    /// All writers have closed it, so its end comes after its content.
    is_hung_up: bool,
    /// When the first process of the run has ended: how much of its content is still to be read.
    rest: Option<usize>,
}

/// The pipes of a run that is about to be spawned. When dropped, they are no longer watched.
#[derive(Debug)]
pub(super) struct Watched {
    stdout: (Token, Receiver),
    stderr: (Token, Receiver),
}

/// Where what is read goes.
pub(super) struct Sinks<'a> {
    /// Keeps it.
    pub(super) supervisor: &'a mut Supervisor,
    /// Forwards it.
    pub(super) console: &'a mut Console,
    pub(super) now: Now,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// So many bytes. If they fill the buffer, there may be more.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end of the stream, or an error that means the end.
    End,
}

impl Default for Outputs {
    fn default() -> Outputs {
        Outputs {
            files: LogFiles::default(),
            pipes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            ready: VecDeque::new(),
            held_back: Vec::new(),
            draining: VecDeque::new(),
            drained: VecDeque::new(),
            last_token: FIRST_TOKEN,
            flow: Flow::default(),
            buffer: vec![0; PIPE_BUFFER_BYTES].into_boxed_slice(),
        }
    }
}

impl Outputs {
    /// No pipes so far; all log files together may take so many bytes.
    pub(super) fn with_limit(disk: Option<u64>) -> Outputs {
        Outputs { files: LogFiles::with_limit(disk), ..Outputs::default() }
    }

    /// Creates the two pipes of a run that is to be spawned, and watches them before that. A pipe
    /// that cannot be watched would be read only when the run ends, and a run that fills it would
    /// never end.
    ///
    /// # Errors
    /// [`os::SpawnError::Shortage`]: of descriptors, also for log files of other runs, which come
    /// first; of memory, or of the watches that the user may have (`ENOSPC`, epoll_ctl(2)).
    pub(super) fn watch(
        &mut self,
        registry: &Registry,
        now: Now,
    ) -> Result<(Watched, os::pipe::WriteEnds), os::SpawnError> {
        if !self.files.has_descriptors(now) {
            let text = "log files of other runs have no descriptors";
            return Err(os::SpawnError::Shortage(text.to_owned()));
        }
        let (pipes, ends) = os::pipe::captured()?;
        let mut watch = |fd| {
            // Pipes have even tokens, connections have odd ones.
            self.last_token += 2;
            let token = Token(self.last_token);
            let mut receiver = Receiver::from(fd);
            registry
                .register(&mut receiver, token, Interest::READABLE)
                .map_err(|error| os::SpawnError::shortage("epoll", &error))?;
            Ok((token, receiver))
        };
        Ok((Watched { stdout: watch(pipes.stdout)?, stderr: watch(pipes.stderr)? }, ends))
    }

    /// The run was spawned with these pipes: forwards what they contain in this mode, if its job
    /// wants that.
    pub(super) fn open(
        &mut self,
        launch: &Launch,
        pipes: Watched,
        forward: Forward,
        has_backpressure: bool,
    ) {
        let (run, writer) = (launch.run, launch.key());
        let is_shown = match &launch.purpose {
            Purpose::Run => true,
            Purpose::Command { role, .. } => role.writes_as_run(),
        };
        let is_on = is_shown && launch.spec.output.forward;
        let streams = [(Stream::Stdout, pipes.stdout), (Stream::Stderr, pipes.stderr)];
        for (stream, (token, receiver)) in streams {
            self.tokens.insert((writer, stream), token);
            let id = launch.job_id.clone();
            let number = run.number;
            let forwarder = Forwarder::new(forward, is_on, has_backpressure, id, number, stream);
            let pipe = Pipe {
                receiver,
                writer,
                stream,
                forwarder,
                file: match is_shown {
                    true => self.files.attach(run, &launch.job_id, &launch.spec),
                    false => None,
                },
                is_ready: false,
                in_a_row: 0,
                is_wide: false,
                is_hung_up: false,
                rest: None,
            };
            self.pipes.insert(token, pipe);
        }
    }

    /// How many descriptors are open.
    pub(super) fn descriptors(&self) -> usize {
        self.pipes.len() + self.files.descriptors()
    }

    /// Whether the event is about a pipe.
    pub(super) fn handle_event(&mut self, event: &Event) -> bool {
        let Some(pipe) = self.pipes.get_mut(&event.token()) else { return false };
        pipe.is_hung_up |= event.is_read_closed();
        if !std::mem::replace(&mut pipe.is_ready, true) {
            self.ready.push_back(event.token());
        }
        true
    }

    /// Whether there is output for which no event will come.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.draining.is_empty() || self.files.has_more()
    }

    /// Lets pipes go on whose reader has caught up. To be called after the console was flushed.
    pub(super) fn resume(&mut self, console: &Console) {
        let pipes = &self.pipes;
        let waits = |token: &mut Token| {
            pipes.get(token).is_some_and(|pipe| pipe.forwarder.must_wait(console))
        };
        let resumed = self.held_back.extract_if(.., |token| !waits(token));
        self.ready.extend(resumed);
    }

    /// Reads the pipes that are ready, one after another, up to the share of a turn.
    pub(super) fn read(&mut self, sinks: &mut Sinks<'_>) {
        let mut share = Reading::A_TURN;
        self.flow.begin_turn(sinks.now.mono);
        while share.is_left()
            && let Some(token) = self.ready.pop_front()
        {
            let Some(pipe) = self.pipes.get_mut(&token).filter(|pipe| pipe.rest.is_none()) else {
                continue;
            };
            if pipe.forwarder.must_wait(sinks.console) {
                self.held_back.push(token);
                continue;
            }
            match pipe.read_once(&mut self.buffer, &mut share, &mut self.files, sinks) {
                Got::Bytes(count) if count == self.buffer.len() => self.ready.push_back(token),
                // The last writer has closed it, so no other event will come.
                Got::Bytes(_) if pipe.is_hung_up => self.ready.push_back(token),
                Got::Bytes(_) | Got::Nothing => pipe.is_ready = false,
                Got::End => self.close(token, sinks),
            }
        }
        self.flow.take(share.taken());
    }

    /// How many bytes long answers and followers may be sent in this turn; `None`: no limit by
    /// this.
    pub(super) fn left_to_followers(&self) -> Option<usize> {
        self.flow.left_to_followers()
    }

    /// The first process of the run has ended: [`Outputs::drain`] reads what is in its pipes now,
    /// but not what others write after that.
    pub(super) fn finish(&mut self, writer: ProcessKey) {
        let mut is_drained = true;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let Some(token) = self.tokens.get(&(writer, stream)).copied() else { continue };
            let Some(pipe) = self.pipes.get_mut(&token) else { continue };
            pipe.rest = Some(os::pipe::bytes_pending(&pipe.receiver).unwrap_or(0));
            self.draining.push_back(token);
            is_drained = false;
        }
        if is_drained {
            self.drained.push_back(writer);
        }
    }

    /// Reads the pipes of runs that have ended, one after another, up to the share of a turn.
    pub(super) fn drain(&mut self, sinks: &mut Sinks<'_>) {
        let mut share = Reading::A_TURN;
        while share.is_left() {
            let Some(token) = self.draining.pop_front() else { return };
            let Some(pipe) = self.pipes.get_mut(&token) else { continue };
            if pipe.drain_once(&mut self.buffer, &mut share, &mut self.files, sinks) {
                self.draining.push_back(token);
                continue;
            }
            let writer = pipe.writer;
            self.close(token, sinks);
            let is_open = |stream| self.tokens.contains_key(&(writer, stream));
            if !is_open(Stream::Stdout) && !is_open(Stream::Stderr) {
                self.drained.push_back(writer);
            }
        }
    }

    /// One that [`Outputs::finish`] was called for, and whose output was read.
    pub(super) fn poll_drained(&mut self) -> Option<ProcessKey> {
        self.drained.pop_front()
    }

    /// k1s ends: forwards incomplete lines of runs that have not ended.
    pub(super) fn finish_lines(&mut self, console: &mut Console, now: Now) {
        for pipe in self.pipes.values_mut() {
            pipe.forwarder.finish(console, now);
        }
    }

    /// From now on all are forwarded in this mode, or in the default of each.
    pub(super) fn forward(&mut self, mode: Option<Forward>, console: &mut Console, now: Now) {
        for pipe in self.pipes.values_mut() {
            pipe.forwarder.change(mode, console, now);
        }
    }

    /// The job's `output.forward` may have changed.
    pub(super) fn set_forwarding(
        &mut self,
        job: JobKey,
        is_on: bool,
        console: &mut Console,
        now: Now,
    ) {
        let run = |number| (ProcessKey::Run(RunKey { job, number }), Stream::Stdout);
        for (_, token) in self.tokens.range(run(0)..run(u64::MAX)) {
            if let Some(pipe) = self.pipes.get_mut(token) {
                pipe.forwarder.switch(is_on, console, now);
            }
        }
    }

    /// The job's `output.file` may have changed: new output of its runs goes there.
    pub(super) fn set_files(&mut self, job: JobKey, id: &JobId, spec: &JobSpec, now: Now) {
        let run = |number| (ProcessKey::Run(RunKey { job, number }), Stream::Stdout);
        for ((writer, _), token) in self.tokens.range(run(0)..run(u64::MAX)) {
            if let Some(pipe) = self.pipes.get_mut(token) {
                let after = self.files.attach(writer.run(), id, spec);
                if let Some(before) = std::mem::replace(&mut pipe.file, after) {
                    self.files.release(before, now);
                }
            }
        }
    }

    fn close(&mut self, token: Token, sinks: &mut Sinks<'_>) {
        if let Some(mut pipe) = self.pipes.remove(&token) {
            pipe.forwarder.finish(sinks.console, sinks.now);
            if let Some(file) = pipe.file {
                self.files.release(file, sinks.now);
            }
            self.tokens.remove(&(pipe.writer, pipe.stream));
        }
    }
}

impl Pipe {
    /// Reads once from what was in the pipe when the first process ended; returns whether more of
    /// that is left. A short read does not mean that the pipe is empty, because a writer may use
    /// packets (pipe(7), O_DIRECT).
    fn drain_once(
        &mut self,
        buffer: &mut [u8],
        share: &mut Reading,
        files: &mut LogFiles,
        sinks: &mut Sinks<'_>,
    ) -> bool {
        let rest = self.rest.unwrap_or(0);
        let most = rest.min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else {
            return false;
        };
        match self.read_once(part, share, files, sinks) {
            Got::Bytes(count) => {
                let rest = rest.saturating_sub(count);
                self.rest = Some(rest);
                rest > 0
            }
            Got::Nothing | Got::End => false,
        }
    }

    /// Notices a pipe from which more was read in a row than it can contain: its writer had to
    /// wait.
    fn note_flow(&mut self, count: usize) {
        self.in_a_row = self.in_a_row.saturating_add(count);
        if self.in_a_row >= os::pipe::COMMON_BYTES && !std::mem::replace(&mut self.is_wide, true) {
            os::pipe::widen(&self.receiver);
        }
    }

    /// The output of a probe is kept with its attempt, and goes nowhere else.
    fn hand_over(&self, bytes: &[u8], sinks: &mut Sinks<'_>) {
        let Sinks { supervisor, now, .. } = sinks;
        match self.writer {
            ProcessKey::Run(run) => supervisor.handle_output(run, self.stream, bytes, *now),
            ProcessKey::Command(key) => {
                supervisor.handle_command_output(key, self.stream, bytes, *now);
            }
        }
    }

    fn read_once(
        &mut self,
        buffer: &mut [u8],
        share: &mut Reading,
        files: &mut LogFiles,
        sinks: &mut Sinks<'_>,
    ) -> Got {
        loop {
            return match self.receiver.read(buffer) {
                Ok(0) => Got::End,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.hand_over(bytes, sinks);
                    let lines = self.forwarder.pass(bytes, sinks.console, sinks.now);
                    share.take(count, lines);
                    self.note_flow(count);
                    if let Some(file) = self.file {
                        share.take_file(count, files.write(file, bytes, sinks.now));
                    }
                    Got::Bytes(count)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    share.take(0, 0);
                    self.in_a_row = 0;
                    Got::Nothing
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => Got::End,
            };
        }
    }
}
