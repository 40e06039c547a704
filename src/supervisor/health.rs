//! Whether a run is ready, and whether it is still well.
//!
//! ```text
//!  readiness   from the start on             liveness   from when it is first ready on
//!
//!                 the time has come            answer: a success or a failure
//!       Waiting ────────────────────► Asking ────────────────────────────────────► Waiting
//!          │                          ▲    │   time-out: a failure                    ▲
//!          │ the other role is asking │    └─ exec: Ending until it is collected ─────┘
//!          └────────► Due ────────────┘
//!
//!  log, notify, fd: Idle; the run reports by itself      the watchdog: Watched, until it is silent
//! ```
//!
//! Only one attempt of a run is made at a time. So many successes in a row make it ready, so many
//! failures in a row make it unready or [`Verdict::Unhealthy`]. The state of each role has one
//! timer, which the state gives its meaning.
//!
//! First attempts are spread over a period by the id of the job, so that thousands of jobs that
//! start together are not asked together.

use std::rc::Rc;
use std::time::Duration;

use super::backoff::fraction;
use super::command::{CommandEnd, CommandKey, CommandRole};
use super::{Action, Core, RunKey, Timer};
use crate::job::notice::Notice;
use crate::job::spec::{Check, Probe, ProbeRole};
use crate::job::{ExitStatus, JobId, JobSpec, Reason, Stream, TextSearch};
use crate::time::{Mono, Now, Span, Wall};

/// Names a probe of a run, which makes one attempt at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeKey {
    /// Which run is asked about.
    pub run: RunKey,
    /// Which of its probes.
    pub role: ProbeRole,
}

/// What came of the last attempt, or what a run has reported by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastProbe {
    /// The kind, as in the specification.
    pub kind: &'static str,
    /// Whether it was a success.
    pub ok: bool,
    /// When.
    pub at: Wall,
    /// What was found, for people; `LONGEST_MESSAGE` bytes at most.
    pub message: String,
}

/// What is known of a run.
#[derive(Debug)]
pub(super) struct Health {
    run: RunKey,
    spec: Rc<JobSpec>,
    /// The place of the job in each period, from 0 to 1.
    place: f64,
    is_ready: bool,
    /// It says that it loads its configuration again.
    is_reloading: bool,
    /// It says that it is about to end.
    is_ending: bool,
    readiness: Asker,
    liveness: Asker,
    search: Option<Box<TextSearch>>,
    /// What the run says that it is doing.
    status: String,
}

/// One of the two probes of a run.
#[derive(Debug)]
struct Asker {
    state: State,
    /// How many attempts in a row have succeeded, or failed.
    successes: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody asks: there is no such probe, or it is not its time, or the run reports by itself.
    Idle,
    /// The next attempt comes.
    Waiting,
    /// The next attempt comes when that of the other role is over.
    Due,
    /// An attempt is being made, since then.
    Asking(Mono),
    /// The attempt since then has timed out, and its command is being killed.
    Ending(Mono),
    /// The run must say in time that it is well.
    Watched,
}

/// The outcome of an attempt, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Good(String),
    Bad(String),
    /// The attempt could not be made, because this machine is short of something.
    Unknown(String),
}

/// What follows from what was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// The run is ready now.
    Ready,
    /// The run is not ready any more, for this reason.
    Unready(String),
    /// The run is to be stopped, for this reason.
    Unhealthy(Reason, String),
}

/// What was found out, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) last: Option<LastProbe>,
    pub(super) verdict: Verdict,
}

impl Health {
    /// The health of a run that starts now; `None` if nobody wants to know.
    pub(super) fn begin(
        run: RunKey,
        spec: &Rc<JobSpec>,
        id: &JobId,
        core: &mut Core,
        now: Now,
    ) -> Option<Box<Health>> {
        if spec.readiness.is_none() && spec.liveness.is_none() {
            return None;
        }
        let mut health = Box::new(Health {
            run,
            spec: spec.clone(),
            place: fraction(id),
            is_ready: false,
            is_reloading: false,
            is_ending: false,
            readiness: Asker::default(),
            liveness: Asker::default(),
            search: None,
            status: String::new(),
        });
        match &spec.readiness {
            Some(probe) => health.await_readiness(probe, core, now),
            None => health.be_ready(core, now),
        }
        Some(health)
    }

