//! The REST API: turns requests into commands to the supervisor, and what it shows into JSON.
//!
//! ```text
//!   Head    ─▶ route ─▶ gate: may they? ─▶ if not, refused at once without its body
//!   Request ─▶ route ─▶ command or view ─▶ answered, or `Pending`: it takes more than one turn
//! ```
//!
//! All routes are in one table, [`ROUTES`], with the scope that each needs. Clients without a token
//! learn only whether k1s is alive and ready: the token is checked before the path and the job. Over
//! the unix socket it is the user who counts, in place of a token.

mod answer;
mod change;
mod exposition;
mod gate;
mod json;
mod metrics;
mod object;
mod page;
mod query;
mod specification;
mod view;

use std::time::Duration;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Serialize;

use crate::access::{Access, Caller, Origin, Scope, Tokens, Visible};
use crate::http::{Connection, Head, Incoming, Method, Path, Reply, Request, Status};
use crate::job::{self, Defaults, FieldError, JobId, JobSpec, Value, type_name};
use crate::supervisor::{Job, JobKey, Milestone, Put, Refusal, Saving, Supervisor};
use crate::time::Now;

pub use crate::job::READ_ONLY;
use answer::{Ask, Events, Goal, Logs, Many, Reload, Reopen, Saved, Then, Wait};
pub use answer::{Pending, Want};
use exposition::Format;
pub use exposition::{Kind, Name};
use gate::Gate;
pub use gate::Refused;
use json::write_line;
pub use metrics::{METRICS, Metric};
use object::Object;
use view::{Filter, Shown};

/// A method of a path.
#[derive(Debug)]
pub struct Route {
    /// The method; GET includes HEAD.
    pub method: Method,
    /// The path, with `{id}` for the segment that names a job.
    pub path: &'static str,
    /// What who asks must be allowed to do; `None`: it is open to all.
    pub scope: Option<Scope>,
    handler: Handler,
}

/// All routes of the API.
pub static ROUTES: [Route; 27] = [
    route(Method::Get, "/healthz", OPEN, Handler::Health),
    route(Method::Get, "/ui", OPEN, Handler::Page),
    route(Method::Get, "/readyz", OPEN, Handler::Readiness),
    route(Method::Get, "/openapi.json", READ, Handler::OpenApi),
    route(Method::Get, "/metrics", READ, Handler::Metrics),
    route(Method::Get, "/", READ, Handler::List),
    route(Method::Get, "/events", READ, Handler::Events),
    route(Method::Post, "/reopen", ADMIN, Handler::Reopen),
    route(Method::Post, "/reload", ADMIN, Handler::Reload),
    route(Method::Get, "/job/{id}", READ, Handler::Show),
    route(Method::Post, "/job/{id}", ADMIN, Handler::Create),
    route(Method::Put, "/job/{id}", ADMIN, Handler::Put),
    route(Method::Patch, "/job/{id}", ADMIN, Handler::Patch),
    route(Method::Delete, "/job/{id}", ADMIN, Handler::Remove),
    route(Method::Get, "/job/{id}/logs", READ, Handler::Logs),
    route(Method::Put, "/job/{id}/kill", RUN, Handler::Kill),
    route(Method::Put, "/job/{id}/start", RUN, Handler::Start),
    route(Method::Put, "/job/{id}/restart", RUN, Handler::Restart),
    route(Method::Put, "/job/{id}/run", RUN, Handler::Run),
    route(Method::Put, "/job/{id}/reload", RUN, Handler::ReloadJob),
    route(Method::Put, "/job/{id}/signal", RUN, Handler::Signal),
    route(Method::Put, "/jobs/kill", RUN, Handler::Many(Ask::Kill)),
    route(Method::Put, "/jobs/start", RUN, Handler::Many(Ask::Start)),
    route(Method::Put, "/jobs/restart", RUN, Handler::Many(Ask::Restart)),
    route(Method::Put, "/jobs/run", RUN, Handler::Many(Ask::Run)),
    route(Method::Put, "/jobs/reload", RUN, Handler::Many(Ask::Reload)),
    route(Method::Put, "/jobs/signal", RUN, Handler::Many(Ask::Signal)),
];

