//! Hostile HTTP over real sockets: every case of `hostile/cases.txt`, to the real binary.
//!
//! ```text
//!   case ──▶ as a stranger: what the codec takes is a 403, and the connection ends
//!        └─▶ as the owner: the token is put behind each Host line
//!              each in one packet, and byte by byte ──▶ then a canary on another connection
//! ```

mod cases;

use std::thread;

use crate::harness::{Client, K1s};
use cases::{Answer, Case, End, cases, is_permitted};

#[test]
fn a_stranger_gets_what_the_rfc_permits_or_a_403() {
    check_all(|k1s, case, delivery| {
        let answers = as_a_stranger(case);
        check(k1s, case, &case.raw, &answers, delivery)
    });
}

#[test]
fn the_owner_gets_what_the_rfc_permits() {
    check_all(|k1s, case, delivery| {
        let raw = with_token(case, &k1s.authorization())?;
        check(k1s, case, &raw, &as_the_owner(case), delivery)
    });
}

#[test]
fn many_hostile_peers_at_once_do_not_disturb_each_other() {
    let k1s = K1s::start();
    let cases = cases();
    let mut clients: Vec<_> = cases.iter().map(|_| k1s.connect()).collect();
    let longest = cases.iter().map(|case| case.raw.len().min(ROUNDS)).max().unwrap();
    // One byte of each in turn; then the rest of each.
    for at in 0..longest {
        for (client, case) in clients.iter_mut().zip(&cases) {
            client.send(case.raw.get(at..=at).unwrap_or_default());
        }
    }
    let mut failures = Vec::new();
    for (mut client, case) in clients.into_iter().zip(&cases) {
        client.send(case.raw.get(longest..).unwrap_or_default());
        let answers = as_a_stranger(case);
        let statuses = statuses(&finish(client, answers.end));
        failures.extend(complaint(case, &statuses, &answers));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// How the bytes of a case are sent.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    OnePacket,
    ByteByByte,
}

/// What is to come back on the connection.
struct Expected {
    answers: Vec<Vec<Answer>>,
    end: End,
}

/// Runs each case in each delivery against one k1s, which must not change by them. The byte-by-byte
/// half runs at the same time as the other, so that both see a k1s under load.
fn check_all(check: impl Fn(&K1s, &Case, Delivery) -> Option<String> + Sync) {
    let k1s = K1s::start();
    let cases = cases();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let run = |delivery, longest| -> Vec<String> {
        let cases = cases.iter().filter(|case| case.raw.len() <= longest);
        cases.filter_map(|case| check(&k1s, case, delivery)).collect()
    };
    let (mut failures, others) = thread::scope(|scope| {
        let slow = scope.spawn(|| run(Delivery::ByteByByte, LONGEST_BYTE_BY_BYTE));
        (run(Delivery::OnePacket, usize::MAX), slow.join().unwrap())
    });
    failures.extend(others);
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(k1s.get("/").text(), "[]\n", "nothing was created");
}

/// Sends one case; says what was wrong about the answers.
fn check(
    k1s: &K1s,
    case: &Case,
    raw: &[u8],
    expected: &Expected,
    delivery: Delivery,
) -> Option<String> {
    let mut client = k1s.connect();
    match delivery {
        Delivery::OnePacket => client.send(raw),
        Delivery::ByteByByte => raw.iter().for_each(|byte| client.send([*byte])),
    }
    let statuses = statuses(&finish(client, expected.end));
    let alive = k1s.get("/healthz").status == 200;
    assert!(alive, "k1s does not answer after {}", case.name);
    complaint(case, &statuses, expected).map(|text| format!("{delivery:?}: {text}"))
}

/// Sends what comes behind a case, and reads all that is answered.
fn finish(mut client: Client, end: End) -> Vec<u8> {
    match end {
        End::Keep | End::Close => client.send(CANARY),
        End::Part => client.finish_sending(),
    }
    client.rest()
}

fn complaint(case: &Case, statuses: &[u16], expected: &Expected) -> Option<String> {
    let is_final = |status: &u16| *status != 100 || !MAY_CONTINUE.contains(&case.name.as_str());
    let statuses: Vec<u16> = statuses.iter().copied().filter(is_final).collect();
    let mut answers = expected.answers.clone();
    if expected.end == End::Keep {
        answers.push(vec![Answer::Ok]);
    }
    let is_expected = statuses.len() == answers.len()
        && statuses
            .iter()
            .zip(&answers)
            .all(|(status, permitted)| is_permitted(*status, permitted));
    (!is_expected).then(|| format!("{}: {statuses:?}, not {answers:?}", case.name))
}

/// Without the token there is one answer at most: the codec refuses the head, or the API
/// refuses who sent it, before the body is looked at.
fn as_a_stranger(case: &Case) -> Expected {
    let first =
        case.answers.first().map(|answer| [answer.as_slice(), &[Answer::Refused(403)]].concat());
    let end = if first.is_some() && case.end == End::Keep { End::Close } else { case.end };
    Expected { answers: first.into_iter().collect(), end }
}

/// With the token, a request that the codec takes may be a 400 of the API's: a body that is
/// no job. That the connection goes on tells the two apart.
fn as_the_owner(case: &Case) -> Expected {
    let mut answers = case.answers.clone();
    for answer in &mut answers {
        if answer.contains(&Answer::Ok) {
            answer.push(Answer::Refused(400));
        }
    }
    let end = if ENDED_BY_THE_API.contains(&case.name.as_str()) { End::Close } else { case.end };
    Expected { answers, end }
}

/// The case with the token behind each Host line. `None` for those that have an Authorization
/// of their own, no Host to put it behind, or a size that matters.
fn with_token(case: &Case, authorization: &str) -> Option<Vec<u8>> {
    const HOST: &[u8] = b"Host: a\r\n";
    let has = |what: &[u8]| case.raw.windows(what.len()).any(|window| window == what);
    if !has(HOST) || has(b"Authorization") || AT_A_LIMIT.contains(&case.name.as_str()) {
        return None;
    }
    let mut raw = Vec::new();
    let mut rest = case.raw.as_slice();
    while let Some(at) = rest.windows(HOST.len()).position(|window| window == HOST) {
        let (before, after) = rest.split_at(at + HOST.len());
        raw.extend_from_slice(before);
        raw.extend_from_slice(authorization.as_bytes());
        rest = after;
    }
    raw.extend_from_slice(rest);
    Some(raw)
}

/// The statuses of all answers in a stream of them.
fn statuses(answers: &[u8]) -> Vec<u16> {
    const START: &[u8] = b"HTTP/1.1 ";
    let starts = answers.windows(START.len() + 3).filter(|window| window.starts_with(START));
    let codes = starts.filter_map(|window| str::from_utf8(&window[START.len()..]).ok());
    codes.filter_map(|code| code.parse().ok()).collect()
}

/// Open to all, and the last of its connection.
const CANARY: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the codec would keep open: a listing in HTTP/1.0 ends with its connection, and so does
/// a request that is refused before its body is read.
const ENDED_BY_THE_API: [&str; 2] = ["HTTP/1.0 with keep-alive", "a DELETE with a body"];

/// Where 100 comes first, unless the body is there as soon as the head is: which of them happens
/// is for the network to decide.
const MAY_CONTINUE: [&str; 2] =
    ["100-continue with the body already there", "100-continue in capitals"];

/// What one header more would put over a limit.
const AT_A_LIMIT: [&str; 2] = ["100 headers", "a head of 16 KiB"];

/// Longer ones would take seconds each, and their bytes are all alike.
const LONGEST_BYTE_BY_BYTE: usize = 1024;

/// How many bytes of each case are sent in turn.
const ROUNDS: usize = 64;
