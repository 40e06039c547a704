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
use super::document::{Document, Entry, Node};
use crate::job::fields::{self, FieldError, Spelling};
use crate::job::{Defaults, JobId, JobSpec, Layer, Value, field_named, is_under, spec::Kind};

type Parsed<T> = Result<T, FieldError>;

/// A job that the config declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Its id; for one of several instances, with its number.
    pub id: JobId,
    /// The job, with `[defaults]` and all other defaults filled in.
    pub spec: Rc<JobSpec>,
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

/// Jobs, file after file.
pub(super) struct Declared {
    jobs: Vec<Declaration>,
    /// Where each is, in `jobs`.
    indices: BTreeMap<JobId, usize>,
    most: usize,
}

/// A file whose jobs are being read.
pub(super) struct File {
    document: Rc<Document>,
    layer: Layer,
    /// The number of tables `[job.ID]` that were read.
    read: usize,
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

impl Declared {
    /// None so far; there may be so many.
    pub(super) fn new(most: usize) -> Declared {
        Declared { jobs: Vec::new(), indices: BTreeMap::new(), most }
    }

    /// Adds the next jobs of a file, about so many. Returns whether there are more.
    pub(super) fn add(
        &mut self,
        file: &mut File,
        share: usize,
        base: Defaults,
    ) -> Result<bool, ConfigError> {
        let until = self.jobs.len().saturating_add(share);
        let document = file.document.clone();
        let tables = document.get(JOB).and_then(Node::entries).unwrap_or_default();
        for table in tables.iter().skip(file.read) {
            if self.jobs.len() >= until {
                return Ok(true);
            }
            self.declare(file, table, base)?;
            file.read += 1;
        }
        Ok(false)
    }

    /// The jobs, in order.
    pub(super) fn jobs(self) -> Vec<Declaration> {
        self.jobs
    }

    fn declare(&mut self, file: &File, table: &Entry, base: Defaults) -> Result<(), ConfigError> {
        let (document, name) = (&file.document, table.name.as_str());
        let own = |error: FieldError| document.error(error.under(name).under(JOB));
        let (value, taken) = file.layer.under(table.node.value().map_err(own)?);
        let error_of = |error: FieldError| match is_under(&error.path, &taken) {
            true => document.error(error.under(DEFAULTS)),
            false => own(error),
        };
        let instances = || {
            let id = JobId::parse(name).or_else(fields::fail)?;
            let (value, count) = take_instances(value)?;
            let spec = crate::job::parse_with(value, base, SPELLING)?;
            instances_of(id, spec, count)
        };
        let place = Place::new(document.file(), document.line_of(table));
        let sources: Rc<[Source]> = file.sources(table, &taken).into();
        for (id, spec) in instances().map_err(error_of)? {
            let (spec, place) = (Rc::new(spec), place.clone());
            let job = Declaration { id, spec, place, sources: sources.clone() };
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

impl File {
    /// Reads `[defaults]`; the jobs are still to be read.
    pub(super) fn new(document: Document, base: Defaults) -> Result<File, ConfigError> {
        let layer = match document.get(DEFAULTS) {
            None => Ok(Layer::empty(SPELLING)),
            Some(node) => node.value().and_then(|value| Layer::parse(value, base, SPELLING)),
        };
        let layer = layer.map_err(|error| document.error(error.under(DEFAULTS)))?;
        match document.get(JOB) {
            Some(node) if node.entries().is_none() => {
                let wrong = fields::wrong(
                    "a table of jobs, [job.ID]",
                    &node.value().unwrap_or(Value::Null),
                );
                wrong.map_err(|error| document.error(error.under(JOB)))
            }
            Some(_) | None => Ok(File { document: Rc::new(document), layer, read: 0 }),
        }
    }

    /// Where the fields of the job come from.
    fn sources(&self, table: &Entry, taken: &[Vec<String>]) -> Vec<Source> {
        let mut sources = Vec::new();
        for entry in table.node.entries().unwrap_or_default() {
            let line = self.document.line_of(entry);
            let mut add = |field, by| sources.push(Source { field, line, by });
            match field_named(&entry.name, SPELLING) {
                Some(field) => add(shown_as(field), By::Job),
                None if entry.name == INSTANCES => {
                    add("environment", By::Instances);
                    add("labels", By::Instances);
                }
                None => {}
            }
        }
        for given in taken.iter().filter_map(|path| path.first()) {
            let line = self.document.line(&[DEFAULTS, given]);
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

/// The tables that declare jobs, in every file.
pub(super) const JOB_TABLES: [&str; 2] = [JOB, DEFAULTS];
const JOB: &str = "job";
const DEFAULTS: &str = "defaults";
const SPELLING: Spelling = Spelling::CamelOrSnake;
const INSTANCES: &str = "instances";
/// The label with the id that the instances share.
const LABEL: &str = "instances";
/// The variable with the number of an instance.
const NUMBER: &str = "K1S_INSTANCE";
const MOST_INSTANCES: i64 = 1000;