/// What the API needs to know to answer.
#[derive(Debug)]
pub struct Api {
    tokens: Tokens,
    gate: Gate,
    directory: String,
    time_zone: String,
    has_page: bool,
}

impl Api {
    /// An API for clients that send one of these tokens. `directory` is k1s's own working directory, absolute;
    /// `time_zone` is the default for cron expressions, a known one.
    pub fn new(tokens: Tokens, directory: String, time_zone: String) -> Api {
        Api { tokens, gate: Gate::default(), directory, time_zone, has_page: true }
    }

    /// The same API, without the page for people.
    pub fn without_page(self) -> Api {
        Api { has_page: false, ..self }
    }

    /// Handles what this caller has sent on `connection`: reads the body, answers, or returns what
    /// answers later.
    pub fn handle(
        &self,
        incoming: Incoming,
        caller: &Caller,
        connection: &mut Connection,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Option<Pending> {
        match incoming {
            Incoming::Head(head) => match (self.admit(&head, caller), caller.access()) {
                (Err(error), _) => error.respond(connection, now),
                // Without a token no body is read, because it would take memory.
                (Ok(found), None) => answer_stranger(found, &head, connection, supervisor, now),
                (Ok(_), Some(_)) => connection.proceed(head, now),
            },
            Incoming::Request(request) => {
                match (self.admit(&request.head, caller), caller.access()) {
                    (Err(error), _) => error.respond(connection, now),
                    (Ok(found), None) => {
                        answer_stranger(found, &request.head, connection, supervisor, now);
                    }
                    (Ok(found), Some(access)) => {
                        return self.answer(found, &request, access, connection, supervisor, now);
                    }
                }
            }
        }
        None
    }

    /// How much work it is to answer: in the time that it takes to send so many bytes.
    pub fn effort(&self, incoming: &Incoming, caller: &Caller, supervisor: &Supervisor) -> usize {
        let Incoming::Request(request) = incoming else { return HEAD_EFFORT };
        let mut effort = REQUEST_EFFORT + request.body.len() * BODY_EFFORT;
        // The specification is written, changed and read again.
        if let Ok(Found { route: Route { handler: Handler::Patch, .. }, id }) =
            self.find(request.head.method, &request.head.path)
            && caller.access().is_some_and(|access| access.visible.has(id))
            && let Some(job) = supervisor.job(id)
        {
            effort += job.spec().entries() * ENTRY_EFFORT;
        }
        effort
    }

    /// Who sends this request, from there. Connections of strangers are the first to be closed when
    /// there are too many.
    pub fn identify(&self, head: &Head, origin: Origin) -> Caller {
        let access = match origin {
            Origin::Network => head.bearer().and_then(|secret| self.tokens.find(secret)).cloned(),
            Origin::Owner { uid } => Some(Access::of_user(uid).into()),
            Origin::Other { uid } => return Caller::Barred { uid },
        };
        access.map_or(Caller::Stranger, Caller::Known)
    }

    /// Whether somebody may still do what they could when they asked.
    pub fn still_grants(&self, caller: &Caller) -> bool {
        caller.access().is_none_or(|access| self.tokens.grant(access))
    }

    /// Requests that were refused because of what who asked may do, since this was last asked.
    pub fn poll_refused(&self) -> Option<Refused> {
        self.gate.poll_refused()
    }

    fn admit<'a>(&self, head: &'a Head, caller: &Caller) -> Result<Found<'a>, ApiError> {
        let found = self.find(head.method, &head.path);
        self.gate.let_in(found.as_ref().ok(), caller)?;
        found.map_err(Missing::error)
    }

    /// The handler for a method and a path.
    fn find<'a>(&self, method: Method, path: &'a Path) -> Result<Found<'a>, Missing> {
        let method = if method == Method::Head { Method::Get } else { method };
        let mut allowed = Vec::new();
        for route in ROUTES.iter().filter(|route| self.serves(route.handler)) {
            let Some(id) = matches(route.path, path) else { continue };
            if route.method == method {
                return Ok(Found { route, id });
            }
            allowed.push(route.method.name());
            if route.method == Method::Get {
                allowed.push(Method::Head.name());
            }
        }
        if allowed.is_empty() {
            return Err(Missing::Path);
        }
        Err(Missing::Method { allowed: allowed.join(", ") })
    }

    fn serves(&self, handler: Handler) -> bool {
        self.has_page || handler != Handler::Page
    }

    fn answer(
        &self,
        found: Found,
        request: &Request,
        access: &Access,
        connection: &mut Connection,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Option<Pending> {
        let (id, changes) = (found.id, found.route.handler.changes_jobs());
        let known = supervisor.job(id).map(Job::key);
        let answer = supervisor.on_behalf_of(&access.asker, |supervisor| {
            self.carry_out(found, request, access, supervisor, now)
        });
        let answer = answer.map(|answer| match changes {
            true => until_saved(answer, id, known, supervisor),
            false => answer,
        });
        match answer {
            Ok(Answer::Said(said)) => respond_json(connection, Status::Ok, &said, now),
            Ok(Answer::Alive) => respond_json(connection, Status::Ok, &ALIVE, now),
            Ok(Answer::Readiness) => respond_ready(connection, supervisor, now),
            Ok(Answer::OpenApi) => connection
                .respond(Reply::json(Status::Ok), now, |out| out.extend_from_slice(&openapi())),
            Ok(Answer::Page) => page::respond(&request.head, connection, now),
            Ok(Answer::Show(job, shown)) => {
                let job = supervisor.job(job)?;
                return answer::show(supervisor, job, &shown, Status::Ok, connection, now);
            }
            Ok(Answer::List(filter)) => return answer::list(filter, connection, now),
            Ok(Answer::Events(events)) => return events.begin(connection, now),
            Ok(Answer::Logs(logs)) => return logs.begin(connection, now),
            Ok(Answer::Metrics(format)) => {
                let visible = access.visible.clone();
                return answer::metrics(
                    format,
                    visible,
                    &request.head,
                    connection,
                    supervisor,
                    now,
                );
            }
            Ok(Answer::Wait(wait)) => return Some(Pending::Wait(wait)),
            Ok(Answer::Many(many)) => return Some(Pending::Many(Box::new(many))),
            Ok(Answer::Reopen(reopen)) => return Some(Pending::Reopen(reopen)),
            Ok(Answer::Reload(reload)) => return Some(Pending::Reload(reload)),
            Ok(Answer::Saved(saved)) => return Some(Pending::Saved(saved)),
            Err(error) => error.respond(connection, now),
        }
        None
    }

    fn carry_out<'a>(
        &self,
        found: Found<'a>,
        request: &Request,
        access: &Access,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Answer<'a>, ApiError> {
        let (id, handler, visible) = (found.id, found.route.handler, &access.visible);
        refuse_query(handler, &request.head)?;
        self.gate.show_job(&found, access)?;
        let asked = |result: Result<(), Refusal>, what: &str| match result {
            Ok(()) => Ok(Answer::Said(Said::about(format!("{what} requested for job {id}"), None))),
            Err(refusal) => Err(ApiError::by(refusal, id)),
        };
        match handler {
            Handler::Health => Ok(Answer::Alive),
            Handler::Page => Ok(Answer::Page),
            Handler::Readiness => Ok(Answer::Readiness),
            Handler::OpenApi => Ok(Answer::OpenApi),
            Handler::Metrics => Ok(Answer::Metrics(Format::of(&request.head.accept))),
            Handler::List => Ok(Answer::List(Filter::of(&request.head, visible)?)),
            Handler::Show => show(id, &request.head, visible, supervisor, now),
            Handler::Create => self.create(id, request, visible, supervisor, now),
            Handler::Put => self.put(id, request, visible, supervisor, now),
            Handler::Patch => self.patch(id, request, visible, supervisor, now),
            Handler::Remove => asked(supervisor.remove(id, now), "Kill"),
            Handler::Events => {
                let events = Events::of(&request.head, visible, supervisor, now)?;
                Ok(Answer::Events(Box::new(events)))
            }
            Handler::Reopen => Ok(Answer::Reopen(Reopen::begin(supervisor, now))),
            Handler::Reload => Reload::begin(&request.head, supervisor, now).map(Answer::Reload),
            Handler::Logs => match supervisor.job(id) {
                Some(job) => Ok(Answer::Logs(Box::new(Logs::of(&request.head, job)?))),
                None => Err(ApiError::by(Refusal::NotFound, id)),
            },
            Handler::Many(ask) => {
                Ok(Answer::Many(Many::of(ask, request, visible, supervisor, now)?))
            }
            Handler::Kill => asked(supervisor.kill(id, now), "Kill"),
            Handler::Start => asked(supervisor.start(id, now), "Start"),
            Handler::Restart => asked(supervisor.restart(id, now), "Restart"),
            Handler::Run => asked(supervisor.run(id, now), "Run"),
            Handler::ReloadJob => asked(supervisor.reload_job(id, now), "Reload"),
            Handler::Signal => {
                if supervisor.job(id).is_none() {
                    return Err(ApiError::by(Refusal::NotFound, id));
                }
                let (signal, group) = job::parse_signal_request(document(&request.body)?)?;
                asked(supervisor.signal(id, signal, group, now), "Signal")
            }
        }
    }

    fn create<'a>(
        &self,
        id: &'a str,
        request: &Request,
        visible: &Visible,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Answer<'a>, ApiError> {
        let job_id = JobId::parse(id).map_err(|why| ApiError::new(Status::BadRequest, why))?;
        if supervisor.job(id).is_some() {
            return Err(ApiError::by(Refusal::Exists, id));
        }
        let wait = wait_seconds(&request.head)?;
        let spec = self.spec(id, document(&request.body)?, visible, supervisor)?;
        let message = format!("{} job created", view::type_title(&spec.kind));
        supervisor.create(job_id, spec, now).map_err(|refusal| ApiError::by(refusal, id))?;
        match (wait, supervisor.job(id)) {
            (Some(wait), Some(job)) => Ok(Answer::Wait(Wait {
                job: job.key(),
                goal: Goal::FirstRun,
                until: now.mono + wait,
                shown: Shown { visible: visible.clone(), ..Shown::everything() },
            })),
            (None, _) | (_, None) => Ok(Answer::Said(Said::about(message, Some(id)))),
        }
    }

    fn put<'a>(
        &self,
        id: &'a str,
        request: &Request,
        visible: &Visible,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Answer<'a>, ApiError> {
        let given = document(&request.body)?;
        self.replace(id, given, dry_run(&request.head)?, visible, supervisor, now)
    }

    fn patch<'a>(
        &self,
        id: &'a str,
        request: &Request,
        visible: &Visible,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Answer<'a>, ApiError> {
        let job = supervisor.job(id).ok_or_else(ApiError::not_found)?;
        let patch = document(&request.body)?;
        let own = type_name(&job.spec().kind);
        if job::type_in(&patch).is_some_and(|named| named != own) {
            return Err(ApiError::by(Refusal::OtherType, id));
        }
        let given = change::merged(job.spec(), patch);
        self.replace(id, given, dry_run(&request.head)?, visible, supervisor, now)
    }

    /// Gives the job a new specification, or creates the job; or only says what it would do.
    fn replace<'a>(
        &self,
        id: &'a str,
        given: Value,
        is_dry_run: bool,
        visible: &Visible,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Answer<'a>, ApiError> {
        let job_id = JobId::parse(id).map_err(|why| ApiError::new(Status::BadRequest, why))?;
        let spec = self.spec(id, given, visible, supervisor)?;
        let done = match is_dry_run {
            true => supervisor.would_put(&job_id, spec),
            false => supervisor.put(job_id, spec, now),
        };
        let message = match done {
            Ok(Put::Created) => "Job created",
            Ok(Put::Replaced) => "Job replaced",
            Ok(Put::Unchanged) => "Job unchanged",
            Err(refusal) => return Err(ApiError::by(refusal, id)),
        };
        Ok(Answer::Said(Said::about(message.to_owned(), Some(id))))
    }

    fn spec(
        &self,
        id: &str,
        given: Value,
        visible: &Visible,
        supervisor: &Supervisor,
    ) -> Result<JobSpec, ApiError> {
        let old = supervisor.job(id).map(|job| job.spec());
        let defaults = Defaults { directory: &self.directory, time_zone: &self.time_zone };
        let spec = change::specification(given, id, old, defaults)?;
        let job_id = JobId::parse(id).map_err(|why| ApiError::new(Status::BadRequest, why))?;
        match supervisor.tangle(&job_id, &spec) {
            Some(tangle) if tangle.names_only(visible) => {
                Err(FieldError::new("dependsOn", tangle.to_string()).into())
            }
            Some(_) => Err(FieldError::new("dependsOn", HIDDEN_CIRCLE).into()),
            None => Ok(spec),
        }
    }
}

