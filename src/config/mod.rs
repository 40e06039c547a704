//! The config: reads [`Settings`] from a TOML file and a few variables of the environment.
//!
//! ```text
//! text ─▶ document: TOML, with the line of each key ─▶ neutral values ─▶ include: more texts
//!                                                          │  job::fields reads them,
//!                     FILE:LINE: key: what would be right ◀┤  declared the jobs
//!                                                          ▼
//!                       environment (wins) ───────────▶ Settings ─▶ describe
//! ```
//!
//! The first error counts, and is one line. Nothing is resolved over the network. The only files
//! read are the config, those that it includes and the token file, by [`Environment::read`] and
//! [`Environment::list`], so [`parse`] is pure if those are.

mod declared;
mod depend;
mod describe;
mod document;
mod include;
mod reading;
mod tokens;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use std::time::Duration;

pub use declared::{Declaration, Place};
pub use describe::describe;
pub use reading::{Reading, Share};
pub use tokens::{Token, TokenOrigin, TokenTable};

use self::declared::JOB_TABLES;
use self::document::Document;
use self::tokens::{Credentials, DefaultToken, TOKEN_TABLES};
use crate::access::Tokens;
use crate::http::Limits;
use crate::job::Value;
use crate::job::fields::{self, FieldError, Fields, Spelling};
use crate::schedule::knows_time_zone;

/// All settings, with all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What only a restart changes.
    pub fixed: Fixed,
    /// What counts as soon as the config is read again.
    pub live: Live,
    /// The `[job.ID]` tables, in the order of the file; then those of the files that it includes.
    pub jobs: Vec<Declaration>,
    /// Where the keys come from that are set, such as `http.port`: a place, or a variable.
    sources: BTreeMap<String, String>,
}

/// The settings that only a restart changes: where k1s listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// `http.host`: the address to listen on.
    pub host: IpAddr,
    /// `http.port`; 0: any free one.
    pub port: u16,
    /// `http.socket`: the unix socket to listen on; `None`: none.
    pub socket: Option<Socket>,
    /// `[state]`: where the state is stored; `None`: nowhere.
    pub state: Option<State>,
}

/// `http.socket`: a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Nobody has said so: if it cannot be made there is none.
    pub is_default: bool,
}

/// The settings that count as soon as the config is read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Who may use the API.
    pub tokens: Tokens,
    /// The token that is in no table, which may do everything.
    pub token: Option<Token>,
    /// Where it comes from.
    pub token_origin: TokenOrigin,
    /// `[[token]]`, in the order of the file.
    pub token_tables: Vec<TokenTable>,
    /// `http.ui`: whether there is the page for people, `GET /ui`.
    pub ui: bool,
    /// The limits of `[http]`.
    pub http: Limits,
    /// `shutdown.timeout_seconds`: how long a shutdown may take before everything is killed.
    pub shutdown_timeout: Duration,
    /// `output.forward`; `None` when it was not given, which means [`Forward::Raw`] for the main
    /// job of `k1s init`, and [`Forward::Prefix`] for others.
    pub forward: Option<Forward>,
    /// `output.memory`: the budget for all captured output.
    pub output_memory_bytes: usize,
    /// `output.disk`: the limit for all log files together, in bytes; `None`: no limit.
    pub output_disk_bytes: Option<u64>,
    /// `log.format`: the format of k1s's own messages.
    pub log_format: LogFormat,
    /// `log.level`: the least important level that is written.
    pub log_level: LogLevel,
    /// `limits.jobs`: how many jobs there may be.
    pub max_jobs: usize,
    /// The time zone of expressions whose job sets none: `cron.time_zone`, or `TZ` if that is an
    /// IANA name, or UTC.
    pub time_zone: String,
}

/// `[state]`: state that survives the end of k1s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// When what has changed counts as stored.
    pub sync: Sync,
}

/// `state.sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When it is on the disk: it survives a loss of power.
    Always,
    /// When the kernel has it: it survives the end of k1s.
    Os,
}

/// `output.forward`: how lines of jobs are forwarded to k1s's own stdout and stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// `id | line`.
    Prefix,
    /// As they are.
    Raw,
    /// An object a line.
    Json,
    /// Not at all.
    None,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// `log.level`, from the most important to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something fails.
    Error,
    /// Something needs attention.
    Warn,
    /// What users want to know.
    Info,
    /// Everything else.
    Debug,
}

/// Reads a whole file.
pub type ReadFile = fn(&Path) -> io::Result<Vec<u8>>;

