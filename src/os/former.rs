//! Finds processes that an earlier k1s has left.

use std::io;

use super::proc::{Found, Stat, known, list, own_pid, run_tag};
use crate::job::tag::RunTag;

/// A process, and the run of one of these instances that its environment names.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The process.
    pub stat: Stat,
    /// The run.
    pub tag: Option<RunTag>,
}

/// All processes but k1s itself that are alive.
///
/// # Errors
/// `/proc` cannot be read, or there is a shortage of descriptors or memory.
pub fn look(instances: &[String]) -> io::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for pid in list()?.into_iter().filter(|pid| *pid != own_pid()) {
        let stat = match known(Stat::read(pid)) {
            Some(Some(stat)) if !stat.is_dead => stat,
            Some(_) => continue,
            None => return Err(io::ErrorKind::OutOfMemory.into()),
        };
        let tag = match run_tag(pid) {
            Found::Text(text) => {
                instances.iter().find_map(|instance| RunTag::parse(instance, &text))
            }
            Found::None => None,
            Found::Hidden => return Err(io::ErrorKind::OutOfMemory.into()),
        };
        seen.push(Seen { stat, tag });
    }
    Ok(seen)
}