/// Writes the objects of all jobs, with all results, as an array.
pub fn write_jobs(supervisor: &Supervisor, out: &mut Vec<u8>, now: Now) {
    out.push(b'[');
    for (index, job) in supervisor.jobs_after(None).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let _ = Object::begin(supervisor, job, &Shown::everything(), out, usize::MAX, now);
    }
    out.push(b']');
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    Health,
    Page,
    Readiness,
    OpenApi,
    Metrics,
    List,
    Show,
    Create,
    Put,
    Patch,
    Remove,
    Logs,
    Events,
    Reopen,
    Reload,
    Kill,
    Start,
    Restart,
    Run,
    ReloadJob,
    Signal,
    Many(Ask),
}

impl Handler {
    /// Whether it may change jobs.
    fn changes_jobs(self) -> bool {
        match self {
            Handler::Create
            | Handler::Put
            | Handler::Patch
            | Handler::Remove
            | Handler::Kill
            | Handler::Start
            | Handler::Restart
            | Handler::Run => true,
            Handler::Health
            | Handler::Readiness
            | Handler::Page
            | Handler::OpenApi
            | Handler::Metrics
            | Handler::List
            | Handler::Show
            | Handler::Logs
            | Handler::Events
            | Handler::Reopen
            | Handler::ReloadJob
            | Handler::Signal => false,
            // Their answers see to that themselves.
            Handler::Reload | Handler::Many(_) => false,
        }
    }
}

