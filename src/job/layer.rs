//! Fields that lie under those of jobs: `[defaults]` of a config.
//!
//! ```text
//!   [defaults]   user = "app"   restart = {…}   environment = { A = "1", B = "1" }
//!   [job.x]                     restart = {…}   environment = { B = "2" }
//!   the job      user = "app"   restart = {…}   environment = { A = "1", B = "2" }
//!                └ of defaults  └ of the job    └ by name, the job's own first
//! ```
//!
//! A job takes the fields that its type has. One that it gives itself counts whole, except those in
//! [`MERGED`].

use super::fields::{Fields, Spelling};
use super::parse::{self, BACKOFF_FIELDS, Defaults, FIELDS, Parsed, Type};
use super::{Value, fields};

/// Fields for all jobs that do not give them. They are valid for each type that has them.
#[derive(Clone, Debug)]
pub struct Layer {
    entries: Vec<(String, Value)>,
    spelling: Spelling,
}

impl Layer {
    /// Without fields.
    pub fn empty(spelling: Spelling) -> Layer {
        Layer { entries: Vec::new(), spelling }
    }

    /// Reads the fields, and checks them as those of a job.
    ///
    /// # Errors
    /// The first that no job has, or that is wrong.
    pub fn parse(value: Value, defaults: Defaults, spelling: Spelling) -> Parsed<Layer> {
        let known = parse::known();
        parse::unknown(&value, &known, spelling)?;
        Fields::of(value.clone(), &known, spelling)?;
        let Value::Table(entries) = value else { return fields::wrong("an object", &value) };
        let layer = Layer { entries, spelling };
        if layer.find("type").is_some() {
            parse::kind_of(&Value::Table(layer.entries.clone()), &known, spelling)?;
        }
        for probe in layer.probes() {
            let (job, _) = layer.under(probe);
            parse::parse_with(job, defaults, spelling)?;
        }
        Ok(layer)
    }

    /// Lays the fields under those of a job. Returns the paths of those that it takes, as they are
    /// spelled here: `["user"]`, `["environment", "LANG"]`.
    pub fn under(&self, job: Value) -> (Value, Vec<Vec<String>>) {
        let Value::Table(own) = job else { return (job, Vec::new()) };
        let mut laid =
            Laid { kind: self.kind(&own), given: own.len(), own, taken: Vec::new(), layer: self };
        for (given, value) in &self.entries {
            laid.add(given, value);
        }
        (Value::Table(laid.own), laid.taken)
    }

    fn find(&self, name: &str) -> Option<&Value> {
        find(&self.entries, name, self.spelling)
    }

    fn kind(&self, own: &[(String, Value)]) -> Option<Type> {
        let named = find(own, "type", self.spelling).or_else(|| self.find("type"))?;
        let Value::String(name) = named else { return None };
        Type::named(name)
    }

    /// The smallest job of each type, and a cron job with an expression, which alone has a time
    /// zone.
    fn probes(&self) -> impl Iterator<Item = Value> {
        let text = |text: &str| Value::String(text.to_owned());
        let executable = self.find("executable").is_none();
        let of = move |kind: &str, schedule: Option<&str>| {
            let fields = [
                Some(("type", kind)),
                executable.then_some(("executable", "true")),
                schedule.map(|schedule| ("schedule", schedule)),
            ];
            let fields = fields.into_iter().flatten();
            Value::Table(fields.map(|(name, value)| (name.to_owned(), text(value))).collect())
        };
        let cron = [("cron", None), ("cron", Some("@daily"))];
        let all = [("continuous", None), ("one-off", None)].into_iter().chain(cron);
        all.map(move |(kind, schedule)| of(kind, schedule))
    }
}

/// A job that takes fields of a layer.
struct Laid<'a> {
    kind: Option<Type>,
    /// Its fields; so many are its own, the others were taken.
    own: Vec<(String, Value)>,
    given: usize,
    taken: Vec<Vec<String>>,
    layer: &'a Layer,
}

