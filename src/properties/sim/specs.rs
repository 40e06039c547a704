//! Random specifications.

use std::collections::BTreeMap;

use crate::job::spec::{Kind, ProbeRole};
use crate::job::{JobSpec, Spelling, Value};
use crate::schedule::Schedule;

use super::probes;
use super::rng::Rng;

/// A random job.
pub(super) fn random(rng: &mut Rng) -> JobSpec {
    let kind = rng.pick(&["continuous", "one-off", "cron"]);
    of_type(kind, rng)
}

/// A random job of the same type; the difference may matter to its process or not.
pub(super) fn variant(old: &JobSpec, rng: &mut Rng) -> JobSpec {
    if rng.percent(10) {
        return old.clone();
    }
    let mut new = of_type(type_of(old), rng);
    if rng.percent(60) {
        new.command = old.command.clone();
    }
    if rng.percent(40) {
        new.kind = old.kind.clone();
    }
    if rng.percent(50) {
        new.depends_on = old.depends_on.clone();
    }
    new
}

pub(super) fn type_of(spec: &JobSpec) -> &'static str {
    match &spec.kind {
        Kind::Continuous { .. } => "continuous",
        Kind::OneOff { .. } => "one-off",
        Kind::Cron(_) => "cron",
    }
}

pub(super) fn is_by_calendar(spec: &JobSpec) -> bool {
    matches!(&spec.kind, Kind::Cron(cron) if matches!(cron.schedule, Schedule::Cron(_)))
}

/// The shortest time between two runs, in milliseconds.
pub(super) fn period(schedule: &Schedule) -> u64 {
    match schedule {
        Schedule::Every(interval) => interval.as_millis() as u64,
        Schedule::Cron(cron) => {
            let known = EXPRESSIONS.iter().find(|(text, _)| *text == cron.expression());
            known.expect("one of ours").1
        }
    }
}

/// A summary for the trace.
pub(super) fn text(spec: &JobSpec) -> String {
    let arguments = &spec.command.arguments;
    let (grace, timeout) = (spec.stop.timeout, spec.timeout);
    let on = &spec.depends_on;
    format!(
        "{:?} {arguments:?} grace {grace:?} timeout {timeout:?} on {on:?} {:?}",
        spec.kind, spec.output
    )
}

