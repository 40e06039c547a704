//! A strict reader of the two formats of `GET /metrics`, which shares nothing with the writer:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

#![allow(clippy::panic, reason = "a property that does not hold panics")]

use std::collections::{BTreeMap, BTreeSet};

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.
    OpenMetrics,
}

/// All values by name and labels.
pub type Samples = BTreeMap<(String, Labels), f64>;

/// Labels with their values, unescaped.
pub type Labels = BTreeMap<String, String>;

/// The metric whose lines are being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
    has_help: bool,
    unit: Option<String>,
    has_samples: bool,
}

/// Reads an answer.
///
/// # Panics
/// When it violates the format.
pub fn parse(text: &str, format: Format) -> Samples {
    let Some(body) = text.strip_suffix('\n') else { panic!("no newline at the end") };
    let (mut family, mut finished) = (Family::default(), BTreeSet::new());
    let mut samples = Samples::new();
    let mut lines = body.split('\n').peekable();
    while let Some(line) = lines.next() {
        if format == Format::OpenMetrics && lines.peek().is_none() {
            assert_eq!(line, "# EOF", "the end");
        } else if let Some(comment) = line.strip_prefix("# ") {
            family = describe(family, comment, format, &mut finished);
        } else {
            let (name, labels, value) = sample(line);
            family.has_samples = true;
            family.check(&name, &labels, value, format, line);
            let key = (name, labels);
            assert!(samples.insert(key, value).is_none(), "twice: {line}");
        }
    }
    family.finish(&mut finished, format);
    check_histograms(&samples);
    samples
}

/// A line of `HELP`, `TYPE` or `UNIT`, of this metric or of the next.
fn describe(
    mut family: Family,
    comment: &str,
    format: Format,
    finished: &mut BTreeSet<String>,
) -> Family {
    let mut words = comment.splitn(3, ' ');
    let (keyword, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest = words.next().unwrap_or_default();
    assert!(is_name(name, true), "{comment}");
    if name != family.name {
        family.finish(finished, format);
        assert!(!finished.contains(name), "not all lines of {name} are together");
        family = Family { name: name.to_owned(), ..Family::default() };
    }
    assert!(!family.has_samples, "behind its lines: {comment}");
    match keyword {
        "HELP" => {
            assert!(!std::mem::replace(&mut family.has_help, true), "twice: {comment}");
            assert!(!rest.is_empty() && !rest.contains(['\\', '"']), "{comment}");
        }
        "TYPE" => {
            let kinds = ["counter", "gauge", "histogram", "info"];
            let kinds = if format == Format::Text { &kinds[..3] } else { &kinds };
            assert!(kinds.contains(&rest), "{comment}");
            assert_eq!(family.kind.replace(rest.to_owned()), None, "twice: {comment}");
        }
        "UNIT" if format == Format::OpenMetrics => {
            assert!(name.ends_with(&format!("_{rest}")), "{comment}");
            assert_eq!(family.unit.replace(rest.to_owned()), None, "twice: {comment}");
        }
        _ => panic!("{comment}"),
    }
    family
}

impl Family {
    /// Checks that a line belongs to this metric, and may have this value.
    fn check(&self, name: &str, labels: &Labels, value: f64, format: Format, line: &str) {
        let suffix = name.strip_prefix(self.name.as_str());
        let (Some(suffix), Some(kind)) = (suffix, &self.kind) else {
            panic!("{line}: within {}", self.name);
        };
        let is_open = format == Format::OpenMetrics;
        let suffixes: &[&str] = match kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            "counter" if is_open => &["_total"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(suffixes.contains(&suffix), "{line}: of the {kind} {}", self.name);
        assert!(value.is_finite(), "{line}");
        match kind.as_str() {
            "counter" => assert!(value >= 0.0 && name.ends_with("_total"), "{line}"),
            "histogram" => assert!(value >= 0.0, "{line}"),
            "info" => assert_eq!(value.to_bits(), 1f64.to_bits(), "{line}"),
            _ => assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{line}"),
        }
        assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
    }

    fn finish(&self, finished: &mut BTreeSet<String>, format: Format) {
        if self.name.is_empty() {
            return;
        }
        let name = &self.name;
        assert!(self.kind.is_some() && self.has_help, "{name} is not described");
        let has_unit = ["_seconds", "_bytes"].iter().any(|unit| name.ends_with(unit));
        assert_eq!(self.unit.is_some(), has_unit && format == Format::OpenMetrics, "{name}: unit");
        assert!(finished.insert(name.clone()), "not all lines of {name} are together");
    }
}

/// Name, labels and value. There are no timestamps.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    assert!(is_name(name, true), "{line}");
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest, line),
        None => (Labels::new(), rest),
    };
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
    let Some(value) = value else { panic!("{line}: no value") };
    (name.to_owned(), labels, value)
}

