//! Reads a [`JobSpec`] from a request or the config.
//!
//! One table lists the fields and the types of job that have them; then each field is read by its
//! own rule. The first error counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::fields::{self, FieldError, Fields, Spelling};
use super::probe::{ProbeRole, command_line, probe};
use super::spec::{
    Backoff, Command, Concurrency, Condition, Critical, CronSpec, Dependency, JobSpec, Kind,
    LogFileSpec, MOST_DEPENDENCIES, OutputSpec, ReloadSpec, Resource, ResourceLimit, Restart,
    RestartPolicy, StopScope, StopSpec,
};
use super::variables::check_variable_name;
use super::{JobId, Signal, Value, words};
use crate::gather::{gather, try_gather};
use crate::schedule::{CronSchedule, Schedule, ScheduleError};

pub(super) type Parsed<T> = Result<T, FieldError>;

/// Reads a job. `directory` is k1s's own working directory, absolute: the default of
/// `workingDirectory`, and the base of a relative one.
///
/// # Errors
/// The first field that is unknown, missing, of the wrong type or out of range. The message for an
/// unknown `type` begins with [`INVALID_TYPE`].
pub fn parse(value: Value, directory: &str, spelling: Spelling) -> Parsed<JobSpec> {
    parse_with(value, Defaults { directory, time_zone: "UTC" }, spelling)
}

/// The defaults that depend on where k1s runs.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// k1s's own working directory, absolute.
    pub directory: &'a str,
    /// The time zone of cron expressions, a known one.
    pub time_zone: &'a str,
}

impl Defaults<'static> {
    /// Those of jobs that are stored, wherever k1s runs.
    pub const STORED: Defaults<'static> = Defaults { directory: "/", time_zone: "UTC" };
}

/// Reads a job like [`parse`], with other defaults.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_with(value: Value, defaults: Defaults, spelling: Spelling) -> Parsed<JobSpec> {
    let directory = defaults.directory;
    let known = known();
    let kind = kind_of(&value, &known, spelling)?;
    let mut fields = Fields::among(value, &known, spelling, unknown_or_foreign)?;
    belongs(&fields, kind, spelling)?;
    fields.optional("type", Ok)?;
    let start_timeout_field = fields.spelled("startTimeoutSeconds");
    let spec = JobSpec {
        command: command(&mut fields, directory)?,
        kind: kind_spec(&mut fields, kind, defaults.time_zone)?,
        autostart: fields.optional("autostart", fields::boolean)?.unwrap_or(true),
        timeout: fields.optional("timeoutSeconds", fields::seconds(0.001))?,
        readiness: fields.optional("readiness", |value| {
            probe(value, ProbeRole::Readiness, spelling).map(Box::new)
        })?,
        liveness: fields.optional("liveness", |value| {
            probe(value, ProbeRole::Liveness, spelling).map(Box::new)
        })?,
        start_timeout: fields.optional("startTimeoutSeconds", fields::seconds(0.001))?,
        success_exit_codes: fields
            .optional("successExitCodes", success_exit_codes)?
            .unwrap_or_else(|| [0].into()),
        critical: fields.optional("critical", critical)?.unwrap_or(Critical::No),
        depends_on: fields
            .optional("dependsOn", |value| depends_on(value, kind))?
            .unwrap_or_default(),
        on_failure: fields.optional("onFailure", job_id)?,
        reload: fields
            .optional_table("reload", &RELOAD_FIELDS, reload)?
            .unwrap_or(ReloadSpec::Signal(Signal::HUP)),
        stop: fields.table("stop", &STOP_FIELDS, stop)?,
        output: fields.table("output", &OUTPUT_FIELDS, output)?,
        labels: fields.optional("labels", fields::strings(label))?.unwrap_or_default(),
        secret_environment: fields
            .optional("secretEnvironment", fields::list(fields::nonempty))?
            .unwrap_or_default()
            .into_iter()
            .collect(),
    };
    if spec.start_timeout.is_some() && spec.readiness.is_none() {
        let error = "needs a `readiness`: without one, a run is ready as soon as it has a process";
        return Err(FieldError::new(&start_timeout_field, error));
    }
    Ok(spec)
}

/// Reads the body of a request for a signal: `{"signal": "SIGHUP", "group": true}`; with `group`
/// all processes of the group get it, not only the first.
///
/// # Errors
/// Like those of [`parse`].
pub fn parse_signal_request(value: Value) -> Parsed<(Signal, bool)> {
    let mut fields = Fields::of(value, &["signal", "group"], Spelling::Camel)?;
    let signal = fields.required("signal", signal)?;
    Ok((signal, fields.optional("group", fields::boolean)?.unwrap_or(false)))
}

/// The beginning of the error for an unknown `type`.
pub const INVALID_TYPE: &str = "Invalid job type";

/// The field that a document calls `given`, as the API calls it.
pub fn field_named(given: &str, spelling: Spelling) -> Option<&'static str> {
    FIELDS.iter().map(|(name, _)| *name).find(|name| spelling.matches(given, name))
}

/// The names of all fields.
pub(super) fn known() -> Vec<&'static str> {
    FIELDS.iter().map(|(name, _)| *name).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Continuous,
    OneOff,
    Cron,
}

