//! What an expression means: a table of times from other sources, messages of errors, and `next`
//! compared with a slow daemon that looks at every minute.

mod slow;

use std::time::Duration;

use super::*;
use crate::calendar::{format_rfc3339, parse_rfc3339};

#[test]
fn expressions_come_when_the_table_says() {
    let rows = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let checked = rows.map(check_row).count();
    assert!(checked >= 200, "{checked} rows");
}

/// `expression | zone | strictly after | times | what differs`.
fn check_row(row: &str) {
    let mut cells = row.split(" | ");
    let mut cell = || cells.next().expect("a row has four cells or five");
    let (expression, zone, after, times) = (cell(), cell(), cell(), cell());
    let times: Vec<Wall> = times.split(' ').map(at).collect();
    let found: Vec<Wall> = schedule(expression, zone).upcoming(at(after), times.len()).collect();
    let readable = |times: &[Wall]| -> Vec<String> {
        let text = |time: &Wall| format_rfc3339(*time).to_string();
        times.iter().map(text).collect()
    };
    assert_eq!(readable(&found), readable(&times), "{row}");
}

#[test]
fn wrong_expressions_are_refused_in_words() {
    for (expression, message) in REFUSED {
        match CronSchedule::parse(expression, "UTC") {
            Err(ScheduleError::Expression(found)) => {
                assert!(found.contains(message), "{expression:?}: {found}");
            }
            other => panic!("{expression:?}: {other:?}"),
        }
    }
}

#[test]
fn a_refusal_says_the_field_its_text_and_what_is_allowed() {
    let refusal =
        |expression, zone| CronSchedule::parse(expression, zone).expect_err("is wrong").to_string();
    assert_eq!(
        refusal("0 0 * * fri-sun", "UTC"),
        "day of week: \"fri-sun\" runs backwards; allowed are 0 to 7 or sun to sat (Sunday is \
         0, 7 or sun; at the end of a range 7), ranges a-b, *, steps a-b/n and */n, and lists \
         of these"
    );
    assert_eq!(
        refusal("0 24,1 * * *", "UTC"),
        "hour: \"24\" is out of range; allowed are 0 to 23, ranges a-b, *, steps a-b/n and \
         */n, and lists of these"
    );
    assert_eq!(
        refusal("* * * * *", "Mars/Base"),
        "time zone \"Mars/Base\" is not known; allowed is an IANA name such as \"UTC\" or \
         \"Europe/Berlin\""
    );
    assert_eq!(
        refusal("0 0 30 2 *", "UTC"),
        "\"0 0 30 2 *\" never comes: no month that it names has such a day"
    );
}

#[test]
fn days_that_no_year_has_are_refused() {
    for expression in [
        "0 0 30 2 *",
        "0 0 31 2 *",
        "0 0 30,31 feb */2",
        "* * 31 4,6,9,11 *",
        "0 0 0 31 2-2 *",
        "0 0 30-31/1 2 *",
    ] {
        let refused = CronSchedule::parse(expression, "UTC");
        let never = ScheduleError::Never(expression.to_string());
        assert_eq!(refused.expect_err(expression), never);
    }
    // A restricted day of the week is in any month.
    assert!(CronSchedule::parse("0 0 31 2 mon", "UTC").is_ok());
}

#[test]
fn zones_are_known_by_their_iana_names() {
    for name in ["UTC", "utc", "Etc/UTC", "europe/berlin", "US/Pacific"] {
        assert_eq!(schedule("@daily", name).time_zone(), name);
    }
    for name in ["", " ", "Etc/Unknown", "Mars/Base", "../etc/passwd", "+02:00", "zone.tab"] {
        let refused = CronSchedule::parse("@daily", name).expect_err(name);
        assert_eq!(refused, ScheduleError::Zone(name.to_string()));
    }
}

#[test]
fn schedules_are_equal_when_they_were_typed_alike() {
    let daily = schedule("@daily", "UTC");
    assert_eq!(daily, schedule("@daily", "UTC"));
    assert_ne!(daily, schedule("0 0 * * *", "UTC"));
    assert_ne!(daily, schedule("@daily", "utc"));
    assert_eq!(daily.expression(), "@daily");
    assert_ne!(Schedule::Cron(daily), Schedule::Every(Duration::from_secs(86400)));
}

#[test]
fn a_search_ends_with_the_calendar() {
    let minutely = schedule("* * * * *", "Europe/Berlin");
    let end = at("9999-12-30T21:59:00Z");
    assert_eq!(minutely.next(end), Some(at("9999-12-30T22:00:00Z")));
    assert_eq!(minutely.upcoming(end, 9).count(), 1);
    assert_eq!(minutely.next(Wall(i64::MAX)), None);
    assert!(minutely.next(Wall(i64::MIN)).is_some());
    assert_eq!(schedule("0 0 29 2 *", "UTC").next(at("9996-02-29T00:00:00Z")), None);
    assert_eq!(schedule("0 0 31 12 *", "Asia/Tokyo").next(end), None);
}

#[test]
fn a_search_ends_when_clocks_skip_the_time_each_year() {
    let zone = TimeZone::posix("<+0330>-3:30<+0430>,J79/24,J263/24").expect("a zone");
    let in_zone = |expression| CronSchedule { zone: zone.clone(), ..schedule(expression, "UTC") };
    let after = at("2026-01-01T00:00:00Z");
    assert_eq!(in_zone("* 0 21 3 *").next(after), None);
    let right_after = at("2026-03-20T20:30:00Z");
    assert_eq!(in_zone("30 0 21 3 *").next(after), Some(right_after));
}

