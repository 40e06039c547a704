//! The house rules that a machine can check, on the text of the source.
//!
//! ```text
//! src/**/*.rs → tokens, without comments, literals and test code → each rule → what breaks it
//! ```
//!
//! Every rule is a function from one file to the places that break it, so that each is also
//! tried on a planted violation. The tables at the end are the plan of the house.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn rooms_know_only_the_rooms_to_their_right() {
    holds_everywhere(import_direction);
}

#[test]
fn no_two_modules_of_a_room_know_each_other() {
    let files = rust_files(&root().join("src"));
    let mut sources: Vec<Source> = files.iter().map(|path| Source::read(path)).collect();
    sources.retain(|source| !source.is_test());
    let found = circles(&sources);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn each_crate_is_named_in_its_room() {
    holds_everywhere(crate_confinement);
}

#[test]
fn each_dependency_has_a_room() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let named = dependencies(&manifest);
    assert!(!named.is_empty());
    for name in named {
        assert!(
            name == "serde" || CRATES.iter().any(|(known, _)| *known == name),
            "{name} is confined nowhere: give it a room in CRATES"
        );
    }
}

#[test]
fn what_no_other_room_uses_is_not_pub() {
    let mut files = rust_files(&root().join("src"));
    files.extend(rust_files(&root().join("tests")));
    let sources: Vec<Source> = files.iter().map(|path| Source::read(path)).collect();
    let found = unused_by_others(&sources);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn properties_are_behind_their_feature() {
    holds_everywhere(properties_gate);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let is_default = |line: &str| line.trim_start().starts_with("default =");
    assert!(!manifest.lines().any(is_default), "the binary is built with default features");
}

#[test]
fn the_core_reads_no_clock_and_makes_no_system_call() {
    holds_everywhere(purity);
}

#[test]
fn maps_of_the_core_have_an_order_or_a_fixed_hasher() {
    holds_everywhere(determinism);
}

#[test]
fn unsafe_is_for_os_and_says_why_it_is_sound() {
    holds_everywhere(unsafety);
}

#[test]
fn functions_fit_on_a_screen() {
    holds_everywhere(function_length);
}

#[test]
fn nothing_panics_on_purpose() {
    holds_everywhere(panics);
}

#[test]
fn modules_open_with_their_picture() {
    holds_everywhere(module_docs);
}

#[test]
fn nothing_is_left_for_later() {
    let mut files = rust_files(&root().join("src"));
    files.extend(rust_files(&root().join("tests")));
    let broken: Vec<String> =
        files.iter().flat_map(|path| leftovers(&Source::read(path))).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_top_level_holds_what_it_should() {
    let files = tracked(&root()).unwrap_or_else(|| entries(&root()));
    let names: BTreeSet<String> = files
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().iter().next().unwrap())
        .map(|name| name.to_str().unwrap().to_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    for name in &names {
        assert!(TOP_LEVEL.contains(&name.as_str()), "{name} has no place at the top level");
    }
    for name in ["Cargo.toml", "Cargo.lock", "LICENSE", "src", "tests"] {
        assert!(names.contains(name), "{name} is missing");
    }
}

/// A rule: one message for each place that breaks it, `path:line: what`.
type Rule = fn(&Source) -> Vec<String>;

fn holds_everywhere(rule: Rule) {
    let files = rust_files(&root().join("src"));
    assert!(!files.is_empty());
    let broken: Vec<String> = files
        .iter()
        .map(|path| Source::read(path))
        .filter(|source| !source.is_test())
        .flat_map(|source| rule(&source))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

// ---- The rules ----

fn import_direction(source: &Source) -> Vec<String> {
    let room = source.room();
    let Some((_, known)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![source.at(1, &format!("{room} is no room of the house: see ROOMS"))];
    };
    let allowed = |name: &str| {
        room == "lib" || name == room || ANYBODYS.contains(&name) || known.contains(&name)
    };
    let paths = source.paths().into_iter();
    paths
        .filter_map(|path| Some((path.line, source.room_named_by(&path)?)))
        .filter(|(_, name)| !allowed(name))
        .map(|(line, name)| source.at(line, &format!("{room} may not know {name}")))
        .collect()
}

/// The pairs of modules below one other that name each other, in order.
fn circles(sources: &[Source]) -> Vec<(String, String)> {
    let edges: BTreeSet<(String, String)> = sources
        .iter()
        .flat_map(|source| source.paths().into_iter().filter_map(|path| source.sibling(&path)))
        .collect();
    let is_mutual = |(left, right): &(String, String)| {
        left < right && edges.contains(&(right.clone(), left.clone()))
    };
    edges.iter().filter(|edge| is_mutual(edge)).cloned().collect()
}

/// Functions and constants that are `pub` although no other room has their name. Types and fields
/// may have to be `pub` without being named.
fn unused_by_others(sources: &[Source]) -> Vec<String> {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        for token in tokens(&source.text).into_iter().filter(Token::is_name) {
            users.entry(token.text).or_default().insert(source.owner());
        }
    }
    let mut broken = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test() && source.room() != "properties")
    {
        for (index, token) in source.tokens.iter().enumerate().filter(|(_, t)| t.text == "pub") {
            let Some(name) = public_name(&source.tokens[index + 1..]) else { continue };
            if users[&name.text].iter().all(|user| *user == source.owner()) {
                broken.push(source.at(token.line, &format!("{} is pub for nobody", name.text)));
            }
        }
    }
    broken
}

/// The name of a function or a constant, from the tokens after its `pub`.
fn public_name(tokens: &[Token]) -> Option<&Token> {
    let is_word = |token: &&Token| ["const", "unsafe", "fn", "static"].contains(&&*token.text);
    let words = tokens.iter().take_while(is_word).count();
    tokens.get(words).filter(|_| words > 0)
}

fn crate_confinement(source: &Source) -> Vec<String> {
    let room = source.room();
    let mut broken = Vec::new();
    for path in source.paths() {
        let Some((name, rooms)) = CRATES.iter().find(|(name, _)| *name == path.segments[0]) else {
            continue;
        };
        if !rooms.contains(&room.as_str()) {
            broken.push(source.at(path.line, &format!("{name} is not for {room}")));
        }
    }
    broken
}

/// A module `properties` without the feature of that name would be in the binary.
fn properties_gate(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let mut broken = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let above = index.checked_sub(1).map(|above| lines[above]);
        if line.ends_with("mod properties;") && above != Some("#[cfg(feature = \"properties\")]") {
            broken.push(source.at(index + 1, "mod properties without its feature"));
        }
    }
    broken
}

