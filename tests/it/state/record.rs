//! What a disk may hold after a loss of power: from strace's record of what k1s asked for.
//!
//! ```text
//!   record ─▶ calls, in order ─▶ up to a moment ─▶ safe: what an fdatasync was for that has ended
//!                                               └▶ the rest: each write whole, absent, torn or zeros;
//!                                                  each name there or not, until an fsync of the
//!                                                  directory
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::rounds::Chance;

/// What strace is to record.
pub(super) const CALLS: &str = "accept4,openat,pwrite64,ftruncate,rename,unlink,unlinkat,fsync,\
    fdatasync,sendto";

/// What k1s asked for, in order.
pub(super) struct Record(Vec<Call>);

/// Files by their descriptors.
enum Call {
    /// A client has connected from this port.
    Accepted(u32, u16),
    /// An answer has begun to go out.
    Answered(u32),
    Opened(u32, String, bool),
    Wrote(u32, usize, Vec<u8>),
    Truncated(u32, usize),
    /// fdatasync or fsync of what there was when so many calls had been made, and whether it could.
    Synced(u32, usize, bool),
    Renamed(String, String),
    Removed(String),
}

/// Files by their names.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

impl Record {
    /// Reads a record, whose first line is of k1s.
    pub(super) fn read(path: &Path) -> Record {
        let text = fs::read_to_string(path).unwrap();
        let main = text.split(' ').next().unwrap().to_owned();
        let mut calls = Vec::new();
        let mut unfinished: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        for line in text.lines() {
            let (pid, rest) = line.split_once(' ').unwrap();
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                unfinished.insert(pid, (begun, calls.len()));
                continue;
            }
            let (whole, began) = match rest.split_once(" resumed>") {
                Some((_, end)) => {
                    let Some((begun, began)) = unfinished.remove(pid) else { continue };
                    (format!("{begun}{end}"), began)
                }
                None => (rest.to_owned(), calls.len()),
            };
            let is_sync = whole.starts_with("fsync") || whole.starts_with("fdatasync");
            if pid == main || is_sync {
                calls.extend(call(&whole, began));
            }
        }
        Record(calls)
    }

    /// How many answers have gone out.
    pub(super) fn all_answers(&self) -> usize {
        self.0.iter().filter(|call| matches!(call, Call::Answered(_))).count()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many answers had gone out at this moment to the client that was connected from there.
    pub(super) fn answers(&self, until: usize, port: u16) -> usize {
        let mut socket = None;
        let mut count = 0;
        for call in &self.0[..until] {
            match call {
                Call::Accepted(of, from) if *from == port => socket = Some(*of),
                Call::Accepted(of, _) | Call::Opened(of, ..) if socket == Some(*of) => {
                    socket = None;
                }
                Call::Answered(of) if socket == Some(*of) => count += 1,
                _ => {}
            }
        }
        count
    }

    /// What may be in the directory, which began with these files, if the power is lost then.
    pub(super) fn cut(
        &self,
        before: &Files,
        directory: &Path,
        until: usize,
        chance: &mut Chance,
    ) -> Files {
        let mut disk = Disk::new(before, directory);
        for (at, call) in self.0[..until].iter().enumerate() {
            disk.handle(at, call);
        }
        disk.lose_power(chance)
    }
}

/// A call that has ended, if it is of interest.
fn call(text: &str, began: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().trim_end_matches(')');
    let result: i64 = result.split(' ').next()?.parse().ok()?;
    let words: Vec<&str> = arguments.split(", ").collect();
    let number = |index: usize| words[index].parse::<u32>().unwrap();
    let path = |index: usize| String::from_utf8(bytes(words[index])).unwrap();
    let is_done = result >= 0;
    Some(match name {
        "fsync" | "fdatasync" => Call::Synced(number(0), began, is_done),
        _ if !is_done => return None,
        "accept4" => {
            let (_, port) = arguments.split_once("htons(")?;
            Call::Accepted(result as u32, port.split(')').next()?.parse().unwrap())
        }
        "sendto" if bytes(words[1]).starts_with(b"HTTP/1.1 ") => Call::Answered(number(0)),
        "openat" => Call::Opened(result as u32, path(1), words[2].contains("O_CREAT")),
        "pwrite64" => {
            let mut written = bytes(words[1]);
            written.truncate(result as usize);
            Call::Wrote(number(0), number(3) as usize, written)
        }
        "ftruncate" => Call::Truncated(number(0), number(1) as usize),
        "rename" => Call::Renamed(path(0), path(1)),
        "unlink" => Call::Removed(path(0)),
        "unlinkat" => Call::Removed(path(1)),
        _ => return None,
    })
}

/// The bytes of `"\x6b\x31"`.
fn bytes(word: &str) -> Vec<u8> {
    assert!(!word.ends_with("..."), "strace was to record all of it");
    let digits = word.trim_matches('"').split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

/// The directory, of which some is safe.
struct Disk<'a> {
    directory: &'a str,
    files: Vec<File>,
    /// Files by their names, as k1s sees them and as they are safe.
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    unsafe_names: Vec<(usize, String, Option<usize>)>,
    descriptors: BTreeMap<u32, Opened>,
}

#[derive(Clone, Copy)]
enum Opened {
    Directory,
    File(usize),
}

#[derive(Default)]
struct File {
    safe: Vec<u8>,
    changes: Vec<Change>,
}

