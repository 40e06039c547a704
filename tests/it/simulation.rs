//! The simulation of the supervisor core in a hostile world: [`k1s::properties::sim`].
//!
//! `K1S_SIM_SEED=n` plays one seed again; `K1S_SIM_SEEDS` and `K1S_SIM_STEPS` set the number of
//! seeds and of steps. A seed that fails is played again, and its last events are written.

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