    /// The process is the same, and has another specification.
    pub(super) fn take_over(&mut self, spec: &Rc<JobSpec>, core: &mut Core, now: Now) {
        let old = self.spec.clone();
        let is_same = old.readiness == spec.readiness;
        let is_all_same =
            is_same && old.liveness == spec.liveness && old.start_timeout == spec.start_timeout;
        if is_all_same || self.is_ending {
            self.spec = spec.clone();
            return;
        }
        let was_ready = std::mem::replace(&mut self.is_ready, false);
        let search = self.search.take();
        self.end(core);
        self.spec = spec.clone();
        match &spec.readiness {
            Some(probe) if is_same && was_ready => {
                if probe.check.is_asked() {
                    let first = probe.period(true).mul_f64(self.place_of(ProbeRole::Readiness));
                    self.wait(ProbeRole::Readiness, now.mono + first, core);
                }
                self.be_ready(core, now);
            }
            Some(probe) => {
                self.await_readiness(probe, core, now);
                self.search = search.filter(|_| is_same).or(self.search.take());
            }
            None => self.be_ready(core, now),
        }
    }

    /// Nobody asks about the run any more: it has ended, or is being stopped.
    pub(super) fn end(&mut self, core: &mut Core) {
        for role in [ProbeRole::Readiness, ProbeRole::Liveness] {
            self.stop_asking(role, core);
        }
        core.timers.cancel(&Timer::Ready(self.run));
        self.search = None;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn is_reloading(&self) -> bool {
        self.is_reloading
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Whether its output is searched.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    pub(super) fn status(&self) -> Option<&str> {
        Some(self.status.as_str()).filter(|status| !status.is_empty())
    }

    /// The timer of a role has expired; its state says what it was for.
    pub(super) fn handle_timer(&mut self, role: ProbeRole, core: &mut Core, now: Now) -> Finding {
        match self.asker(role).state {
            State::Waiting if self.is_busy(core) => {
                self.asker_mut(role).state = State::Due;
                Finding::NOTHING
            }
            State::Waiting => {
                self.ask(role, core, now);
                Finding::NOTHING
            }
            State::Asking(_) => {
                let is_over = !self.give_up(role, core);
                let timeout = self.probe(role).map_or(Duration::ZERO, |probe| probe.timeout);
                let is_command =
                    self.probe(role).is_some_and(|it| matches!(it.check, Check::Exec { .. }));
                // k1s is to blame if so much is to be started that it was not its turn.
                let answer = match is_command && is_over {
                    true => Answer::Unknown("was not started in time".to_owned()),
                    false => Answer::Bad(format!("timed out after {}", Span(timeout))),
                };
                self.conclude(role, answer, is_over, core, now)
            }
            State::Watched => {
                let silent = self.probe(role).map_or(Duration::ZERO, |probe| probe.watchdog());
                let why = format!("it has not said WATCHDOG=1 for {}", Span(silent));
                self.distrust("notify", why, now)
            }
            State::Idle | State::Due | State::Ending(_) => Finding::NOTHING,
        }
    }

    /// An attempt has been answered. That of a command is over.
    pub(super) fn handle_answer(
        &mut self,
        role: ProbeRole,
        answer: Answer,
        core: &mut Core,
        now: Now,
    ) -> Finding {
        let finding = match self.asker(role).state {
            State::Asking(_) => self.conclude(role, answer, true, core, now),
            State::Ending(begun) => {
                self.plan(role, begun, core, now);
                Finding::NOTHING
            }
            State::Idle | State::Waiting | State::Due | State::Watched => Finding::NOTHING,
        };
        self.ask_who_is_due(core, now);
        finding
    }

    /// An attempt could not be made: the next one comes after a period.
    pub(super) fn handle_deferred(&mut self, role: ProbeRole, core: &mut Core, now: Now) {
        if let State::Asking(begun) = self.asker(role).state {
            self.plan(role, begun, core, now);
            self.ask_who_is_due(core, now);
        }
    }

    /// The run has written something, which may be what is waited for.
    pub(super) fn handle_output(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        core: &mut Core,
        now: Now,
    ) -> Finding {
        let Some(search) = &mut self.search else { return Finding::NOTHING };
        match self.spec.readiness.as_deref() {
            Some(Probe { check: Check::Log { text }, .. }) if search.find(text, stream, bytes) => {
                let message = format!("a line contains {text:?}");
                self.search = None;
                self.report("log", message, core, now)
            }
            Some(_) | None => Finding::NOTHING,
        }
    }

    /// The run says something about itself.
    pub(super) fn handle_notice(&mut self, notice: Notice, core: &mut Core, now: Now) -> Finding {
        let readiness = self.spec.readiness.as_ref().map(|probe| &probe.check);
        match notice {
            Notice::Ready if readiness == Some(&Check::Notify) => {
                self.is_reloading = false;
                self.report("notify", "READY=1".to_owned(), core, now)
            }
            Notice::Newline if matches!(readiness, Some(Check::Fd { .. })) => {
                self.report("fd", "a newline".to_owned(), core, now)
            }
            Notice::Status(status) => {
                self.status = status;
                Finding::NOTHING
            }
            Notice::Reloading => {
                self.is_reloading = true;
                Finding::NOTHING
            }
            Notice::Stopping if self.is_ending => Finding::NOTHING,
            Notice::Stopping => {
                self.is_ending = true;
                self.end(core);
                // Nobody asks any more whether it is well, so there must be an end to it.
                core.timers.set(Timer::Ready(self.run), now.mono + self.spec.stop.timeout);
                let was_ready = self.is_ready && self.spec.readiness.is_some();
                self.is_ready &= !was_ready;
                let why = "it says that it is about to end".to_owned();
                let verdict = if was_ready { Verdict::Unready(why) } else { Verdict::Nothing };
                Finding { last: None, verdict }
            }
            Notice::Watchdog if self.liveness.state == State::Watched => {
                self.watch(core, now);
                let message = "WATCHDOG=1".to_owned();
                let last = Some(LastProbe { kind: "notify", ok: true, at: now.wall, message });
                Finding { last, verdict: Verdict::Nothing }
            }
            Notice::WatchdogTrigger if self.liveness.state == State::Watched => {
                self.distrust("notify", "it has said WATCHDOG=trigger".to_owned(), now)
            }
            Notice::Ready => {
                self.is_reloading = false;
                Finding::NOTHING
            }
            Notice::Newline
            | Notice::Watchdog
            | Notice::WatchdogTrigger
            | Notice::ExtendTimeout(_) => Finding::NOTHING,
        }
    }

    /// The run needs more time to become ready; returns whether it is waited for.
    pub(super) fn extend(&mut self, until: Mono, core: &mut Core) -> bool {
        let timer = Timer::Ready(self.run);
        let Some(deadline) = core.timers.deadline(&timer) else { return false };
        core.timers.set(timer, deadline.max(until));
        true
    }

    /// The run was not ready in time, or has not ended although it was about to; `last` is what was
    /// found out last.
    pub(super) fn handle_start_timeout(&self, last: Option<&LastProbe>) -> Finding {
        if self.is_ending {
            let why = "it has said that it is about to end, and has not ended in time".to_owned();
            return Finding { last: None, verdict: Verdict::Unhealthy(Reason::Unhealthy, why) };
        }
        let time = Span(self.spec.start_timeout.unwrap_or_default());
        let why = match last.filter(|last| !last.ok) {
            Some(last) => format!("it was not ready within {time}: {}", last.message),
            None => format!("it was not ready within {time}"),
        };
        Finding { last: None, verdict: Verdict::Unhealthy(Reason::NotReady, why) }
    }

    fn await_readiness(&mut self, probe: &Probe, core: &mut Core, now: Now) {
        if probe.check.is_asked() {
            self.wait(ProbeRole::Readiness, now.mono + probe.initial_delay, core);
        }
        if matches!(probe.check, Check::Log { .. }) {
            self.search = Some(Box::default());
        }
        if let Some(timeout) = self.spec.start_timeout {
            core.timers.set(Timer::Ready(self.run), now.mono + timeout);
        }
    }

    /// The run is ready; from the first time on, liveness is asked.
    fn be_ready(&mut self, core: &mut Core, now: Now) {
        self.is_ready = true;
        self.is_ending = false;
        core.timers.cancel(&Timer::Ready(self.run));
        let Some(probe) = &self.spec.liveness else { return };
        if self.liveness.state != State::Idle {
            return;
        }
        if probe.check.is_asked() {
            let first = probe.period(true).mul_f64(self.place_of(ProbeRole::Liveness));
            self.wait(ProbeRole::Liveness, now.mono + probe.initial_delay + first, core);
        } else {
            self.watch(core, now);
        }
    }

    /// The run has reported by itself that it is ready.
    fn report(
        &mut self,
        kind: &'static str,
        message: String,
        core: &mut Core,
        now: Now,
    ) -> Finding {
        let last = Some(LastProbe { kind, ok: true, at: now.wall, message });
        if self.is_ready {
            return Finding { last, verdict: Verdict::Nothing };
        }
        self.be_ready(core, now);
        Finding { last, verdict: Verdict::Ready }
    }

    fn distrust(&self, kind: &'static str, why: String, now: Now) -> Finding {
        let last = LastProbe { kind, ok: false, at: now.wall, message: why.clone() };
        Finding { last: Some(last), verdict: Verdict::Unhealthy(Reason::Unhealthy, why) }
    }

    fn ask(&mut self, role: ProbeRole, core: &mut Core, now: Now) {
        let key = self.key(role);
        let Some(probe) = self.probe(role) else { return };
        core.timers.set(Timer::Probe(key), now.mono + probe.timeout);
        match &probe.check {
            Check::Exec { command } => core.start_command(command_of(key), command),
            check @ (Check::Http { .. } | Check::Tcp(_)) => {
                core.actions.push_back(Action::Probe { key, check: check.clone() });
            }
            Check::Log { .. } | Check::Notify | Check::Fd { .. } => {}
        }
        self.asker_mut(role).state = State::Asking(now.mono);
    }

    /// Ends an attempt that is being made; returns whether its end is still to be waited for.
    fn give_up(&self, role: ProbeRole, core: &mut Core) -> bool {
        let key = self.key(role);
        match self.probe(role).map(|probe| &probe.check) {
            Some(Check::Exec { .. }) => core.cut_command_short(command_of(key)),
            Some(_) | None => {
                core.actions.push_back(Action::EndProbe { key });
                false
            }
        }
    }

    /// One of the probes was to be asked while the other was: it is its turn.
    fn ask_who_is_due(&mut self, core: &mut Core, now: Now) {
        for role in [ProbeRole::Readiness, ProbeRole::Liveness] {
            if self.asker(role).state == State::Due && !self.is_busy(core) {
                self.ask(role, core, now);
            }
        }
    }

    /// Whether an attempt is being made, or a command of one is not gone yet.
    fn is_busy(&self, core: &Core) -> bool {
        [ProbeRole::Readiness, ProbeRole::Liveness].into_iter().any(|role| {
            matches!(self.asker(role).state, State::Asking(_) | State::Ending(_))
                || core.has_command(self.run, CommandRole::Probe(role))
        })
    }

    /// Counts the outcome of an attempt, and plans the next if this one is over.
    fn conclude(
        &mut self,
        role: ProbeRole,
        answer: Answer,
        is_over: bool,
        core: &mut Core,
        now: Now,
    ) -> Finding {
        let spec = self.spec.clone();
        let (Some(probe), State::Asking(begun)) = (spec.probe(role), self.asker(role).state) else {
            return Finding::NOTHING;
        };
        let verdict = match &answer {
            Answer::Good(_) => self.count(role, probe, true, "", core, now),
            Answer::Bad(message) => self.count(role, probe, false, message, core, now),
            Answer::Unknown(_) => Verdict::Nothing,
        };
        match is_over {
            true if verdict == Verdict::Ready => {
                let first = probe.period(true).mul_f64(self.place_of(role));
                self.wait(role, (begun + first).max(now.mono), core);
            }
            true => self.plan(role, begun, core, now),
            false => self.asker_mut(role).state = State::Ending(begun),
        }
        self.ask_who_is_due(core, now);
        let ok = matches!(answer, Answer::Good(_));
        let (kind, message) = (probe.check.kind(), cut(answer.into_message()));
        Finding { last: Some(LastProbe { kind, ok, at: now.wall, message }), verdict }
    }

    fn count(
        &mut self,
        role: ProbeRole,
        probe: &Probe,
        ok: bool,
        message: &str,
        core: &mut Core,
        now: Now,
    ) -> Verdict {
        let (successes, failures) = self.asker_mut(role).count(ok);
        match role {
            ProbeRole::Readiness if !self.is_ready && successes >= probe.success_threshold => {
                self.be_ready(core, now);
                Verdict::Ready
            }
            ProbeRole::Readiness if self.is_ready && failures >= probe.failure_threshold => {
                self.is_ready = false;
                Verdict::Unready(repeated(message, failures))
            }
            ProbeRole::Liveness if failures >= probe.failure_threshold => {
                Verdict::Unhealthy(Reason::Unhealthy, repeated(message, failures))
            }
            ProbeRole::Readiness | ProbeRole::Liveness => Verdict::Nothing,
        }
    }

    /// Plans the attempt after one that began then.
    fn plan(&mut self, role: ProbeRole, begun: Mono, core: &mut Core, now: Now) {
        let period = self.probe(role).map_or(Duration::ZERO, |probe| probe.period(self.is_ready));
        self.wait(role, (begun + period).max(now.mono), core);
    }

    fn wait(&mut self, role: ProbeRole, until: Mono, core: &mut Core) {
        self.asker_mut(role).state = State::Waiting;
        core.timers.set(Timer::Probe(self.key(role)), until);
    }

    fn watch(&mut self, core: &mut Core, now: Now) {
        let Some(probe) = &self.spec.liveness else { return };
        core.timers.set(Timer::Probe(self.key(ProbeRole::Liveness)), now.mono + probe.watchdog());
        self.liveness.state = State::Watched;
    }

    fn stop_asking(&mut self, role: ProbeRole, core: &mut Core) {
        let key = self.key(role);
        core.timers.cancel(&Timer::Probe(key));
        let asker = std::mem::take(self.asker_mut(role));
        if matches!(asker.state, State::Asking(_)) {
            self.give_up(role, core);
        }
    }

    /// Where in a period the job is asked. The two probes of a job are half a period apart.
    fn place_of(&self, role: ProbeRole) -> f64 {
        match role {
            ProbeRole::Readiness => self.place,
            ProbeRole::Liveness => (self.place + 0.5).fract(),
        }
    }

    fn key(&self, role: ProbeRole) -> ProbeKey {
        ProbeKey { run: self.run, role }
    }

    fn probe(&self, role: ProbeRole) -> Option<&Probe> {
        self.spec.probe(role)
    }

    fn asker(&self, role: ProbeRole) -> &Asker {
        match role {
            ProbeRole::Readiness => &self.readiness,
            ProbeRole::Liveness => &self.liveness,
        }
    }

    fn asker_mut(&mut self, role: ProbeRole) -> &mut Asker {
        match role {
            ProbeRole::Readiness => &mut self.readiness,
            ProbeRole::Liveness => &mut self.liveness,
        }
    }
}

impl Answer {
    /// What a command has found out that has ended so and written this.
    pub(super) fn of_command(end: &CommandEnd, output: &str) -> Answer {
        let how = match end {
            CommandEnd::Ended(ExitStatus::Code(0)) if !output.is_empty() => {
                return Answer::Good(output.to_owned());
            }
            CommandEnd::Ended(ExitStatus::Code(code)) => format!("ended with exit code {code}"),
            CommandEnd::Ended(ExitStatus::Signal(signal)) => format!("was ended by {signal}"),
            CommandEnd::NotStarted(error) => format!("could not be started: {error}"),
            CommandEnd::Deferred(error) => {
                let short = "could not be started, because this machine is short of something";
                return Answer::Unknown(format!("{short}: {error}"));
            }
        };
        match (end, output) {
            (CommandEnd::Ended(ExitStatus::Code(0)), _) => Answer::Good(how),
            (_, "") => Answer::Bad(how),
            (_, output) => Answer::Bad(format!("{how}: {output}")),
        }
    }

    pub(super) fn into_message(self) -> String {
        match self {
            Answer::Good(message) | Answer::Bad(message) | Answer::Unknown(message) => message,
        }
    }
}

impl Finding {
    pub(super) const NOTHING: Finding = Finding { last: None, verdict: Verdict::Nothing };
}

impl Default for Asker {
    fn default() -> Asker {
        Asker { state: State::Idle, successes: 0, failures: 0 }
    }
}

impl Asker {
    /// Counts an attempt; returns how many in a row have succeeded, and failed.
    fn count(&mut self, ok: bool) -> (u32, u32) {
        match ok {
            true => (self.successes, self.failures) = (self.successes.saturating_add(1), 0),
            false => (self.successes, self.failures) = (0, self.failures.saturating_add(1)),
        }
        (self.successes, self.failures)
    }
}

fn command_of(key: ProbeKey) -> CommandKey {
    CommandKey { run: key.run, role: CommandRole::Probe(key.role) }
}

fn repeated(message: &str, times: u32) -> String {
    match times {
        0 | 1 => message.to_owned(),
        times => format!("{message}, {times} times in a row"),
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    message
}

/// In bytes.
const LONGEST_MESSAGE: usize = 1024;