impl Type {
    pub(super) fn named(name: &str) -> Option<Type> {
        TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    pub(super) fn bit(self) -> u8 {
        match self {
            Type::Continuous => CONTINUOUS,
            Type::OneOff => ONE_OFF,
            Type::Cron => CRON,
        }
    }
}

/// The type that a document names, if it is one of the three.
pub fn type_in(value: &Value) -> Option<&'static str> {
    let Value::Table(entries) = value else { return None };
    let given = entries.iter().find(|(name, _)| name == "type").map(|(_, value)| value);
    let is_it = |known: &str| matches!(given, Some(Value::String(name)) if name == known);
    TYPES.iter().map(|(name, _)| *name).find(|name| is_it(name))
}

pub(super) fn kind_of(value: &Value, known: &[&str], spelling: Spelling) -> Parsed<Type> {
    let Value::Table(entries) = value else {
        return fields::wrong("an object", value);
    };
    let right = "\"continuous\", \"one-off\" or \"cron\"";
    let invalid = |given: &str| {
        FieldError::new("type", format!("{INVALID_TYPE}; must be {right}, not {given}"))
    };
    match entries.iter().find(|(name, _)| name == "type").map(|(_, value)| value) {
        Some(Value::String(name)) => Type::named(name).ok_or_else(|| invalid(&format!("{name:?}"))),
        None | Some(Value::Null) => {
            // A field that may be a misspelled `type` is the better error.
            let is_meant = |given: &str| {
                words::answer(given).is_some_and(|answer| answer.contains("`type`"))
                    || fields::closest(given, known) == Some("type")
            };
            let mut first = entries.iter().take(MOST_GUESSED);
            let near = first.find(|(given, _)| given != "type" && is_meant(given));
            Err(match near {
                Some((given, _)) => {
                    FieldError::new(given, unknown_or_foreign(given, known, spelling))
                }
                None => FieldError::new("type", format!("is required: {right}")),
            })
        }
        Some(other) => Err(invalid(other.kind())),
    }
}

/// An error for the first unknown field, which may be the word of another system.
pub(super) fn unknown(value: &Value, known: &[&str], spelling: Spelling) -> Parsed<()> {
    let Value::Table(entries) = value else { return Ok(()) };
    let is_known = |given: &str| known.iter().any(|name| spelling.matches(given, name));
    match entries.iter().find(|(given, _)| !is_known(given)) {
        Some((given, _)) => Err(FieldError::new(given, unknown_or_foreign(given, known, spelling))),
        None => Ok(()),
    }
}

fn unknown_or_foreign(given: &str, known: &[&str], spelling: Spelling) -> String {
    match words::answer(given) {
        Some(answer) => format!("unknown field; {answer}"),
        None => fields::unknown(given, known, spelling),
    }
}

/// An error for a field that only other types of job have.
fn belongs(fields: &Fields, kind: Type, spelling: Spelling) -> Parsed<()> {
    for given in fields.names() {
        let entry = FIELDS.iter().find(|(name, _)| spelling.matches(given, name));
        if let Some((_, kinds)) = entry.filter(|(_, kinds)| kinds & kind.bit() == 0) {
            let names: Vec<_> =
                TYPES.iter().filter(|(_, t)| kinds & t.bit() != 0).map(|(name, _)| *name).collect();
            return Err(FieldError::new(
                given,
                format!("is for {} jobs only", names.join(" and ")),
            ));
        }
    }
    Ok(())
}

fn kind_spec(fields: &mut Fields, kind: Type, time_zone: &str) -> Parsed<Kind> {
    Ok(match kind {
        Type::Continuous => {
            let flag = fields.optional("restartOnFailure", fields::boolean)?.unwrap_or(true);
            let restart = fields.table("restart", &RESTART_FIELDS, |f| restart(f, flag))?;
            Kind::Continuous { restart_on_failure: flag, restart }
        }
        Type::OneOff => Kind::OneOff {
            retries: fields.optional("retries", fields::integer(0..=MOST_TRIES))?.unwrap_or(0),
            backoff: fields.table("restart", &BACKOFF_FIELDS, backoff)?,
            ttl_after_finished: fields.optional("ttlSecondsAfterFinished", fields::seconds(0.0))?,
        },
        Type::Cron => Kind::Cron(cron(fields, time_zone)?),
    })
}

fn command(fields: &mut Fields, directory: &str) -> Parsed<Command> {
    let working_directory = fields.optional("workingDirectory", fields::nonempty)?;
    let working_directory = absolute(directory, working_directory.as_deref().unwrap_or("."));
    let environment = fields.optional("environment", fields::strings(check_variable_name))?;
    let files = fields.optional("environmentFile", environment_files(&working_directory))?;
    let from_file =
        fields.optional("environmentFromFile", environment_from_file(&working_directory))?;
    Ok(Command {
        executable: fields.required("executable", fields::nonempty)?,
        arguments: fields.optional("arguments", fields::list(fields::text))?.unwrap_or_default(),
        working_directory,
        environment: environment.unwrap_or_default(),
        environment_files: files.unwrap_or_default(),
        environment_from_file: from_file.unwrap_or_default(),
        clear_environment: fields.optional("clearEnvironment", fields::boolean)?.unwrap_or(false),
        stdin: fields.optional("stdin", fields::any_text)?,
        user: fields.optional("user", fields::name_or_number)?,
        group: fields.optional("group", fields::name_or_number)?,
        umask: fields.optional("umask", umask)?,
        nice: fields.optional("nice", fields::integer(-20..=19))?,
        oom_score_adj: fields.optional("oomScoreAdj", fields::integer(-1000..=1000))?,
        limits: fields.optional("limits", limits)?.unwrap_or_default(),
    })
}

