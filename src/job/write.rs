//! Writes a [`JobSpec`] as a table that it can be read from again: the inverse of `parse`.
//!
//! ```text
//!   JobSpec ─ write ─▶ fields, borrowed ─┬─▶ JSON: the job object
//!                                        └─▶ Value ─ parse ─▶ the same JobSpec
//! ```
//!
//! Every field is written under its name in the API, also if it has its default. Fields that have
//! no default (`user`, `timeoutSeconds`…) are left out when they are not set. An interval is
//! written as a number in `schedule`, as the job object shows it.
//!
//! What is stored leaves out what every job has that does not say otherwise: most of a job.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::parse::{CONCURRENCY, Defaults, POLICIES, RESOURCES, SCOPES, TYPES, parse_with};
use super::spec::{
    Backoff, Check, Command, Critical, CronSpec, Dependency, JobSpec, JobType, Kind, LogFileSpec,
    OutputSpec, Probe, ProbeRole, ReloadSpec, ResourceLimit, Restart, RestartPolicy, StopSpec,
};
use super::{JobId, Spelling, Value};
use crate::schedule::Schedule;

/// What is shown instead of the value of a secret.
pub const HIDDEN: &str = "***";

/// Whether the values of `secretEnvironment` are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// As they are, for k1s itself.
    Plain,
    /// As [`HIDDEN`], for users.
    Hidden,
}

/// The value of a field. It borrows long values from the specification, so that writing a field
/// takes the same time however long it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Cow<'a, str>),
    /// A short list.
    List(Vec<Field<'a>>),
    /// A short table.
    Table(Vec<(&'a str, Field<'a>)>),
    /// A list of texts.
    Texts(&'a [String]),
    /// A set of texts.
    Names(&'a BTreeSet<String>),
    /// A table of texts.
    TextTable(TextTable<'a>),
}

/// A table of texts, some of which may be hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextTable<'a> {
    entries: &'a BTreeMap<String, String>,
    hidden: Option<&'a BTreeSet<String>>,
}

/// Every field of a job, `type` first.
pub fn write(spec: &JobSpec, secrets: Secrets) -> Vec<(&str, Field<'_>)> {
    let mut table = Table(Vec::with_capacity(32));
    table.put("type", type_name(&spec.kind));
    command(&mut table, spec, secrets);
    table.put("autostart", spec.autostart);
    kind(&mut table, spec);
    table.put_some("timeoutSeconds", spec.timeout.map(seconds));
    table.put_some("readiness", spec.readiness.as_ref().map(|it| probe(it, ProbeRole::Readiness)));
    table.put_some("liveness", spec.liveness.as_ref().map(|it| probe(it, ProbeRole::Liveness)));
    table.put_some("startTimeoutSeconds", spec.start_timeout.map(seconds));
    let codes = spec.success_exit_codes.iter().map(|code| Field::Integer((*code).into()));
    table.put("successExitCodes", Field::List(codes.collect()));
    let jobs = spec.depends_on.iter().map(|(id, on)| (id.as_str(), dependency(*on)));
    table.put("dependsOn", Field::Table(jobs.collect()));
    table.put_some("onFailure", spec.on_failure.as_ref().map(JobId::as_str));
    table.put("stop", stop(&spec.stop));
    table.put("output", output(&spec.output));
    let labels = TextTable { entries: &spec.labels, hidden: None };
    table.put("labels", Field::TextTable(labels));
    table.0
}

/// The fields of a job, less those that have their defaults: `parse` reads the same job from them,
/// with [`Defaults::STORED`]. So a default never changes: stored jobs would change with it.
pub fn write_given(spec: &JobSpec) -> Vec<(&str, Field<'_>)> {
    let mut table = write(spec, Secrets::Plain);
    DEFAULTS.with(|defaults| {
        let defaults = defaults.iter().find(|(job_type, _)| *job_type == spec.kind.job_type());
        // Both are in the same order.
        let mut defaults = defaults.into_iter().flat_map(|(_, table)| table).peekable();
        table.retain(|(name, field)| {
            let default = defaults.next_if(|(default, _)| default == name);
            REQUIRED.contains(name) || default.is_none_or(|(_, default)| default != field)
        });
    });
    table
}

thread_local! {
    /// For each type, the fields of a job that gives the required ones alone. Made once.
    static DEFAULTS: Vec<(JobType, Vec<(&'static str, Field<'static>)>)> = {
        let of_type = |(name, _): &(&str, _)| {
            let field = |name: &str, text: &str| (name.to_owned(), Value::String(text.to_owned()));
            let fields = vec![field("type", name), field("executable", "true")];
            let bare = parse_with(Value::Table(fields), Defaults::STORED, Spelling::Camel).ok()?;
            let bare: &'static JobSpec = Box::leak(Box::new(bare));
            Some((bare.kind.job_type(), write(bare, Secrets::Plain)))
        };
        TYPES.iter().filter_map(of_type).collect()
    };
}

const REQUIRED: [&str; 2] = ["type", "executable"];

/// What the API calls a type of job.
pub fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Continuous { .. } => "continuous",
        Kind::OneOff { .. } => "one-off",
        Kind::Cron(_) => "cron",
    }
}