fn purity(source: &Source) -> Vec<String> {
    if !source.is_pure() {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for path in source.paths() {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let outside =
            matches!(segments[..], ["std", "env" | "fs" | "net" | "process" | "thread" | "os", ..]);
        let impure = ["Instant", "SystemTime", "now", "stdin", "stdout", "stderr", "RandomState"];
        if outside || segments.iter().any(|segment| impure.contains(segment)) {
            broken.push(source.at(path.line, &format!("{} is not pure", segments.join("::"))));
        }
    }
    let macros = ["print", "println", "eprint", "eprintln", "dbg"];
    for pair in source.tokens.windows(2) {
        if macros.contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            broken.push(source.at(pair[0].line, &format!("{}! is not pure", pair[0].text)));
        }
    }
    broken
}

/// A map whose type names no hasher, or that is made by a function that only exists for std's.
fn determinism(source: &Source) -> Vec<String> {
    if !source.is_pure() {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        let hasher_at = match token.text.as_str() {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        let next = |offset: usize| source.tokens.get(index + offset).map(|t| t.text.as_str());
        let seeded = match next(1) {
            Some("<") => generic_arguments(&source.tokens[index + 1..]) < hasher_at,
            Some("::") if next(2) == Some("<") => {
                generic_arguments(&source.tokens[index + 2..]) < hasher_at
            }
            Some("::") => matches!(next(2), Some("new" | "with_capacity" | "from")),
            _ => false,
        };
        if seeded {
            broken.push(source.at(token.line, &format!("{} is seeded by the system", token.text)));
        }
    }
    broken
}

fn unsafety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut broken = Vec::new();
    for token in source.tokens.iter().filter(|token| token.text == "unsafe") {
        if source.room() != "os" {
            broken.push(source.at(token.line, "unsafe is for os alone"));
            continue;
        }
        let above = &lines[token.line.saturating_sub(SAFETY_WITHIN)..token.line];
        let says_why = |line: &&str| line.contains("SAFETY:") || line.contains("# Safety");
        if !above.iter().any(says_why) {
            broken.push(source.at(token.line, "unsafe without a SAFETY line"));
        }
    }
    broken
}