enum Answer<'a> {
    Said(Said<'a>),
    Alive,
    Page,
    Readiness,
    OpenApi,
    Show(&'a str, Shown),
    List(Filter),
    Logs(Box<Logs>),
    Events(Box<Events>),
    Metrics(Format),
    Wait(Wait),
    Reopen(Reopen),
    Reload(Reload),
    Saved(Box<Saved>),
    Many(Many),
}

struct Found<'a> {
    route: &'static Route,
    /// Empty if the path names no job.
    id: &'a str,
}

enum Missing {
    Path,
    Method { allowed: String },
}

/// An error for the client.
#[derive(Debug)]
struct ApiError {
    status: Status,
    error: String,
    /// What would be right, if `error` cannot say it.
    hint: Option<String>,
    allow: Option<String>,
    closes: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Said<'_> {
    fn about(message: String, id: Option<&str>) -> Said<'_> {
        Said { message, id }
    }
}

impl Missing {
    fn error(self) -> ApiError {
        match self {
            Missing::Path => ApiError::new(Status::NotFound, "Not found"),
            Missing::Method { allowed } => ApiError {
                allow: Some(allowed),
                ..ApiError::new(Status::MethodNotAllowed, "Method not allowed")
            },
        }
    }
}

impl ApiError {
    fn new(status: Status, error: impl Into<String>) -> ApiError {
        ApiError { status, error: error.into(), hint: None, allow: None, closes: false }
    }

