//! Compares `GET /openapi.json` with the route table, with the fields of payloads, with what real
//! jobs show, and with README.md: `K1S_OPENAPI_UPDATE=1` describes the fields anew, after a change of
//! its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use k1s::api::ROUTES;
use serde_json::{Value, json};

use crate::harness::{K1s, continuous, cron, one_off, with};
use crate::readme::{names, rows};

#[test]
fn it_has_the_routes_that_there_are() {
    let document = document(&K1s::start());
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| (route.method.name().to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(documented, routes);
}

/// The roles of OpenAPI 3.1 are the scopes.
#[test]
fn it_says_which_scope_each_route_needs() {
    let document = document(&K1s::start());
    for route in &ROUTES {
        let method = route.method.name().to_lowercase();
        let needed = match route.scope {
            Some(scope) => json!([{"token": [scope.name()]}]),
            None => json!([]),
        };
        let path = document["paths"].get(route.path).unwrap();
        assert_eq!(path[&method]["security"], needed, "{method} {}", route.path);
        let is_forbidden = path[&method]["responses"].get("403").is_some();
        assert_eq!(is_forbidden, route.scope.is_some(), "{method} {}", route.path);
    }
}

#[test]
fn every_reference_leads_somewhere_and_everything_is_referred_to() {
    let document = document(&K1s::start());
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (kind, entries) in document["components"].as_object().unwrap() {
        for name in entries.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            let is_used = kind == "securitySchemes" || references.contains(&reference);
            assert!(is_used, "nothing refers to {reference}");
        }
    }
}

#[test]
fn it_has_the_fields_that_each_type_of_job_may_have() {
    let k1s = K1s::start();
    let document = document(&k1s);
    let mut of_any = BTreeSet::new();
    for (kind, schema) in
        [("continuous", "ContinuousSpec"), ("one-off", "OneOffSpec"), ("cron", "CronSpec")]
    {
        let payload = json!({"type": kind, "executable": "true"});
        let allowed: BTreeSet<String> = known_fields(&k1s, "/job/x", &payload, &[])
            .into_iter()
            .filter(|field| field == "type" || !is_for_others(&k1s, &payload, field))
            .collect();
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(keys(&schema["properties"]), allowed, "{kind}");
        assert_eq!(schema["additionalProperties"], false);
        let common = keys(&document["components"]["schemas"]["CommonSpec"]["properties"]);
        for field in schema["properties"].as_object().unwrap() {
            let is_elsewhere = *field.1 == json!(true);
            assert_eq!(common.contains(field.0), is_elsewhere, "{kind}: {}", field.0);
        }
        of_any.extend(allowed);
    }
    of_any.remove("type");
    let patch = &document["components"]["schemas"]["Patch"]["properties"];
    assert_eq!(keys(patch), of_any, "what a patch may change");
}

#[test]
fn it_has_the_fields_of_what_stands_in_fields() {
    let k1s = K1s::start();
    let schemas = &document(&k1s)["components"]["schemas"];
    let common = &schemas["CommonSpec"]["properties"];
    let spec = |kind: &str| json!({"type": kind, "executable": "true"});
    for (kind, path, documented) in [
        ("continuous", &["stop"][..], keys(&common["stop"]["properties"])),
        ("continuous", &["output"], keys(&common["output"]["properties"])),
        ("continuous", &["restart"], keys(&schemas["Restart"]["properties"])),
        ("one-off", &["restart"], keys(&schemas["Backoff"]["properties"])),
        ("continuous", &["readiness"], keys(&schemas["Readiness"]["properties"])),
        ("continuous", &["reload"], keys(&schemas["Reload"]["properties"])),
        ("continuous", &["liveness"], keys(&schemas["Liveness"]["properties"])),
        ("cron", &["limits"], strings(&common["limits"]["propertyNames"]["enum"])),
        ("cron", &["limits", "core"], keys(&schemas["Limit"]["anyOf"][1]["properties"])),
    ] {
        let mut known = known_fields(&k1s, "/job/x", &spec(kind), path);
        // Known in order to be refused: it is the mark of a run.
        known.remove("locks");
        assert_eq!(documented, known, "{path:?} of {kind}");
    }
}