fn function_length(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for (index, pair) in source.tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_name() {
            continue;
        }
        let Some(end) = item_end(&source.tokens, index) else {
            continue;
        };
        let length = source.tokens[end].line + 1 - pair[0].line;
        if length > MAX_LINES {
            let what = format!("fn {} has {length} lines, more than {MAX_LINES}", pair[1].text);
            broken.push(source.at(pair[0].line, &what));
        }
    }
    broken
}

fn panics(source: &Source) -> Vec<String> {
    // A property that does not hold panics.
    if source.room() == "properties" {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for three in source.tokens.windows(3) {
        let texts = [three[0].text.as_str(), three[1].text.as_str(), three[2].text.as_str()];
        let what = match texts {
            [".", "unwrap" | "expect", "("] => texts[1],
            ["panic" | "unimplemented" | "todo", "!", _] => texts[0],
            _ => continue,
        };
        broken.push(source.at(three[0].line, &format!("{what} is for tests")));
    }
    broken
}

fn module_docs(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![source.at(1, "a module opens with its picture: //!")]
}

fn leftovers(source: &Source) -> Vec<String> {
    // Not spelled out, so that this file may be read too.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
        .map(|(index, line)| source.at(index + 1, line.trim()))
        .collect()
}

/// The names of `[dependencies]`, as paths spell them.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[dependencies]");
    lines
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

// ---- A file ----

/// A file of the source, and its tokens outside test code.
struct Source {
    /// From the root of the repository: `src/job/spec.rs`.
    path: String,
    text: String,
    tokens: Vec<Token>,
}

/// A path as it is written, or one leaf of a `use`, in full.
struct CodePath {
    line: usize,
    /// Never empty.
    segments: Vec<String>,
}

impl Source {
    fn read(path: &Path) -> Source {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
        Source::new(relative, &fs::read_to_string(path).unwrap())
    }

    fn new(path: &str, text: &str) -> Source {
        let tokens = without_tests(tokens(text));
        Source { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The modules from the crate's root to this file: `src/job/mod.rs` is `job`.
    fn module(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut names: Vec<&str> = inner.split('/').collect();
        if names.last() == Some(&"mod") {
            names.pop();
        }
        names
    }

    fn room(&self) -> String {
        self.module()[0].to_owned()
    }

    /// Its room, or the directory of the tests that it is in.
    fn owner(&self) -> String {
        if self.path.starts_with("src/") { self.room() } else { "tests".to_owned() }
    }

    fn is_pure(&self) -> bool {
        PURE.contains(&self.room().as_str())
    }

    /// `tests.rs`, `x_tests.rs`, what lies in `tests/`, and `testing.rs`, which helps them.
    fn is_test(&self) -> bool {
        let module = self.module();
        let last = module.last().copied().unwrap_or_default();
        module.contains(&"tests") || last.ends_with("_tests") || last == "testing"
    }

    /// Every path of two names or more, and every leaf of a `use`.
    fn paths(&self) -> Vec<CodePath> {
        let mut paths = Vec::new();
        let mut index = 0;
        while let Some(token) = self.tokens.get(index) {
            let next = self.tokens.get(index + 1).map(|token| token.text.as_str());
            index = match (token.text.as_str(), next) {
                ("use", Some(after)) if after != "<" => {
                    use_leaves(&self.tokens, index + 1, &[], &mut paths)
                }
                (_, Some("::")) if token.is_name() => {
                    let (segments, end) = segments(&self.tokens, index);
                    paths.push(CodePath { line: token.line, segments });
                    end
                }
                _ => index + 1,
            };
        }
        paths
    }

    /// The room that a path leads to by `crate`, by the crate's name, or by `super` up to the root.
    fn room_named_by(&self, path: &CodePath) -> Option<String> {
        let first = path.segments[0].as_str();
        let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
        let index = match first {
            "crate" | "k1s" => 1,
            "super" if ups >= self.module().len() => ups,
            _ => return None,
        };
        path.segments.get(index).cloned()
    }

    /// Where a path leads to something beside this module, or beside one that this is in: that
    /// module and what is named there, as `http::request` and `http::target`.
    fn sibling(&self, path: &CodePath) -> Option<(String, String)> {
        let module = self.module();
        let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
        let (begin, rest) = match path.segments[0].as_str() {
            "crate" | "k1s" => (0, 1),
            "super" => (module.len().checked_sub(ups)?, ups),
            _ => return None,
        };
        let named = path.segments[rest..].iter().map(String::as_str);
        let full: Vec<&str> = module[..begin].iter().copied().chain(named).collect();
        let same = module.iter().zip(&full).take_while(|(left, right)| left == right).count();
        let is_beside = same > 0 && same < module.len().min(full.len());
        is_beside.then(|| (module[..=same].join("::"), full[..=same].join("::")))
    }
}

/// The names of a path in an expression or a type, and the index after them.
fn segments(tokens: &[Token], start: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[start].text.clone()];
    let mut index = start + 1;
    while let [colons, name, ..] = &tokens[index..] {
        if colons.text != "::" || !name.is_name() {
            break;
        }
        segments.push(name.text.clone());
        index += 2;
    }
    (segments, index)
}

/// Collects the leaves of the use tree at `index`; returns the index after it.
fn use_leaves(
    tokens: &[Token],
    mut index: usize,
    prefix: &[String],
    leaves: &mut Vec<CodePath>,
) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(index) {
        index += 1;
        match token.text.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(index).is_some_and(|token| token.text != "}") {
                    index = use_leaves(tokens, index, &segments, leaves);
                    if tokens.get(index).is_some_and(|token| token.text == ",") {
                        index += 1;
                    }
                }
                return index + 1;
            }
            _ => {
                segments.push(token.text.clone());
                let ends = tokens.get(index).is_none_or(|token| token.text != "::");
                if ends {
                    leaves.push(CodePath { line: token.line, segments });
                    let renamed = tokens.get(index).is_some_and(|token| token.text == "as");
                    return index + if renamed { 2 } else { 0 };
                }
            }
        }
    }
    index
}