    fn closing(status: Status, error: impl Into<String>) -> ApiError {
        ApiError { closes: true, ..ApiError::new(status, error) }
    }

    fn not_found() -> ApiError {
        ApiError::new(Status::NotFound, "Job not found")
    }

    fn by(refusal: Refusal, id: &str) -> ApiError {
        let bad = |error: &str| ApiError::new(Status::BadRequest, error);
        match refusal {
            Refusal::NotFound => ApiError::not_found(),
            Refusal::Exists => bad(&format!("Job with id {id} already exists")),
            Refusal::TooManyJobs => ApiError::new(
                Status::ServiceUnavailable,
                "There are as many jobs as limits.jobs allows; remove one first",
            ),
            Refusal::ShuttingDown => {
                ApiError::new(Status::ServiceUnavailable, "k1s is shutting down")
            }
            Refusal::Over => bad("Job type does not support kill operation"),
            Refusal::OtherType => {
                bad(&format!("Job {id} is of another type; remove it to change its type"))
            }
            Refusal::NotReloadable => bad("Job type does not support reload operation"),
            Refusal::NotRunnable => bad("Job type does not support run operation"),
            Refusal::Killed => bad(&format!("Job {id} was killed; start it first")),
            Refusal::Forbidden => {
                bad(&format!("Job {id} has an active run, and its policy allows no other"))
            }
            Refusal::Blocked => bad(&format!(
                "Job {id} does not run before the jobs in its dependsOn are where they must be"
            )),
            Refusal::Tangled => bad("dependsOn: the job would wait for itself"),
            Refusal::Busy => ApiError::new(
                Status::ServiceUnavailable,
                "The config is being read again, and too many requests wait for that",
            ),
            Refusal::Unsaved(why) => ApiError::new(
                Status::ServiceUnavailable,
                format!("Job {id} was not created: the state cannot be stored: {why}"),
            ),
            Refusal::TooManyBatches => ApiError::new(
                Status::ServiceUnavailable,
                "Too many requests for many jobs are under way; try again",
            ),
            Refusal::NotRunning => bad(&format!("Job {id} has no running process")),
        }
    }