struct Change {
    at: usize,
    offset: usize,
    /// `None`: the end is there.
    bytes: Option<Vec<u8>>,
    /// An fdatasync has failed that was for it, so that no later one is.
    is_lost: bool,
}

impl<'a> Disk<'a> {
    fn new(before: &Files, directory: &'a Path) -> Disk<'a> {
        let file = |bytes: &Vec<u8>| File { safe: bytes.clone(), changes: Vec::new() };
        let names: BTreeMap<String, usize> = before.keys().cloned().zip(0..).collect();
        Disk {
            directory: directory.to_str().unwrap(),
            files: before.values().map(file).collect(),
            safe_names: names.clone(),
            names,
            unsafe_names: Vec::new(),
            descriptors: BTreeMap::new(),
        }
    }

    /// The name of a file of the directory.
    fn name<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.directory)?.strip_prefix('/').filter(|name| *name != "lock")
    }

    fn handle(&mut self, at: usize, call: &Call) {
        match call {
            Call::Accepted(of, _) => drop(self.descriptors.remove(of)),
            Call::Answered(_) => {}
            Call::Opened(of, path, creates) => self.open(at, *of, path, *creates),
            Call::Wrote(of, offset, bytes) => self.change(at, *of, *offset, Some(bytes.clone())),
            Call::Truncated(of, length) => self.change(at, *of, *length, None),
            Call::Synced(of, began, is_done) => self.sync(*of, *began, *is_done),
            Call::Renamed(from, to) => {
                let file = self.name(from).and_then(|name| self.names.get(name).copied());
                self.rename(at, from, None);
                self.rename(at, to, file);
            }
            Call::Removed(path) => self.rename(at, path, None),
        }
    }

    fn open(&mut self, at: usize, descriptor: u32, path: &str, creates: bool) {
        self.descriptors.remove(&descriptor);
        if path == self.directory {
            self.descriptors.insert(descriptor, Opened::Directory);
        }
        let Some(name) = self.name(path) else { return };
        if creates && !self.names.contains_key(name) {
            self.files.push(File::default());
            self.rename(at, path, Some(self.files.len() - 1));
        }
        let file = self.names.get(name).copied().expect("a file that is opened is there");
        self.descriptors.insert(descriptor, Opened::File(file));
    }

    fn rename(&mut self, at: usize, path: &str, file: Option<usize>) {
        let Some(name) = self.name(path).map(str::to_owned) else { return };
        set(&mut self.names, &name, file);
        self.unsafe_names.push((at, name, file));
    }

    fn change(&mut self, at: usize, descriptor: u32, offset: usize, bytes: Option<Vec<u8>>) {
        if let Some(Opened::File(file)) = self.descriptors.get(&descriptor) {
            self.files[*file].changes.push(Change { at, offset, bytes, is_lost: false });
        }
    }

    fn sync(&mut self, descriptor: u32, began: usize, is_done: bool) {
        match self.descriptors.get(&descriptor) {
            Some(Opened::File(file)) => {
                let File { safe, changes } = &mut self.files[*file];
                if !is_done {
                    return changes.iter_mut().for_each(|change| change.is_lost = true);
                }
                let is_safe = |change: &mut Change| change.at < began && !change.is_lost;
                changes.extract_if(.., is_safe).for_each(|change| change.apply(safe));
            }
            Some(Opened::Directory) if is_done => {
                let is_safe = |(at, ..): &mut (usize, String, Option<usize>)| *at < began;
                for (_, name, file) in self.unsafe_names.extract_if(.., is_safe) {
                    set(&mut self.safe_names, &name, file);
                }
            }
            _ => {}
        }
    }

    fn lose_power(mut self, chance: &mut Chance) -> Files {
        let likely = [0, 50, 90, 100][chance.below(4) as usize];
        for (_, name, file) in std::mem::take(&mut self.unsafe_names) {
            if chance.below(100) < likely {
                set(&mut self.safe_names, &name, file);
            }
        }
        let files = &mut self.files;
        let mut content = |file: usize| {
            let likely = [0, 50, 90, 100][chance.below(4) as usize];
            let File { safe, changes } = &mut files[file];
            for change in changes.drain(..) {
                match chance.below(100) {
                    luck if luck >= likely => {}
                    luck if luck % 4 > 0 => change.apply(safe),
                    _ => change.tear(safe, chance),
                }
            }
            safe.clone()
        };
        self.safe_names.iter().map(|(name, file)| (name.clone(), content(*file))).collect()
    }
}

fn set(names: &mut BTreeMap<String, usize>, name: &str, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name.to_owned(), file),
        None => names.remove(name),
    };
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        let Some(bytes) = self.bytes else { return content.resize(self.offset, 0) };
        let end = self.offset + bytes.len();
        content.resize(content.len().max(end), 0);
        content[self.offset..end].copy_from_slice(&bytes);
    }

    /// Each sector of it is written, or zeros, or what was there.
    fn tear(self, content: &mut Vec<u8>, chance: &mut Chance) {
        let offset = self.offset;
        let mut kind = 0;
        for (index, byte) in self.bytes.into_iter().flatten().enumerate() {
            let at = offset + index;
            if at.is_multiple_of(SECTOR) || index == 0 {
                kind = chance.below(3);
            }
            if kind < 2 {
                content.resize(content.len().max(at + 1), 0);
                content[at] = if kind == 0 { byte } else { 0 };
            }
        }
    }
}

const SECTOR: usize = 512;
