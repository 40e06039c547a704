//! The pipes that jobs write to.
//!
//! The end of a pipe and the end of its run come in any order. When the run's first process is
//! over, what it had written is still in the pipe: it is read to the end, and then the pipe is
//! closed, whoever else may hold it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};

use mio::event::Event;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

use super::FIRST_TOKEN;
use super::console::{Console, Forwarder};
use crate::config::Forward;
use crate::job::Stream;
use crate::os;
use crate::supervisor::{JobKey, Launch, RunKey, Supervisor};
use crate::time::Now;

/// All open pipes.
#[derive(Debug)]
pub(super) struct Outputs {
    pipes: BTreeMap<Token, Pipe>,
    tokens: BTreeMap<(RunKey, Stream), Token>,
    /// Pipes that may have more to read.
    ready: VecDeque<Token>,
    /// Pipes that are ready, and wait until k1s's own reader has caught up.
    patient: Vec<Token>,
    last_token: usize,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Pipe {
    receiver: Receiver,
    run: RunKey,
    stream: Stream,
    /// Passes it on to k1s's own.
    forwarder: Forwarder,
    is_ready: bool,
    /// All writers have closed it: after what is in it comes the end.
    is_hung_up: bool,
}

/// The pipes of a run that is about to be spawned. Dropped, they are watched no more.
#[derive(Debug)]
pub(super) struct Watched {
    stdout: (Token, Receiver),
    stderr: (Token, Receiver),
}

/// Where what is read goes.
pub(super) struct Sinks<'a> {
    /// Keeps it.
    pub(super) supervisor: &'a mut Supervisor,
    /// Passes it on.
    pub(super) console: &'a mut Console,
    pub(super) now: Now,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// So many bytes. When that was all of a buffer, there may be more.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end of the stream, or an error that is as good as one.
    End,
}

impl Default for Outputs {
    fn default() -> Outputs {
        Outputs {
            pipes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            ready: VecDeque::new(),
            patient: Vec::new(),
            last_token: FIRST_TOKEN,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }
}

impl Outputs {
    /// Creates the two pipes of a run that is to be spawned, and watches them already: one that
    /// could not be watched would be read when the run ends, and a run that fills it would not.
    ///
    /// # Errors
    /// [`os::SpawnError::Busy`]: there are no descriptors for them, no memory, or as many are
    /// watched as the user may (`ENOSPC`, epoll_ctl(2)).
    pub(super) fn watch(
        &mut self,
        registry: &Registry,
    ) -> Result<(Watched, os::pipe::WriteEnds), os::SpawnError> {
        let (pipes, ends) = os::pipe::captured()?;
        let mut watch = |fd| {
            // Pipes have the even tokens, connections the odd ones.
            self.last_token += 2;
            let token = Token(self.last_token);
            let mut receiver = Receiver::from(fd);
            registry
                .register(&mut receiver, token, Interest::READABLE)
                .map_err(|error| os::SpawnError::busy("epoll", &error))?;
            Ok((token, receiver))
        };
        Ok((Watched { stdout: watch(pipes.stdout)?, stderr: watch(pipes.stderr)? }, ends))
    }

    /// The pipes are those of this run, which was spawned: passes on what they carry in this way,
    /// where its job wants that.
    pub(super) fn open(
        &mut self,
        launch: &Launch,
        pipes: Watched,
        forward: Forward,
        is_patient: bool,
    ) {
        let (run, is_on) = (launch.run, launch.spec.output.forward);
        let streams = [(Stream::Stdout, pipes.stdout), (Stream::Stderr, pipes.stderr)];
        for (stream, (token, receiver)) in streams {
            self.tokens.insert((run, stream), token);
            let id = launch.job_id.clone();
            let forwarder = Forwarder::new(forward, is_on, is_patient, id, run.number, stream);
            let pipe =
                Pipe { receiver, run, stream, forwarder, is_ready: false, is_hung_up: false };
            self.pipes.insert(token, pipe);
        }
    }