    fn respond(&self, connection: &mut Connection, now: Now) {
        let reply =
            Reply { allow: self.allow.as_deref(), close: self.closes, ..Reply::json(self.status) };
        let body = ErrorBody { error: &self.error, hint: self.hint.as_deref() };
        connection.respond(reply, now, |out| write_line(out, &body));
    }
}

/// The seed promises one message without the name of its field and without what would be right.
impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> ApiError {
        if let Some(hint) = error.message.strip_prefix(job::INVALID_TYPE) {
            let hint = format!("{}: {}", error.path.join("."), hint.trim_start_matches("; "));
            let error = ApiError::new(Status::BadRequest, job::INVALID_TYPE);
            return ApiError { hint: Some(hint), ..error };
        }
        ApiError::new(Status::BadRequest, error.to_string())
    }
}

const fn route(
    method: Method,
    path: &'static str,
    scope: Option<Scope>,
    handler: Handler,
) -> Route {
    Route { method, path, scope, handler }
}

/// Answers a request that needs no token, from its head.
fn answer_stranger(
    found: Found,
    head: &Head,
    connection: &mut Connection,
    supervisor: &Supervisor,
    now: Now,
) {
    match found.route.handler {
        Handler::Page => page::respond(head, connection, now),
        Handler::Readiness => respond_ready(connection, supervisor, now),
        _ => respond_json(connection, Status::Ok, &ALIVE, now),
    }
}

/// The id in the path, or an empty string; `None` if the path does not match.
fn matches<'a>(pattern: &str, path: &'a Path) -> Option<&'a str> {
    let mut id = "";
    let mut segments = path.segments();
    for expected in pattern.strip_prefix('/')?.split('/') {
        let segment = segments.next()?;
        if expected == "{id}" {
            id = segment;
        } else if segment != expected {
            return None;
        }
    }
    segments.next().is_none().then_some(id)
}

