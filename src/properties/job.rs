//! A job's payload, as it comes in over the API.
//!
//! ```text
//!   bytes ─▶ JSON ─▶ JobSpec ─▶ JSON ─▶ JobSpec      the same
//!     │         └──▶ FieldError                      names what is there, or what is missing
//!     └─▶ POST, GET, PUT of a whole API              agree with that
//! ```

use std::time::Duration;

use serde_json::json;

use super::service::{DIRECTORY, Service};
use crate::job::spec::{
    Backoff, Command, Concurrency, CronSpec, JobSpec, Kind, RestartPolicy, StopScope,
};
use crate::job::{self, FieldError, INVALID_TYPE, Spelling, Value};
use crate::schedule::Schedule;

/// A payload that is accepted means the same when it is written out in full, in another order,
/// without its nulls, or in snake_case, and the API shows what was given; one that is refused is
/// refused for a field that it has or lacks, and nothing is created.
pub(super) fn check_job(data: &[u8]) {
    let mut service = Service::default();
    let (status, said) = ask(&mut service, "POST", data);
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        assert_eq!(status, 400, "{said}");
        return;
    };
    match job::parse(value.clone(), DIRECTORY, Spelling::Camel) {
        Ok(spec) => {
            assert_eq!(status, 200, "{said}");
            check_meaning(&value, &spec);
            check_shown(&mut service, data, &spec);
        }
        Err(error) => {
            check_error(&value, &error);
            let message = said["error"].as_str().unwrap_or_default();
            assert!(status == 400 && message.ends_with(&error.message), "{status} {message}");
            assert_eq!(ask(&mut service, "GET", b"").0, 404, "nothing is created");
        }
    }
    let snake = snake_case(value);
    if let Err(error) = job::parse(snake.clone(), DIRECTORY, Spelling::CamelOrSnake) {
        check_error(&snake, &error);
    }
}

fn check_meaning(value: &Value, spec: &JobSpec) {
    let parse = |value, directory, spelling| job::parse(value, directory, spelling);
    let printed = serde_json::from_value::<Value>(print(spec));
    let Ok(printed) = printed else {
        unreachable!("{printed:?}");
    };
    assert_eq!(parse(printed, "/elsewhere", Spelling::Camel).as_ref(), Ok(spec));
    let turned = turn_around(value.clone());
    assert_eq!(parse(turned, DIRECTORY, Spelling::Camel).as_ref(), Ok(spec));
    let snake = snake_case(value.clone());
    assert_eq!(parse(snake, DIRECTORY, Spelling::CamelOrSnake).as_ref(), Ok(spec));
}

/// The way to the field is there, but for a field that is required.
fn check_error(value: &Value, error: &FieldError) {
    assert!(!error.message.is_empty());
    assert_eq!(error.path.is_empty(), !matches!(value, Value::Table(_)), "{error}");
    let mut at = value;
    for (depth, name) in error.path.iter().enumerate() {
        let Some(inner) = child(at, name) else {
            let is_last = depth + 1 == error.path.len();
            assert!(is_last && ["is required", INVALID_TYPE].contains(&&*error.message), "{error}");
            return;
        };
        at = inner;
    }
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Table(entries) => {
            entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
        }
        Value::List(items) => items.get(name.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {
            None
        }
    }
}

/// The job that was created shows what it was given, and stays as it is when it is put again.
fn check_shown(service: &mut Service, data: &[u8], spec: &JobSpec) {
    let (status, shown) = ask(service, "GET", b"");
    assert_eq!(status, 200);
    let expected = print(spec);
    for name in ["type", "executable", "arguments", "workingDirectory", "labels"] {
        assert_eq!(shown[name], expected[name], "{name}");
    }
    for (name, value) in &spec.command.environment {
        let is_secret = spec.secret_environment.contains(name);
        let value = if is_secret { "***" } else { value.as_str() };
        assert_eq!(shown["environment"][name], value, "{name}");
    }
    for payload in [data, expected.to_string().as_bytes()] {
        let (status, said) = ask(service, "PUT", payload);
        assert_eq!((status, said["message"].as_str()), (200, Some("Job unchanged")), "{said}");
    }
}

/// The last entry first, and no nulls.
fn turn_around(value: Value) -> Value {
    let Value::Table(entries) = value else {
        return value;
    };
    let given = entries.into_iter().rev().filter(|(_, value)| *value != Value::Null);
    Value::Table(given.collect())
}

/// The names of fields as the config may spell them.
fn snake_case(value: Value) -> Value {
    let Value::Table(entries) = value else {
        return value;
    };
    let respell = |(name, value): (String, Value)| {
        let has_fields = ["restart", "stop", "output"].contains(&name.as_str());
        (snake_name(&name), if has_fields { snake_case(value) } else { value })
    };
    Value::Table(entries.into_iter().map(respell).collect())
}

