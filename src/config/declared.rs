//! The jobs that the files of a config declare, as one list.
//!
//! ```text
//!   each file: [defaults] ─▶ Layer ─┐
//!              [job.ID] ────────────┴▶ job::parse ─▶ instances ─▶ Declaration, with its Place
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::ConfigError;
use super::document::Document;
use crate::job::fields::{self, FieldError, Spelling};
use crate::job::{Defaults, JobId, JobSpec, Layer, Value, field_named, is_under, spec::Kind};

type Parsed<T> = Result<T, FieldError>;

/// A job that the config declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Its id; for one of several instances, with its number.
    pub id: JobId,
    /// The job, with `[defaults]` and all other defaults filled in.
    pub spec: JobSpec,
    /// Where it is declared: the line of its table, or of its first key.
    pub place: Place,
    /// Where its values come from; fields that are not here have their default.
    pub(super) sources: Rc<[Source]>,
}

/// A line of a file of the config, counted from 1. It is written `FILE:LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Rc<str>,
    line: usize,
}

/// Where the value of a field comes from, or entries of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    /// The field as the job object calls it.
    field: &'static str,
    /// In the file of the job.
    line: usize,
    by: By,
}

/// What gives a field its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The table of the job.
    Job,
    /// `[defaults]`.
    Defaults,
    /// `instances`, which adds an entry.
    Instances,
}

/// The tables of one file that declare jobs.
pub(super) struct Tables {
    pub(super) defaults: Option<Value>,
    pub(super) jobs: Option<Value>,
}

/// Jobs, file after file.
pub(super) struct Declared<'a> {
    jobs: Vec<Declaration>,
    /// Where each is declared, in `jobs`.
    indices: BTreeMap<JobId, usize>,
    most: usize,
    base: Defaults<'a>,
}

impl Declaration {
    /// An error about the job, or about the field that the API calls so.
    pub fn error(&self, field: Option<&str>, message: &str) -> ConfigError {
        let source = self.sources.iter().find(|source| Some(source.field) == field);
        let line = source.map_or(self.place.line, |source| source.line);
        let table = match source.map(|source| source.by) {
            Some(By::Defaults) => "defaults".to_owned(),
            Some(By::Job | By::Instances) | None => format!("job.{}", super::key(self.id.as_str())),
        };
        let key = field.map_or(String::new(), |field| format!(".{}", fields::snake_case(field)));
        ConfigError::new(format!("{}:{line}: {table}{key}", self.place.file), message)
    }

    /// Whether the field that the API calls so is given, or its default counts.
    pub fn gives(&self, field: &str) -> bool {
        self.sources.iter().any(|source| source.field == field)
    }

