//! `GET /ui` as bytes and headers. What the page does in a browser is tested by `.ci/page`.
//!
//! `K1S_PAGE_UPDATE=1` makes the compressed copy and the policy anew, after a change of the page.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::harness::{K1s, Reply};

#[test]
fn its_copy_and_its_policy_are_those_of_the_page() {
    let page = fs::read(of_page("index.html")).unwrap();
    let policy = policy_for(&String::from_utf8(page.clone()).unwrap());
    if std::env::var_os("K1S_PAGE_UPDATE").is_some() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&page).unwrap();
        fs::write(of_page("index.html.gz"), encoder.finish().unwrap()).unwrap();
        fs::write(of_page("content-security-policy"), &policy).unwrap();
    }
    let update = "K1S_PAGE_UPDATE=1 cargo test --test it -- page::";
    assert!(unpacked(&fs::read(of_page("index.html.gz")).unwrap()) == page, "run {update}");
    assert_eq!(fs::read_to_string(of_page("content-security-policy")).unwrap(), policy, "{update}");
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

#[test]
fn it_is_there_with_and_without_a_token() {
    let k1s = K1s::start();
    let authorization = k1s.authorization();
    for fields in ["Accept-Encoding: gzip\r\n", "Accept-Encoding: br;q=1.0, *;q=0.5\r\n"] {
        for token in ["", &authorization] {
            let reply = ask(&k1s, "GET", &format!("{fields}{token}"));
            assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
            assert!(unpacked(&reply.body) == fs::read(of_page("index.html")).unwrap());
        }
    }
}

#[test]
fn who_does_not_take_gzip_learns_how_to_ask() {
    let k1s = K1s::start();
    for fields in ["", "Accept-Encoding: br\r\n", "Accept-Encoding: gzip;q=0, *\r\n"] {
        let reply = ask(&k1s, "GET", fields);
        assert_eq!((reply.status, reply.header("content-encoding")), (406, None));
        assert!(reply.error().contains("Accept-Encoding: gzip"), "{}", reply.error());
    }
}

#[test]
fn its_headers_forbid_everything_from_elsewhere() {
    let k1s = K1s::start();
    let page = ask(&k1s, "GET", GZIP);
    let header = |name| page.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("vary"), "Accept-Encoding");
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[test]
fn head_has_the_headers_alone() {
    let k1s = K1s::start();
    for fields in [GZIP, ""] {
        let (page, head) = (ask(&k1s, "GET", fields), ask(&k1s, "HEAD", fields));
        let without_date = |reply: &Reply| {
            let headers = reply.headers.iter().filter(|(name, _)| name != "date");
            headers.cloned().collect::<Vec<_>>()
        };
        assert_eq!((head.status, head.body.len()), (page.status, 0));
        assert_eq!(without_date(&head), without_date(&page));
    }
}

#[test]
fn other_methods_are_refused_and_strangers_learn_nothing_by_them() {
    let k1s = K1s::start();
    assert_eq!(ask(&k1s, "POST", "").status, 403);
    let refused = ask(&k1s, "DELETE", &k1s.authorization());
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn it_can_be_switched_off() {
    let k1s = K1s::with().http("ui = false").start();
    for method in ["GET", "PUT"] {
        let missing = ask(&k1s, method, &k1s.authorization());
        assert_eq!((missing.status, missing.error()), (404, "Not found".to_owned()));
        let refused = ask(&k1s, method, "");
        assert_eq!((refused.status, refused.error()), (403, "Unauthorized".to_owned()));
    }
}

#[test]
fn it_names_nothing_that_is_elsewhere() {
    let page = fs::read_to_string(of_page("index.html")).unwrap();
    // The name of the namespace of SVG is not an address.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:",
        "https:",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval(",
        " style=",
        " onclick=",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";

fn ask(k1s: &K1s, method: &str, fields: &str) -> Reply {
    let mut client = k1s.connect();
    client.send(format!("{method} /ui HTTP/1.1\r\nHost: k1s\r\n{fields}\r\n"));
    client.reply_to(method)
}

fn of_page(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/ui", name].iter().collect()
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut text).unwrap();
    text
}

/// Nothing but the script and the style of the page, requests to k1s itself, and images that are
/// part of the page; no text ever becomes markup (`trusted-types`).
fn policy_for(page: &str) -> String {
    let hash = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (content, rest) = rest.split_once(&format!("</{tag}>")).unwrap();
        assert!(!rest.contains(&format!("<{tag}")), "one {tag} is enough");
        format!("'sha256-{}'", base64(&Sha256::digest(content.as_bytes())))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash("script"),
        hash("style")
    )
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = digits[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
