//! The specification that a POST, PUT or PATCH gives a job.
//!
//! ```text
//!   POST, PUT ─▶ payload ──────────────────┐
//!   PATCH ─▶ patch ─┐                      ├─▶ drop READ_ONLY ─▶ parse ─▶ keep secrets ─▶ JobSpec
//!   the job ─▶ write ┴─ merge (RFC 7396) ──┘
//! ```
//!
//! What GET shows can be edited and sent back: fields that are not part of the specification are
//! ignored, and `"***"` keeps the secret that it stands for.

use crate::job::{
    self, Defaults, FieldError, HIDDEN, JobSpec, READ_ONLY, Secrets, Spelling, Value,
};

/// Reads the specification given for the job `id`; `old` is its present one.
pub(super) fn specification(
    given: Value,
    id: &str,
    old: Option<&JobSpec>,
    defaults: Defaults,
) -> Result<JobSpec, FieldError> {
    let given = without_read_only(given, id)?;
    let mut spec = job::parse_with(given, defaults, Spelling::Camel)?;
    keep_secrets(&mut spec, id, old)?;
    Ok(spec)
}

/// Changes the specification `old` by a JSON Merge Patch (RFC 7396).
pub(super) fn merged(old: &JobSpec, patch: Value) -> Value {
    let written = job::write(old, Secrets::Hidden).into_iter();
    let mut fields: Vec<_> =
        written.map(|(name, field)| (name.to_owned(), Value::from(field))).collect();
    if let Value::Table(changes) = &patch {
        make_room_for_schedule(&mut fields, changes);
        make_room_for_kinds(&mut fields, changes);
    }
    let mut document = Value::Table(fields);
    merge(&mut document, patch);
    document
}

/// A schedule in a patch replaces the present one, however each is written: an interval may be
/// `schedule` or `scheduleInSeconds`, and has no time zone.
fn make_room_for_schedule(fields: &mut Vec<(String, Value)>, changes: &[(String, Value)]) {
    let find = |entries: &[(String, Value)], name| {
        entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let shown = find(fields, "schedule");
    let is_expression = |value: &Value| matches!(value, Value::String(_));
    let drops = match (find(changes, "schedule"), find(changes, "scheduleInSeconds")) {
        (Some(given), _) => !is_expression(&given),
        (None, Some(Value::Null)) => shown.is_some_and(|shown| !is_expression(&shown)),
        (None, Some(_)) => true,
        (None, None) => false,
    };
    if drops {
        fields.retain(|(name, _)| name != "schedule" && name != "timeZone");
    }
}

/// A probe or a reload of another kind in a patch replaces the present one, with its times.
fn make_room_for_kinds(fields: &mut Vec<(String, Value)>, changes: &[(String, Value)]) {
    let kind = |entries: &[(String, Value)], name: &str| {
        let value = entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)?;
        let Value::Table(probe) = value else { return None };
        let kinds = ["http", "tcp", "exec", "log", "notify", "fd", "signal"];
        let is_kind = |key: &&str| kinds.contains(key);
        let mut given = probe.iter().filter(|(_, value)| *value != Value::Null);
        given.find(|(key, _)| is_kind(&key.as_str())).map(|(key, _)| key.clone())
    };
    for name in ["readiness", "liveness", "reload"] {
        let (shown, given) = (kind(fields, name), kind(changes, name));
        if given.is_some() && given != shown {
            fields.retain(|(key, _)| key != name);
        }
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Table(mut changes) = patch else {
        *target = patch;
        return;
    };
    let mut entries = match std::mem::replace(target, Value::Null) {
        Value::Table(entries) => entries,
        _ => Vec::new(),
    };
    // In order, so that a patch as long as a body may be is merged in one go.
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    changes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let mut merged = Vec::with_capacity(entries.len() + changes.len());
    let mut entries = entries.into_iter().peekable();
    for (name, change) in changes {
        merged.extend(std::iter::from_fn(|| entries.next_if(|(other, _)| *other < name)));
        let old = entries.next_if(|(other, _)| *other == name);
        if change != Value::Null {
            let mut value = old.map_or(Value::Null, |(_, value)| value);
            merge(&mut value, change);
            merged.push((name, value));
        }
    }
    merged.extend(entries);
    *target = Value::Table(merged);
}

/// Drops what the job object shows in addition to the specification. An `id` must be that of the
/// path.
fn without_read_only(given: Value, id: &str) -> Result<Value, FieldError> {
    let Value::Table(mut entries) = given else { return Ok(given) };
    let other = entries.iter().find(|(name, value)| {
        name == "id" && !matches!(value, Value::String(given) if given == id)
    });
    if other.is_some() {
        return Err(FieldError::new("id", format!("must be {id:?}, as in the path, or omitted")));
    }
    entries.retain(|(name, _)| !READ_ONLY.contains(&name.as_str()));
    Ok(Value::Table(entries))
}

/// Replaces [`HIDDEN`] values by those of `old`.
fn keep_secrets(spec: &mut JobSpec, id: &str, old: Option<&JobSpec>) -> Result<(), FieldError> {
    for (name, value) in &mut spec.command.environment {
        if value != HIDDEN {
            continue;
        }
        let kept = old.and_then(|old| old.command.environment.get(name));
        let was_secret = old.is_some_and(|old| old.secret_environment.contains(name));
        let why = match (spec.secret_environment.contains(name), kept) {
            (true, Some(kept)) => {
                value.clone_from(kept);
                continue;
            }
            (true, None) => {
                format!("{HIDDEN:?} keeps a secret, and job {id} has none of this name")
            }
            (false, _) if was_secret => {
                format!(
                    "{HIDDEN:?} keeps a secret, and `secretEnvironment` no longer has this name"
                )
            }
            (false, _) => continue,
        };
        return Err(FieldError::new(name, format!("{why}; give its value")).under("environment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merged, they would have been two kinds in one probe.
    #[test]
    fn a_probe_of_another_kind_replaces_the_present_one_and_one_of_its_kind_changes_it() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let probe = |text: &str| {
            let job = format!(r#"{{"type":"continuous","executable":"x","readiness":{text}}}"#);
            job::parse(read(&job), "/", Spelling::Camel).unwrap()
        };
        let old = probe(r#"{"exec":["a"],"periodSeconds":5,"timeoutSeconds":2}"#);
        for (patch, new) in [
            (r#"{"log":"x"}"#, r#"{"log":"x"}"#),
            (r#"{"exec":["b"]}"#, r#"{"exec":["b"],"periodSeconds":5,"timeoutSeconds":2}"#),
            (r#"{"timeoutSeconds":3}"#, r#"{"exec":["a"],"periodSeconds":5,"timeoutSeconds":3}"#),
            (r#"{"exec":null,"fd":4}"#, r#"{"fd":4}"#),
        ] {
            let merged = merged(&old, read(&format!(r#"{{"readiness":{patch}}}"#)));
            assert_eq!(job::parse(merged, "/", Spelling::Camel), Ok(probe(new)), "{patch}");
        }
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn patches_are_merged_as_in_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let mut document = read(target);
            merge(&mut document, read(patch));
            assert_eq!(document, read(result), "{target} {patch}");
        }
    }
}