/// How many arguments stand between the `<` that `tokens` begin with and its `>`.
fn generic_arguments(tokens: &[Token]) -> usize {
    let (mut depth, mut brackets, mut commas) = (0, 0, 0);
    let mut previous = "";
    for token in tokens {
        match token.text.as_str() {
            "<" => depth += 1,
            ">" => depth -= 1,
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            "," if depth == 1 && brackets == 0 => commas += 1,
            _ => {}
        }
        if depth == 0 {
            return commas + usize::from(previous != ",");
        }
        previous = &token.text;
    }
    commas + 1
}

// ---- Tokens ----

/// A name, a number, a literal (as `""`) or a mark; `::`, `->` and `=>` are one mark each.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits Rust into tokens; comments are dropped, literals lose what they say.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, token) = next_token(rest, first);
        if let Some(text) = token {
            tokens.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length in bytes of what comes next, and its token unless it is a blank or a comment.
fn next_token(rest: &str, first: char) -> (usize, Option<String>) {
    let literal = |length| (length, Some("\"\"".to_owned()));
    let mark = |length: usize| (length, Some(rest[..length].to_owned()));
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some(length) = string(rest) {
        return literal(length);
    }
    match first {
        c if c.is_whitespace() => (c.len_utf8(), None),
        '\'' => match character(rest) {
            Some(length) => literal(length),
            None => mark(1),
        },
        c if c.is_alphanumeric() || c == '_' => {
            let ends = |c: char| !(c.is_alphanumeric() || c == '_');
            mark(rest.find(ends).unwrap_or(rest.len()))
        }
        _ if ["::", "->", "=>"].iter().any(|pair| rest.starts_with(pair)) => mark(2),
        c => mark(c.len_utf8()),
    }
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut index = 0;
    while index < rest.len() {
        let (step, change) = match &rest.as_bytes()[index..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        depth += change;
        index += step;
        if depth == 0 {
            break;
        }
    }
    index
}

/// The length of a string literal of any kind, when one begins here.
fn string(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = &rest[..rest.len() - body.len()];
    if !["", "b", "c", "r", "br", "cr"].contains(&prefix) {
        return None;
    }
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let content = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = content.find(&end).map_or(content.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let content = body.strip_prefix('"')?;
    Some(prefix.len() + 1 + until_quote(content, '"'))
}

/// The length of a character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let content = &rest[1..];
    let first = content.chars().next()?;
    if first == '\\' {
        return Some(1 + until_quote(content, '\''));
    }
    content[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

/// The length up to and with the quote that is not escaped.
fn until_quote(content: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in content.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return index + 1,
            _ => {}
        }
    }
    content.len()
}

/// Drops each item that is only there for tests.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let Some((end, inner)) = test_attribute(&tokens, index) else {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        };
        if inner {
            return Vec::new();
        }
        index = item_end(&tokens, end).map_or(tokens.len(), |end| end + 1);
    }
    kept
}