#[test]
fn a_hundred_thousand_schedules_are_small() {
    assert!(size_of::<CronSchedule>() <= 72);
}

fn schedule(expression: &str, zone: &str) -> CronSchedule {
    CronSchedule::parse(expression, zone)
        .unwrap_or_else(|error| panic!("{expression:?} in {zone:?}: {error}"))
}

fn at(text: &str) -> Wall {
    parse_rfc3339(text).expect("a time")
}

const TABLE: &str = include_str!("table.txt");

/// An expression, and a part of its error.
const REFUSED: &[(&str, &str)] = &[
    ("", "has 0 fields"),
    (" \t ", "has 0 fields"),
    ("*", "has 1 field;"),
    ("* * * *", "has 4 fields; a cron expression has 5"),
    ("* * * * * * *", "has 7 fields"),
    ("@reboot", "\"@reboot\" is not known; allowed are @yearly @annually"),
    ("@Daily", "is not known"),
    ("@every 5m", "is not known"),
    ("@daily *", "is not known"),
    ("TZ=UTC * * * *", "minute: \"TZ=UTC\" is not understood"),
    ("60 * * * *", "minute: \"60\" is out of range; allowed are 0 to 59,"),
    ("-1 * * * *", "minute: \"-1\" lacks a value"),
    ("+1 * * * *", "is not understood"),
    ("1.5 * * * *", "is not understood"),
    ("0x1 * * * *", "is not understood"),
    ("99999999999999999999 * * * *", "is out of range"),
    ("* 24 * * *", "hour: \"24\" is out of range; allowed are 0 to 23,"),
    ("* * 0 * *", "day of month: \"0\" is out of range; allowed are 1 to 31,"),
    ("* * 32 * *", "day of month: \"32\" is out of range"),
    ("* * * 0 *", "month: \"0\" is out of range; allowed are 1 to 12 or jan to dec,"),
    ("* * * 13 *", "month: \"13\" is out of range"),
    ("* * * * 8", "day of week: \"8\" is out of range; allowed are 0 to 7 or sun to sat"),
    ("60 * * * * *", "second: \"60\" is out of range"),
    ("* * * * * 8", "day of week: \"8\" is out of range"),
    ("10-5 * * * *", "minute: \"10-5\" runs backwards"),
    ("* 22-2 * * *", "hour: \"22-2\" runs backwards"),
    ("* * * nov-feb *", "month: \"nov-feb\" runs backwards"),
    ("* * * * fri-mon", "day of week: \"fri-mon\" runs backwards"),
    ("* * * * sat-sun", "\"sat-sun\" runs backwards"),
    ("1,,2 * * * *", "minute: \"\" lacks a value"),
    (",1 * * * *", "minute: \"\" lacks a value"),
    ("1, * * * *", "minute: \"\" lacks a value"),
    ("1 - 5 * * *", "\"-\" lacks a value"),
    ("1- * * * *", "\"1-\" lacks a value"),
    ("1-2-3 * * * *", "is not understood"),
    ("*-5 * * * *", "is not understood"),
    ("** * * * *", "is not understood"),
    ("*5 * * * *", "is not understood"),
    ("5/10 * * * *", "\"5/10\" has a step without a range, such as 5-59/10"),
    ("*/0 * * * *", "minute: \"*/0\" has a step of 0"),
    ("*/ * * * *", "has a step that is not a number"),
    ("*/-5 * * * *", "has a step that is not a number"),
    ("*/5/5 * * * *", "has a step that is not a number"),
    ("*/a * * * *", "has a step that is not a number"),
    ("/5 * * * *", "\"/5\" lacks a value"),
    ("* * L * *", "day of month: \"L\" is not understood"),
    ("* * 15W * *", "\"15W\" is not understood"),
    ("* * * * 5#2", "\"5#2\" is not understood"),
    ("* * * * 5L", "\"5L\" is not understood"),
    ("* * ? * *", "\"?\" is not understood"),
    ("H * * * *", "is not understood"),
    ("0~5 * * * *", "is not understood"),
    ("jan * * * *", "minute: \"jan\" is not understood"),
    ("* * jan * *", "day of month: \"jan\" is not understood"),
    ("* * * mon *", "month: \"mon\" is not understood"),
    ("* * * * jan", "day of week: \"jan\" is not understood"),
    ("* * * january *", "month: \"january\" is not understood"),
    ("* * * * monday", "is not understood"),
    ("٣ * * * *", "minute: \"٣\" is not understood"),
    ("* * * * *\u{a0}", "day of week: \"*\\u{a0}\" is not understood"),
    ("*\n* * * *", "has 4 fields"),
    ("* * * * *\n", "day of week: \"*\\n\" is not understood"),
    ("* * * * *\0", "is not understood"),
    ("％ * * * *", "is not understood"),
];

#[test]
fn an_expression_has_an_end() {
    let long = format!("{} * * * *", ["1"; 600].join(","));
    let refused = CronSchedule::parse(&long, "UTC").expect_err("too long");
    assert!(refused.to_string().contains("at most 1024"), "{refused}");
    let every = |first: u8, last: u8| {
        let numbers: Vec<String> = (first..=last).map(|number| number.to_string()).collect();
        numbers.join(",")
    };
    let longest = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
        .map(|(first, last)| every(first, last))
        .join(" ");
    assert!(CronSchedule::parse(&longest, "UTC").is_ok());
}