#[test]
fn it_has_the_fields_that_jobs_and_their_results_show() {
    let k1s = K1s::start();
    let schemas = document(&k1s)["components"]["schemas"].clone();
    let expression =
        with(continuous("true"), json!({"type": "cron", "schedule": "@yearly", "timeZone": "UTC"}));
    k1s.create("continuous", &continuous("exec sleep 1000"));
    k1s.create("interval", &cron("true", 1000));
    k1s.create("expression", &expression);
    k1s.run("ended", &with(one_off("true"), json!({"timeoutSeconds": 60})));
    k1s.run("broken", &json!({"type": "one-off", "executable": "/nowhere"}));
    for (id, schema) in [
        ("continuous", "ContinuousJob"),
        ("interval", "CronJob"),
        ("expression", "CronJob"),
        ("ended", "OneOffJob"),
        ("broken", "OneOffJob"),
    ] {
        let own = &schemas[schema];
        let common = &schemas["CommonJob"];
        shows_what_is_documented(&k1s.job(id), &[common, own], id);
    }
    for id in ["ended", "broken"] {
        shows_what_is_documented(&k1s.job(id)["results"][0], &[&schemas["Result"]], id);
    }
    let seen = k1s.get("/job/ended?output=false").json();
    shows_what_is_documented(&seen["results"][0], &[&schemas["Result"]], "without output");
}

#[test]
fn its_descriptions_of_fields_are_those_of_the_readme() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src/api/openapi.json"].iter().collect();
    let document = fs::read_to_string(&path).unwrap();
    let described = described(&document);
    if std::env::var_os("K1S_OPENAPI_UPDATE").is_some() {
        fs::write(&path, &described).unwrap();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(described.as_bytes()).unwrap();
        fs::write(path.with_extension("zlib"), encoder.finish().unwrap()).unwrap();
        return;
    }
    let update = "K1S_OPENAPI_UPDATE=1 cargo test --test it -- openapi::";
    assert!(document == described, "run {update}");
    assert!(k1s::api::openapi() == document.as_bytes(), "run {update}");
    assert!(document.matches("\"description\":\"how often it is run again").count() == 1);
}

#[test]
fn it_needs_the_token() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send("GET /openapi.json HTTP/1.1\r\nHost: k1s\r\n\r\n");
    assert_eq!(client.reply().status, 403);
}