    /// Where the value of a field comes from: `FILE:LINE`, `[defaults] FILE:LINE`, `instances`, or
    /// several of them; empty for a default.
    pub(super) fn source_of(&self, field: &str) -> String {
        let sources = self.sources.iter().filter(|source| source.field == field);
        let said = sources.map(|Source { line, by, .. }| {
            let file = &self.place.file;
            match by {
                By::Job => format!("{file}:{line}"),
                By::Defaults => format!("[defaults] {file}:{line}"),
                By::Instances => format!("{INSTANCES} {file}:{line}"),
            }
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

impl Place {
    pub(super) fn new(file: &Rc<str>, line: usize) -> Place {
        Place { file: file.clone(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl<'a> Declared<'a> {
    /// At most so many.
    pub(super) fn new(most: usize, base: Defaults<'a>) -> Declared<'a> {
        Declared { jobs: Vec::new(), indices: BTreeMap::new(), most, base }
    }

    /// Adds the jobs of a file.
    pub(super) fn add(&mut self, document: &Document, tables: Tables) -> Result<(), ConfigError> {
        let layer = tables
            .defaults
            .map_or(Ok(Layer::empty(SPELLING)), |value| Layer::parse(value, self.base, SPELLING))
            .map_err(|error| document.error(error.under("defaults")))?;
        let file = File { document, name: document.file().into(), layer };
        let entries = match tables.jobs {
            None => return Ok(()),
            Some(Value::Table(entries)) => entries,
            Some(other) => {
                let error = fields::wrong("a table of jobs, [job.ID]", &other);
                return error.map_err(|error| document.error(error.under("job")));
            }
        };
        entries.into_iter().try_for_each(|(name, value)| self.declare(&file, &name, value))
    }

    /// The jobs, in order.
    pub(super) fn jobs(self) -> Vec<Declaration> {
        self.jobs
    }

    fn declare(&mut self, file: &File, name: &str, value: Value) -> Result<(), ConfigError> {
        let (value, taken) = file.layer.under(value);
        let error_of = |error: FieldError| match is_under(&error.path, &taken) {
            true => file.document.error(error.under("defaults")),
            false => file.document.error(error.under(name).under("job")),
        };
        let sources: Rc<[Source]> = file.sources(name, &value, &taken).into();
        let instances = || {
            let id = JobId::parse(name).or_else(fields::fail)?;
            let (value, count) = take_instances(value)?;
            let spec = crate::job::parse_with(value, self.base, SPELLING)?;
            instances_of(id, spec, count)
        };
        let place = Place::new(&file.name, file.document.line(&["job", name]));
        for (id, spec) in instances().map_err(error_of)? {
            let job = Declaration { id, spec, place: place.clone(), sources: sources.clone() };
            self.push(job).map_err(|message| error_of(FieldError { path: Vec::new(), message }))?;
        }
        Ok(())
    }

    fn push(&mut self, job: Declaration) -> Result<(), String> {
        if let Some(other) = self.indices.get(&job.id).and_then(|index| self.jobs.get(*index)) {
            return Err(format!("job {} is declared already, at {}", job.id, other.place));
        }
        if self.jobs.len() >= self.most {
            return Err(format!("is more than `limits.jobs` allows, {}", self.most));
        }
        self.indices.insert(job.id.clone(), self.jobs.len());
        self.jobs.push(job);
        Ok(())
    }
}

/// A file whose jobs are read.
struct File<'d> {
    document: &'d Document<'d>,
    name: Rc<str>,
    layer: Layer,
}

impl File<'_> {
    /// Where the fields of the job come from.
    fn sources(&self, name: &str, value: &Value, taken: &[Vec<String>]) -> Vec<Source> {
        let Value::Table(entries) = value else { return Vec::new() };
        let is_own = |given: &String| !is_under(std::slice::from_ref(given), taken);
        let given = entries.iter().map(|(given, _)| given).filter(|given| is_own(given));
        let mut sources = Vec::new();
        for given in given {
            let line = self.document.line(&["job", name, given]);
            let mut add = |field, by| sources.push(Source { field, line, by });
            match field_named(given, SPELLING) {
                Some(field) => add(shown_as(field), By::Job),
                None if given == INSTANCES => {
                    add("environment", By::Instances);
                    add("labels", By::Instances);
                }
                None => {}
            }
        }
        for given in taken.iter().filter_map(|path| path.first()) {
            let line = self.document.line(&["defaults", given]);
            if let Some(field) = field_named(given, SPELLING).map(shown_as)
                && !sources.iter().any(|source| source.field == field && source.by == By::Defaults)
            {
                sources.push(Source { field, line, by: By::Defaults });
            }
        }
        sources
    }
}

/// The job object shows an interval as `schedule`.
fn shown_as(field: &'static str) -> &'static str {
    if field == "scheduleInSeconds" { "schedule" } else { field }
}

/// Reads `instances`, which is no field of a job.
fn take_instances(value: Value) -> Parsed<(Value, Option<u32>)> {
    let Value::Table(mut entries) = value else { return Ok((value, None)) };
    let Some(index) = entries.iter().position(|(name, _)| name == INSTANCES) else {
        return Ok((Value::Table(entries), None));
    };
    let (_, given) = entries.remove(index);
    let count = fields::integer(1..=MOST_INSTANCES)(given).map_err(|e| e.under(INSTANCES))?;
    Ok((Value::Table(entries), Some(count)))
}

/// The jobs `ID:0` to `ID:N-1`; without `instances`, the job itself.
fn instances_of(id: JobId, spec: JobSpec, count: Option<u32>) -> Parsed<Vec<(JobId, JobSpec)>> {
    let Some(count) = count else { return Ok(vec![(id, spec)]) };
    if !matches!(spec.kind, Kind::Continuous { .. }) {
        return Err(FieldError::new(INSTANCES, "is for continuous jobs only"));
    }
    let is_set_by = || format!("is set by `{INSTANCES}`");
    if spec.command.environment.contains_key(NUMBER) {
        return Err(FieldError::new(NUMBER, is_set_by()).under("environment"));
    }
    if spec.labels.contains_key(LABEL) {
        return Err(FieldError::new(LABEL, is_set_by()).under("labels"));
    }
    let instance = |number: u32| {
        let instance = JobId::parse(&format!("{id}:{number}"));
        let instance = instance.map_err(|message| FieldError::new(INSTANCES, message))?;
        let mut spec = spec.clone();
        spec.command.environment.insert(NUMBER.to_owned(), number.to_string());
        spec.labels.insert(LABEL.to_owned(), id.to_string());
        Ok((instance, spec))
    };
    (0..count).map(instance).collect()
}

const SPELLING: Spelling = Spelling::CamelOrSnake;
const INSTANCES: &str = "instances";
/// The label with the id that the instances share.
const LABEL: &str = "instances";
/// The variable with the number of an instance.
const NUMBER: &str = "K1S_INSTANCE";
const MOST_INSTANCES: i64 = 1000;
