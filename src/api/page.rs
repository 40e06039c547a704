//! `GET /ui`: the page for people. It is one file, without a secret: it asks for the token, and is a
//! client of the API like others.
//!
//! ```text
//!   src/ui/index.html ─▶ index.html.gz               what most browsers get
//!                    └─▶ content-security-policy     with the hashes of its script and its style
//! ```
//!
//! The two files on the right are made by `K1S_PAGE_UPDATE=1 cargo test --test it -- page::`, and a
//! test compares them with the page. The policy (Content Security Policy Level 3) lets the browser
//! load nothing from elsewhere, and run nothing but the script of the page: what a job prints or is
//! called can become neither markup nor script.

use crate::http::{Connection, ContentType, Head, Reply, Status};
use crate::time::Now;

/// Answers with the page, compressed if the client accepts that.
pub(super) fn respond(head: &Head, connection: &mut Connection, now: Now) {
    let page = if head.accepts_gzip { COMPRESSED } else { PAGE };
    let fields = if head.accepts_gzip { &FIELDS[..] } else { &FIELDS[1..] };
    let reply = Reply { fields, ..Reply::new(Status::Ok, ContentType::Html) };
    connection.respond(reply, now, |out| out.extend_from_slice(page));
}

const FIELDS: [(&str, &str); 4] = [
    ("Content-Encoding", "gzip"),
    ("Vary", "Accept-Encoding"),
    ("Content-Security-Policy", include_str!("../ui/content-security-policy")),
    ("Referrer-Policy", "no-referrer"),
];

const PAGE: &[u8] = include_bytes!("../ui/index.html");
const COMPRESSED: &[u8] = include_bytes!("../ui/index.html.gz");
