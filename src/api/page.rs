//! `GET /ui`: the page for people. It is one file, without a secret: it asks for the token, and is a
//! client of the API like others.
//!
//! ```text
//!   src/ui/index.html ─▶ index.html.gz               what the binary contains
//!                    └─▶ content-security-policy     with the hashes of its script and its style
//! ```
//!
//! The two files on the right are made by `K1S_PAGE_UPDATE=1 cargo test --test it -- page::`, and a
//! test compares them with the page. The policy (Content Security Policy Level 3) lets the browser
//! load nothing from elsewhere, and run nothing but the script of the page: what a job prints or is
//! called can become neither markup nor script.

use super::ApiError;
use crate::http::{Connection, ContentType, Head, Reply, Status};
use crate::time::Now;

/// Answers with the page. It is in the binary once, compressed, as all browsers take it; other
/// clients learn how to ask for it.
pub(super) fn respond(head: &Head, connection: &mut Connection, now: Now) {
    if !head.accepts_gzip {
        return ApiError::new(Status::NotAcceptable, ONLY_COMPRESSED).respond(connection, now);
    }
    let reply = Reply { fields: &FIELDS, ..Reply::new(Status::Ok, ContentType::Html) };
    connection.respond(reply, now, |out| out.extend_from_slice(PAGE));
}

const FIELDS: [(&str, &str); 4] = [
    ("Content-Encoding", "gzip"),
    ("Vary", "Accept-Encoding"),
    ("Content-Security-Policy", include_str!("../ui/content-security-policy")),
    ("Referrer-Policy", "no-referrer"),
];

const PAGE: &[u8] = include_bytes!("../ui/index.html.gz");

const ONLY_COMPRESSED: &str =
    "The page is compressed: send Accept-Encoding: gzip, as browsers and curl --compressed do";