fn restart(fields: &mut Fields, restart_on_failure: bool) -> Parsed<Restart> {
    let policy = fields.optional("policy", fields::choice(&POLICIES))?;
    Ok(Restart {
        policy: policy.unwrap_or(match restart_on_failure {
            true => RestartPolicy::Always,
            false => RestartPolicy::OnSuccess,
        }),
        backoff: backoff(fields)?,
        max_restarts: fields.optional("maxRestarts", fields::integer(0..=MOST_TRIES))?,
    })
}

fn backoff(fields: &mut Fields) -> Parsed<Backoff> {
    let millis = |fields: &mut Fields, name, default| {
        let given = fields.optional(name, fields::millis)?;
        Ok(given.unwrap_or(Duration::from_millis(default)))
    };
    Ok(Backoff {
        initial: millis(fields, "initialDelayMs", 100)?,
        max: millis(fields, "maxDelayMs", 30_000)?,
        factor: fields.optional("factor", fields::number(1.0..=1000.0))?.unwrap_or(2.0),
        reset_after: millis(fields, "resetAfterMs", 5_000)?,
    })
}

fn cron(fields: &mut Fields, time_zone: &str) -> Parsed<CronSpec> {
    let schedule = fields.optional("schedule", interval_or_expression)?;
    let zone_field = fields.spelled("timeZone");
    let zone = fields.optional("timeZone", fields::nonempty)?;
    let interval = fields.optional("scheduleInSeconds", interval)?;
    let schedule = match (schedule, interval, zone) {
        (Some(_), Some(_), _) => {
            return Err(FieldError::new("schedule", "cannot be given with `scheduleInSeconds`"));
        }
        (Some(When::Expression(expression)), None, zone) => {
            let zone = zone.as_deref().unwrap_or(time_zone);
            Schedule::Cron(CronSchedule::parse(&expression, zone).map_err(|error| {
                let field = match &error {
                    ScheduleError::Zone(_) => zone_field.as_str(),
                    ScheduleError::Expression(_) | ScheduleError::Never(_) => "schedule",
                };
                FieldError::new(field, error.to_string())
            })?)
        }
        (Some(When::Interval(_)) | None, _, Some(_)) => {
            return Err(FieldError::new(
                &zone_field,
                "needs a `schedule` that is a cron expression",
            ));
        }
        (Some(When::Interval(interval)), None, None) | (None, Some(interval), None) => {
            Schedule::Every(Duration::from_secs(interval))
        }
        (None, None, None) => Schedule::Every(Duration::from_secs(60)),
    };
    let concurrency = fields.optional("concurrencyPolicy", fields::choice(&CONCURRENCY))?;
    let deadline = fields.optional("startingDeadlineSeconds", fields::seconds(0.0))?;
    Ok(CronSpec {
        schedule,
        concurrency: concurrency.unwrap_or(Concurrency::Forbid),
        suspend: fields.optional("suspend", fields::boolean)?.unwrap_or(false),
        starting_deadline: deadline.unwrap_or(Duration::from_secs(10)),
        jitter: fields.optional("jitterSeconds", fields::seconds(0.0))?.unwrap_or_default(),
    })
}

fn critical(value: Value) -> Parsed<Critical> {
    let right = "true, false or \"on-failure\"";
    match value {
        Value::Bool(true) => Ok(Critical::Yes),
        Value::Bool(false) => Ok(Critical::No),
        Value::String(text) if text == "on-failure" => Ok(Critical::OnFailure),
        Value::String(text) => fields::fail(format!("must be {right}, not {text:?}")),
        other => fields::wrong(right, &other),
    }
}

/// `{"db": "ready", "migrate": {"condition": "succeeded", "restart": true}}`.
fn depends_on(value: Value, kind: Type) -> Parsed<BTreeMap<JobId, Dependency>> {
    let Value::Table(entries) = value else {
        return fields::wrong("an object of ids and conditions", &value);
    };
    if entries.len() > MOST_DEPENDENCIES {
        let count = entries.len();
        return fields::fail(format!("{count} jobs are more than {MOST_DEPENDENCIES}"));
    }
    let entry = |(name, value): (String, Value)| {
        let id = JobId::parse(&name).or_else(fields::fail);
        let entry = id.and_then(|id| Ok((id, dependency(value, kind)?)));
        entry.map_err(|error| error.under(&name))
    };
    try_gather(entries.into_iter().map(entry))
}

fn dependency(value: Value, kind: Type) -> Parsed<Dependency> {
    if !matches!(value, Value::Table(_)) {
        let condition = fields::choice(&CONDITIONS)(value)?;
        return Ok(Dependency { condition, restart: false });
    }
    let mut fields = Fields::of(value, &["condition", "restart"], Spelling::Camel)?;
    let condition = fields.required("condition", fields::choice(&CONDITIONS))?;
    let restart = fields.optional("restart", fields::boolean)?.unwrap_or(false);
    if restart && kind == Type::Cron {
        let error = "is for continuous and one-off jobs only; a cron job runs when it is due";
        return Err(FieldError::new("restart", error));
    }
    Ok(Dependency { condition, restart })
}

