//! The payload of a job, as the API receives it.
//!
//! ```text
//!   bytes ─▶ JSON ─▶ JobSpec ─▶ JSON ─▶ JobSpec      the same
//!     │         └──▶ FieldError                      names a field that is there or is missing
//!     └─▶ POST, GET, PUT, PATCH of a whole API       agree with that
//! ```

use super::service::{DIRECTORY, Service};
use crate::job::READ_ONLY;
use crate::job::{self, Defaults, Field, FieldError, HIDDEN, JobSpec, Secrets, Spelling, Value};
use crate::supervisor::Job;

/// An accepted payload means the same when it is written in full, in another order, without nulls,
/// or in snake_case, and what the API shows can be sent back. A refused one is refused for a field
/// that it has or that is missing, and nothing is created.
pub(super) fn check_job(data: &[u8]) {
    let mut service = Service::default();
    let (status, said) = ask(&mut service, "POST", data);
    let value = serde_json::from_slice::<Value>(data).ok().and_then(without_read_only);
    let Some(value) = value else {
        assert_eq!(status, 400, "{said}");
        return;
    };
    match job::parse(value.clone(), DIRECTORY, Spelling::Camel) {
        Ok(spec) if hides_a_secret(&spec) || waits_for_itself(&spec) => {
            assert_eq!(status, 400, "{said}");
            check_meaning(&value, &spec);
        }
        Ok(spec) => {
            assert_eq!(status, 200, "{said}");
            check_meaning(&value, &spec);
            check_shown(&mut service, data, &spec);
        }
        Err(error) => {
            check_error(&value, &error);
            let said_of = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
            let message = said_of("error");
            let whole = match said["hint"].is_string() {
                true => format!("{message}; {}", said_of("hint").trim_start_matches("type: ")),
                false => message,
            };
            assert!(status == 400 && whole.ends_with(&error.message), "{status} {whole}");
            assert_eq!(ask(&mut service, "GET", b"").0, 404, "nothing is created");
        }
    }
    let snake = snake_case(value);
    if let Err(error) = job::parse(snake.clone(), DIRECTORY, Spelling::CamelOrSnake) {
        check_error(&snake, &error);
    }
}

/// The specification for the job `x`; `None` if it is for another.
fn without_read_only(value: Value) -> Option<Value> {
    let Value::Table(mut entries) = value else { return Some(value) };
    let is_of_another = |(name, value): &(String, Value)| {
        name == "id" && !matches!(value, Value::String(id) if id == "x")
    };
    if entries.iter().any(is_of_another) {
        return None;
    }
    entries.retain(|(name, _)| !READ_ONLY.contains(&name.as_str()));
    Some(Value::Table(entries))
}

fn hides_a_secret(spec: &JobSpec) -> bool {
    let is_hidden = |name| spec.command.environment.get(name).is_some_and(|value| value == HIDDEN);
    spec.secret_environment.iter().any(is_hidden)
}

fn waits_for_itself(spec: &JobSpec) -> bool {
    spec.depends_on.keys().any(|id| id.as_str() == "x")
}

fn check_meaning(value: &Value, spec: &JobSpec) {
    let parse = |value, directory, spelling| job::parse(value, directory, spelling);
    let written = Field::Table(job::write(spec, Secrets::Plain));
    let read = serde_json::to_vec(&written).and_then(|json| serde_json::from_slice(&json));
    let Ok(read) = read else {
        unreachable!("{read:?}");
    };
    assert_eq!(parse(read, "/elsewhere", Spelling::Camel).as_ref(), Ok(spec));
    assert_eq!(parse(written.into(), "/elsewhere", Spelling::Camel).as_ref(), Ok(spec));
    let given = Field::Table(job::write_given(spec));
    assert_eq!(job::parse_with(given.into(), Defaults::STORED, Spelling::Camel).as_ref(), Ok(spec));
    let turned = turn_around(value.clone());
    assert_eq!(parse(turned, DIRECTORY, Spelling::Camel).as_ref(), Ok(spec));
    let snake = snake_case(value.clone());
    assert_eq!(parse(snake, DIRECTORY, Spelling::CamelOrSnake).as_ref(), Ok(spec));
}

/// The path of the error exists, unless a required field is missing.
fn check_error(value: &Value, error: &FieldError) {
    assert!(!error.message.is_empty());
    assert_eq!(error.path.is_empty(), !matches!(value, Value::Table(_)), "{error}");
    let mut at = value;
    for (depth, name) in error.path.iter().enumerate() {
        let Some(inner) = child(at, name) else {
            let is_last = depth + 1 == error.path.len();
            assert!(is_last && error.message.starts_with("is required"), "{error}");
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

/// The created job shows what it was given, without its secrets, and does not change when that is
/// sent again by PUT or PATCH.
fn check_shown(service: &mut Service, data: &[u8], spec: &JobSpec) {
    let (status, shown) = ask(service, "GET", b"");
    assert_eq!(status, 200);
    for (name, value) in &spec.command.environment {
        let is_secret = spec.secret_environment.contains(name);
        let value = if is_secret { HIDDEN } else { value.as_str() };
        assert_eq!(shown["environment"][name], value, "{name}");
    }
    let shown = shown.to_string();
    for (method, payload) in [
        ("PUT", data),
        ("PUT", shown.as_bytes()),
        ("PATCH", shown.as_bytes()),
        ("PATCH", br#"{"environment":{},"state":null}"#),
    ] {
        let (status, said) = ask(service, method, payload);
        assert_eq!((status, said["message"].as_str()), (200, Some("Job unchanged")), "{said}");
    }
    assert_eq!(service.supervisor.job("x").map(Job::spec), Some(spec));
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
        let has_fields = ["restart", "stop", "output", "readiness", "liveness", "reload"]
            .contains(&name.as_str());
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
