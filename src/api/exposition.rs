//! Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0.
//!
//! ```text
//!   # HELP k1s_job_runs_total …            # TYPE k1s_job_runs counter
//!   # TYPE k1s_job_runs_total counter      # HELP k1s_job_runs …
//!   k1s_job_runs_total{id="web",outcome="failed"} 3          the same in both
//! ```
//!
//! Both demand that all lines of a metric stand together. OpenMetrics leaves the suffix of a kind
//! out of a metric's name, has a line for the unit, knows the kind `info`, and ends with `# EOF`,
//! so that a reader can tell that it is complete.

use std::io::Write;
use std::time::Duration;

use crate::http::{ContentType, Reply, Status, media_ranges};
use crate::supervisor::Histogram;
use crate::time::Wall;

/// The name of a metric, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// As it stands in each line. Lines of a histogram add a suffix.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// What it means, for people: one sentence without a full stop.
    pub help: &'static str,
}

/// The kind of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases. The name ends with `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts of durations in buckets.
    Histogram,
    /// Always 1: the labels are the information. The name ends with `_info`.
    Info,
}

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
}

/// A value.
pub(super) enum Number {
    Whole(u64),
    /// Seconds, in microseconds.
    Micros(i64),
}

/// Writes the lines of a metric.
pub(super) struct Lines<'a> {
    out: &'a mut Vec<u8>,
    name: &'static str,
    /// The job that they are about.
    id: Option<&'a str>,
    /// What it cost to find the values, as the time to write so many bytes.
    pub(super) cost: usize,
}

impl Name {
    /// The unit, with which the name ends.
    fn unit(&self) -> Option<&'static str> {
        let mut units = ["seconds", "bytes"].into_iter();
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        units.find(|unit| base.ends_with(unit))
    }
}

impl Format {
    /// The format that the client prefers; the older one if it names neither. Prometheus' own
    /// exporters choose in the same way.
    pub(super) fn of(accept: &str) -> Format {
        let named = media_ranges(accept).into_iter().find_map(|range| {
            let version = range.parameter("version");
            let is = |name: &str, own| {
                range.media_type.eq_ignore_ascii_case(name) && version.is_none_or(|it| it == own)
            };
            match () {
                () if is("application/openmetrics-text", "1.0.0") => Some(Format::OpenMetrics),
                () if is("text/plain", "0.0.4") => Some(Format::Text),
                () => None,
            }
        });
        named.unwrap_or(Format::Text)
    }

    /// An answer in this format.
    pub(super) fn reply(self) -> Reply<'static> {
        let content_type = match self {
            Format::Text => ContentType::Metrics,
            Format::OpenMetrics => ContentType::OpenMetrics,
        };
        Reply::new(Status::Ok, content_type)
    }

    /// Writes the description of a metric, which comes before its lines.
    pub(super) fn begin(self, out: &mut Vec<u8>, of: &Name) {
        let Name { name, kind, help } = *of;
        // Writing to memory cannot fail.
        let _ = match (self, kind) {
            (Format::Text, _) => {
                let kind = kind.in_text();
                writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
            }
            (Format::OpenMetrics, _) => {
                let family = name.strip_suffix(kind.suffix()).unwrap_or(name);
                let _ = writeln!(out, "# TYPE {family} {}", kind.in_open_metrics());
                if let Some(unit) = of.unit() {
                    let _ = writeln!(out, "# UNIT {family} {unit}");
                }
                writeln!(out, "# HELP {family} {help}")
            }
        };
    }

    /// Writes the end of the answer.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        match self {
            Format::Text => {}
            Format::OpenMetrics => out.extend_from_slice(b"# EOF\n"),
        }
    }
}

impl Kind {
    fn in_text(self) -> &'static str {
        match self {
            Kind::Info => "gauge",
            Kind::Counter | Kind::Gauge | Kind::Histogram => self.in_open_metrics(),
        }
    }

    fn in_open_metrics(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    /// The end of the name that OpenMetrics leaves out in the description.
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }
}

