//! What a command needs: a k1s to ask, and a screen to show the answers on.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Answer, Client, Request, encode};
use super::screen::Screen;
use super::text::Escaped;
use super::{Failure, Options, place};
use crate::job::fields::closest;
use crate::os::console::wait_until_unread;

/// A k1s, and how its answers are shown.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) json: bool,
    pub(super) screen: Screen,
    /// Whether it was said that k1s is waited for. Threads of a command say it once.
    waits: Arc<AtomicBool>,
}

impl Session {
    pub(super) fn begin(options: &Options) -> Result<Session, Failure> {
        let client = place::find(options.url.as_deref(), options.token_file.as_deref())?;
        Ok(Session::with(client, options.json))
    }

    /// Asks with this client.
    pub(super) fn with(client: Client, json: bool) -> Session {
        Session { client, json, screen: Screen::of_stdout(), waits: Arc::default() }
    }

    /// Asks, and returns the answer if k1s does not refuse. `about` is the job that it is about.
    pub(super) fn ask(&self, about: &str, request: &Request<'_>) -> Result<Answer, Failure> {
        let answer = self.client.send(request)?;
        if answer.is_success() {
            return Ok(answer);
        }
        let status = answer.status;
        let body = self.read(answer)?;
        let why = refusal(status, &body);
        let like = if why == NO_JOB { self.like(about) } else { None };
        let hint = like.map_or_else(String::new, |id| format!("; did you mean {id}?"));
        Err(Failure::Refused(match about {
            "" => why,
            about => format!("{}: {why}{hint}", Escaped(about)),
        }))
    }

    /// The job whose id is most like this one.
    fn like(&self, id: &str) -> Option<String> {
        let ids = self.ids().ok()?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        closest(id, &ids).map(str::to_owned)
    }

    /// The ids of all jobs.
    pub(super) fn ids(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Known {
            id: String,
        }
        let jobs: Vec<Known> = self.get_as("", "/?output=false&results=0")?;
        Ok(jobs.into_iter().map(|job| job.id).collect())
    }

    /// Asks again, after a connection has broken off: k1s may be about to come back. That it is
    /// waited for is said once. Whether it is k1s that answers is asked first: a proxy may say to
    /// anything that all is well, and break off again, for ever.
    pub(super) fn ask_again(&self, about: &str, request: &Request<'_>) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            thread::sleep(pause);
            let is_k1s =
                self.get("", "/healthz").and_then(|said| match said.trim_ascii_end() == HEALTHY {
                    true => Ok(()),
                    false => Err(self.not_k1s("it is not healthy")),
                });
            match is_k1s.and_then(|()| self.ask(about, request)) {
                Err(Failure::Unreachable(why)) if began.elapsed() < COMES_BACK => {
                    if !self.waits.swap(true, Ordering::Relaxed) {
                        let seconds = COMES_BACK.as_secs();
                        self.note(format_args!("{why}; waiting for it, {seconds} s at most"));
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                done => {
                    self.waits.store(false, Ordering::Relaxed);
                    return done;
                }
            }
        }
    }

    /// Says something on stderr, for people.
    pub(super) fn note(&self, what: impl fmt::Display) {
        let _ = writeln!(io::stderr(), "k1s: {what}");
    }

    /// The whole answer to a GET.
    pub(super) fn get(&self, about: &str, target: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.ask(about, &Request::new("GET", target))?;
        self.read(answer)
    }

    /// The same, after a connection has broken off.
    pub(super) fn get_again(&self, about: &str, target: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.ask_again(about, &Request::new("GET", target))?;
        self.read(answer)
    }

    /// The whole answer to a GET, understood.
    pub(super) fn get_as<T: DeserializeOwned>(
        &self,
        about: &str,
        target: &str,
    ) -> Result<T, Failure> {
        self.understand(&self.get(about, target)?)
    }

    /// What a job or another part of the API has said in JSON.
    pub(super) fn understand<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| self.not_k1s(&error.to_string()))
    }

    fn not_k1s(&self, why: &str) -> Failure {
        let place = self.client.place();
        Failure::Unreachable(format!("what answers at {place} does not speak like k1s: {why}"))
    }

    /// Reads an answer to its end.
    pub(super) fn read(&self, answer: Answer) -> Result<Vec<u8>, Failure> {
        answer.bytes().map_err(|error| self.client.unreachable(&error))
    }

    /// Passes an answer on to stdout, as it comes. Returns how many bytes it had.
    pub(super) fn pass_on(
        &self,
        mut body: impl BufRead,
        mut out: impl Write,
    ) -> Result<u64, Failure> {
        let mut passed = 0;
        loop {
            let bytes = body.fill_buf().map_err(|error| self.client.unreachable(&error))?;
            if bytes.is_empty() {
                return Ok(passed);
            }
            let length = bytes.len();
            let written = out.write_all(bytes).and_then(|()| out.flush());
            written.map_err(|error| Failure::of_writing(&error))?;
            body.consume(length);
            passed += length as u64;
        }
    }
}

/// The refusals that a command has met which goes on after one: the last is how it ends, those
/// before it are printed.
#[derive(Debug, Default)]
pub(super) struct Refusals(Option<Failure>);

impl Refusals {
    /// Returns what was done, if it was not refused.
    pub(super) fn allow<T>(
        &mut self,
        session: &Session,
        done: Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match done {
            Ok(done) => return Ok(Some(done)),
            Err(refused @ Failure::Refused(_)) => {
                if let Some(before) = self.0.replace(refused) {
                    session.note(before);
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(None)
    }

    /// The end of the command.
    pub(super) fn end(self) -> Result<ExitCode, Failure> {
        self.0.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

/// What k1s says when it has done what it was asked.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) message: String,
}

/// Writes to stdout.
pub(super) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    print_bytes(text.to_string().as_bytes())
}

/// Writes to stdout.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::of_writing(&error))
}

/// From here on the process ends as soon as nobody reads stdout any more, also while there is
/// nothing to print. For commands that do nothing but print.
pub(super) fn end_when_unread() -> Result<(), Failure> {
    in_background(|| {
        wait_until_unread();
        process::exit(Failure::Unread.exit_code().into())
    })
    .map(drop)
}

/// Does something in a thread of its own.
pub(super) fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let begun = thread::Builder::new().spawn(work);
    begun.map_err(|error| Failure::Refused(format!("cannot start a thread: {error}")))
}

/// The path of a job.
pub(super) fn path(id: &str) -> String {
    format!("/job/{}", encode(id))
}

/// What the body of a refusal says, in one line.
fn refusal(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        hint: Option<String>,
    }
    match (serde_json::from_slice(body), status) {
        (Ok(Refusal { error, .. }), 403) if error == "Unauthorized" => format!(
            "{error}: the token is missing or wrong; give it in K1S_AUTH_TOKEN or by --token-file"
        ),
        (Ok(Refusal { error, hint: Some(hint) }), _) => {
            format!("{}; {}", Escaped(&error), Escaped(&hint))
        }
        (Ok(Refusal { error, hint: None }), _) => Escaped(&error).to_string(),
        (Err(_), status) => format!("the answer is {status}, and does not say why"),
    }
}

/// The error for an id that no job has.
const NO_JOB: &str = "Job not found";
/// What k1s says of itself.
const HEALTHY: &[u8] = br#"{"status":"ok"}"#;
/// For how long a k1s that has gone is asked again.
const COMES_BACK: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
