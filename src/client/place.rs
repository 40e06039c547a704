//! Where k1s is, and the token for it, when nobody says so.
//!
//! ```text
//!   --url ─▶ K1S_URL ─▶ the unix socket, if somebody answers ─▶ http://127.0.0.1:PORT (1298)
//!   --token-file ─▶ K1S_AUTH_TOKEN ─▶ none
//! ```

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Failure;
use super::http::{Client, Place};
use crate::os;

/// Finds k1s. `url` and `token_file` come from the command line, and win.
pub(super) fn find(url: Option<&str>, token_file: Option<&Path>) -> Result<Client, Failure> {
    let from_environment = variable("K1S_URL")?;
    let named = |name: &str, url: &str| {
        Place::parse(url).map_err(|why| Failure::Usage(format!("{name}: {why}")))
    };
    let places = match (url, &from_environment) {
        (Some(url), _) => vec![named("--url", url)?],
        (None, Some(url)) => vec![named("K1S_URL", url)?],
        (None, None) => nearby()?,
    };
    let token = match token_file {
        Some(path) => Some(read_token(path)?),
        None => variable("K1S_AUTH_TOKEN")?,
    };
    let token = token.map(|token| token.strip_suffix('\n').unwrap_or(&token).to_owned());
    Client::new(places, token)
}

/// The unix socket of this user's k1s, and its port, in case nobody answers there.
fn nearby() -> Result<Vec<Place>, Failure> {
    let socket = match env::var_os("K1S_SOCKET") {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(PathBuf::from(path)),
        None => os::local::default_path(),
    };
    if let Some(path) = socket.as_ref().filter(|path| !path.is_absolute()) {
        return Err(Failure::Usage(format!("K1S_SOCKET: must be an absolute path, not {path:?}")));
    }
    let port = variable("PORT")?.unwrap_or_else(|| DEFAULT_PORT.to_owned());
    let port = Place::parse(&format!("http://127.0.0.1:{port}"))
        .map_err(|_| Failure::Usage(format!("PORT: {port:?} is not a port, 0 to 65535")))?;
    Ok(socket.map(Place::Own).into_iter().chain([port]).collect())
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let mut token = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut token))
        .map(|_| token)
        .map_err(|error| Failure::Usage(format!("--token-file {}: {error}", path.display())))
}

/// A variable of the environment that is set, and not empty. One that is not understood is an error:
/// without it another k1s might be asked.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name}: is not UTF-8"))),
    }
}

/// More than k1s reads of a request.
const LONGEST_TOKEN: u64 = 1 << 20;
/// The port that k1s listens on by default.
const DEFAULT_PORT: &str = "1298";
