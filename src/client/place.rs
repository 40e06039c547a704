//! Where k1s is, and the token for it, when nobody says so.
//!
//! ```text
//!   --url ─▶ K1S_URL ─▶ the unix socket, if somebody answers ─▶ http://127.0.0.1:PORT (1298)
//!   --token-file ─▶ K1S_AUTH_TOKEN ─▶ none
//! ```

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::Failure;
use super::http::{Client, Place};
use crate::os;

/// Finds k1s. `url` and `token_file` come from the command line, and win.
pub(super) fn find(url: Option<&str>, token_file: Option<&Path>) -> Result<Client, Failure> {
    let from_environment = variable("K1S_URL");
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
        None => variable("K1S_AUTH_TOKEN"),
    };
    let token = token.map(|token| token.strip_suffix('\n').unwrap_or(&token).to_owned());
    Client::new(places, token)
}

/// The unix socket of this user's k1s, and its port, in case nobody answers there.
fn nearby() -> Result<Vec<Place>, Failure> {
    let socket = match env::var_os("K1S_SOCKET") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_absolute()),
        None => os::local::default_path(),
    };
    let port = variable("PORT").unwrap_or_else(|| DEFAULT_PORT.to_owned());
    let port = Place::parse(&format!("http://127.0.0.1:{port}"))
        .map_err(|_| Failure::Usage(format!("PORT: {port:?} is not a port, 0 to 65535")))?;
    Ok(socket.map(Place::Own).into_iter().chain([port]).collect())
}

fn read_token(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("--token-file {}: {error}", path.display())))
}

/// A variable of the environment that is set, and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The port that k1s listens on by default.
const DEFAULT_PORT: &str = "1298";