fn snake_name(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The payload that says all of a specification, defaults too.
fn print(spec: &JobSpec) -> serde_json::Value {
    let mut json = json!({
        "timeoutSeconds": spec.timeout.map(seconds),
        "successExitCodes": spec.success_exit_codes,
        "stop": {
            "signal": spec.stop.signal.to_string(),
            "timeoutSeconds": seconds(spec.stop.timeout),
            "scope": match spec.stop.scope {
                StopScope::Group => "group",
                StopScope::Process => "process",
            },
        },
        "output": {
            "limitBytes": spec.output.limit_bytes,
            "historyLimit": spec.output.history_limit,
            "forward": spec.output.forward,
        },
        "labels": spec.labels,
        "secretEnvironment": spec.secret_environment,
    });
    print_command(&spec.command, &mut json);
    match &spec.kind {
        Kind::Continuous { restart_on_failure, restart } => {
            json["type"] = "continuous".into();
            json["critical"] = spec.critical.into();
            json["restartOnFailure"] = (*restart_on_failure).into();
            json["restart"] = print_backoff(&restart.backoff);
            json["restart"]["policy"] = print_policy(restart.policy);
            json["restart"]["maxRestarts"] = restart.max_restarts.into();
        }
        Kind::OneOff { retries, backoff, ttl_after_finished } => {
            json["type"] = "one-off".into();
            json["critical"] = spec.critical.into();
            json["retries"] = (*retries).into();
            json["restart"] = print_backoff(backoff);
            json["ttlSecondsAfterFinished"] = ttl_after_finished.map(seconds).into();
        }
        Kind::Cron(cron) => print_cron(cron, &mut json),
    }
    json
}

fn print_command(command: &Command, json: &mut serde_json::Value) {
    json["executable"] = command.executable.as_str().into();
    json["arguments"] = command.arguments.clone().into();
    json["workingDirectory"] = command.working_directory.as_str().into();
    json["environment"] = json!(command.environment);
    json["clearEnvironment"] = command.clear_environment.into();
    json["stdin"] = command.stdin.clone().into();
    json["user"] = command.user.clone().into();
    json["group"] = command.group.clone().into();
    json["umask"] = command.umask.map(|mask| format!("{mask:o}")).into();
    json["nice"] = command.nice.into();
    json["limits"] = json!({});
    let bound = |bound: Option<u64>| bound.map_or_else(|| json!("unlimited"), |bound| json!(bound));
    for limit in &command.limits {
        let name = format!("{:?}", limit.resource).to_lowercase();
        json["limits"][name] = json!({"soft": bound(limit.soft), "hard": bound(limit.hard)});
    }
}

fn print_backoff(backoff: &Backoff) -> serde_json::Value {
    json!({
        "initialDelayMs": backoff.initial.as_millis() as u64,
        "maxDelayMs": backoff.max.as_millis() as u64,
        "factor": backoff.factor,
        "resetAfterMs": backoff.reset_after.as_millis() as u64,
    })
}

fn print_policy(policy: RestartPolicy) -> serde_json::Value {
    match policy {
        RestartPolicy::Always => "always".into(),
        RestartPolicy::OnFailure => "on-failure".into(),
        RestartPolicy::Never => "never".into(),
        // This is `restartOnFailure: false`, and has no name.
        RestartPolicy::OnSuccess => serde_json::Value::Null,
    }
}

fn print_cron(cron: &CronSpec, json: &mut serde_json::Value) {
    json["type"] = "cron".into();
    match &cron.schedule {
        Schedule::Every(interval) => json["scheduleInSeconds"] = interval.as_secs().into(),
        Schedule::Cron(cron) => {
            json["schedule"] = cron.expression().into();
            json["timeZone"] = cron.time_zone().into();
        }
    }
    json["concurrencyPolicy"] = match cron.concurrency {
        Concurrency::Forbid => "forbid".into(),
        Concurrency::Queue => "queue".into(),
        Concurrency::Allow => "allow".into(),
        Concurrency::Replace => "replace".into(),
    };
    json["suspend"] = cron.suspend.into();
    json["startingDeadlineSeconds"] = cron.starting_deadline.map(seconds).into();
    json["jitterSeconds"] = seconds(cron.jitter);
}

fn seconds(duration: Duration) -> serde_json::Value {
    json!(duration.as_secs_f64())
}

/// The status and the body of the answer to a request for the job `x`.
fn ask(service: &mut Service, method: &str, body: &[u8]) -> (u16, serde_json::Value) {
    let head = format!(
        "{method} /job/x HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer t\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let answers = service.talk(&[head.as_bytes(), body].concat());
    let [(status, body)] = answers.as_slice() else {
        unreachable!("{answers:?}");
    };
    (*status, serde_json::from_slice(body).unwrap_or_default())
}