/// The parts of k1s's environment that matter for the settings.
#[derive(Clone)]
pub struct Environment {
    /// `PORT`.
    pub port: Option<OsString>,
    /// `K1S_AUTH_TOKEN`.
    pub token: Option<OsString>,
    /// `TZ`.
    pub time_zone: Option<OsString>,
    /// `K1S_STATE`.
    pub state: Option<OsString>,
    /// `K1S_SOCKET`.
    pub socket: Option<OsString>,
    /// Where the unix socket is when nobody says so.
    pub default_socket: Option<PathBuf>,
    /// k1s's own working directory, absolute.
    pub directory: String,
    /// Reads the config itself, which may come through a pipe.
    pub read_config: ReadFile,
    /// Reads a file that it names.
    pub read: ReadFile,
    /// The names in a directory, in any order.
    pub list: fn(&Path) -> io::Result<Vec<OsString>>,
}

/// An error in the config or the environment, on one line:
/// ``k1s.toml:2: http.prot: unknown field; did you mean `port`?``
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    message: String,
}

/// Reads the file at `path` and those that it includes, or takes the defaults if there is no path.
///
/// # Errors
/// A file cannot be read, or an error of [`parse`].
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Settings, ConfigError> {
    match path {
        None => parse("", "", environment),
        Some(path) => Reading::open(path, environment)?.finish(),
    }
}

/// Reads a config. `file` is its name in errors, and the directory that it is in is where paths of
/// included files begin.
///
/// # Errors
/// The first error in `PORT`, in `K1S_AUTH_TOKEN`, or in the text: not TOML, unknown, missing, of
/// the wrong type or out of range.
pub fn parse(text: &str, file: &str, environment: &Environment) -> Result<Settings, ConfigError> {
    Reading::begin(text.to_owned(), file, environment)?.finish()
}

impl Fixed {
    /// The keys that other settings set to something else.
    pub fn changed_by(&self, other: &Fixed) -> Vec<&'static str> {
        let directory = |fixed: &Fixed| fixed.state.as_ref().map(|state| state.directory.clone());
        let sync = |fixed: &Fixed| fixed.state.as_ref().map(|state| state.sync);
        let socket = |fixed: &Fixed| fixed.socket.as_ref().map(|socket| socket.path.clone());
        let keys = [
            ("http.host", self.host != other.host),
            ("http.port", self.port != other.port),
            ("http.socket", socket(self) != socket(other)),
            ("state.directory", directory(self) != directory(other)),
            ("state.sync", sync(self) != sync(other)),
        ];
        keys.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
    }
}

impl Settings {
    /// As `k1s init` takes them: without a token the API is open to this machine alone.
    pub fn for_init(self) -> Settings {
        match self.live.token_origin {
            TokenOrigin::Default => {
                let host = Ipv4Addr::LOCALHOST.into();
                Settings { fixed: Fixed { host, ..self.fixed }, ..self }
            }
            TokenOrigin::None
            | TokenOrigin::Environment
            | TokenOrigin::Key
            | TokenOrigin::File(_) => self,
        }
    }

    /// Whether the file sets the key, such as `cron.time_zone`.
    pub fn sets(&self, key: &str) -> bool {
        self.sources.get(key).is_some_and(|source| !source.ends_with(IN_ENVIRONMENT))
    }

    /// Without the places, of the keys and of the jobs, so that what is left can be compared.
    #[cfg(any(test, feature = "properties"))]
    pub fn without_places(self) -> Settings {
        let nowhere = Place::new(&"".into(), 0);
        let without = |job| Declaration { place: nowhere.clone(), sources: [].into(), ..job };
        let jobs = self.jobs.into_iter().map(without).collect();
        Settings { jobs, sources: BTreeMap::new(), ..self }
    }
}

impl Environment {
    /// That of this process, whose files are read by these, without a default for the unix socket.
    pub fn of_process(read_config: ReadFile, read: ReadFile) -> Environment {
        Environment {
            port: std::env::var_os("PORT"),
            token: std::env::var_os("K1S_AUTH_TOKEN"),
            time_zone: std::env::var_os("TZ"),
            state: std::env::var_os("K1S_STATE"),
            socket: std::env::var_os("K1S_SOCKET"),
            default_socket: None,
            directory: working_directory(),
            read_config,
            read,
            list: list_directory,
        }
    }
}

impl ConfigError {
    fn new(place: impl Into<String>, message: impl Into<String>) -> ConfigError {
        ConfigError { place: place.into(), message: message.into() }
    }
}

/// On one line, without control characters: it may quote the file.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}: {}", self.place, self.message);
        text.chars().try_for_each(|letter| match letter.is_control() {
            true => write!(f, "{}", letter.escape_default()),
            false => f.write_char(letter),
        })
    }
}

