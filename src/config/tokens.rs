//! Who may use the API: `http.auth_token`, and the tables `[[token]]`.
//!
//! ```text
//!   K1S_AUTH_TOKEN, http.auth_token ─▶ the admin token `default` ─┐
//!   [[token]] ─▶ name, secret, scope, jobs ───────────────────────┴─▶ Tokens: digests alone
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use super::Environment;
use crate::access::{Access, Asker, DEFAULT_NAME, Digest, Scope, Tokens, Visible};
use crate::job::Value;
use crate::job::fields::{self, FieldError, Fields, Spelling};

type Parsed<T> = Result<T, FieldError>;

/// A secret for the API: visible ASCII, not empty. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Where the token `default` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    /// None was set, nor any table: it is `DEFAULT_TOKEN`, which everyone knows.
    Default,
    /// None was set, so there is none: the tables are all that there is.
    None,
    /// `K1S_AUTH_TOKEN`.
    Environment,
    /// `http.auth_token`.
    Key,
    /// The file that `http.auth_token_file` names.
    File(PathBuf),
}

/// A table `[[token]]`, without what it takes to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTable {
    /// `name`.
    pub name: String,
    /// Where its secret is.
    pub secret: Secret,
    /// `scope`.
    pub scope: Scope,
    /// `jobs`.
    pub visible: Visible,
}

/// The secret of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// `token`.
    Given,
    /// `token_file`: the path.
    File(String),
    /// `token_sha256`: the digits.
    Sha256(String),
}

/// The token that is in no table, and where it comes from.
pub(super) type DefaultToken = (Token, TokenOrigin);

/// All tokens, and how the config gives them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Credentials {
    /// All.
    pub(super) tokens: Tokens,
    /// The token `default`.
    pub(super) default: Option<Token>,
    /// Where the one comes from that is in no table.
    pub(super) origin: TokenOrigin,
    /// The tables, in the order of the file.
    pub(super) tables: Vec<TokenTable>,
}

impl Token {
    /// Drops one newline at the end, which editors and `echo` add.
    pub(super) fn parse(text: &[u8]) -> Result<Token, String> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            Err("must not be empty".into())
        } else if text.len() > LONGEST_TOKEN {
            Err(format!("must not be longer than {LONGEST_TOKEN} bytes"))
        } else if text.iter().all(u8::is_ascii_graphic) {
            Ok(Token(text.iter().copied().map(char::from).collect()))
        } else {
            Err(format!("must be visible ASCII characters, without blanks{}", why(text)))
        }
    }

    /// The secret itself, for another k1s.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads `http.auth_token` and `http.auth_token_file`. Both keys are checked even if the environment
/// wins; the file is read only if it counts.
pub(super) fn of_http(
    fields: &mut Fields,
    given: Option<Token>,
    environment: &Environment,
) -> Parsed<Option<DefaultToken>> {
    let key = fields.optional("auth_token", token)?;
    let file = fields.optional("auth_token_file", fields::nonempty)?;
    match (given, key, file) {
        (_, Some(_), Some(_)) => {
            Err(FieldError::new("auth_token_file", "cannot be given with `auth_token`"))
        }
        (Some(token), _, _) => Ok(Some((token, TokenOrigin::Environment))),
        (None, Some(token), None) => Ok(Some((token, TokenOrigin::Key))),
        (None, None, Some(path)) => {
            let token = token_in("auth_token_file", &path, environment)?;
            Ok(Some((token, TokenOrigin::File(path.into()))))
        }
        (None, None, None) => Ok(None),
    }
}

/// Reads the tables, and puts the token `default` before them.
pub(super) fn of_tables(
    fields: &mut Fields,
    default: Option<DefaultToken>,
    environment: &Environment,
) -> Parsed<Credentials> {
    let read = |value| table(value, environment);
    let read = fields.optional(TOKEN_TABLES, |value| match value {
        Value::Table(_) => fields::fail("must be a table [[token]], in double brackets"),
        Value::List(tables) if tables.len() > MOST_TOKENS => {
            fields::fail(format!("must not be more than {MOST_TOKENS} tables"))
        }
        tables => fields::list(read)(tables),
    })?;
    let has_tables = read.as_ref().is_some_and(|tables| !tables.is_empty());
    let (default, origin) = match default {
        Some((token, origin)) => (Some(token), origin),
        None if has_tables => (None, TokenOrigin::None),
        None => (Some(Token(DEFAULT_TOKEN.to_owned())), TokenOrigin::Default),
    };
    let of_admin = |token: &Token| Tokens::of_admin(token.0.as_bytes());
    let tokens = default.as_ref().map(of_admin).unwrap_or_default();
    let mut given = Credentials { tokens, default, origin, tables: Vec::new() };
    for (index, (table, digest)) in read.unwrap_or_default().into_iter().enumerate() {
        let added = given.add(table, digest);
        added.map_err(|error| error.under(&index.to_string()).under(TOKEN_TABLES))?;
    }
    Ok(given)
}