/// Lets the answer wait until what the request has changed is stored, and what others have changed
/// before it, which it may tell of. `known` is the job that had the id before.
fn until_saved<'a>(
    answer: Answer<'a>,
    id: &str,
    known: Option<JobKey>,
    supervisor: &Supervisor,
) -> Answer<'a> {
    let change = supervisor.changes();
    if supervisor.saving(change) == Saving::Safe {
        return answer;
    }
    let then = match answer {
        Answer::Said(said) => {
            let mut body = Vec::new();
            write_line(&mut body, &said);
            Then::Say(body)
        }
        Answer::Wait(wait) => Then::Wait(wait),
        answer => return answer,
    };
    let created = supervisor.job(id).map(Job::key).filter(|key| known != Some(*key));
    Answer::Saved(Box::new(Saved { change, id: id.to_owned(), created, then }))
}

fn document(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(Status::BadRequest, format!("The body is not JSON: {error}"))
    })
}

/// Shows the job, or waits until it has reached a milestone.
fn show<'a>(
    id: &'a str,
    head: &Head,
    visible: &Visible,
    supervisor: &Supervisor,
    now: Now,
) -> Result<Answer<'a>, ApiError> {
    let job = supervisor.job(id).ok_or_else(ApiError::not_found)?;
    let (shown, milestone) = (Shown::of(head, visible)?, milestone(head)?);
    let Some(wait) = wait_seconds(head)? else { return Ok(Answer::Show(id, shown)) };
    let goal = Goal::Milestone(milestone);
    Ok(Answer::Wait(Wait { job: job.key(), goal, until: now.mono + wait, shown }))
}

/// What `?wait=` waits for; by default, the end of the job.
fn milestone(head: &Head) -> Result<Milestone, ApiError> {
    let Some(given) = head.query_value("for") else { return Ok(Milestone::Ended) };
    let found = MILESTONES.iter().find(|(name, _)| *name == given);
    let (_, milestone) = found.ok_or_else(|| {
        let names = MILESTONES.map(|(name, _)| name).join(", ");
        let error = format!("for: must be one of {names}, not {given:?}");
        ApiError::new(Status::BadRequest, error)
    })?;
    match head.query_value("wait") {
        Some(_) => Ok(*milestone),
        None => Err(ApiError::new(
            Status::BadRequest,
            "for: says what to wait for, and needs wait=SECONDS as well",
        )),
    }
}

/// Refuses `wait` where no answer waits. Other parameters without a meaning are ignored.
fn refuse_query(handler: Handler, head: &Head) -> Result<(), ApiError> {
    let waits = match handler {
        Handler::Health | Handler::Readiness | Handler::Page | Handler::OpenApi | Handler::Show => {
            return Ok(());
        }
        Handler::Create => true,
        Handler::Metrics
        | Handler::List
        | Handler::Put
        | Handler::Patch
        | Handler::Remove
        | Handler::Logs
        | Handler::Events
        | Handler::Reopen
        | Handler::Reload
        | Handler::Kill
        | Handler::Start
        | Handler::Restart
        | Handler::Run
        | Handler::ReloadJob
        | Handler::Signal
        | Handler::Many(_) => false,
    };
    if !waits && head.query_value("wait").is_some() {
        return Err(ApiError::new(
            Status::BadRequest,
            "wait: only POST /job/{id}, which creates a job, and GET /job/{id} wait",
        ));
    }
    if head.query_value("for").is_some() {
        return Err(ApiError::new(
            Status::BadRequest,
            "for: only GET /job/{id}?wait=SECONDS has it",
        ));
    }
    Ok(())
}

/// Whether only to say what would be done.
fn dry_run(head: &Head) -> Result<bool, ApiError> {
    Ok(query::flag(head, "dryRun")?.unwrap_or(false))
}

fn wait_seconds(head: &Head) -> Result<Option<Duration>, ApiError> {
    let Some(given) = head.query_value("wait") else { return Ok(None) };
    let seconds = given.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    match seconds {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => Err(ApiError::new(
            Status::BadRequest,
            format!("wait: must be a number of seconds from 0 to 86400, not {given:?}"),
        )),
    }
}