/// The labels up to the closing brace, and the rest of the line.
fn labels<'a>(mut rest: &'a str, line: &str) -> (Labels, &'a str) {
    let mut labels = Labels::new();
    loop {
        let Some((name, after)) = rest.split_once("=\"") else { panic!("{line}") };
        assert!(is_name(name, false) && !name.starts_with("__"), "{line}: {name}");
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => value.push(match letters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('\\' | '"'))) => escaped,
                    other => panic!("{line}: {other:?} is no escape"),
                }),
                Some((_, letter)) => value.push(letter),
                None => panic!("{line}: {name} has no end"),
            }
        };
        assert_eq!(labels.insert(name.to_owned(), value), None, "{line}: {name} twice");
        rest = after.get(end + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let Some(after) = rest.strip_prefix(',') else { panic!("{line}") };
        rest = after;
    }
}

fn is_name(name: &str, is_of_metric: bool) -> bool {
    let mut letters = name.chars();
    let may_begin = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':' && is_of_metric;
    letters.next().is_some_and(may_begin) && letters.all(|c| may_begin(c) || c.is_ascii_digit())
}

/// The counts of each histogram must not decrease, and the last must be the total.
fn check_histograms(samples: &Samples) {
    let mut histograms: BTreeMap<(&str, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), value) in samples {
        let (Some(family), Some(bound)) = (name.strip_suffix("_bucket"), labels.get("le")) else {
            continue;
        };
        assert!(bound == "+Inf" || bound.contains('.'), "{name}: le={bound}");
        let Ok(bound) = bound.parse::<f64>() else { panic!("{name}: le={bound}") };
        let mut labels = labels.clone();
        labels.remove("le");
        histograms.entry((family, labels)).or_default().push((bound, *value));
    }
    for ((family, labels), mut buckets) in histograms {
        let of = |suffix| samples.get(&(format!("{family}{suffix}"), labels.clone()));
        let (Some(count), Some(_)) = (of("_count"), of("_sum")) else {
            panic!("{family} {labels:?}: no count or sum");
        };
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{family}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{family} {labels:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: &str = "# HELP a_total A\n# TYPE a_total counter\n";

    #[track_caller]
    fn check(text: &str, format: Format, is_right: bool) {
        let read = std::panic::catch_unwind(|| parse(text, format)).is_ok();
        assert_eq!(read, is_right, "{text}");
    }

    #[test]
    fn what_is_right_is_read() {
        let text = format!("{COUNTER}a_total{{x=\"\\\\\\\"\\n}},\",y=\"\"}} 1.5\na_total 2\n");
        let samples = parse(&text, Format::Text);
        let labels = [("x", "\\\"\n},"), ("y", "")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(samples[&("a_total".to_owned(), labels.into())], 1.5);
        assert_eq!(samples.len(), 2);
        let open = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds A\n\
                    a_seconds_total 1\n# TYPE b info\n# HELP b B\nb_info{v=\"1\"} 1\n# EOF\n";
        check(open, Format::OpenMetrics, true);
        let histogram = "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\n\
                         h_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\n";
        check(histogram, Format::Text, true);
    }

    #[test]
    fn what_is_wrong_is_not() {
        for lines in [
            "a_total 1",
            "a_total 1\n\n",
            "a_total 1\na_total 2\n",
            "a_total{x=\"1\",x=\"2\"} 1\n",
            "a_total{x=\"1\\t\"} 1\n",
            "a_total{x=\"1} 1\n",
            "a_total{1x=\"1\"} 1\n",
            "a_total{x=\"1\"}1\n",
            "a_total{} 1\n",
            "a_total -1\n",
            "a_total NaN\n",
            "a_total x\n",
            "a_total 1 1774656000\n",
            "b_total 1\n",
            "a_total 1\n# HELP b B\n# TYPE b gauge\nb 1\na_total{x=\"1\"} 1\n",
            "a_total 1\n# HELP b B\n# TYPE b gauge\n# HELP a_total A\n# TYPE a_total counter\n",
            "a_total 1\n# TYPE a_total counter\n",
            "# HELP b B\nb 1\n",
            "# TYPE b gauge\nb 1\n",
            "# HELP b B\n# TYPE b info\nb_info 1\n",
            "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 2\n",
            "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 3\nh_sum 9\nh_count 3\n",
            "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_count 3\n",
            "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 4\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\n",
        ] {
            check(&format!("{COUNTER}{lines}"), Format::Text, false);
        }
        let open = "# TYPE a counter\n# HELP a A\na_total 1\n";
        check(&format!("{open}# EOF\n"), Format::OpenMetrics, true);
        for wrong in [
            open.to_owned(),
            format!("# EOF\n{open}# EOF\n"),
            format!("{open}# EOF\n\n"),
            format!("{COUNTER}a_total 1\n# EOF\n"),
            format!("{open}# TYPE b_seconds gauge\n# HELP b_seconds B\nb_seconds 1\n# EOF\n"),
            format!("{open}# TYPE b info\n# HELP b B\nb_info 2\n# EOF\n"),
        ] {
            check(&wrong, Format::OpenMetrics, false);
        }
    }
}