fn job_id(value: Value) -> Parsed<JobId> {
    JobId::parse(&fields::any_text(value)?).or_else(fields::fail)
}

/// The value of `schedule`.
enum When {
    /// An interval in seconds, as the job object shows it.
    Interval(u64),
    Expression(String),
}

fn interval_or_expression(value: Value) -> Parsed<When> {
    match value {
        Value::String(_) => match fields::nonempty(value)? {
            text if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") => {
                let (_, rest) = text.split_once('=').unwrap_or_default();
                let zone = rest.split(char::is_whitespace).next().unwrap_or_default();
                fields::fail(format!("must be only the expression; set `timeZone` to {zone:?}"))
            }
            text => Ok(When::Expression(text)),
        },
        Value::Integer(_) | Value::Float(_) => interval(value).map(When::Interval),
        other => fields::wrong("a cron expression or a number of seconds", &other),
    }
}

fn interval(value: Value) -> Parsed<u64> {
    fields::integer(1..=LONGEST_INTERVAL)(value)
}

fn reload(fields: &mut Fields) -> Parsed<ReloadSpec> {
    let exec = fields.optional("exec", command_line)?;
    match (fields.optional("signal", signal)?, exec) {
        (Some(_), Some(_)) => fields::fail("must have a `signal` or an `exec`, not both"),
        (signal, None) => Ok(ReloadSpec::Signal(signal.unwrap_or(Signal::HUP))),
        (None, Some(command)) => Ok(ReloadSpec::Exec(command)),
    }
}

fn stop(fields: &mut Fields) -> Parsed<StopSpec> {
    let timeout = fields.optional("timeoutSeconds", fields::seconds(0.0))?;
    Ok(StopSpec {
        signal: fields.optional("signal", signal)?.unwrap_or(Signal::TERM),
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
        scope: fields.optional("scope", fields::choice(&SCOPES))?.unwrap_or(StopScope::Group),
        exec: fields.optional("exec", command_line)?,
    })
}

fn output(fields: &mut Fields) -> Parsed<OutputSpec> {
    let limit = fields.optional("limitBytes", fields::integer(0..=LARGEST_OUTPUT))?;
    let history = fields.optional("historyLimit", fields::integer(0..=LONGEST_HISTORY))?;
    Ok(OutputSpec {
        limit_bytes: limit.unwrap_or(65_536),
        history_limit: history.unwrap_or(20),
        forward: fields.optional("forward", fields::boolean)?.unwrap_or(true),
        file: fields.optional_table("file", &LOG_FILE_FIELDS, log_file)?,
    })
}

fn log_file(fields: &mut Fields) -> Parsed<LogFileSpec> {
    let max_files = fields.optional("maxFiles", fields::integer(1..=MOST_FILES))?;
    let max_bytes = fields.optional("maxBytes", file_size)?;
    Ok(LogFileSpec {
        path: fields.required("path", log_file_path)?,
        max_bytes: max_bytes.unwrap_or(Some(10 << 20)),
        max_files: max_files.unwrap_or(5),
    })
}

/// 0: no limit.
fn file_size(value: Value) -> Parsed<Option<u64>> {
    let right =
        format!("0, for no limit, or a whole number from {SMALLEST_FILE} to {LARGEST_FILE}");
    match value {
        Value::Integer(0) => Ok(None),
        Value::Integer(number) if (SMALLEST_FILE..=LARGEST_FILE).contains(&number) => {
            Ok(u64::try_from(number).ok())
        }
        Value::Integer(number) => fields::fail(format!("must be {right}, not {number}")),
        other => fields::wrong(&right, &other),
    }
}

fn log_file_path(value: Value) -> Parsed<String> {
    let path = path(value)?;
    let filled_in = path.replace("{job}", "x").replace("{run}", "1");
    if let Some((_, rest)) = filled_in.split_once('{') {
        let name = rest.split_inclusive('}').next().unwrap_or_default();
        let error = format!("holds `{{{name}`; what is filled in is `{{job}}` and `{{run}}`");
        return fields::fail(error);
    }
    // What ends in a slash or a dot names a directory, also where there is none yet.
    let is_name = |name: &str| !["", ".", ".."].contains(&name);
    if !filled_in.rsplit('/').next().is_some_and(is_name) {
        return fields::fail(format!("must be the path of a file, not {path:?}"));
    }
    Ok(path)
}

/// Reads the name of a signal: `SIGTERM` or `TERM`.
fn signal(value: Value) -> Parsed<Signal> {
    let name = fields::text(value)?;
    match Signal::from_name(&name) {
        Some(signal) => Ok(signal),
        None => {
            fields::fail(format!("must be the name of a signal, such as \"SIGTERM\", not {name:?}"))
        }
    }
}

fn success_exit_codes(value: Value) -> Parsed<std::collections::BTreeSet<u8>> {
    let codes: Vec<u8> = fields::list(fields::integer(0..=255))(value)?;
    if codes.is_empty() {
        return fields::fail("must contain at least one exit code");
    }
    Ok(gather(codes))
}

/// Octal digits, as for chmod(1) and umask(1), or a number.
fn umask(value: Value) -> Parsed<u32> {
    let right = "octal digits such as \"022\", to \"777\"";
    match value {
        Value::String(digits) => u32::from_str_radix(&digits, 8)
            .ok()
            .filter(|mask| *mask <= 0o777 && !digits.starts_with('+'))
            .map_or_else(|| fields::fail(format!("must be {right}, not {digits:?}")), Ok),
        Value::Integer(_) => fields::integer(0..=0o777)(value),
        other => fields::wrong(right, &other),
    }
}