impl<'a> Lines<'a> {
    /// Lines of this metric, about a job or about k1s itself.
    pub(super) fn new(out: &'a mut Vec<u8>, of: &Name, id: Option<&'a str>) -> Lines<'a> {
        Lines { out, name: of.name, id, cost: 0 }
    }

    /// A line without further labels.
    pub(super) fn value(&mut self, value: impl Into<Number>) {
        self.labelled(&[], value);
    }

    /// A line with these labels.
    pub(super) fn labelled(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.line("", labels, value.into());
    }

    /// The lines of a histogram. `bounds` are in seconds.
    pub(super) fn histogram<const N: usize>(
        &mut self,
        bounds: &[&str; N],
        histogram: &Histogram<N>,
    ) {
        for (bound, count) in bounds.iter().zip(histogram.up_to_each()) {
            self.line("_bucket", &[("le", bound)], count.into());
        }
        self.line("_bucket", &[("le", "+Inf")], histogram.count().into());
        self.line("_sum", &[], histogram.sum().into());
        self.line("_count", &[], histogram.count().into());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: Number) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for (name, value) in self.id.map(|id| ("id", id)).iter().chain(labels) {
            self.out.push(std::mem::replace(&mut before, b','));
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            write_escaped(self.out, value);
            self.out.push(b'"');
        }
        if before == b',' {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        match value {
            Number::Whole(number) => write_whole(self.out, number),
            Number::Micros(micros) => write_micros(self.out, micros),
        }
        self.out.push(b'\n');
    }
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    if !text.contains(['\\', '"', '\n']) {
        return out.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

/// By hand, as there are hundreds of thousands of them, and `fmt` takes twice as long for a line.
fn write_whole(out: &mut Vec<u8>, mut number: u64) {
    let begin = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.get_mut(begin..).unwrap_or_default().reverse();
}

/// As seconds, without zeros at the end.
fn write_micros(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    let micros = micros.unsigned_abs();
    write_whole(out, micros / 1_000_000);
    let (mut fraction, mut digit) = (micros % 1_000_000, 100_000);
    if fraction > 0 {
        out.push(b'.');
    }
    while fraction > 0 {
        out.push(b'0' + (fraction / digit) as u8);
        fraction %= digit;
        digit /= 10;
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Number {
        Number::Whole(number as u64)
    }
}

/// In seconds.
impl From<Duration> for Number {
    fn from(duration: Duration) -> Number {
        Number::Micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }
}

/// In seconds since 1970-01-01T00:00:00Z.
impl From<Wall> for Number {
    fn from(wall: Wall) -> Number {
        Number::Micros(wall.0.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    const COUNTER: Name = Name { name: "x_cpu_seconds_total", kind: Kind::Counter, help: "Time" };

    #[test]
    fn the_preferred_format_is_chosen() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Format::Text),
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.2", Format::Text),
            ("text/plain, application/openmetrics-text", Format::Text),
            ("text/plain;version=1.0.0, application/openmetrics-text;q=0.1", Format::OpenMetrics),
            ("text/html, application/openmetrics-text;q=0.1", Format::OpenMetrics),
            ("application/json", Format::Text),
        ] {
            assert_eq!(Format::of(accept), format, "{accept}");
        }
    }

    #[test]
    fn descriptions_follow_each_format() {
        let info = Name { name: "x_build_info", kind: Kind::Info, help: "What it is" };
        let text = |name| written(|out| Format::Text.begin(out, name));
        let open = |name| written(|out| Format::OpenMetrics.begin(out, name));
        let in_text = "# HELP x_cpu_seconds_total Time\n# TYPE x_cpu_seconds_total counter\n";
        assert_eq!(text(&COUNTER), in_text);
        let in_open = "# TYPE x_cpu_seconds counter\n# UNIT x_cpu_seconds seconds\n\
                       # HELP x_cpu_seconds Time\n";
        assert_eq!(open(&COUNTER), in_open);
        assert_eq!(text(&info), "# HELP x_build_info What it is\n# TYPE x_build_info gauge\n");
        assert_eq!(open(&info), "# TYPE x_build info\n# HELP x_build What it is\n");
        assert_eq!(written(|out| Format::Text.end(out)), "");
        assert_eq!(written(|out| Format::OpenMetrics.end(out)), "# EOF\n");
    }

    #[test]
    fn label_values_are_escaped() {
        let line = written(|out| {
            let mut lines = Lines::new(out, &COUNTER, Some("a"));
            lines.labelled(&[("b", "\\ \" \n"), ("c", "é\t{},=")], 1u64);
        });
        assert_eq!(line, "x_cpu_seconds_total{id=\"a\",b=\"\\\\ \\\" \\n\",c=\"é\t{},=\"} 1\n");
    }

    #[test]
    fn numbers_are_printed_exactly() {
        let value = |number: Number| {
            written(|out| Lines::new(out, &COUNTER, None).value(number))
                .trim_start_matches(COUNTER.name)
                .to_owned()
        };
        assert_eq!(value(u64::MAX.into()), " 18446744073709551615\n");
        assert_eq!(value(Duration::from_micros(1_500_001).into()), " 1.500001\n");
        assert_eq!(value(0u64.into()), " 0\n");
        assert_eq!(value(Duration::from_micros(1).into()), " 0.000001\n");
        assert_eq!(value(Duration::from_millis(10_200).into()), " 10.2\n");
        assert_eq!(value(Duration::from_secs(3).into()), " 3\n");
        assert_eq!(value(Wall(1_774_656_000_123).into()), " 1774656000.123\n");
        assert_eq!(value(Wall(-1).into()), " -0.001\n");
    }

    #[test]
    fn a_histogram_has_all_its_lines() {
        let bounds = [Duration::from_micros(100), Duration::from_secs(1), Duration::from_hours(6)];
        let name = Name { name: "x_seconds", kind: Kind::Histogram, help: "" };
        let mut histogram = Histogram::default();
        for seconds in [0, 1, 2, 30_000] {
            histogram.observe(&bounds, Duration::from_secs(seconds));
        }
        let texts = ["0.0001", "1.0", "21600.0"];
        let lines = written(|out| Lines::new(out, &name, None).histogram(&texts, &histogram));
        let wanted = [
            "x_seconds_bucket{le=\"0.0001\"} 1",
            "x_seconds_bucket{le=\"1.0\"} 2",
            "x_seconds_bucket{le=\"21600.0\"} 3",
            "x_seconds_bucket{le=\"+Inf\"} 4",
            "x_seconds_sum 30003",
            "x_seconds_count 4",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), wanted);
    }
}