impl Laid<'_> {
    fn add(&mut self, given: &str, value: &Value) {
        let spelling = self.layer.spelling;
        let entry = FIELDS.iter().find(|(name, _)| spelling.matches(given, name));
        let (Some((name, kinds)), Some(kind)) = (entry, self.kind) else { return };
        if kinds & kind.bit() == 0 || self.excludes(name) {
            return;
        }
        let place = self.own.iter_mut().find(|(own, _)| spelling.matches(own, name));
        match place {
            None => {
                if let Some(value) = known_to(kind, name, value, spelling) {
                    self.own.push((given.to_owned(), value));
                    self.taken.push(vec![given.to_owned()]);
                }
            }
            Some((_, Value::Table(own))) if MERGED.contains(name) => {
                let Value::Table(entries) = value else { return };
                for (key, value) in entries {
                    if !own.iter().any(|(other, _)| other == key) {
                        own.push((key.clone(), value.clone()));
                        self.taken.push(vec![given.to_owned(), key.clone()]);
                    }
                }
            }
            Some(_) => {}
        }
    }

    /// Whether the job says by another field that it does not have this one: a schedule is either
    /// an interval or an expression, and only that has a time zone.
    fn excludes(&self, name: &str) -> bool {
        let given = self.own.get(..self.given).unwrap_or_default();
        let own = |name| find(given, name, self.layer.spelling);
        match name {
            "schedule" => own("scheduleInSeconds").is_some(),
            "scheduleInSeconds" => own("schedule").is_some(),
            "timeZone" => {
                let below = || match own("scheduleInSeconds") {
                    Some(_) => None,
                    None => self.layer.find("schedule"),
                };
                !matches!(own("schedule").or_else(below), Some(Value::String(_)))
            }
            _ => false,
        }
    }
}

/// What a type of job has of the field: a one-off job has the delays of `restart` alone.
fn known_to(kind: Type, name: &str, value: &Value, spelling: Spelling) -> Option<Value> {
    let (Type::OneOff, "restart", Value::Table(entries)) = (kind, name, value) else {
        return Some(value.clone());
    };
    let is_known = |given: &str| BACKOFF_FIELDS.iter().any(|name| spelling.matches(given, name));
    let kept: Vec<_> = entries.iter().filter(|(given, _)| is_known(given)).cloned().collect();
    (!kept.is_empty()).then_some(Value::Table(kept))
}

fn find<'v>(entries: &'v [(String, Value)], name: &str, spelling: Spelling) -> Option<&'v Value> {
    let is_it = |(given, _): &&(String, Value)| spelling.matches(given, name);
    entries.iter().find(is_it).map(|(_, value)| value)
}

/// Whether the path, or what it lies in, is one of the paths.
pub fn is_under(path: &[String], paths: &[Vec<String>]) -> bool {
    paths.iter().any(|above| path.starts_with(above))
}

