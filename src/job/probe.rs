//! Probes: how k1s finds out whether a run is ready, and whether it is still well.
//!
//! ```text
//!   {"http": {"url": "http://127.0.0.1:8080/health"}, "periodSeconds": 5}
//!     └ the kind, exactly one                           └ when it is asked, where k1s asks
//! ```
//!
//! `http`, `tcp` and `exec` are asked by k1s, again and again. The others report by themselves:
//! `log` and `fd` once, `notify` whenever the run likes. An address is a number or `localhost`:
//! nothing is resolved. `core::net` has only the data types of addresses, and no sockets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Value;
use super::fields::{self, FieldError, Fields, Spelling};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeRole {
    /// Whether a run is ready.
    Readiness,
    /// Whether a run that has been ready is still well.
    Liveness,
}

/// `readiness` or `liveness`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How it is found out.
    pub check: Check,
    /// How long after the start, or after the run was ready, the first attempt is made.
    pub initial_delay: Duration,
    /// The time from one attempt to the next; `None`: `FAST` until the run is ready, else
    /// `SLOW`.
    pub period: Option<Duration>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// After so many successes in a row the run is ready.
    pub success_threshold: u32,
    /// After so many failures in a row it is not ready any more, or not well.
    pub failure_threshold: u32,
}

/// How k1s finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A GET is answered with such a status.
    Http {
        /// What is asked for.
        url: HttpUrl,
        /// The statuses that are good.
        status: RangeInclusive<u16>,
    },
    /// A connection is accepted.
    Tcp(TcpAddress),
    /// A command ends with exit code 0.
    Exec {
        /// The executable and its arguments; not empty.
        command: Vec<String>,
    },
    /// A line of either stream contains a text, once. For readiness alone.
    Log {
        /// Not empty, without newlines.
        text: String,
    },
    /// The run reports by itself: sd_notify(3). For liveness it is the watchdog.
    Notify,
    /// The run writes a newline to a descriptor, once. For readiness alone.
    Fd {
        /// Its number, from 3 to 255.
        number: i32,
    },
}

/// An `http://` URL whose host is a number or `localhost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// As it was given.
    pub text: String,
    /// Where it leads.
    pub address: SocketAddr,
    /// The text of the Host header: the host and the port as given.
    pub host: String,
    /// The target of the request: the path and the query.
    pub target: String,
}

/// The address of a TCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    /// As it was given.
    pub text: String,
    /// What it means.
    pub address: SocketAddr,
}

impl Check {
    /// The name of the kind, as in the specification.
    pub fn kind(&self) -> &'static str {
        match self {
            Check::Http { .. } => "http",
            Check::Tcp(_) => "tcp",
            Check::Exec { .. } => "exec",
            Check::Log { .. } => "log",
            Check::Notify => "notify",
            Check::Fd { .. } => "fd",
        }
    }

    /// Whether k1s asks, again and again; otherwise the run reports by itself.
    pub fn is_asked(&self) -> bool {
        match self {
            Check::Http { .. } | Check::Tcp(_) | Check::Exec { .. } => true,
            Check::Log { .. } | Check::Notify | Check::Fd { .. } => false,
        }
    }

    /// The fields besides the kind that have an effect.
    pub(super) fn fields(&self, role: ProbeRole) -> &'static [&'static str] {
        match (self, role) {
            (Check::Http { .. } | Check::Tcp(_) | Check::Exec { .. }, ProbeRole::Readiness) => {
                &TIMES
            }
            (Check::Http { .. } | Check::Tcp(_) | Check::Exec { .. }, ProbeRole::Liveness) => {
                &LIVENESS_TIMES
            }
            (Check::Notify, ProbeRole::Liveness) => &["periodSeconds", "failureThreshold"],
            (Check::Log { .. } | Check::Notify | Check::Fd { .. }, _) => &[],
        }
    }
}

impl Probe {
    /// The time from one attempt to the next.
    pub fn period(&self, is_ready: bool) -> Duration {
        self.period.unwrap_or(if is_ready { SLOW } else { FAST })
    }

    /// As the watchdog: how long a run may say nothing.
    pub fn watchdog(&self) -> Duration {
        self.period(true).saturating_mul(self.failure_threshold)
    }
}