fn command<'a>(table: &mut Table<'a>, spec: &'a JobSpec, secrets: Secrets) {
    let Command { executable, arguments, working_directory, environment, .. } = &spec.command;
    table.put("executable", executable.as_str());
    table.put("arguments", Field::Texts(arguments));
    table.put("workingDirectory", working_directory.as_str());
    let hidden = (secrets == Secrets::Hidden).then_some(&spec.secret_environment);
    table.put("environment", Field::TextTable(TextTable { entries: environment, hidden }));
    let Command { environment_files, environment_from_file, .. } = &spec.command;
    table.put("environmentFile", Field::Texts(environment_files));
    let from_file = TextTable { entries: environment_from_file, hidden: None };
    table.put("environmentFromFile", Field::TextTable(from_file));
    let Command {
        clear_environment, stdin, user, group, umask, nice, oom_score_adj, limits, ..
    } = &spec.command;
    table.put("clearEnvironment", *clear_environment);
    table.put("secretEnvironment", Field::Names(&spec.secret_environment));
    table.put_some("stdin", stdin.as_deref());
    table.put_some("user", user.as_deref());
    table.put_some("group", group.as_deref());
    table.put_some("umask", umask.map(|mask| Field::String(format!("{mask:03o}").into())));
    table.put_some("nice", nice.map(|nice| Field::Integer(nice.into())));
    table.put_some("oomScoreAdj", oom_score_adj.map(|adj| Field::Integer(adj.into())));
    let limits = limits.iter().map(|limit| (name_of(&RESOURCES, limit.resource), pair(limit)));
    table.put("limits", Field::Table(limits.collect()));
}

fn kind<'a>(table: &mut Table<'a>, spec: &'a JobSpec) {
    match &spec.kind {
        Kind::Continuous { restart_on_failure, restart } => {
            table.put("restartOnFailure", *restart_on_failure);
            table.put("restart", restarts(*restart_on_failure, restart));
            table.put("critical", critical(spec.critical));
            table.put("reload", reload(&spec.reload));
        }
        Kind::OneOff { retries, backoff, ttl_after_finished } => {
            table.put("retries", Field::Integer((*retries).into()));
            table.put("restart", Field::Table(delays(backoff).0));
            table.put_some("ttlSecondsAfterFinished", ttl_after_finished.map(seconds));
            table.put("critical", critical(spec.critical));
        }
        Kind::Cron(spec) => cron(table, spec),
    }
}

fn dependency(on: Dependency) -> Field<'static> {
    let condition = Field::from(on.condition.name());
    match on.restart {
        false => condition,
        true => Field::Table(vec![("condition", condition), ("restart", true.into())]),
    }
}

fn critical(critical: Critical) -> Field<'static> {
    match critical {
        Critical::No => false.into(),
        Critical::OnFailure => "on-failure".into(),
        Critical::Yes => true.into(),
    }
}