/// `{"nofile": 1024, "core": "unlimited", "nproc": {"soft": 10, "hard": 20}}`.
fn limits(value: Value) -> Parsed<Vec<ResourceLimit>> {
    let mut names: Vec<_> = RESOURCES.iter().map(|(name, _)| *name).collect();
    names.push(MARK);
    let mut fields = Fields::of(value, &names, Spelling::Camel)?;
    if fields.optional(MARK, Ok)?.is_some() {
        let why =
            "cannot be set: Linux does not use it, and k1s marks the processes of a run with it";
        return Err(FieldError::new(MARK, why));
    }
    let mut limits = Vec::new();
    for (name, resource) in RESOURCES {
        if let Some((soft, hard)) = fields.optional(name, limit_pair)? {
            limits.push(ResourceLimit { resource, soft, hard });
        }
    }
    Ok(limits)
}

fn limit_pair(value: Value) -> Parsed<(Option<u64>, Option<u64>)> {
    if !matches!(value, Value::Table(_)) {
        return limit(value).map(|both| (both, both));
    }
    let mut fields = Fields::of(value, &["soft", "hard"], Spelling::Camel)?;
    let (soft, hard) = (fields.required("soft", limit)?, fields.required("hard", limit)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err(FieldError::new("soft", "must not be above `hard`"));
    }
    Ok((soft, hard))
}

fn limit(value: Value) -> Parsed<Option<u64>> {
    match value {
        Value::String(text) if text == "unlimited" => Ok(None),
        Value::Integer(number) if number >= 0 => Ok(u64::try_from(number).ok()),
        Value::Integer(number) => {
            fields::fail(format!("must be a whole number from 0 or \"unlimited\", not {number}"))
        }
        other => fields::wrong("a whole number from 0 or \"unlimited\"", &other),
    }
}

/// A path or a list of them; `-` before a path says that the file may be missing.
fn environment_files(directory: &str) -> impl Fn(Value) -> Parsed<Vec<String>> {
    let file = move |value: Value| {
        let given = path(value)?;
        match given.strip_prefix('-') {
            Some("") => fields::fail("must have the path of a file after `-`"),
            Some(path) => Ok(format!("-{}", absolute(directory, path))),
            None => Ok(absolute(directory, &given)),
        }
    };
    move |value| match value {
        Value::String(_) => Ok(vec![file(value)?]),
        Value::List(items) if items.len() > MOST_ENVIRONMENT_FILES => {
            fields::fail(format!("must not have more than {MOST_ENVIRONMENT_FILES} files"))
        }
        Value::List(_) => fields::list(&file)(value),
        other => fields::wrong("a path or a list of paths", &other),
    }
}

fn environment_from_file(
    directory: &str,
) -> impl Fn(Value) -> Parsed<std::collections::BTreeMap<String, String>> {
    move |value| {
        let paths = fields::strings(check_variable_name)(value)?;
        if paths.len() > MOST_ENVIRONMENT_FILES {
            return fields::fail(format!("must not have more than {MOST_ENVIRONMENT_FILES} files"));
        }
        let read = |(name, given): (String, String)| match path(Value::String(given)) {
            Ok(given) => Ok((name, absolute(directory, &given))),
            Err(error) => Err(error.under(&name)),
        };
        try_gather(paths.into_iter().map(read))
    }
}

fn path(value: Value) -> Parsed<String> {
    let path = fields::nonempty(value)?;
    if path.len() > LONGEST_PATH {
        return fields::fail(format!("must not be longer than {LONGEST_PATH} bytes"));
    }
    Ok(path)
}

fn label(name: &str) -> Result<(), String> {
    if name.is_empty() { Err("a label's name must not be empty".into()) } else { Ok(()) }
}

/// The directory as an absolute path without `.` components; `..` is left to the file system.
fn absolute(base: &str, directory: &str) -> String {
    let path: std::path::PathBuf = Path::new(base).join(directory).components().collect();
    path.to_string_lossy().into_owned()
}

const CONTINUOUS: u8 = 1;
const ONE_OFF: u8 = 2;
const CRON: u8 = 4;
const ALL: u8 = CONTINUOUS | ONE_OFF | CRON;

pub(super) const TYPES: [(&str, Type); 3] =
    [("continuous", Type::Continuous), ("one-off", Type::OneOff), ("cron", Type::Cron)];

/// All fields, and the types of job that have them.
pub(super) const FIELDS: &[(&str, u8)] = &[
    ("type", ALL),
    ("executable", ALL),
    ("arguments", ALL),
    ("workingDirectory", ALL),
    ("environment", ALL),
    ("clearEnvironment", ALL),
    ("environmentFile", ALL),
    ("environmentFromFile", ALL),
    ("secretEnvironment", ALL),
    ("autostart", ALL),
    ("restartOnFailure", CONTINUOUS),
    ("restart", CONTINUOUS | ONE_OFF),
    ("scheduleInSeconds", CRON),
    ("schedule", CRON),
    ("timeZone", CRON),
    ("concurrencyPolicy", CRON),
    ("suspend", CRON),
    ("startingDeadlineSeconds", CRON),
    ("jitterSeconds", CRON),
    ("timeoutSeconds", ALL),
    ("readiness", CONTINUOUS | ONE_OFF),
    ("liveness", CONTINUOUS | ONE_OFF),
    ("startTimeoutSeconds", CONTINUOUS | ONE_OFF),
    ("retries", ONE_OFF),
    ("ttlSecondsAfterFinished", ONE_OFF),
    ("successExitCodes", ALL),
    ("critical", CONTINUOUS | ONE_OFF),
    ("dependsOn", ALL),
    ("onFailure", ALL),
    ("reload", CONTINUOUS),
    ("stop", ALL),
    ("stdin", ALL),
    ("user", ALL),
    ("group", ALL),
    ("umask", ALL),
    ("nice", ALL),
    ("oomScoreAdj", ALL),
    ("limits", ALL),
    ("output", ALL),
    ("labels", ALL),
];