fn respond_json(connection: &mut Connection, status: Status, body: &impl Serialize, now: Now) {
    connection.respond(Reply::json(status), now, |out| write_line(out, body));
}

fn respond_ready(connection: &mut Connection, supervisor: &Supervisor, now: Now) {
    let (status, body) = match supervisor.is_ready() {
        true => (Status::Ok, Alive { status: "ready" }),
        false => (Status::ServiceUnavailable, Alive { status: "not ready" }),
    };
    respond_json(connection, status, &body, now);
}

const OPEN: Option<Scope> = None;
const READ: Option<Scope> = Some(Scope::Read);
const RUN: Option<Scope> = Some(Scope::Run);
const ADMIN: Option<Scope> = Some(Scope::Admin);

const ALIVE: Alive = Alive { status: "ok" };
const HIDDEN_CIRCLE: &str = "the job would wait for itself, through other jobs";

/// What can be waited for, by the names of `?for=`.
const MILESTONES: [(&str, Milestone); 3] =
    [("ended", Milestone::Ended), ("ready", Milestone::Ready), ("succeeded", Milestone::Succeeded)];

/// The description of the API for programs, in OpenAPI 3.1. Tests compare it with the routes and
/// their answers. It is a fiftieth of the binary as it is, and a sixth of that compressed.
pub fn openapi() -> Vec<u8> {
    decompress_to_vec_zlib_with_limit(OPENAPI, MOST_OPENAPI_BYTES).unwrap_or_default()
}

/// `openapi.json`: `K1S_OPENAPI_UPDATE=1 cargo test --test it -- openapi::` compresses it.
const OPENAPI: &[u8] = include_bytes!("openapi.zlib");
const MOST_OPENAPI_BYTES: usize = 1 << 20;

/// What a request costs, in the time that it takes to send so many bytes: 3 ns each.
const HEAD_EFFORT: usize = 1024;
const REQUEST_EFFORT: usize = 1024;
/// Of each byte of a body, which is read as JSON.
const BODY_EFFORT: usize = 12;
/// Of each argument, variable and label of a job that is patched.
const ENTRY_EFFORT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;
    use crate::supervisor::Settings;
    use std::rc::Rc;

    /// A patch of a few bytes to a job of a megabyte took as little of a turn as any request.
    #[test]
    fn a_request_takes_as_much_work_as_it_reads_and_writes() {
        let now = Now::default();
        let settings = Settings { job_limit: 2, ..Settings::for_tests() };
        let mut supervisor = Supervisor::new(settings, now);
        let api = Api::new(Tokens::of_admin(b"t"), "/".to_owned(), "UTC".to_owned());
        let mut effort = |method: &str, id: &str, body: &str| {
            let mut connection = Connection::new(Rc::new(Limits::default()), now);
            let authorization = "Authorization: Bearer t";
            let head = format!("{method} /job/{id} HTTP/1.1\r\nHost: k\r\n{authorization}\r\n");
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            connection.handle_bytes(request.as_bytes(), now);
            let mut effort = 0;
            while let Some(incoming) = connection.poll(now) {
                let caller = Caller::Known(Access::of_user(0).into());
                effort += api.effort(&incoming, &caller, &supervisor);
                api.handle(incoming, &caller, &mut connection, &mut supervisor, now);
            }
            effort
        };
        let arguments = vec!["x"; 1000].join("\",\"");
        let job = |arguments: &str| {
            let fields = "\"type\":\"cron\",\"executable\":\"true\"";
            format!("{{{fields},\"arguments\":[\"{arguments}\"]}}")
        };
        let few = effort("PUT", "few", &job("x"));
        let many = effort("PUT", "many", &job(&arguments));
        assert!(many > 10 * few, "{few} {many}");
        let [few, many] = ["few", "many"].map(|id| effort("PATCH", id, "{}"));
        assert!(many > 50 * few, "{few} {many}");
    }
}
