//! What is asked of a job that goes its way: how it stands, why, and to be told when it is so far.

use serde_json::Value;

use crate::harness::{K1s, continuous, one_off, wait_until};

// ---- How much of it is shown ----

#[test]
fn the_newest_results_are_shown_as_many_as_are_asked_for() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("echo $K1S_RUN; [ ${K1S_RUN##*.} -lt 4 ] || exec sleep 1000"));
    wait_until("three runs are over", || k1s.job("x")["results"][2]["run"] == 3);
    k1s.run("y", &one_off("true"));
    let runs = |job: &Value| -> Vec<u64> {
        let results = job["results"].as_array().unwrap().iter();
        results.map(|result| result["run"].as_u64().unwrap()).collect()
    };
    let none: [u64; 0] = [];
    for (query, wanted) in [
        ("", &[1, 2, 3][..]),
        ("?results=0", &none),
        ("?results=1", &[3]),
        ("?results=2&output=false", &[2, 3]),
        ("?results=000003", &[1, 2, 3]),
        ("?results=1000000000", &[1, 2, 3]),
    ] {
        let job = k1s.get(&format!("/job/x{query}")).json();
        assert_eq!(runs(&job), wanted, "{query}");
        let jobs = k1s.get(&format!("/{query}")).json();
        assert_eq!(jobs[0]["results"], job["results"], "{query}");
        let wanted: &[u64] = if query == "?results=0" { &none } else { &[1] };
        assert_eq!(runs(&jobs[1]), wanted, "{query}");
    }
}

#[test]
fn a_number_of_results_that_is_none_is_refused() {
    let k1s = K1s::start();
    k1s.create("x", &continuous("exec sleep 1000"));
    for given in ["", "-1", "+1", "1.5", "x", "1e3", "1000000001", "99999999999999999999999"] {
        for path in ["/", "/job/x"] {
            let reply = k1s.get(&format!("{path}?results={}", given.replace('+', "%2B")));
            let wanted =
                format!("results: must be a whole number from 0 to 1000000000, not {given:?}");
            assert_eq!((reply.status, reply.error()), (400, wanted));
        }
    }
}