type Parsed<T> = Result<T, FieldError>;

/// Reads a probe.
pub(super) fn probe(value: Value, role: ProbeRole, spelling: Spelling) -> Parsed<Probe> {
    let known = match role {
        ProbeRole::Readiness => &READINESS_FIELDS[..],
        ProbeRole::Liveness => &LIVENESS_FIELDS,
    };
    let mut fields = Fields::of(value, known, spelling)?;
    let check = check(&mut fields, role)?;
    let given: Vec<String> = fields.names().map(str::to_owned).collect();
    let allowed = check.fields(role);
    let seconds = |fields: &mut Fields, name, least| fields.optional(name, fields::seconds(least));
    let count = |fields: &mut Fields, name| fields.optional(name, fields::integer(1..=MOST_TRIES));
    let initial_delay = seconds(&mut fields, "initialDelaySeconds", 0.0)?;
    let period = seconds(&mut fields, "periodSeconds", SHORTEST_PERIOD)?;
    let timeout = seconds(&mut fields, "timeoutSeconds", SHORTEST_TIMEOUT)?;
    let success_threshold = count(&mut fields, "successThreshold")?;
    let failure_threshold = count(&mut fields, "failureThreshold")?;
    let is_set = [
        ("initialDelaySeconds", initial_delay.is_some()),
        ("periodSeconds", period.is_some()),
        ("timeoutSeconds", timeout.is_some()),
        ("successThreshold", success_threshold.is_some()),
        ("failureThreshold", failure_threshold.is_some()),
    ];
    if let Some((name, _)) = is_set.iter().find(|(name, set)| *set && !allowed.contains(name)) {
        let given = given.iter().find(|given| spelling.matches(given, name));
        let error = format!("has no effect on a probe of the kind `{}`", check.kind());
        return Err(FieldError::new(given.map_or(name, |given| given), error));
    }
    Ok(Probe {
        check,
        initial_delay: initial_delay.unwrap_or_default(),
        period,
        timeout: timeout.unwrap_or(Duration::from_secs(1)),
        success_threshold: success_threshold.unwrap_or(1),
        failure_threshold: failure_threshold.unwrap_or(3),
    })
}

/// Exactly one kind.
fn check(fields: &mut Fields, role: ProbeRole) -> Parsed<Check> {
    let mut checks = Vec::new();
    checks.extend(fields.optional_table("http", &["url", "status"], http)?);
    checks.extend(fields.optional_table("tcp", &["address"], |fields| {
        fields.required("address", tcp_address).map(Check::Tcp)
    })?);
    checks.extend(fields.optional("exec", command_line)?.map(|command| Check::Exec { command }));
    checks.extend(fields.optional("notify", notify)?);
    if role == ProbeRole::Readiness {
        checks.extend(fields.optional("log", log_text)?.map(|text| Check::Log { text }));
        let number = fields.optional("fd", fields::integer(3..=255))?;
        checks.extend(number.map(|number| Check::Fd { number }));
    }
    let kinds = match role {
        ProbeRole::Readiness => "`http`, `tcp`, `exec`, `log`, `notify` or `fd`",
        ProbeRole::Liveness => "`http`, `tcp`, `exec` or `notify`",
    };
    let mut checks = checks.into_iter();
    match (checks.next(), checks.next()) {
        (Some(check), None) => Ok(check),
        (None, _) => fields::fail(format!("must have one of {kinds}")),
        (Some(one), Some(other)) => {
            let (one, other) = (one.kind(), other.kind());
            fields::fail(format!("must have one of {kinds}, not both `{one}` and `{other}`"))
        }
    }
}

fn http(fields: &mut Fields) -> Parsed<Check> {
    let status = fields.optional("status", statuses)?.unwrap_or(200..=399);
    Ok(Check::Http { url: fields.required("url", http_url)?, status })
}

/// `[200, 399]`.
fn statuses(value: Value) -> Parsed<RangeInclusive<u16>> {
    let right = "the first and the last status that are good, such as [200, 399]";
    match fields::list(fields::integer(100..=599))(value)?.as_slice() {
        [first, last] if first <= last => Ok(*first..=*last),
        _ => fields::fail(format!("must be {right}")),
    }
}