impl Credentials {
    fn add(&mut self, table: TokenTable, digest: Digest) -> Parsed<()> {
        let TokenTable { name, scope, visible, .. } = &table;
        if self.tables.iter().any(|other| other.name == *name) {
            return Err(FieldError::new("name", format!("{name:?} is the name of another token")));
        }
        let access = Access::of_token(name, digest, *scope, visible.clone());
        match self.tokens.add(access) {
            Ok(()) => self.tables.push(table),
            Err(Asker::Token(other)) => {
                let error = format!("the same as that of {other:?}: each needs its own");
                return Err(FieldError::new(table.secret.key(), error));
            }
            Err(Asker::Uid(_)) => {}
        }
        Ok(())
    }
}

impl Secret {
    fn key(&self) -> &'static str {
        match self {
            Secret::Given => "token",
            Secret::File(_) => "token_file",
            Secret::Sha256(_) => "token_sha256",
        }
    }
}

fn table(value: Value, environment: &Environment) -> Parsed<(TokenTable, Digest)> {
    let mut fields = Fields::of(value, &TABLE_KEYS, Spelling::Camel)?;
    let name = fields.required("name", name)?;
    let given = fields.optional("token", token)?;
    let file = fields.optional("token_file", fields::nonempty)?;
    let sha256 = fields.optional("token_sha256", sha256)?;
    let scope = fields.required("scope", fields::choice(&Scope::ALL))?;
    let jobs = fields.optional("jobs", jobs)?;
    let (secret, digest) = match (given, file, sha256) {
        (Some(token), None, None) => (Secret::Given, Digest::of(token.0.as_bytes())),
        (None, Some(path), None) => {
            let token = token_in("token_file", &path, environment)?;
            (Secret::File(path), Digest::of(token.0.as_bytes()))
        }
        (None, None, Some((digits, digest))) => (Secret::Sha256(digits), digest),
        (..) => {
            return fields::fail(
                "must have one of `token`, `token_file` and `token_sha256`, and only one",
            );
        }
    };
    let visible = jobs.map_or_else(Visible::default, Visible::matching);
    Ok((TokenTable { name, secret, scope, visible }, digest))
}

fn name(value: Value) -> Parsed<String> {
    let name = fields::nonempty(value)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > LONGEST_NAME || !name.bytes().all(is_plain) {
        let error = format!("must be 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ -, not {name:?}");
        return fields::fail(error);
    }
    match name == DEFAULT_NAME {
        true => fields::fail(format!("{name:?} is the name of `http.auth_token`")),
        false => Ok(name),
    }
}

fn token(value: Value) -> Parsed<Token> {
    Token::parse(fields::any_text(value)?.as_bytes()).or_else(fields::fail)
}

fn token_in(key: &str, path: &str, environment: &Environment) -> Parsed<Token> {
    let read = (environment.read)(Path::new(path));
    let token = match read {
        Ok(bytes) => Token::parse(&bytes),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    token.map_err(|message| FieldError::new(key, format!("{path:?} {message}")))
}

fn sha256(value: Value) -> Parsed<(String, Digest)> {
    let digits = fields::any_text(value)?;
    match Digest::parse(&digits) {
        None => fields::fail("must be the 64 hexadecimal digits of a SHA-256"),
        Some(digest) if digest == Digest::of(b"") => {
            fields::fail("must not be that of an empty token")
        }
        Some(digest) => Ok((digits, digest)),
    }
}

fn jobs(value: Value) -> Parsed<Vec<String>> {
    match fields::list(pattern)(value)? {
        patterns if patterns.is_empty() => {
            fields::fail("must not be empty; leave it out for all jobs")
        }
        patterns if patterns.len() > MOST_PATTERNS => {
            fields::fail(format!("must not be more than {MOST_PATTERNS} patterns"))
        }
        patterns => Ok(patterns),
    }
}

fn pattern(value: Value) -> Parsed<String> {
    let pattern = fields::nonempty(value)?;
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~:@+*?".contains(&byte);
    match pattern.len() <= LONGEST_PATTERN && pattern.bytes().all(is_known) {
        true => Ok(pattern),
        false => fields::fail(format!(
            "must be the id of a job, perhaps with `*` and `?`, not {pattern:?}"
        )),
    }
}

/// What is wrong with a token that looks right in an editor. The token itself is never shown.
fn why(token: &[u8]) -> &'static str {
    if token.starts_with(b"\xef\xbb\xbf") {
        "; this begins with a byte order mark (BOM): save the file without one"
    } else if token.ends_with(b"\r") {
        "; this ends with a carriage return (\\r): save the file with the line ends of Unix"
    } else if token.contains(&b'\n') {
        "; this has more than one line"
    } else {
        ""
    }
}

/// The key of the tables.
pub(super) const TOKEN_TABLES: &str = "token";
const TABLE_KEYS: [&str; 6] = ["name", "token", "token_file", "token_sha256", "scope", "jobs"];
/// The token when none is set.
const DEFAULT_TOKEN: &str = "abc123";
const LONGEST_TOKEN: usize = 4096;
const LONGEST_NAME: usize = 64;
const MOST_TOKENS: usize = 1000;
const MOST_PATTERNS: usize = 64;
/// As the longest id of a job.
const LONGEST_PATTERN: usize = 128;
