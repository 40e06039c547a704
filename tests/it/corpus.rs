//! Replays the corpus of each fuzz target through its property: `fuzz/corpus/NAME/*`.
//!
//! The fuzzer itself needs a nightly toolchain (see `fuzz/README.md`); this does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k1s::properties::{ALL, Property};

#[test]
fn properties_hold_for_all_that_fuzzing_has_kept() {
    let mut broken = Vec::new();
    for (name, property) in ALL {
        let inputs = files(&fuzz().join("corpus").join(name));
        assert!(inputs.len() >= FEWEST, "{name}: {} inputs", inputs.len());
        broken.extend(inputs.into_iter().filter(|input| !holds(property, input)));
    }
    assert!(broken.is_empty(), "the property does not hold for {broken:#?}");
}

#[test]
fn each_property_has_a_target_a_corpus_and_a_dictionary() {
    let known: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    for kind in ["fuzz_targets", "corpus"] {
        let found = files(&fuzz().join(kind)).iter().map(|path| stem(path)).collect();
        assert_eq!(known, found, "{kind}");
    }
    let words: BTreeSet<String> =
        files(&fuzz().join("dict")).iter().map(|path| stem(path)).collect();
    let unread: Vec<_> = words.difference(&known).collect();
    assert!(unread.is_empty(), "dictionaries of no target: {unread:?}");
}

fn holds(property: Property, input: &Path) -> bool {
    let bytes = fs::read(input).unwrap();
    std::panic::catch_unwind(|| property(&bytes)).is_ok()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// A smaller corpus is of no use.
const FEWEST: usize = 12;