/// The policy is left out if `restartOnFailure` means the same, so that the flag alone can be
/// changed.
fn restarts(restart_on_failure: bool, restart: &Restart) -> Field<'_> {
    let mut table = Table(Vec::with_capacity(6));
    let is_default = match restart.policy {
        RestartPolicy::Always => restart_on_failure,
        RestartPolicy::OnSuccess => true,
        RestartPolicy::OnFailure | RestartPolicy::Never => false,
    };
    if !is_default {
        table.put("policy", name_of(&POLICIES, restart.policy));
    }
    table.0.extend(delays(&restart.backoff).0);
    let most = restart.max_restarts.map(|most| Field::Integer(most.into()));
    table.put_some("maxRestarts", most);
    Field::Table(table.0)
}

fn delays(backoff: &Backoff) -> Table<'static> {
    let mut table = Table(Vec::with_capacity(6));
    table.put("initialDelayMs", millis(backoff.initial));
    table.put("maxDelayMs", millis(backoff.max));
    table.put("factor", number(backoff.factor));
    table.put("resetAfterMs", millis(backoff.reset_after));
    table
}

fn cron<'a>(table: &mut Table<'a>, spec: &'a CronSpec) {
    match &spec.schedule {
        Schedule::Every(interval) => table.put("schedule", whole(interval.as_secs())),
        Schedule::Cron(cron) => {
            table.put("schedule", cron.expression());
            table.put("timeZone", cron.time_zone());
        }
    }
    table.put("concurrencyPolicy", name_of(&CONCURRENCY, spec.concurrency));
    table.put("suspend", spec.suspend);
    table.put("startingDeadlineSeconds", seconds(spec.starting_deadline));
    table.put("jitterSeconds", seconds(spec.jitter));
}

/// The kind, and the times that have an effect on it.
fn probe(probe: &Probe, role: ProbeRole) -> Field<'_> {
    let mut table = Table(Vec::with_capacity(6));
    table.put(probe.check.kind(), check(&probe.check));
    for name in probe.check.fields(role) {
        match *name {
            "initialDelaySeconds" => table.put(name, seconds(probe.initial_delay)),
            "periodSeconds" => table.put_some(name, probe.period.map(seconds)),
            "timeoutSeconds" => table.put(name, seconds(probe.timeout)),
            "successThreshold" => table.put(name, whole(probe.success_threshold.into())),
            _ => table.put(name, whole(probe.failure_threshold.into())),
        }
    }
    Field::Table(table.0)
}

fn check(check: &Check) -> Field<'_> {
    match check {
        Check::Http { url, status } => {
            let status = [*status.start(), *status.end()].map(|it| Field::Integer(it.into()));
            let status = Field::List(status.into());
            Field::Table(vec![("url", url.text.as_str().into()), ("status", status)])
        }
        Check::Tcp(address) => Field::Table(vec![("address", address.text.as_str().into())]),
        Check::Exec { command } => Field::Texts(command),
        Check::Log { text } => text.as_str().into(),
        Check::Notify => true.into(),
        Check::Fd { number } => Field::Integer((*number).into()),
    }
}

fn reload(reload: &ReloadSpec) -> Field<'_> {
    let entry = match reload {
        ReloadSpec::Signal(signal) => ("signal", Field::String(signal.to_string().into())),
        ReloadSpec::Exec(command) => ("exec", Field::Texts(command)),
    };
    Field::Table(vec![entry])
}

fn stop(stop: &StopSpec) -> Field<'_> {
    let mut table = Table(Vec::with_capacity(4));
    table.put("signal", Field::String(stop.signal.to_string().into()));
    table.put("timeoutSeconds", seconds(stop.timeout));
    table.put("scope", name_of(&SCOPES, stop.scope));
    table.put_some("exec", stop.exec.as_deref().map(Field::Texts));
    Field::Table(table.0)
}

fn output(output: &OutputSpec) -> Field<'_> {
    let OutputSpec { limit_bytes, history_limit, forward, file } = output;
    let mut table = Table(Vec::with_capacity(4));
    table.put("limitBytes", whole(*limit_bytes as u64));
    table.put("historyLimit", whole(*history_limit as u64));
    table.put("forward", *forward);
    table.put_some("file", file.as_ref().map(log_file));
    Field::Table(table.0)
}