impl Error for ConfigError {}

type Parsed<T> = Result<T, FieldError>;

/// What variables say about keys of `[http]`; `None`: they are not set.
struct Given {
    port: Option<u16>,
    token: Option<Token>,
    socket: Option<Option<Socket>>,
}

impl Given {
    fn by(environment: &Environment) -> Result<Given, ConfigError> {
        Ok(Given {
            port: port_of(environment)?,
            token: token_of(environment)?,
            socket: socket_of(environment)?,
        })
    }
}

fn port_of(environment: &Environment) -> Result<Option<u16>, ConfigError> {
    let Some(given) = &environment.port else {
        return Ok(None);
    };
    given
        .to_str()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            ConfigError::new(
                "PORT in the environment",
                format!("must be a whole number from 0 to 65535, not {given:?}"),
            )
        })
}

/// An empty name would be k1s's own working directory.
fn check_state(environment: &Environment) -> Result<(), ConfigError> {
    match &environment.state {
        Some(given) if given.is_empty() => Err(ConfigError::new(
            "K1S_STATE in the environment",
            "must be the path of a directory, not empty; unset it to keep no state",
        )),
        Some(_) | None => Ok(()),
    }
}

fn socket_of(environment: &Environment) -> Result<Option<Option<Socket>>, ConfigError> {
    let given = environment.socket.as_ref().map(|given| socket_at(given));
    let wrong = |message| ConfigError::new(format!("K1S_SOCKET{IN_ENVIRONMENT}"), message);
    given.transpose().map_err(wrong)
}

/// A path at which there can be a socket; empty: none.
fn socket_at(path: &OsStr) -> Result<Option<Socket>, String> {
    let (length, path) = (path.len(), PathBuf::from(path));
    if length == 0 {
        Ok(None)
    } else if !path.is_absolute() {
        Err(format!("must be the absolute path of a unix socket, or empty for none, not {path:?}"))
    } else if length > LONGEST_SOCKET {
        Err(format!(
            "must be at most {LONGEST_SOCKET} bytes long, as the path of any unix socket; this has {length}"
        ))
    } else {
        Ok(Some(Socket { path, is_default: false }))
    }
}

fn token_of(environment: &Environment) -> Result<Option<Token>, ConfigError> {
    environment
        .token
        .as_ref()
        .map(|given| Token::parse(given.as_encoded_bytes()))
        .transpose()
        .map_err(|message| ConfigError::new("K1S_AUTH_TOKEN in the environment", message))
}

/// Reads all of the main file but its jobs, and the patterns of the files that it includes.
fn settings(
    value: Value,
    given: Given,
    environment: &Environment,
) -> Parsed<(Settings, Vec<String>)> {
    let mut fields = Fields::of(value, &TABLES, Spelling::Camel)?;
    let include = fields.optional("include", include::patterns)?.unwrap_or_default();
    let (fixed, default, ui, limits) =
        fields.table("http", &HTTP_KEYS, |f| http(f, given, environment))?;
    let credentials = tokens::of_tables(&mut fields, default, environment)?;
    let Credentials { tokens, default: token, origin: token_origin, tables: token_tables } =
        credentials;
    let shutdown_timeout = fields.table("shutdown", &["timeout_seconds"], |f| {
        f.optional("timeout_seconds", fields::seconds(0.0))
    })?;
    let (forward, memory, disk) = fields.table("output", &["forward", "memory", "disk"], |f| {
        let forward = f.optional("forward", fields::choice(&FORWARDS))?;
        let memory = f.optional("memory", fields::integer(0..=MOST_MEMORY))?;
        let disk = f.optional("disk", fields::integer(MIB..=MOST_DISK))?;
        Ok((forward, memory, disk))
    })?;
    let (log_format, log_level) = fields.table("log", &["format", "level"], |f| {
        let format = f.optional("format", fields::choice(&LOG_FORMATS))?;
        let level = f.optional("level", fields::choice(&LOG_LEVELS))?;
        Ok((format, level))
    })?;
    let state = fields.table("state", &["directory", "sync"], |f| state(f, environment))?;
    let max_jobs = fields
        .table("limits", &["jobs"], |f| f.optional("jobs", fields::integer(0..=MOST_JOBS)))?;
    let zone = fields.table("cron", &["time_zone"], |f| f.optional("time_zone", time_zone))?;
    let live = Live {
        tokens,
        token,
        token_origin,
        token_tables,
        ui,
        http: limits,
        shutdown_timeout: shutdown_timeout.unwrap_or(Duration::from_secs(9)),
        forward,
        output_memory_bytes: memory.unwrap_or(64 * MIB as usize),
        output_disk_bytes: disk,
        log_format: log_format.unwrap_or(LogFormat::Text),
        log_level: log_level.unwrap_or(LogLevel::Info),
        max_jobs: max_jobs.unwrap_or(100_000),
        time_zone: zone.unwrap_or_else(|| zone_of(environment).unwrap_or("UTC").to_owned()),
    };
    let fixed = Fixed { state, ..fixed };
    let settings = Settings { fixed, live, jobs: Vec::new(), sources: BTreeMap::new() };
    Ok((settings, include))
}

