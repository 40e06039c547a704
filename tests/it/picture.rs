//! The picture of `k1s ps` in README.md, drawn from what a terminal shows.
//!
//! `K1S_PICTURE_UPDATE=1` draws it anew, after a change of the table.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{K1s, continuous, cron, one_off, wait_until, with};

#[test]
fn it_shows_what_ps_shows() {
    let k1s = K1s::start();
    let slow = json!({"restart": {"initialDelayMs": 8000, "maxDelayMs": 8000}});
    let nightly = json!({"type": "cron", "schedule": "30 2 * * *", "executable": "true"});
    k1s.create("db", &continuous("exec sleep 1000"));
    k1s.create("migration", &with(one_off("exit 0"), json!({"dependsOn": {"db": "ready"}})));
    k1s.create("web", &with(continuous("exec sleep 1000"), json!({"dependsOn": {"db": "ready"}})));
    k1s.create("worker", &with(continuous("exit 3"), slow));
    k1s.create("mailer", &with(continuous("true"), json!({"dependsOn": {"smtp": "ready"}})));
    k1s.create("backup", &nightly);
    k1s.create("report", &cron("exit 1", 3600));
    k1s.told(&["run", "backup", "--wait"]);
    k1s.client(&["run", "report", "--wait"]);
    for (id, state) in [("migration", "succeeded"), ("worker", "backoff"), ("web", "running")] {
        k1s.in_state(id, state);
    }
    wait_until("the worker has failed twice", || k1s.job("worker")["results"][1].is_object());
    let (asking, terminal) = k1s.client_on_terminal(&["ps"], 24, COLUMNS);
    let shown = asking.end().stdout;
    drop(terminal);
    let picture = drawn(&shown);
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".ci/ps.svg"].iter().collect();
    if std::env::var_os("K1S_PICTURE_UPDATE").is_some() {
        fs::write(&path, &picture).unwrap();
    }
    // Times and processes differ each time.
    let kept = fs::read_to_string(&path).unwrap();
    let update = "K1S_PICTURE_UPDATE=1 cargo test --test it -- picture::";
    assert_eq!(words(&kept), words(&picture), "run {update}");
}

/// What a terminal shows, as SVG: a line of text for each of its lines.
fn drawn(shown: &str) -> String {
    let lines: Vec<&str> = shown.lines().collect();
    let width = usize::from(COLUMNS) * ADVANCE + 2 * MARGIN;
    let height = (lines.len() + 1) * LEADING + 2 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"13\" fill=\"#d8dee9\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1f2430\"/>\n"
    );
    let prompt = ["$ k1s ps"].into_iter();
    for (index, line) in prompt.chain(lines).enumerate() {
        let y = MARGIN + index * LEADING + LEADING * 3 / 4;
        for (column, text, style) in pieces(line) {
            let x = MARGIN + column * ADVANCE;
            let length = text.chars().count() * ADVANCE;
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" textLength=\"{length}\"{style}>{text}</text>"
            );
        }
    }
    out + "</svg>\n"
}

/// The pieces of a line between wide gaps and colours: the column each begins in, its text, and
/// the attribute for its colour. So they stand below each other in any font.
fn pieces(line: &str) -> Vec<(usize, &str, &'static str)> {
    let (mut pieces, mut column) = (Vec::new(), 0);
    for (index, part) in line.split('\u{1b}').enumerate() {
        let (code, text) = if index == 0 { ("", part) } else { part.split_once('m').unwrap() };
        let style = match code {
            "[1" => " font-weight=\"bold\"",
            "[2" => " fill=\"#7b8496\"",
            "[31" => " fill=\"#ff6b6b\"",
            "[32" => " fill=\"#8ccf7e\"",
            "[33" => " fill=\"#f0c674\"",
            "[36" => " fill=\"#6cc6d8\"",
            "" | "[0" => "",
            other => panic!("{other} has no colour here"),
        };
        let mut rest = text;
        while !rest.trim_start().is_empty() {
            let begin = rest.trim_start();
            column += rest.chars().count() - begin.chars().count();
            let piece = begin.split("  ").next().unwrap().trim_end();
            pieces.push((column, piece, style));
            column += piece.chars().count();
            rest = &begin[piece.len()..];
        }
        column += rest.chars().count();
    }
    pieces
}

/// What is in a picture, without its figures.
fn words(picture: &str) -> Vec<String> {
    let texts = picture.split("</text>").filter_map(|text| text.rsplit_once('>'));
    let plain = |text: &str| text.split(|c: char| !c.is_alphabetic()).next().unwrap().to_owned();
    texts.map(|(_, text)| plain(text)).filter(|word| !word.is_empty()).collect()
}

const COLUMNS: u16 = 118;
/// In pixels: the width of a character, the height of a line, the space around all.
const ADVANCE: usize = 8;
const LEADING: usize = 19;
const MARGIN: usize = 14;
