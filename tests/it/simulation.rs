//! The simulation of the supervisor core in a hostile world, and with crashes:
//! [`k1s::properties::sim`].
//!
//! `K1S_SIM_SEED=n` plays one seed again; `K1S_SIM_SEEDS` and `K1S_SIM_STEPS` set the number of
//! seeds and of steps. A seed that fails is played again, and its last events are written.

use k1s::properties::sim::{CRASHES, EVENTS, Tally, play, play_crashes};

#[test]
fn what_was_stored_is_what_was_there_wherever_a_crash_comes() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |value: String| value.parse().expect("a number"))
    };
    let mut tally = Tally::default();
    let (first, seeds) = match std::env::var("K1S_CRASH_SEED") {
        Ok(seed) => (seed.parse().expect("a number"), 1),
        Err(_) => (0, number("K1S_SIM_SEEDS", 64)),
    };
    for seed in first..first + seeds {
        let played = std::panic::AssertUnwindSafe(|| play_crashes(seed, 400, &mut tally));
        if std::panic::catch_unwind(played).is_err() {
            panic!("to play it again: K1S_CRASH_SEED={seed}");
        }
    }
    println!("{seeds} seeds: {:?}", tally.0);
    if seeds >= 64 {
        for event in CRASHES {
            assert!(tally.0.contains_key(event), "{event}: never happened: {:?}", tally.0);
        }
    }
}

#[test]
fn the_core_holds_in_any_world() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |value: String| value.parse().expect("a number"))
    };
    let steps = number("K1S_SIM_STEPS", 300);
    if let Ok(seed) = std::env::var("K1S_SIM_SEED") {
        return play(seed.parse().expect("a number"), steps, true, &mut Tally::default());
    }
    let seeds = number("K1S_SIM_SEEDS", 256);
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let played = std::panic::AssertUnwindSafe(|| play(seed, steps, false, &mut tally));
        if std::panic::catch_unwind(played).is_err() {
            play(seed, steps, true, &mut Tally::default());
        }
    }
    println!("{seeds} seeds: {:?}", tally.0);
    if seeds >= 256 {
        for event in EVENTS {
            assert!(tally.0.contains_key(event), "{event}: never happened: {:?}", tally.0);
        }
    }
}