/// Where the keys come from that are not about jobs: their tables are one level deep.
fn sources(
    document: &Document,
    value: &Value,
    environment: &Environment,
) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let Value::Table(tables) = value else { return sources };
    if zone_of(environment).is_some() {
        sources.insert("cron.time_zone".to_owned(), format!("TZ{IN_ENVIRONMENT}"));
    }
    for (table, value) in tables.iter().filter(|(name, _)| !JOB_TABLES.contains(&name.as_str())) {
        if let (TOKEN_TABLES, Value::List(tables)) = (table.as_str(), value) {
            for index in (0..tables.len()).map(|index| index.to_string()) {
                let place = Place::new(document.file(), document.line(&[table, &index]));
                sources.insert(format!("{table}.{index}"), place.to_string());
            }
        }
        let Value::Table(entries) = value else { continue };
        for (key, _) in entries {
            let place = Place::new(document.file(), document.line(&[table, key]));
            sources.insert(format!("{table}.{key}"), place.to_string());
        }
    }
    if environment.state.is_some() {
        let source = "K1S_STATE in the environment".to_owned();
        sources.insert("state.directory".to_owned(), source);
    }
    if environment.socket.is_some() {
        sources.insert("http.socket".to_owned(), format!("K1S_SOCKET{IN_ENVIRONMENT}"));
    }
    if environment.port.is_some() {
        sources.insert("http.port".to_owned(), format!("PORT{IN_ENVIRONMENT}"));
    }
    sources
}

/// `K1S_STATE` wins over `state.directory`.
fn state(fields: &mut Fields, environment: &Environment) -> Parsed<Option<State>> {
    let key = fields.optional("directory", fields::nonempty)?.map(PathBuf::from);
    let sync = fields.optional("sync", fields::choice(&SYNCS))?;
    let directory = environment.state.as_ref().map(PathBuf::from).or(key);
    match (directory, sync) {
        (Some(directory), sync) => {
            let directory = Path::new(&environment.directory).join(directory);
            Ok(Some(State { directory, sync: sync.unwrap_or(Sync::Always) }))
        }
        (None, Some(_)) => Err(FieldError::new("sync", "needs `directory`, or K1S_STATE")),
        (None, None) => Ok(None),
    }
}

fn http(
    fields: &mut Fields,
    given: Given,
    environment: &Environment,
) -> Parsed<(Fixed, Option<DefaultToken>, bool, Limits)> {
    let host_key = fields.optional("host", host)?;
    let port_key = fields.optional("port", fields::integer(0..=65_535))?;
    let token = tokens::of_http(fields, given.token, environment)?;
    let socket_key = fields.optional("socket", |value| {
        socket_at(OsStr::new(&fields::text(value)?)).or_else(fields::fail)
    })?;
    let default_socket = || {
        let path = environment.default_socket.clone()?;
        Some(Socket { path, is_default: true })
    };
    let fixed = Fixed {
        host: host_key.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        socket: given.socket.or(socket_key).unwrap_or_else(default_socket),
        port: given.port.or(port_key).unwrap_or(DEFAULT_PORT),
        state: None,
    };
    let ui = fields.optional("ui", fields::boolean)?.unwrap_or(true);
    Ok((fixed, token, ui, limits(fields)?))
}

fn limits(fields: &mut Fields) -> Parsed<Limits> {
    let default = Limits::default();
    let mut count = |key, least, most, default| -> Parsed<usize> {
        let given = fields.optional(key, fields::integer(least..=most))?;
        Ok(given.unwrap_or(default))
    };
    let max_head_bytes = count("max_head_bytes", 1024, MIB, default.max_head_bytes)?;
    let max_headers = count("max_headers", 1, 1000, default.max_headers)?;
    let max_body_bytes = count("max_body_bytes", 1, 1024 * MIB, default.max_body_bytes)?;
    let max_connections = count("max_connections", 1, 1_000_000, default.max_connections)?;
    let max_unsent_bytes = count("max_unsent_bytes", 1024, 1024 * MIB, default.max_unsent_bytes)?;
    let mut seconds = |key, default| -> Parsed<Duration> {
        let given = fields.optional(key, fields::seconds(0.001))?;
        Ok(given.unwrap_or(default))
    };
    Ok(Limits {
        max_head_bytes,
        max_headers,
        max_body_bytes,
        max_connections,
        max_unsent_bytes,
        head_timeout: seconds("head_timeout_seconds", default.head_timeout)?,
        body_timeout: seconds("body_timeout_seconds", default.body_timeout)?,
        idle_timeout: seconds("idle_timeout_seconds", default.idle_timeout)?,
        write_timeout: seconds("write_timeout_seconds", default.write_timeout)?,
    })
}