/// The index after `#[cfg(test)]` or its like, if one begins here, and whether it is `#![…]`.
fn test_attribute(tokens: &[Token], start: usize) -> Option<(usize, bool)> {
    let is = |index: usize, text| tokens.get(index).is_some_and(|t: &Token| t.text == text);
    let inner = is(start + 1, "!");
    let open = start + if inner { 2 } else { 1 };
    if !is(start, "#") || !is(open, "[") || !is(open + 1, "cfg") {
        return None;
    }
    let length = tokens[open..].iter().position(|token| token.text == "]")?;
    let names = &tokens[open..open + length];
    let names = |text| names.iter().any(|token: &Token| token.text == text);
    (names("test") && !names("not")).then_some((open + length + 1, inner))
}

/// The index of the last token of the item that begins at `start`: its `}` or `;`.
fn item_end(tokens: &[Token], start: usize) -> Option<usize> {
    let mut depth = 0;
    let is_use = tokens.get(start).is_some_and(|token| token.text == "use");
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 && !is_use {
                    return Some(index);
                }
            }
            ";" if depth == 0 => return Some(index),
            _ => {}
        }
    }
    None
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The source below a directory of the repository: the files that git tracks, so that other files
/// in a checkout break no rule; without git, all files.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = tracked(&root()).unwrap_or_else(|| tree(dir));
    files.retain(|path| path.starts_with(dir) && path.extension().is_some_and(|end| end == "rs"));
    files.sort();
    files
}

/// The files below the directory that git tracks, and that are there; `None` where git is not
/// there, or tracks nothing of it, as in an unpacked archive within another repository.
fn tracked(dir: &Path) -> Option<Vec<PathBuf>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(dir).output().ok()?;
    let listed = String::from_utf8(output.stdout).ok()?;
    let paths = listed.split_terminator('\0').map(|name| dir.join(name));
    let files: Vec<PathBuf> = paths.filter(|path| path.exists()).collect();
    (output.status.success() && !files.is_empty()).then_some(files)
}

fn tree(dir: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| if path.is_dir() { tree(&path) } else { vec![path] };
    entries(dir).into_iter().flat_map(below).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Rooms that all may know.
const ANYBODYS: &[&str] = &["time", "gather", "pattern"];

/// Which rooms each room may know besides those; `lib` lists them.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["daemon", "client", "explain", "config", "schedule", "calendar"]),
    ("explain", &["api"]),
    (
        "daemon",
        &[
            "api",
            "access",
            "state",
            "os",
            "config",
            "supervisor",
            "http",
            "job",
            "timer",
            "calendar",
        ],
    ),
    ("client", &["os", "config", "job", "schedule", "calendar"]),
    ("api", &["access", "supervisor", "http", "job", "calendar"]),
    ("config", &["access", "job", "schedule", "http"]),
    ("os", &["job"]),
    ("state", &["supervisor", "job"]),
    (
        "properties",
        &["access", "api", "state", "config", "supervisor", "http", "job", "schedule", "calendar"],
    ),
    ("supervisor", &["access", "job", "schedule", "timer"]),
    ("job", &["schedule"]),
    ("schedule", &["calendar"]),
    ("http", &["calendar"]),
    ("timer", &[]),
    ("access", &[]),
    ("calendar", &[]),
    ("time", &[]),
    ("gather", &[]),
    ("pattern", &[]),
    ("lib", &[]),
];