pub(super) const BACKOFF_FIELDS: [&str; 4] =
    ["initialDelayMs", "maxDelayMs", "factor", "resetAfterMs"];
pub(super) const RESTART_FIELDS: [&str; 6] =
    ["policy", "initialDelayMs", "maxDelayMs", "factor", "resetAfterMs", "maxRestarts"];

pub(super) const STOP_FIELDS: [&str; 4] = ["signal", "timeoutSeconds", "scope", "exec"];
const RELOAD_FIELDS: [&str; 2] = ["signal", "exec"];
pub(super) const OUTPUT_FIELDS: [&str; 4] = ["limitBytes", "historyLimit", "forward", "file"];
const LOG_FILE_FIELDS: [&str; 3] = ["path", "maxBytes", "maxFiles"];

pub(super) const POLICIES: [(&str, RestartPolicy); 3] = [
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("never", RestartPolicy::Never),
];

const CONDITIONS: [(&str, Condition); 4] = [
    (Condition::Started.name(), Condition::Started),
    (Condition::Ready.name(), Condition::Ready),
    (Condition::Succeeded.name(), Condition::Succeeded),
    (Condition::Ended.name(), Condition::Ended),
];

pub(super) const SCOPES: [(&str, StopScope); 2] =
    [("group", StopScope::Group), ("process", StopScope::Process)];
pub(super) const CONCURRENCY: [(&str, Concurrency); 4] = [
    ("forbid", Concurrency::Forbid),
    ("queue", Concurrency::Queue),
    ("allow", Concurrency::Allow),
    ("replace", Concurrency::Replace),
];

/// The limit that marks processes of a run.
const MARK: &str = "locks";