fn time_zone(value: Value) -> Parsed<String> {
    let name = fields::nonempty(value)?;
    match knows_time_zone(&name) {
        true => Ok(name),
        false => fields::fail(format!(
            "must be the IANA name of a time zone, such as \"Europe/Berlin\", not {name:?}"
        )),
    }
}

/// `TZ` may contain something else than an IANA name (tzset(3)).
fn zone_of(environment: &Environment) -> Option<&str> {
    let name = environment.time_zone.as_ref().and_then(|name| name.to_str());
    let name = name.map(|name| name.strip_prefix(':').unwrap_or(name));
    name.filter(|name| knows_time_zone(name))
}

fn host(value: Value) -> Parsed<IpAddr> {
    let right = "an IPv4 or IPv6 address or \"localhost\"";
    match value {
        Value::String(name) if name == "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        Value::String(address) => match address.parse() {
            Ok(address) => Ok(address),
            Err(_) => fields::fail(format!("must be {right}, not {address:?}")),
        },
        other => fields::wrong(right, &other),
    }
}

/// That of this process, or `/` if it does not exist any more.
pub fn working_directory() -> String {
    let directory = std::env::current_dir();
    directory.map_or_else(|_| "/".into(), |path| path.to_string_lossy().into_owned())
}

/// The names in a directory, unless there are too many.
fn list_directory(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name());
        if names.len() > LARGEST_DIRECTORY {
            let message = format!("holds more than {LARGEST_DIRECTORY} names");
            return Err(io::Error::other(message));
        }
    }
    Ok(names)
}

/// The line, from 1, in which bytes are not UTF-8.
fn line_of_error(bytes: &[u8], error: Utf8Error) -> usize {
    let (before, _) = bytes.split_at(error.valid_up_to());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A key in TOML, bare if possible (<https://toml.io/en/v1.0.0#keys>).
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A basic string (<https://toml.io/en/v1.0.0#string>).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => quoted.push(letter),
        }
    }
    quoted + "\""
}

/// The name of a choice.
fn name_in<T: PartialEq>(choices: &[(&'static str, T)], choice: T) -> &'static str {
    let entry = choices.iter().find(|(_, known)| *known == choice);
    entry.map(|(name, _)| *name).unwrap_or_default()
}

/// The end of a source that is a variable.
const IN_ENVIRONMENT: &str = " in the environment";

const DEFAULT_PORT: u16 = 1298;
const MIB: i64 = 1 << 20;
const MOST_MEMORY: i64 = 1 << 40;
const MOST_DISK: i64 = 1 << 50;
const MOST_JOBS: i64 = 10_000_000;
/// `sun_path` without the NUL at its end: unix(7).
const LONGEST_SOCKET: usize = 107;
/// The most names in a directory of included files.
const LARGEST_DIRECTORY: usize = 65_536;
/// The most that a config or a token file may contain, and all included files together, in bytes.
pub const LARGEST_FILE: u64 = 64 * MIB as u64;

const TABLES: [&str; 11] = [
    "http", "token", "shutdown", "output", "log", "state", "limits", "cron", "job", "defaults",
    "include",
];
const HTTP_KEYS: [&str; 15] = [
    "host",
    "port",
    "socket",
    "auth_token",
    "auth_token_file",
    "ui",
    "max_head_bytes",
    "max_headers",
    "max_body_bytes",
    "max_connections",
    "head_timeout_seconds",
    "body_timeout_seconds",
    "idle_timeout_seconds",
    "max_unsent_bytes",
    "write_timeout_seconds",
];

const SYNCS: [(&str, Sync); 2] = [("always", Sync::Always), ("os", Sync::Os)];

const FORWARDS: [(&str, Forward); 4] = [
    ("prefix", Forward::Prefix),
    ("raw", Forward::Raw),
    ("json", Forward::Json),
    ("none", Forward::None),
];

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const LOG_LEVELS: [(&str, LogLevel); 4] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

#[cfg(test)]
mod tests;