/// The pure rooms: no clock, no file, no system call.
const PURE: &[&str] = &[
    "time",
    "gather",
    "pattern",
    "access",
    "calendar",
    "timer",
    "job",
    "schedule",
    "supervisor",
    "state",
    "http",
];

/// Where each crate is named; serde's derive is free.
const CRATES: &[(&str, &[&str])] = &[
    ("argh", &["cli", "client"]),
    ("httparse", &["http"]),
    ("jiff", &["calendar", "schedule"]),
    ("libc", &["os"]),
    ("memchr", &["client", "job"]),
    ("miniz_oxide", &["schedule", "api"]),
    ("mio", &["daemon"]),
    ("nix", &["os"]),
    ("serde_json", &["api", "client", "explain", "properties"]),
    ("signal_hook", &["os"]),
    ("signal_hook_mio", &["os"]),
    ("toml", &["config"]),
];

const TOP_LEVEL: &[&str] =
    &["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "fuzz", "src", "tests"];
/// Lines of a function, from `fn` to its closing brace.
const MAX_LINES: usize = 60;
/// A SAFETY comment stands within so many lines before the end of the line it speaks of.
const SAFETY_WITHIN: usize = 10;

/// Each rule on a planted violation, and on its harmless neighbours.
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: Rule, path: &str, cases: &[(&str, usize)]) {
        for (text, count) in cases {
            let broken = rule(&Source::new(path, text));
            assert_eq!(broken.len(), *count, "{text}: {broken:?}");
        }
    }

    #[test]
    fn directions() {
        check(
            import_direction,
            "src/job/spec.rs",
            &[
                ("use crate::schedule::Schedule;", 0),
                ("use crate::time::Wall;", 0),
                ("use super::Signal; use self::x::Y; use crate::job::Z;", 0),
                ("use crate::supervisor::Core;", 1),
                ("use crate::{time::Now, daemon::{self, x}, os};", 3),
                ("fn f() -> crate::api::View { k1s::http::x() }", 2),
                ("use super::super::daemon::Loop;", 1),
                ("use super::{Signal, super::timer::Wheel};", 1),
                ("use crate::*;", 1),
                ("// use crate::daemon;\nconst S: &str = \"use crate::daemon;\";", 0),
                ("#[cfg(test)] mod tests { use crate::daemon; }", 0),
                ("fn f() -> impl Sized + use<> { crate::api::x() }", 1),
            ],
        );
        check(import_direction, "src/job/mod.rs", &[("use super::daemon::Loop;", 1)]);
        check(import_direction, "src/timer.rs", &[("use super::job::Id;", 1)]);
        check(import_direction, "src/attic.rs", &[("", 1)]);
        check(import_direction, "src/lib.rs", &[("pub use crate::daemon::run;", 0)]);
    }

    #[test]
    fn circles_in_a_room() {
        let of = |files: &[(&str, &str)]| {
            let sources: Vec<_> =
                files.iter().map(|(path, text)| Source::new(path, text)).collect();
            circles(&sources).len()
        };
        let a = ("src/http/a.rs", "use super::b::B;");
        assert_eq!(of(&[a, ("src/http/b.rs", "use super::c; use super::X;")]), 0);
        assert_eq!(of(&[a, ("src/http/b.rs", "fn f() { crate::http::a::g() }")]), 1);
        assert_eq!(of(&[a, ("src/http/b/x.rs", "use super::super::{a::A, c};")]), 1);
        assert_eq!(of(&[a, ("src/os/b.rs", "use super::a::A;")]), 0, "of another room");
        assert_eq!(of(&[a, ("src/http/b.rs", "#[cfg(test)] mod t { use super::super::a; }")]), 0);
    }

    #[test]
    fn crates() {
        check(
            crate_confinement,
            "src/http/request.rs",
            &[
                ("use httparse::Request;", 0),
                ("use serde::Serialize; #[derive(Serialize)] struct S;", 0),
                ("fn f() { serde_json::to_string(&x); }", 1),
                ("use {mio::Poll, nix::unistd};", 2),
                ("use ::toml as t;", 1),
                ("let mio = 1; f(x.toml); let j: jiff::Zoned;", 1),
                ("use crate::http::toml;", 0),
            ],
        );
        check(
            crate_confinement,
            "src/daemon/mod.rs",
            &[("use signal_hook_mio::v1_0::Signals;", 1)],
        );
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b = \"1\"\nc = { version = \"2\" }\n\n[lints]\nd = 1\n";
        assert_eq!(dependencies(manifest), ["a_b", "c"]);
    }

    #[test]
    fn public_names() {
        let of = |other: &str| {
            let text = "pub struct S { pub field: u8 } impl S { pub const fn f() {} }
                pub const C: u8 = 1; pub(super) fn g() {} pub use x::h; fn used() { f(); }";
            let sources = [Source::new("src/a.rs", text), Source::new("src/b.rs", other)];
            unused_by_others(&sources).len()
        };
        assert_eq!(of("use crate::a::{S, h};"), 2, "a function and a constant");
        assert_eq!(of("fn x() { S::f(C); }"), 0);
        assert_eq!(of("// f C"), 2);
        assert_eq!(of("#[cfg(test)] mod tests { fn t() { f(C) } }"), 0);
    }

    #[test]
    fn gates() {
        let gated = "#[cfg(feature = \"properties\")]\npub(crate) mod properties;";
        let other = "#[cfg(feature = \"x\")]\nmod properties;";
        check(properties_gate, "src/x.rs", &[(gated, 0), ("mod properties;", 1), (other, 1)]);
    }

    #[test]
    fn pure_rooms() {
        let cases = [
            ("use std::time::Duration; use std::io::Write;", 0),
            ("use std::time::{Duration, Instant};", 1),
            ("fn f() { std::time::SystemTime::now(); }", 1),
            ("use std::{env, fs, net::TcpStream};", 3),
            ("fn f() { jiff::Zoned::now(); }", 1),
            ("fn f() { println!(\"x\"); }", 1),
            ("fn f(now: Now) { self.now = now; }", 0),
            ("#[cfg(all(test, unix))] fn f() { std::fs::read(\"x\"); }", 0),
            ("#[cfg(not(test))] fn f() { std::fs::read(\"x\"); }", 1),
        ];
        check(purity, "src/supervisor/mod.rs", &cases);
        check(purity, "src/daemon/mod.rs", &cases.map(|(text, _)| (text, 0)));
    }

    #[test]
    fn hashers() {
        check(
            determinism,
            "src/supervisor/mod.rs",
            &[
                ("use std::collections::HashMap;", 0),
                ("type M = HashMap<Id, Vec<(u8, u8)>>;", 1),
                ("type M = HashMap<Id, Vec<u8>, Fixed>;", 0),
                ("type M = HashMap<\n Id,\n fn(u8, u8) -> u8,\n>;", 1),
                ("type S = HashSet<[u8; 2]>; type F = HashSet<u8, Fixed>;", 1),
                ("let m = HashMap::new();", 1),
                ("let m = HashMap::<u8, u8>::default();", 1),
                ("let m: HashMap<u8, u8, Fixed> = HashMap::default();", 0),
            ],
        );
    }

    #[test]
    fn soundness() {
        let bare = "fn f() { unsafe { g() } }";
        let explained = "fn f() {\n    // SAFETY: g asks for nothing.\n    unsafe { g() }\n}";
        let far = format!("// SAFETY: of something else.\n{}{bare}", "\n".repeat(20));
        let only_said = "// unsafe\nconst S: &str = \"unsafe\";";
        check(unsafety, "src/os/spawn.rs", &[(bare, 1), (explained, 0), (&far, 1), (only_said, 0)]);
        check(unsafety, "src/daemon/mod.rs", &[(bare, 1), (explained, 1), (only_said, 0)]);
    }

    #[test]
    fn lengths() {
        let of = |lines: usize| {
            format!("impl X {{ fn f(a: [u8; 2]) {{\n{}}} }}", "g();\n".repeat(lines - 2))
        };
        let inner = format!("fn f();\nmod m {{\n{}}}", "struct X;\n".repeat(100));
        check(
            function_length,
            "src/os/spawn.rs",
            &[(&of(60), 0), (&of(61), 1), (&inner, 0), ("type F = fn(u8) -> u8;", 0)],
        );
    }

    #[test]
    fn panic_words() {
        check(
            panics,
            "src/api/mod.rs",
            &[
                ("x.unwrap(); x\n    .expect(\"y\");", 2),
                ("x.unwrap_or(1); #[expect(dead_code)] fn expect() {}", 0),
                ("fn f() { panic!(\"x\") }", 1),
                ("/* x.unwrap() /* nested */ */ // .expect(\n", 0),
                (
                    "#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn f() { x.unwrap(); }\n}\nfn g() { y.unwrap(); }",
                    1,
                ),
                ("#[cfg(test)]\nuse a::{b, c};\nfn g() { y.unwrap(); }", 1),
                ("#![cfg(test)]\nfn g() { y.unwrap(); }", 0),
            ],
        );
    }

    #[test]
    fn pictures_and_leftovers() {
        check(module_docs, "src/x.rs", &[("//! The x.\n", 0), ("use x;\n", 1), ("/// X.\n", 1)]);
        let word = concat!("// FIX", "ME later");
        check(leftovers, "src/x.rs", &[(word, 1), ("// fixed", 0)]);
    }

    /// The README's tour leaves files in the checkout, and `cargo test` failed after it.
    #[test]
    fn files_that_git_does_not_track_are_nobody_s() {
        let dir = crate::harness::TempDir::new();
        for name in ["kept.rs", "untracked.rs"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let git = |arguments: &[&str]| {
            let command = Command::new("git").args(arguments).current_dir(dir.path()).output();
            command.is_ok_and(|output| output.status.success())
        };
        if !git(&["init"]) {
            crate::harness::skip!("git init does not work here");
        }
        assert_eq!(tracked(dir.path()), None, "nothing is tracked yet");
        assert!(git(&["add", "kept.rs"]));
        assert_eq!(tracked(dir.path()), Some(vec![dir.path().join("kept.rs")]));
        assert!(tree(dir.path()).contains(&dir.path().join("untracked.rs")));
    }

    #[test]
    fn test_files() {
        let is_test = |path| Source::new(path, "").is_test();
        for path in ["src/http/tests.rs", "src/job/spec_tests.rs", "src/http/tests/corpus.rs"] {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/http/mod.rs", "src/attests.rs", "src/job/spec.rs"] {
            assert!(!is_test(path), "{path}");
        }
    }

    #[test]
    fn token_kinds() {
        let split = |text| -> Vec<String> { tokens(text).into_iter().map(|t| t.text).collect() };
        assert_eq!(split("a::b->c=>d"), ["a", "::", "b", "->", "c", "=>", "d"]);
        assert_eq!(
            split("<'a> 'x' '\\'' b'\\\\' '\u{fc}'"),
            ["<", "'", "a", ">", "\"\"", "\"\"", "b", "\"\"", "\"\""]
        );
        assert_eq!(
            split(r####"x r#"un"safe"# b"\"" br##"a"#"## y"####),
            ["x", "\"\"", "\"\"", "\"\"", "y"]
        );
        assert_eq!(split("bright crab r rb"), ["bright", "crab", "r", "rb"]);
        assert_eq!(
            tokens("a\n\"b\n\"\n/*\n*/c").iter().map(|t| t.line).collect::<Vec<_>>(),
            [1, 2, 5]
        );
    }
}
