//! What a client accepts: media types by `Accept`, codings by `Accept-Encoding` (RFC 9110, sections
//! 12.5.1 and 12.5.3).

/// A media type, or a range of them, that a client accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaRange<'a> {
    /// `text/plain`, `*/*`, in upper or lower case.
    pub media_type: &'a str,
    /// Its parameters, without the weight.
    pub parameters: Vec<(&'a str, &'a str)>,
    /// From 0 to 1.
    weight: f32,
}

impl MediaRange<'_> {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The codings that a client accepts, as far as k1s knows them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AcceptedCodings {
    gzip: Option<bool>,
    any: Option<bool>,
}

impl AcceptedCodings {
    /// Adds the value of an `Accept-Encoding`, of which there may be several.
    pub(super) fn add(&mut self, value: &str) {
        for member in value.split(',') {
            let (name, parameters) = member.split_once(';').unwrap_or((member, ""));
            let weight = parameters.split_once('=').map_or(1.0, |(_, value)| weight(value));
            let is_accepted = Some(weight > 0.0);
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => self.gzip = is_accepted,
                "*" => self.any = is_accepted,
                _ => {}
            }
        }
    }

    /// Whether an answer may be compressed with gzip.
    pub(super) fn has_gzip(self) -> bool {
        self.gzip.or(self.any).unwrap_or(false)
    }
}

/// The types that a client accepts, the preferred ones first; those of the same weight stay in
/// order. Malformed members are ignored, and a malformed weight counts as 1.
pub fn media_ranges(accept: &str) -> Vec<MediaRange<'_>> {
    let mut ranges: Vec<_> = accept.split(',').filter_map(media_range).collect();
    ranges.retain(|range| range.weight > 0.0);
    ranges.sort_by(|one, other| other.weight.total_cmp(&one.weight));
    ranges
}

fn media_range(text: &str) -> Option<MediaRange<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().filter(|name| name.contains('/'))?;
    let pairs = parts.filter_map(|part| part.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim_end(), value.trim_start().trim_matches('"')));
    let (weights, parameters): (Vec<_>, Vec<_>) =
        pairs.partition(|(name, _)| name.eq_ignore_ascii_case("q"));
    let weight = weights.first().map_or(1.0, |(_, value)| weight(value));
    Some(MediaRange { media_type, parameters, weight })
}

fn weight(text: &str) -> f32 {
    let weight = text.trim().parse().ok();
    weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: &[&str]) {
        let ranges = media_ranges(accept);
        let names: Vec<_> = ranges.iter().map(|range| range.media_type).collect();
        assert_eq!(names, expected, "{accept}");
    }

    #[test]
    fn preferred_types_come_first() {
        check("", &[]);
        check("a/b", &["a/b"]);
        check("a/b;q=0.5, c/d;q=0.8 ,*/*;q=0.1", &["c/d", "a/b", "*/*"]);
        check("a/b, c/d, e/f;q=1", &["a/b", "c/d", "e/f"]);
        check("a/b;q=0, c/d; Q = 0.001", &["c/d"]);
        check("a/b;q=x, c/d;q=2, e/f;q=-1, g/h;q=NaN", &["a/b", "c/d", "e/f", "g/h"]);
        check(" ,; ,a, /, ;q=1", &["/"]);
    }

    #[test]
    fn gzip_is_accepted_by_name_or_with_all_others() {
        let has_gzip = |values: &[&str]| {
            let mut codings = AcceptedCodings::default();
            values.iter().for_each(|value| codings.add(value));
            codings.has_gzip()
        };
        for accepted in ["gzip", "br, GZIP ;q=0.5", "x-gzip", "*", "*;q=0.1,identity", "gzip;q=x"] {
            assert!(has_gzip(&[accepted]), "{accepted}");
        }
        for refused in ["", "br, deflate", "gzip;q=0", "*, gzip; q=0.0", "*;q=0", "gzipped"] {
            assert!(!has_gzip(&[refused]), "{refused}");
        }
        assert!(has_gzip(&["br", "gzip"]));
    }

    #[test]
    fn parameters_are_found_by_name() {
        let accept = r#"a/b; Version="1.0.0" ;q=0.5;x; charset=utf-8"#;
        let ranges = media_ranges(accept);
        assert_eq!(ranges[0].parameter("version"), Some("1.0.0"));
        assert_eq!(ranges[0].parameter("charset"), Some("utf-8"));
        assert_eq!(ranges[0].parameter("q"), None);
    }
}