fn of_type(kind: &str, rng: &mut Rng) -> JobSpec {
    let mut fields = vec![
        format!(r#""type":"{kind}","executable":"x","arguments":["{}"]"#, rng.below(2)),
        format!(
            r#""stop":{{"signal":"SIGTERM","timeoutSeconds":{}{}}}"#,
            rng.pick(&["0", "0.1", "2", "10"]),
            rng.pick(&["", "", "", r#","exec":["stop"]"#])
        ),
        format!(
            r#""output":{{"limitBytes":{},"historyLimit":{}}}"#,
            rng.pick(&[0, 100, 4_000, 65_536]),
            rng.pick(&[0, 1, 2, 3, 4, 4, 100])
        ),
    ];
    if rng.percent(30) {
        fields.push(format!(r#""timeoutSeconds":{}"#, rng.pick(&["0.05", "1", "30"])));
    }
    if rng.percent(15) {
        fields.push(r#""autostart":false"#.to_owned());
    }
    if rng.percent(40) {
        fields.push(depends_on(kind, rng));
    }
    if rng.percent(40) {
        fields.push(format!(r#""onFailure":"{}""#, rng.pick(&["a", "b", "b", "c"])));
    }
    match kind {
        "continuous" => continuous(&mut fields, rng),
        "one-off" => one_off(&mut fields, rng),
        _ => cron(&mut fields, rng),
    }
    if kind != "cron" && rng.percent(40) {
        let readiness = probes::random(ProbeRole::Readiness, rng);
        if readiness.is_some() && rng.percent(30) {
            fields.push(format!(r#""startTimeoutSeconds":{}"#, rng.pick(&["0.3", "5"])));
        }
        fields.extend(readiness);
        fields.extend(probes::random(ProbeRole::Liveness, rng));
    }
    if kind != "cron" && rng.below(200) == 0 {
        fields.push(format!(r#""critical":{}"#, rng.pick(&["true", r#""on-failure""#])));
    }
    let value: Value = serde_json::from_str(&format!("{{{}}}", fields.join(","))).unwrap();
    crate::job::parse(value, "/", Spelling::Camel).unwrap()
}

/// Mostly on jobs that there are.
fn depends_on(kind: &str, rng: &mut Rng) -> String {
    let mut entries = BTreeMap::new();
    for _ in 0..rng.pick(&[1, 1, 1, 2]) {
        let condition =
            rng.pick(&["started", "started", "ready", "ready", "ready", "succeeded", "ended"]);
        let restart = kind != "cron" && rng.percent(70);
        let on = format!(r#"{{"condition":"{condition}","restart":{restart}}}"#);
        entries.insert(rng.pick(&["a", "a", "a", "b", "b", "b", "c", "c", "d", "nobody"]), on);
    }
    let entries = entries.iter().map(|(id, on)| format!(r#""{id}":{on}"#));
    format!(r#""dependsOn":{{{}}}"#, entries.collect::<Vec<_>>().join(","))
}

fn continuous(fields: &mut Vec<String>, rng: &mut Rng) {
    if rng.percent(30) {
        fields.push(r#""reload":{"exec":["reload"]}"#.to_owned());
    }
    fields.push(format!(r#""restartOnFailure":{}"#, rng.percent(80)));
    let mut restart = vec![format!(
        r#""initialDelayMs":{},"maxDelayMs":{},"resetAfterMs":{}"#,
        rng.pick(&[0, 100]),
        rng.pick(&[0, 1_000, 30_000]),
        rng.pick(&[100, 5_000])
    )];
    if rng.percent(20) {
        let policy = rng.pick(&["always", "on-failure", "never"]);
        restart.push(format!(r#""policy":"{policy}""#));
    }
    if rng.percent(20) {
        restart.push(format!(r#""maxRestarts":{}"#, rng.below(4)));
    }
    fields.push(format!(r#""restart":{{{}}}"#, restart.join(",")));
}

fn one_off(fields: &mut Vec<String>, rng: &mut Rng) {
    fields.push(format!(r#""retries":{}"#, rng.below(4)));
    if rng.percent(30) {
        fields.push(format!(r#""ttlSecondsAfterFinished":{}"#, rng.pick(&["0", "0.5", "20"])));
    }
}

fn cron(fields: &mut Vec<String>, rng: &mut Rng) {
    let policy = rng.pick(&["forbid", "queue", "allow", "replace"]);
    fields.push(format!(r#""concurrencyPolicy":"{policy}","suspend":{}"#, rng.percent(10)));
    if rng.percent(50) {
        fields.push(format!(r#""scheduleInSeconds":{}"#, rng.pick(&[1, 7, 60])));
    } else {
        let zone = rng.pick(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"]);
        let expression = rng.pick(&EXPRESSIONS).0;
        fields.push(format!(r#""schedule":"{expression}","timeZone":"{zone}""#));
    }
    if rng.percent(30) {
        let deadline = rng.pick(&["0", "1", "100000"]);
        fields.push(format!(r#""startingDeadlineSeconds":{deadline}"#));
    }
    if rng.percent(30) {
        fields.push(format!(r#""jitterSeconds":{}"#, rng.pick(&["0.5", "30", "600"])));
    }
}

/// Expressions, and the shortest time between two of their runs.
const EXPRESSIONS: [(&str, u64); 6] = [
    ("* * * * * *", 1_000),
    ("*/10 * * * * *", 10_000),
    ("* * * * *", 60_000),
    ("*/20 * * * *", 1_200_000),
    ("30 2 * * *", 22 * 3_600_000),
    ("0 12 29 2 *", 365 * 86_400_000),
];