/// Fields with names of the user's: those of the job and of the layer are put together.
const MERGED: [&str; 2] = ["environment", "labels"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::FieldError;

    const DIRECTORY: Defaults = Defaults { directory: "/", time_zone: "UTC" };

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn layer(json: &str) -> Result<Layer, FieldError> {
        Layer::parse(value(json), DIRECTORY, Spelling::CamelOrSnake)
    }

    #[track_caller]
    fn check(defaults: &str, job: &str, wanted: &str, taken: &[&str]) {
        let (laid, paths) = layer(defaults).unwrap().under(value(job));
        assert_eq!(laid, value(wanted), "{defaults} {job}");
        assert_eq!(paths.iter().map(|path| path.join(".")).collect::<Vec<_>>(), taken);
        parse::parse_with(laid, DIRECTORY, Spelling::CamelOrSnake).unwrap();
    }

    #[test]
    fn a_job_takes_what_its_type_has_and_it_does_not_give() {
        let defaults = r#"{"user":"a","retries":2,"restart":{"policy":"never","factor":3},
            "stop":{"timeout_seconds":1}}"#;
        check(
            defaults,
            r#"{"type":"continuous","executable":"x","stop":{"signal":"INT"}}"#,
            r#"{"type":"continuous","executable":"x","stop":{"signal":"INT"},"user":"a",
                "restart":{"policy":"never","factor":3}}"#,
            &["user", "restart"],
        );
        check(
            defaults,
            r#"{"type":"one-off","executable":"x","user":"b"}"#,
            r#"{"type":"one-off","executable":"x","user":"b","retries":2,"restart":{"factor":3},
                "stop":{"timeout_seconds":1}}"#,
            &["retries", "restart", "stop"],
        );
        check(
            r#"{"restart":{"policy":"never"},"working_directory":"/a"}"#,
            r#"{"type":"one-off","executable":"x","workingDirectory":"/b"}"#,
            r#"{"type":"one-off","executable":"x","workingDirectory":"/b"}"#,
            &[],
        );
        check(
            r#"{"type":"cron","executable":"x"}"#,
            r#"{}"#,
            r#"{"type":"cron","executable":"x"}"#,
            &["type", "executable"],
        );
    }

    #[test]
    fn environment_and_labels_are_put_together_by_name() {
        check(
            r#"{"environment":{"A":"1","B":"1"},"labels":{"a":"1"}}"#,
            r#"{"type":"one-off","executable":"x","environment":{"B":"2"}}"#,
            r#"{"type":"one-off","executable":"x","environment":{"B":"2","A":"1"},
                "labels":{"a":"1"}}"#,
            &["environment.A", "labels"],
        );
    }

    #[test]
    fn a_schedule_of_the_job_is_whole() {
        let expression = r#"{"schedule":"@hourly","time_zone":"Asia/Tokyo"}"#;
        let cron = |fields: &str| format!(r#"{{"type":"cron","executable":"x"{fields}}}"#);
        for (defaults, own, wanted, taken) in [
            (
                expression,
                "",
                r#","schedule":"@hourly","time_zone":"Asia/Tokyo""#,
                &["schedule", "time_zone"][..],
            ),
            (
                expression,
                r#","schedule":"@daily""#,
                r#","schedule":"@daily","time_zone":"Asia/Tokyo""#,
                &["time_zone"],
            ),
            (expression, r#","schedule":7"#, r#","schedule":7"#, &[]),
            (expression, r#","scheduleInSeconds":7"#, r#","scheduleInSeconds":7"#, &[]),
            (
                r#"{"time_zone":"Asia/Tokyo","schedule":"@hourly"}"#,
                "",
                r#","time_zone":"Asia/Tokyo","schedule":"@hourly""#,
                &["time_zone", "schedule"],
            ),
            (r#"{"time_zone":"Asia/Tokyo"}"#, "", "", &[]),
            (
                r#"{"schedule_in_seconds":5}"#,
                r#","schedule":"@daily""#,
                r#","schedule":"@daily""#,
                &[],
            ),
        ] {
            check(defaults, &cron(own), &cron(wanted), taken);
        }
    }

    #[test]
    fn what_is_wrong_is_an_error_though_no_job_takes_it() {
        for (defaults, error) in [
            (r#"{"usr":"x"}"#, "usr: unknown field; did you mean `user`?"),
            (r#"{"retries":-1}"#, "retries: must be a whole number"),
            (r#"{"time_zone":"Nowhere"}"#, "time_zone: time zone \"Nowhere\" is not known"),
            (r#"{"schedule":"x"}"#, "schedule: "),
            (r#"{"schedule":"@daily","schedule_in_seconds":5}"#, "schedule: cannot be given with"),
            (r#"{"schedule_in_seconds":5,"schedule":"@daily"}"#, "schedule: cannot be given with"),
            (r#"{"restart":{"polcy":"x"}}"#, "restart.polcy: unknown field"),
            (r#"{"restart":{"policy":"x"}}"#, "restart.policy: must be one of"),
            (r#"{"environment":{"A=":"1"}}"#, "environment.A=: a variable's name"),
            (r#"{"type":"sometimes"}"#, "type: Invalid job type"),
            (r#"{"type":3}"#, "type: Invalid job type"),
            (r#"{"executable":""}"#, "executable: must not be empty"),
            (r#"{"nice":1,"nice":1}"#, ""),
            ("[]", "The document must be an object"),
        ] {
            let Ok(value) = serde_json::from_str::<Value>(defaults) else { continue };
            let found = Layer::parse(value, DIRECTORY, Spelling::CamelOrSnake).unwrap_err();
            assert!(found.to_string().starts_with(error), "{defaults}: {found}");
        }
    }
}