    /// How many descriptors are open.
    pub(super) fn descriptors(&self) -> usize {
        self.pipes.len()
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

    /// Whether there is output that no event will tell of.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Lets those go on for whom there is room again. To be called after the console was flushed.
    pub(super) fn resume(&mut self, console: &Console) {
        let pipes = &self.pipes;
        let waits = |token: &mut Token| {
            pipes.get(token).is_some_and(|pipe| pipe.forwarder.must_wait(console))
        };
        let resumed = self.patient.extract_if(.., |token| !waits(token));
        self.ready.extend(resumed);
    }

    /// Reads a turn's share of the pipes that are ready, each in its turn.
    pub(super) fn read(&mut self, sinks: &mut Sinks<'_>) {
        for _ in 0..self.ready.len().min(READS_A_TURN) {
            let Some(token) = self.ready.pop_front() else { break };
            let Some(pipe) = self.pipes.get_mut(&token) else { continue };
            if pipe.forwarder.must_wait(sinks.console) {
                self.patient.push(token);
                continue;
            }
            match pipe.read_once(&mut self.buffer, sinks) {
                Got::Bytes(count) if count == self.buffer.len() => self.ready.push_back(token),
                // The event of the last writer's end has come already: no other will.
                Got::Bytes(_) if pipe.is_hung_up => self.ready.push_back(token),
                Got::Bytes(_) | Got::Nothing => pipe.is_ready = false,
                Got::End => self.close(token, sinks),
            }
        }
    }

    /// The run's first process is over: reads what it has written, and lets go of its pipes.
    pub(super) fn finish(&mut self, run: RunKey, sinks: &mut Sinks<'_>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let Some(token) = self.tokens.get(&(run, stream)).copied() else { continue };
            if let Some(pipe) = self.pipes.get_mut(&token) {
                pipe.read_rest(&mut self.buffer, sinks);
            }
            self.close(token, sinks);
        }
    }

    /// k1s ends, and some runs have not: passes on the lines that they have begun.
    pub(super) fn finish_lines(&mut self, console: &mut Console, now: Now) {
        for pipe in self.pipes.values_mut() {
            pipe.forwarder.finish(console, now);
        }
    }

    /// The job's `output.forward` may be another now.
    pub(super) fn set_forwarding(
        &mut self,
        job: JobKey,
        is_on: bool,
        console: &mut Console,
        now: Now,
    ) {
        let run = |number| (RunKey { job, number }, Stream::Stdout);
        for (_, token) in self.tokens.range(run(0)..run(u64::MAX)) {
            if let Some(pipe) = self.pipes.get_mut(token) {
                pipe.forwarder.switch(is_on, console, now);
            }
        }
    }

    fn close(&mut self, token: Token, sinks: &mut Sinks<'_>) {
        if let Some(mut pipe) = self.pipes.remove(&token) {
            pipe.forwarder.finish(sinks.console, sinks.now);
            self.tokens.remove(&(pipe.run, pipe.stream));
        }
    }
}

impl Pipe {
    /// What is in the pipe now; not what others go on writing. A short read does not mean that it
    /// is empty: whoever writes may have made packets of it (pipe(7), O_DIRECT).
    fn read_rest(&mut self, buffer: &mut [u8], sinks: &mut Sinks<'_>) {
        let mut rest = os::pipe::bytes_pending(&self.receiver).unwrap_or(0);
        while rest > 0 {
            let share = rest.min(buffer.len());
            let Some(part) = buffer.get_mut(..share) else { return };
            match self.read_once(part, sinks) {
                Got::Bytes(count) => rest = rest.saturating_sub(count),
                Got::Nothing | Got::End => return,
            }
        }
    }

    fn read_once(&mut self, buffer: &mut [u8], sinks: &mut Sinks<'_>) -> Got {
        loop {
            return match self.receiver.read(buffer) {
                Ok(0) => Got::End,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    sinks.supervisor.handle_output(self.run, self.stream, bytes);
                    self.forwarder.pass(bytes, sinks.console, sinks.now);
                    Got::Bytes(count)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => Got::End,
            };
        }
    }
}

/// As much as a pipe holds by default: pipe(7).
const BUFFER_BYTES: usize = 64 * 1024;

/// Of all pipes together: some tenths of a millisecond.
const READS_A_TURN: usize = 8;
