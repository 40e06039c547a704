//! The raw cases of `cases.txt`, which says how they are written. The codec's own tests and
//! the end-to-end tests read them alike.

/// One case: what is sent, and what may come back.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What is wrong, or curious, about it.
    pub(crate) name: String,
    /// The answers that are permitted, in order: each a list of alternatives.
    pub(crate) answers: Vec<Vec<Answer>>,
    /// What becomes of the connection after the last of them.
    pub(crate) end: End,
    /// The bytes.
    pub(crate) raw: Vec<u8>,
}

/// One permitted answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The codec takes the request; the answer is whatever the API makes of it.
    Ok,
    /// The codec refuses with this status.
    Refused(u16),
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It goes on: a request that is sent behind the bytes is answered.
    Keep,
    /// It ends: a request that is sent behind the bytes is not answered.
    Close,
    /// The bytes are not a whole request: the peer ends its side instead.
    Part,
}

/// All cases, in the order of the file.
pub(crate) fn cases() -> Vec<Case> {
    let blocks = include_str!("cases.txt").split("\n= ").skip(1);
    blocks.map(parse_case).collect()
}

/// Whether an answer with this status is permitted by one of the alternatives. What the API
/// answers of itself is 2xx, 403, 404 or 405; 400 is taken for the codec's.
pub(crate) fn is_permitted(status: u16, alternatives: &[Answer]) -> bool {
    alternatives.iter().any(|answer| match answer {
        Answer::Ok => matches!(status, 200..=299 | 403 | 404 | 405),
        Answer::Refused(refused) => *refused == status,
    })
}

fn parse_case(block: &str) -> Case {
    let mut lines = block.lines();
    let name = lines.next().expect("a name").to_owned();
    let outcome = lines
        .next()
        .and_then(|line| line.strip_prefix("> "))
        .unwrap_or_else(|| panic!("{name}: no outcome"));
    let mut words: Vec<&str> = outcome.split(' ').collect();
    let end = match words.pop() {
        Some("keep") => End::Keep,
        Some("close") => End::Close,
        Some("part") => End::Part,
        other => panic!("{name}: {other:?} is no end"),
    };
    let answers = words.iter().map(|word| parse_answer(word)).collect();
    let mut raw = Vec::new();
    for line in lines.filter(|line| !line.starts_with('#')) {
        unescape(line, &mut raw);
    }
    Case { name, answers, end, raw }
}

fn parse_answer(word: &str) -> Vec<Answer> {
    word.split('|')
        .map(|word| match word {
            "ok" => Answer::Ok,
            _ => Answer::Refused(word.parse().expect("a status")),
        })
        .collect()
}

fn unescape(text: &str, raw: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        raw.extend_from_slice(&rest.as_bytes()[..at]);
        let kind = rest[at + 1..].chars().next().expect("an escape");
        rest = &rest[at + 2..];
        match kind {
            'r' => raw.push(b'\r'),
            'n' => raw.push(b'\n'),
            't' => raw.push(b'\t'),
            '\\' => raw.push(b'\\'),
            'x' => {
                raw.push(u8::from_str_radix(&rest[..2], 16).expect("two hex digits"));
                rest = &rest[2..];
            }
            '{' => {
                let (count, after) = rest.split_once('*').expect("a count");
                let (unit, after) = after.split_once("\\}").expect("an end");
                for _ in 0..count.parse().expect("a number") {
                    unescape(unit, raw);
                }
                rest = after;
            }
            other => panic!("no escape: {other}"),
        }
    }
    raw.extend_from_slice(rest.as_bytes());
}