pub(super) const RESOURCES: [(&str, Resource); 15] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// How many fields are searched for a misspelled one. A body has room for a hundred thousand, and
/// each takes some thousand comparisons of letters.
const MOST_GUESSED: usize = 64;
const MOST_TRIES: i64 = 1_000_000_000;
const LONGEST_INTERVAL: i64 = 100 * 366 * 24 * 60 * 60;
const LARGEST_OUTPUT: i64 = 1 << 30;
const LONGEST_HISTORY: i64 = 100_000;
/// Of log files: with smaller ones, k1s would do nothing but rotate.
const SMALLEST_FILE: i64 = 1024;
const LARGEST_FILE: i64 = 1 << 40;
/// To rotate renames each.
const MOST_FILES: i64 = 100;
/// They are read before each run, while nothing else is done.
const MOST_ENVIRONMENT_FILES: usize = 32;
/// PATH_MAX.
const LONGEST_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<JobSpec, String> {
        let value = serde_json::from_str(json).unwrap();
        parse(value, "/srv", Spelling::Camel).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_filled_in() {
        let spec = spec(r#"{"type":"continuous","executable":"sleep"}"#).unwrap();
        assert_eq!(spec.command.working_directory, "/srv");
        assert_eq!(spec.stop.signal, Signal::TERM);
        assert_eq!(spec.stop.timeout, Duration::from_secs(10));
        assert_eq!(spec.stop.scope, StopScope::Group);
        assert_eq!(spec.output.limit_bytes, 65_536);
        assert_eq!(spec.output.history_limit, 20);
        assert!(spec.is_success(0) && !spec.is_success(1));
        let Kind::Continuous { restart, restart_on_failure: true } = spec.kind else { panic!() };
        assert_eq!(restart.policy, RestartPolicy::Always);
        assert_eq!(restart.backoff.initial, Duration::from_millis(100));
        assert_eq!(restart.max_restarts, None);
    }

    #[test]
    fn the_policy_wins_over_restart_on_failure() {
        let policy = |json: String| match spec(&json).unwrap().kind {
            Kind::Continuous { restart, .. } => restart.policy,
            other => panic!("{other:?}"),
        };
        let job = r#"{"type":"continuous","executable":"x","restartOnFailure":false"#;
        assert_eq!(policy(format!("{job}}}")), RestartPolicy::OnSuccess);
        assert_eq!(
            policy(format!(r#"{job},"restart":{{"policy":"always"}}}}"#)),
            RestartPolicy::Always
        );
    }

    #[test]
    fn working_directories_become_absolute() {
        for (given, shown) in
            [(".", "/srv"), ("a/./b", "/srv/a/b"), ("/x/", "/x"), ("..", "/srv/..")]
        {
            assert_eq!(absolute("/srv", given), shown);
        }
    }

    /// Each run of a cron job ends by itself, and there may be several: none of them is the job.
    #[test]
    fn only_one_run_at_a_time_is_probed() {
        let error = |json: &str| spec(json).unwrap_err();
        for field in [r#""readiness":{"log":"x"}"#, r#""liveness":{"exec":["x"]}"#] {
            let said = error(&format!(r#"{{"type":"cron","executable":"x",{field}}}"#));
            assert!(said.ends_with(": is for continuous and one-off jobs only"), "{said}");
        }
        let job = r#"{"type":"one-off","executable":"x","startTimeoutSeconds":1"#;
        let said = error(&format!("{job}}}"));
        assert!(said.starts_with("startTimeoutSeconds: needs a `readiness`"), "{said}");
        assert!(spec(&format!(r#"{job},"readiness":{{"log":"x"}}}}"#)).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |fields: &str, error: &str| {
            let json = format!(r#"{{"executable":"x",{fields}}}"#);
            let found = spec(&json).expect_err(&json);
            assert!(found.starts_with(error), "{json}\n  said {found}\n  want {error}");
        };
        let right = r#""continuous", "one-off" or "cron""#;
        let invalid = |given| format!("type: Invalid job type; must be {right}, not {given}");
        check(r#""type":"daemon""#, &invalid(r#""daemon""#));
        check(r#""type":1"#, &invalid("a whole number"));
        check(r#""labels":{}"#, &format!("type: is required: {right}"));
        check(r#""type":null"#, &format!("type: is required: {right}"));
        check(r#""Type":"cron""#, "Type: unknown field; did you mean `type`?");
        check(r#""typ":"cron""#, "typ: unknown field; did you mean `type`?");
        check(r#""kind":"cron""#, "kind: unknown field; here it is `type`");
        check(r#""type":"cron","cmd":"x""#, "cmd: unknown field; here it is `executable`, one");
        check(r#""type":"cron","numprocs":2"#, "numprocs: unknown field; a job is one process");
        check(
            r#""type":"cron","schedule":"CRON_TZ=Asia/Tokyo 0 3 * * *""#,
            "schedule: must be only the expression; set `timeZone` to \"Asia/Tokyo\"",
        );
        check(r#""type":"cron","schedule":[]"#, "schedule: must be a cron expression or a number");
        check(
            r#""type":"cron","arguments":[1]"#,
            "arguments.0: must be a string, not a whole number",
        );
        check(r#""type":"cron","arguments":["a\u0000"]"#, "arguments.0: must not contain a NUL");
        check(
            r#""type":"cron","argument":[]"#,
            "argument: unknown field; did you mean `arguments`?",
        );
        check(r#""type":"cron","retries":1"#, "retries: is for one-off jobs only");
        check(r#""type":"cron","restart":{}"#, "restart: is for continuous and one-off jobs only");
        check(r#""type":"one-off","restart":{"policy":"always"}"#, "restart.policy: unknown field");
        check(
            r#""type":"cron","scheduleInSeconds":0"#,
            "scheduleInSeconds: must be a whole number from 1",
        );
        check(
            r#""type":"cron","scheduleInSeconds":1.5"#,
            "scheduleInSeconds: must be a whole number",
        );
        check(r#""type":"cron","timeZone":"UTC""#, "timeZone: needs a `schedule`");
        check(
            r#""type":"cron","schedule":"* * * * *","scheduleInSeconds":5"#,
            "schedule: cannot be given",
        );
        check(r#""type":"cron","environment":{"A=B":"c"}"#, "environment.A=B: a variable's name");
        check(
            r#""type":"cron","environment":{"K1S_RUN":"c"}"#,
            "environment.K1S_RUN: is set by k1s",
        );
        check(r#""type":"cron","onFailure":1"#, "onFailure: must be a string, not a whole number");
        check(r#""type":"cron","onFailure":"a b""#, "onFailure: Invalid job id: an id is 1 to 128");
        check(r#""type":"cron","environment":{"A":1}"#, "environment.A: must be a string");
        for (files, error) in [
            ("1", ": must be a path or a list of paths, not a whole number"),
            (r#""""#, ": must not be empty"),
            (r#"["a","-"]"#, ".1: must have the path of a file after `-`"),
            (r#"["a",1]"#, ".1: must be a string, not a whole number"),
        ] {
            let field = format!(r#""type":"cron","environmentFile":{files}"#);
            check(&field, &format!("environmentFile{error}"));
        }
        let many = vec![r#""x""#; 33].join(",");
        let field = format!(r#""type":"cron","environmentFile":[{many}]"#);
        check(&field, "environmentFile: must not have more than 32 files");
        for (files, error) in [
            (r#"{"A":""}"#, ".A: must not be empty"),
            (r#"{"A":1}"#, ".A: must be a string"),
            (r#"{"K1S_JOB":"x"}"#, ".K1S_JOB: is set by k1s"),
            (r#"["A"]"#, ": must be an object of strings"),
        ] {
            let field = format!(r#""type":"cron","environmentFromFile":{files}"#);
            check(&field, &format!("environmentFromFile{error}"));
        }
        check(
            r#""type":"cron","stop":{"signal":"FOO"}"#,
            "stop.signal: must be the name of a signal",
        );
        check(
            r#""type":"cron","stop":{"timeoutSeconds":-1}"#,
            "stop.timeoutSeconds: must be a number",
        );
        check(
            r#""type":"cron","limits":{"locks":5}"#,
            "limits.locks: cannot be set: Linux does not",
        );
        check(r#""type":"cron","stop":{"scope":"session"}"#, "stop.scope: must be one of");
        check(r#""type":"cron","stop":{"exec":[]}"#, "stop.exec: must hold the executable");
        check(r#""type":"one-off","reload":{}"#, "reload: is for continuous jobs only");
        let both = r#""type":"continuous","reload":{"signal":"HUP","exec":["x"]}"#;
        check(both, "reload: must have a `signal` or an `exec`, not both");
        let right = "must be true, false or \"on-failure\", not";
        check(r#""type":"one-off","critical":"always""#, &format!("critical: {right} \"always\""));
        check(r#""type":"one-off","critical":1"#, &format!("critical: {right} a whole number"));
        check(
            r#""type":"cron","oomScoreAdj":1001"#,
            "oomScoreAdj: must be a whole number from -1000",
        );
        let after = |jobs: &str| format!(r#""type":"cron","dependsOn":{jobs}"#);
        let right = "must be one of \"started\", \"ready\", \"succeeded\", \"ended\", not";
        check(&after("[]"), "dependsOn: must be an object of ids and conditions, not a list");
        check(&after(r#"{"a b":"ready"}"#), "dependsOn.a b: Invalid job id: an id is 1 to 128");
        check(&after(r#"{"a":"up"}"#), &format!("dependsOn.a: {right} \"up\""));
        check(&after(r#"{"a":null}"#), &format!("dependsOn.a: {right} null"));
        check(&after(r#"{"a":{"restart":true}}"#), "dependsOn.a.condition: is required");
        check(&after(r#"{"a":{"when":"ready"}}"#), "dependsOn.a.when: unknown field; known are");
        check(
            &after(r#"{"a":{"condition":"ready","restart":true}}"#),
            "dependsOn.a.restart: is for continuous and one-off jobs only",
        );
        let many: Vec<_> = (0..101).map(|n| format!(r#""j{n}":"ready""#)).collect();
        check(&after(&format!("{{{}}}", many.join(","))), "dependsOn: 101 jobs are more than 100");
        check(r#""type":"cron","successExitCodes":[]"#, "successExitCodes: must contain at least");
        check(
            r#""type":"cron","successExitCodes":[256]"#,
            "successExitCodes.0: must be a whole number",
        );
        check(
            r#""type":"cron","limits":{"nofile":{"soft":2,"hard":1}}"#,
            "limits.nofile.soft: must not",
        );
        check(r#""type":"cron","umask":"999""#, "umask: must be octal");
        check(r#""type":"cron","output":{"limitBytes":-1}"#, "output.limitBytes: must be");
        let file = |file: &str| format!(r#""type":"cron","output":{{"file":{file}}}"#);
        check(&file(r#"{}"#), "output.file.path: is required");
        check(&file(r#""x.log""#), "output.file: must be an object, not a string");
        check(&file(r#"{"path":""}"#), "output.file.path: must not be empty");
        check(&file(r#"{"path":"x\u0000"}"#), "output.file.path: must not contain a NUL");
        for path in ["/var/log/", "/", "a/.", ".."] {
            let error = format!("output.file.path: must be the path of a file, not {path:?}");
            check(&file(&format!(r#"{{"path":{path:?}}}"#)), &error);
        }
        check(
            &file(r#"{"path":"{job}-{date}.log"}"#),
            "output.file.path: holds `{date}`; what is filled in is `{job}` and `{run}`",
        );
        check(&file(r#"{"path":"a{"}"#), "output.file.path: holds `{`; what is filled in");
        check(
            &file(r#"{"path":"x","maxBytes":1023}"#),
            "output.file.maxBytes: must be 0, for no limit, or a whole number from 1024",
        );
        check(&file(r#"{"path":"x","maxFiles":0}"#), "output.file.maxFiles: must be a whole");
        check(&file(r#"{"path":"x","maxfiles":1}"#), "output.file.maxfiles: unknown field; did");
        check(r#""type":"cron","concurrencyPolicy":"wait""#, "concurrencyPolicy: must be one of");
        assert!(spec(r#"{"type":"cron"}"#).unwrap_err().starts_with("executable: is required"));
        assert_eq!(spec(r#"[]"#).unwrap_err(), "The document must be an object, not a list");
    }

    /// Each was compared with all known fields, to find a misspelled `type`.
    #[test]
    fn as_many_fields_as_a_body_holds_are_no_guesses_for_type() {
        let fields: Vec<_> = (0..100_000).map(|n| format!(r#""x{n}":1"#)).collect();
        let error = spec(&format!("{{{}}}", fields.join(","))).unwrap_err();
        assert!(error.starts_with("type: is required"), "{error}");
    }

    #[test]
    fn the_config_may_spell_in_snake_case() {
        let table = |name: &str| {
            let entry = |name: &str, text: &str| (name.to_owned(), Value::String(text.to_owned()));
            Value::Table(vec![entry("type", "cron"), entry("executable", "x"), entry(name, "/x")])
        };
        let snake = || table("working_directory");
        assert!(parse(snake(), "/", Spelling::CamelOrSnake).is_ok());
        assert!(parse(table("workingDirectory"), "/", Spelling::CamelOrSnake).is_ok());
        let error = parse(snake(), "/", Spelling::Camel).unwrap_err();
        assert_eq!(error.message, "unknown field; did you mean `workingDirectory`?");
    }
}
