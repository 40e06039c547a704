//! The supervisor core in a seeded world that does its worst: [`k1s::properties::sim`].
//!
//! `K1S_SIM_SEED=n` plays one seed again; `K1S_SIM_SEEDS` and `K1S_SIM_STEPS` say how many seeds,
//! and how many steps of each. A seed that fails is played again, and tells its last events.

use k1s::properties::sim::{EVENTS, Tally, play};

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