#[test]
fn its_version_is_that_of_k1s() {
    assert_eq!(document(&K1s::start())["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// The document with the fields of jobs and results described by the tables of README.md. Each field
/// has a line below that of its schema.
fn described(document: &str) -> String {
    let given = meanings("| field |", &BTreeMap::new());
    let shown = meanings("| key |", &given);
    let of_result = meanings("| key of a result |", &given);
    let mut table = None;
    let mut out = String::new();
    for line in document.lines() {
        let named = line.strip_prefix('"').and_then(|line| line.split_once("\":{"));
        let described = named.and_then(|(name, schema)| {
            if name.starts_with(|first: char| first.is_uppercase()) {
                table = match name {
                    "CommonSpec" | "ContinuousSpec" | "OneOffSpec" | "CronSpec" => Some(&given),
                    "CommonJob" | "ContinuousJob" | "OneOffJob" | "CronJob" => Some(&shown),
                    "Result" => Some(&of_result),
                    _ => None,
                };
                return None;
            }
            let meaning = table?.get(name).filter(|_| !schema.contains("Spec/properties/"))?;
            let schema = match schema.strip_prefix("\"description\":") {
                None => schema,
                Some(old) => {
                    let mut text = serde_json::Deserializer::from_str(old).into_iter::<String>();
                    text.next().unwrap().unwrap();
                    old[text.byte_offset()..].strip_prefix(',').unwrap()
                }
            };
            Some(format!("\"{name}\":{{\"description\":{},{schema}", json!(meaning)))
        });
        out.push_str(described.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

/// What the names in the first column of a table mean: the first clause of the last column. A row of
/// many fields that are `explained` elsewhere says nothing of one.
fn meanings(head: &str, explained: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut meanings = BTreeMap::new();
    for row in rows(head) {
        let names = names(std::slice::from_ref(&row));
        if names.len() > 1 && names.iter().all(|name| explained.contains_key(name)) {
            continue;
        }
        let row = row.replace("\\|", "\u{0}");
        let what = row.strip_suffix('|').unwrap().rsplit('|').next().unwrap().trim();
        let meaning = first_clause(&plain(what)).replace('\u{0}', "|");
        if !meaning.is_empty() {
            meanings.extend(names.into_iter().map(|name| (name, meaning.clone())));
        }
    }
    meanings.remove("type");
    meanings
}

/// Markdown without its links.
fn plain(text: &str) -> String {
    let mut parts = text.split("](");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once(')').unwrap();
        let bracket = out.rfind('[').unwrap();
        out.remove(bracket);
        out.push_str(rest);
    }
    out
}

/// To the first semicolon or full stop that is not in parentheses or in code; without backticks.
fn first_clause(text: &str) -> String {
    let (mut depth, mut is_code, mut out) = (0, false, String::new());
    for (at, c) in text.char_indices() {
        match c {
            '`' => is_code = !is_code,
            '(' if !is_code => depth += 1,
            ')' if !is_code => depth -= 1,
            ';' | '.' if !is_code && depth == 0 && text[at + 1..].starts_with(' ') => break,
            _ => {}
        }
        out.extend(Some(c).filter(|c| *c != '`'));
    }
    out
}

#[test]
fn the_first_clause_is_the_meaning() {
    for (text, clause) in [
        ("a [b](#c) d; e", "a b d"),
        ("`x; y` (z; 1.5). A", "x; y (z; 1.5)"),
        ("-1 (no) to 1.5", "-1 (no) to 1.5"),
        ("", ""),
    ] {
        assert_eq!(first_clause(&plain(text)), clause);
    }
}

fn document(k1s: &K1s) -> Value {
    let document = k1s.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    document
}

/// Shown is what is required, and what may be; nothing else.
#[track_caller]
fn shows_what_is_documented(shown: &Value, schemas: &[&Value], what: &str) {
    let shown = keys(shown);
    let documented: BTreeSet<_> = schemas.iter().flat_map(|s| keys(&s["properties"])).collect();
    let required: BTreeSet<_> = schemas.iter().flat_map(|s| strings(&s["required"])).collect();
    assert!(shown.is_subset(&documented), "{what}: {:?}", &shown - &documented);
    assert!(required.is_subset(&shown), "{what}: {:?}", &required - &shown);
}

/// The fields that k1s lists when it does not know one, in the object at `path` of the payload.
fn known_fields(k1s: &K1s, target: &str, payload: &Value, path: &[&str]) -> BTreeSet<String> {
    let strange = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
    let mut inner = json!({strange: 1});
    for name in path.iter().rev() {
        inner = json!({*name: inner});
    }
    let reply = k1s.post(target, &with(payload.clone(), inner));
    let error = reply.error();
    let (_, list) = error.split_once("known are ").unwrap_or_else(|| panic!("{error}"));
    list.split(", ").map(str::to_owned).collect()
}

/// Whether only other types of job have this field.
fn is_for_others(k1s: &K1s, payload: &Value, field: &str) -> bool {
    // Null is as absent, so that a field this type has is no error; but `executable` is missed.
    let reply = k1s.post("/job/x", &with(payload.clone(), json!({field: null})));
    k1s.delete("/job/x");
    match reply.status {
        200 => false,
        _ => reply.error().contains("jobs only"),
    }
}

fn collect_references(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            references.extend(entries.get("$ref").and_then(Value::as_str).map(str::to_owned));
            entries.values().for_each(|value| collect_references(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flat_map(|entries| entries.keys().cloned()).collect()
}

fn strings(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}