fn log_file(file: &LogFileSpec) -> Field<'_> {
    let LogFileSpec { path, max_bytes, max_files } = file;
    let mut table = Table(Vec::with_capacity(3));
    table.put("path", path.as_str());
    table.put("maxBytes", whole(max_bytes.unwrap_or(0)));
    table.put("maxFiles", whole(*max_files as u64));
    Field::Table(table.0)
}

fn pair(limit: &ResourceLimit) -> Field<'static> {
    let bound = |bound: Option<u64>| bound.map_or_else(|| Field::from("unlimited"), whole);
    if limit.soft == limit.hard {
        return bound(limit.soft);
    }
    Field::Table(vec![("soft", bound(limit.soft)), ("hard", bound(limit.hard))])
}

/// Specifications contain no number of more than 63 bits.
fn whole(number: u64) -> Field<'static> {
    Field::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A number as people write it: 2, not 2.0. Numbers of a specification are small.
fn number(number: f64) -> Field<'static> {
    if number.fract() == 0.0 { Field::Integer(number as i64) } else { Field::Float(number) }
}

/// A time in seconds. All times of a specification are whole milliseconds.
fn seconds(duration: Duration) -> Field<'static> {
    number(duration.as_secs_f64())
}

fn millis(duration: Duration) -> Field<'static> {
    whole(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The name of a choice.
fn name_of<T: PartialEq>(choices: &[(&'static str, T)], choice: T) -> &'static str {
    let entry = choices.iter().find(|(_, known)| *known == choice);
    entry.map(|(name, _)| *name).unwrap_or_default()
}

struct Table<'a>(Vec<(&'a str, Field<'a>)>);

impl<'a> Table<'a> {
    fn put(&mut self, name: &'a str, value: impl Into<Field<'a>>) {
        self.0.push((name, value.into()));
    }

    fn put_some(&mut self, name: &'a str, value: Option<impl Into<Field<'a>>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

impl<'a> TextTable<'a> {
    /// The entries after `after`, or all, in the order of their names; hidden ones as [`HIDDEN`].
    pub fn entries_after(
        self,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range::<str, _>((start, Bound::Unbounded));
        entries.map(move |(name, value)| {
            let is_hidden = self.hidden.is_some_and(|hidden| hidden.contains(name));
            (name.as_str(), if is_hidden { HIDDEN } else { value.as_str() })
        })
    }
}

impl From<bool> for Field<'_> {
    fn from(flag: bool) -> Self {
        Field::Bool(flag)
    }
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Field::String(text.into())
    }
}

/// An owned value, as a document would contain it.
impl From<Field<'_>> for Value {
    fn from(field: Field<'_>) -> Value {
        match field {
            Field::Bool(flag) => Value::Bool(flag),
            Field::Integer(number) => Value::Integer(number),
            Field::Float(number) => Value::Float(number),
            Field::String(text) => Value::String(text.into_owned()),
            Field::List(items) => Value::List(items.into_iter().map(Value::from).collect()),
            Field::Table(entries) => {
                let owned = |(name, field): (&str, Field)| (name.to_owned(), Value::from(field));
                Value::Table(entries.into_iter().map(owned).collect())
            }
            Field::Texts(texts) => Value::List(texts.iter().cloned().map(Value::String).collect()),
            Field::Names(names) => Value::List(names.iter().cloned().map(Value::String).collect()),
            Field::TextTable(table) => {
                let owned =
                    |(name, text): (&str, &str)| (name.to_owned(), Value::String(text.to_owned()));
                Value::Table(table.entries_after(None).map(owned).collect())
            }
        }
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Bool(flag) => serializer.serialize_bool(*flag),
            Field::Integer(number) => serializer.serialize_i64(*number),
            Field::Float(number) => serializer.serialize_f64(*number),
            Field::String(text) => serializer.serialize_str(text),
            Field::List(items) => serializer.collect_seq(items),
            Field::Table(entries) => {
                serializer.collect_map(entries.iter().map(|(name, field)| (name, field)))
            }
            Field::Texts(texts) => serializer.collect_seq(*texts),
            Field::Names(names) => serializer.collect_seq(*names),
            Field::TextTable(table) => serializer.collect_map(table.entries_after(None)),
        }
    }
}

/// What a job object shows besides the specification, now or in a later version; ignored when it is
/// sent back.
pub const READ_ONLY: [&str; 17] = [
    "id",
    "state",
    "message",
    "waitingFor",
    "origin",
    "pid",
    "killRequested",
    "skippedRuns",
    "createdAt",
    "startedAt",
    "nextRunAt",
    "restarts",
    "ready",
    "status",
    "lastProbe",
    "error",
    "results",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Spelling, parse};

    /// A job with these `fields` is written with `written` among others, and read again as the
    /// same.
    #[track_caller]
    fn check(fields: &str, written: &str) {
        let json = format!(r#"{{"executable":"x",{fields}}}"#);
        let spec = parse(serde_json::from_str(&json).unwrap(), "/srv", Spelling::Camel).unwrap();
        let text = serde_json::to_string(&Field::Table(write(&spec, Secrets::Hidden))).unwrap();
        assert!(text.contains(written), "{json}\n  is written {text}\n  not {written}");
        let value = Value::from(Field::Table(write(&spec, Secrets::Plain)));
        assert_eq!(parse(value, "/elsewhere", Spelling::Camel).as_ref(), Ok(&spec), "{json}");
        let given = Value::from(Field::Table(write_given(&spec)));
        assert_eq!(parse_with(given, Defaults::STORED, Spelling::Camel), Ok(spec), "{json}");
    }

    #[test]
    fn fields_that_have_their_defaults_are_not_given() {
        for (kind, rest) in [
            ("continuous", r#""restartOnFailure":false,"labels":{}"#),
            ("one-off", r#""retries":0,"restart":{"factor":2}"#),
            ("cron", r#""schedule":60,"startingDeadlineSeconds":10.0"#),
        ] {
            let json =
                format!(r#"{{"type":"{kind}","executable":"true","nice":1,"umask":"022",{rest}}}"#);
            let spec = parse(serde_json::from_str(&json).unwrap(), "/", Spelling::Camel).unwrap();
            let given = write_given(&spec);
            let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
            let expected = ["type", "executable", "umask", "nice", "restartOnFailure"];
            let length = if kind == "continuous" { 5 } else { 4 };
            assert_eq!(names, expected[..length], "{json}");
        }
    }

    #[test]
    fn what_is_read_is_written() {
        for (fields, written) in [
            (
                r#""type":"cron""#,
                concat!(
                    r#"{"type":"cron","executable":"x","arguments":[],"workingDirectory":"/srv","#,
                    r#""environment":{},"environmentFile":[],"environmentFromFile":{},"#,
                    r#""clearEnvironment":false,"secretEnvironment":[],"#,
                    r#""limits":{},"autostart":true,"schedule":60,"concurrencyPolicy":"forbid","suspend":false,"#,
                    r#""startingDeadlineSeconds":10,"jitterSeconds":0,"successExitCodes":[0],"#,
                    r#""dependsOn":{},"#,
                    r#""stop":{"signal":"SIGTERM","timeoutSeconds":10,"scope":"group"},"#,
                    r#""output":{"limitBytes":65536,"historyLimit":20,"forward":true},"labels":{}}"#
                ),
            ),
            (r#""type":"cron","schedule":7"#, r#""schedule":7,"#),
            (
                r#""type":"cron","schedule":"@daily","timeZone":"Europe/Berlin""#,
                r#""schedule":"@daily","timeZone":"Europe/Berlin","#,
            ),
            (
                r#""type":"continuous""#,
                r#""restartOnFailure":true,"restart":{"initialDelayMs":100,"maxDelayMs":30000,"factor":2,"resetAfterMs":5000},"critical":false,"reload":{"signal":"SIGHUP"}"#,
            ),
            (
                r#""type":"continuous","restartOnFailure":false"#,
                r#""restartOnFailure":false,"restart":{"initial"#,
            ),
            (
                r#""type":"continuous","restartOnFailure":false,"restart":{"policy":"always"}"#,
                r#""restart":{"policy":"always","#,
            ),
            (
                r#""type":"continuous","restart":{"policy":"never","factor":1.5,"maxRestarts":3}"#,
                r#""restart":{"policy":"never","initialDelayMs":100,"maxDelayMs":30000,"factor":1.5,"resetAfterMs":5000,"maxRestarts":3}"#,
            ),
            (
                r#""type":"one-off","retries":2,"ttlSecondsAfterFinished":0.25"#,
                r#""ttlSecondsAfterFinished":0.25"#,
            ),
            (
                r#""type":"one-off","user":1000,"group":"www-data","umask":18,"nice":-3"#,
                r#""user":"1000","group":"www-data","umask":"022","nice":-3"#,
            ),
            (
                r#""type":"one-off","limits":{"core":"unlimited","nproc":{"soft":1,"hard":2},"as":9}"#,
                r#""limits":{"as":9,"core":"unlimited","nproc":{"soft":1,"hard":2}}"#,
            ),
            (
                r#""type":"one-off","environment":{"A":"a","B":"b"},"secretEnvironment":["B"]"#,
                r#""environment":{"A":"a","B":"***"}"#,
            ),
            (
                r#""type":"one-off","environmentFile":"a""#,
                r#""environmentFile":["/srv/a"],"environmentFromFile":{}"#,
            ),
            (
                r#""type":"one-off","environmentFile":["-./a","/b"],"environmentFromFile":{"A":"x"}"#,
                r#""environmentFile":["-/srv/a","/b"],"environmentFromFile":{"A":"/srv/x"}"#,
            ),
            (r#""type":"one-off","autostart":false"#, r#""autostart":false,"retries":0,"#),
            (
                r#""type":"one-off","dependsOn":{"b":{"condition":"ended"},"a":{"condition":"ready","restart":true}}"#,
                r#""dependsOn":{"a":{"condition":"ready","restart":true},"b":"ended"},"stop":"#,
            ),
            (r#""type":"cron","onFailure":"alert""#, r#""onFailure":"alert","stop":{"#),
            (r#""type":"one-off","critical":"on-failure""#, r#""critical":"on-failure""#),
            (r#""type":"cron","oomScoreAdj":-1000"#, r#""oomScoreAdj":-1000"#),
            (
                r#""type":"one-off","output":{"file":{"path":"{job}.log"}}"#,
                r#""forward":true,"file":{"path":"{job}.log","maxBytes":10485760,"maxFiles":5}}"#,
            ),
            (
                r#""type":"one-off","output":{"file":{"path":"/x","maxBytes":0,"maxFiles":1}}"#,
                r#""file":{"path":"/x","maxBytes":0,"maxFiles":1}}"#,
            ),
            (r#""type":"one-off","output":{"file":null}"#, r#""forward":true},"#),
            (
                r#""type":"continuous","reload":{"exec":["x","-s"]}"#,
                r#""reload":{"exec":["x","-s"]},"#,
            ),
            (r#""type":"cron","stop":{"exec":["x"]}"#, r#""scope":"group","exec":["x"]},"#),
            (
                r#""type":"continuous","readiness":{"http":{"url":"http://localhost"}}"#,
                r#""readiness":{"http":{"url":"http://localhost","status":[200,399]},"initialDelaySeconds":0,"timeoutSeconds":1,"successThreshold":1,"failureThreshold":3}"#,
            ),
            (
                r#""type":"continuous","liveness":{"tcp":{"address":"[::1]:7"},"periodSeconds":2}"#,
                r#""liveness":{"tcp":{"address":"[::1]:7"},"initialDelaySeconds":0,"periodSeconds":2,"timeoutSeconds":1,"failureThreshold":3}"#,
            ),
            (
                r#""type":"one-off","readiness":{"log":"ready"},"startTimeoutSeconds":1.5"#,
                r#""readiness":{"log":"ready"},"startTimeoutSeconds":1.5,"#,
            ),
            (
                r#""type":"one-off","readiness":{"fd":3},"liveness":{"notify":true}"#,
                r#""readiness":{"fd":3},"liveness":{"notify":true,"failureThreshold":3}"#,
            ),
            (
                r#""type":"one-off","liveness":{"exec":["a","b"]}"#,
                r#""liveness":{"exec":["a","b"],"#,
            ),
            (r#""type":"one-off","stdin":"a\u0000b""#, r#""stdin":"a\u0000b""#),
        ] {
            check(fields, written);
        }
    }
}