fn http_url(value: Value) -> Parsed<HttpUrl> {
    let text = short_text(value)?;
    let right = "such as \"http://127.0.0.1:8080/health\"";
    if text.starts_with("https:") {
        return fields::fail(format!("must be http, which k1s speaks, not https: {right}"));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return fields::fail(format!("must be a URL {right}, not {text:?}"));
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
        let error = "must be visible ASCII without `#`; write other characters as %XX";
        return fields::fail(format!("{error}: {right}"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
    match address_of(host, Some(80)) {
        Ok(address) => Ok(HttpUrl { address, host: host.to_owned(), target, text }),
        Err(why) => fields::fail(format!("{why}: {right}")),
    }
}

fn tcp_address(value: Value) -> Parsed<TcpAddress> {
    let text = short_text(value)?;
    match address_of(&text, None) {
        Ok(address) => Ok(TcpAddress { text, address }),
        Err(why) => fields::fail(format!("{why}: such as \"127.0.0.1:5432\"")),
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `localhost:80`; without a port, that of `default`.
fn address_of(text: &str, default: Option<u16>) -> Result<SocketAddr, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let ip: IpAddr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None if host == "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
    .ok_or_else(|| {
        let right = "an IPv4 address, an IPv6 address in brackets, or localhost";
        format!("the host must be {right}, as nothing is resolved, not {host:?}")
    })?;
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|number: &u16| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit())),
        None => default,
    };
    match port {
        Some(port) => Ok(SocketAddr::new(ip, port)),
        None => Err(format!("the port must be a number from 1 to 65535, in {text:?}")),
    }
}

/// A command: the executable and its arguments.
pub(super) fn command_line(value: Value) -> Parsed<Vec<String>> {
    let command = fields::list(fields::text)(value)?;
    match command.first().map(String::as_str) {
        None => fields::fail("must hold the executable at least, and then its arguments"),
        Some("") => fields::fail("must begin with the executable, which must not be empty"),
        Some(_) if command.iter().map(|part| part.len() + 1).sum::<usize>() > LONGEST_COMMAND => {
            let advice = "put what is longer into a script";
            fields::fail(format!("must not be longer than {LONGEST_COMMAND} bytes: {advice}"))
        }
        Some(_) => Ok(command),
    }
}

fn log_text(value: Value) -> Parsed<String> {
    match short_text(value)? {
        text if text.contains('\n') => {
            fields::fail("must not contain a newline: it is looked for in each line")
        }
        text => Ok(text),
    }
}

fn notify(value: Value) -> Parsed<Check> {
    match value {
        Value::Bool(true) => Ok(Check::Notify),
        Value::Bool(false) => fields::fail("must be true, or left out"),
        other => fields::wrong("true", &other),
    }
}

fn short_text(value: Value) -> Parsed<String> {
    match fields::nonempty(value)? {
        text if text.len() > LONGEST_TEXT => {
            fields::fail(format!("must not be longer than {LONGEST_TEXT} bytes"))
        }
        text => Ok(text),
    }
}

/// The fields of `readiness`, and of `liveness`: the kinds first.
const READINESS_FIELDS: [&str; 11] = [
    "http",
    "tcp",
    "exec",
    "log",
    "notify",
    "fd",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];
const LIVENESS_FIELDS: [&str; 8] = [
    "http",
    "tcp",
    "exec",
    "notify",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "failureThreshold",
];
/// What there is to say of attempts. One success is enough to be well.
const TIMES: [&str; 5] = [
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];
const LIVENESS_TIMES: [&str; 4] =
    ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"];

/// From one attempt to the next, until a run is ready.
const FAST: Duration = Duration::from_secs(1);
/// From one attempt to the next, afterwards.
const SLOW: Duration = Duration::from_secs(10);
/// In seconds: with shorter ones k1s would do nothing but ask.
const SHORTEST_PERIOD: f64 = 0.1;
const SHORTEST_TIMEOUT: f64 = 0.01;
const MOST_TRIES: i64 = 1000;
/// Of a text that is looked for, an address and a URL, in bytes.
const LONGEST_TEXT: usize = 1024;
/// A job object shows it in one piece.
const LONGEST_COMMAND: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, role: ProbeRole) -> Result<Probe, String> {
        let value = serde_json::from_str(json).unwrap();
        probe(value, role, Spelling::Camel).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_numbers_or_localhost() {
        for (url, address, host, target) in [
            ("http://127.0.0.1:8080/health", "127.0.0.1:8080", "127.0.0.1:8080", "/health"),
            ("http://localhost", "127.0.0.1:80", "localhost", "/"),
            ("http://[::1]:1/a?b=c", "[::1]:1", "[::1]:1", "/a?b=c"),
            ("http://[::1]?q", "[::1]:80", "[::1]", "/?q"),
        ] {
            let read = read(&format!(r#"{{"http":{{"url":"{url}"}}}}"#), ProbeRole::Liveness);
            let Ok(Probe { check: Check::Http { url, status }, .. }) = read else {
                panic!("{read:?}")
            };
            assert_eq!((url.address.to_string().as_str(), url.host.as_str()), (address, host));
            assert_eq!((url.target.as_str(), status), (target, 200..=399));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |role, json: &str, error: &str| {
            let found = read(json, role).expect_err(json);
            assert!(found.starts_with(error), "{json}\n  said {found}\n  want {error}");
        };
        let ready = |json: &str, error: &str| check(ProbeRole::Readiness, json, error);
        let live = |json: &str, error: &str| check(ProbeRole::Liveness, json, error);
        ready("{}", "The document must have one of `http`, `tcp`, `exec`, `log`, `notify` or `fd`");
        live("{}", "The document must have one of `http`, `tcp`, `exec` or `notify`");
        live(r#"{"log":"x"}"#, "log: unknown field; ");
        live(r#"{"fd":3}"#, "fd: unknown field; ");
        ready(r#"{"fd":3,"notify":true}"#, "The document must have one of `http`");
        ready(r#"{"fd":2}"#, "fd: must be a whole number from 3 to 255, not 2");
        ready(r#"{"notify":false}"#, "notify: must be true, or left out");
        ready(r#"{"exec":[]}"#, "exec: must hold the executable at least");
        ready(r#"{"exec":[""]}"#, "exec: must begin with the executable");
        ready(r#"{"exec":"true"}"#, "exec: must be a list, not a string");
        ready(r#"{"log":"a\nb"}"#, "log: must not contain a newline");
        ready(r#"{"log":"x","periodSeconds":1}"#, "periodSeconds: has no effect on a probe of the");
        live(r#"{"notify":true,"timeoutSeconds":1}"#, "timeoutSeconds: has no effect on a probe");
        live(r#"{"exec":["x"],"successThreshold":1}"#, "successThreshold: unknown field");
        ready(r#"{"tcp":{"address":"127.0.0.1"}}"#, "tcp.address: the port must be a number");
        ready(r#"{"tcp":{"address":"db:1"}}"#, "tcp.address: the host must be an IPv4 address");
        ready(r#"{"tcp":{"address":"::1:1"}}"#, "tcp.address: the host must be an IPv4 address");
        for port in ["0", "+1", "65536", "x", ""] {
            let json = format!(r#"{{"tcp":{{"address":"127.0.0.1:{port}"}}}}"#);
            ready(&json, "tcp.address: the port must be a number from 1 to 65535");
        }
        let url = |url: &str, error: &str| {
            ready(&format!(r#"{{"http":{{"url":"{url}"}}}}"#), &format!("http.url: {error}"));
        };
        url("https://127.0.0.1/", "must be http, which k1s speaks, not https");
        url("127.0.0.1/", "must be a URL such as");
        url("http://example.org/", "the host must be an IPv4 address");
        url("http://u@127.0.0.1/", "the host must be an IPv4 address");
        url("http://127.0.0.1/a b", "must be visible ASCII");
        url("http://127.0.0.1/#a", "must be visible ASCII");
        url("", "must not be empty");
        ready(
            r#"{"http":{"url":"http://[::1]/","status":[399,200]}}"#,
            "http.status: must be the first and the last status",
        );
        let long = format!(r#"{{"log":"{}"}}"#, "x".repeat(LONGEST_TEXT + 1));
        ready(&long, "log: must not be longer than 1024 bytes");
    }
}
