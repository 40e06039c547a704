//! A config of several files: `include`, `[defaults]`, `instances`.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::K1s;

#[test]
fn a_config_of_several_files_starts_as_one() {
    let main = "include = [\"conf.d/*.toml\"]\n[http]\nhost = \"127.0.0.1\"\nauth_token = \"t\"\n\
                [defaults]\nenvironment = { LEVEL = \"info\" }\n\
                [job.worker]\ntype = \"continuous\"\nexecutable = \"sleep\"\n\
                arguments = [\"1000\"]\ninstances = 2\n";
    let web = "[job.web]\ntype = \"one-off\"\nexecutable = \"true\"\n";
    let start = K1s::with();
    let directory = start.dir().join("conf.d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("web.toml"), web).unwrap();
    fs::write(directory.join("web.toml~"), "this is no config").unwrap();
    let k1s = start.file("k1s.toml", main).token("t").start();
    let listed = k1s.get("/").json();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids, ["worker:0", "worker:1", "web"]);
    for number in ["0", "1"] {
        let job = k1s.job(&format!("worker:{number}"));
        assert_eq!(job["environment"]["K1S_INSTANCE"], number);
        assert_eq!(job["environment"]["LEVEL"], "info");
        assert_eq!(job["labels"]["instances"], "worker");
    }
    assert_eq!(k1s.job("web")["environment"], serde_json::json!({}));
    let found = k1s.get("/?label=instances=worker").json();
    assert_eq!(found.as_array().unwrap().len(), 2);
}

#[test]
fn check_shows_all_files_and_an_error_names_the_right_one() {
    let main = "include = [\"web.toml\"]\n";
    let start = |web: &str| {
        let start = K1s::with().bare().argument("check");
        fs::write(start.dir().join("web.toml"), web).unwrap();
        start.file("k1s.toml", main).run()
    };
    let checked =
        start("[defaults]\nnice = 1\n[job.web]\ntype = \"one-off\"\nexecutable = \"sh\"\n");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for place in ["[job.web]  # ", "web.toml:3\n", "nice = 1  # [defaults] ", "web.toml:2\n"] {
        assert!(checked.stdout.contains(place), "{place}: {}", checked.stdout);
    }
    let refused = start("[job.web]\ntype = \"one-off\"\n");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("web.toml:1: job.web.executable: is required"), "{refused:?}");
}

/// A FIFO was waited for, by `k1s check` for ever.
#[test]
fn a_fifo_among_the_files_that_a_config_names_holds_nobody() {
    let head = "[http]\nhost = \"127.0.0.1\"\n";
    for (config, place) in [
        ("include = [\"*.fifo\"]\n".to_owned() + head, ":1: include.0: "),
        (head.to_owned() + "auth_token_file = \"a.fifo\"\n", ":3: http.auth_token_file: "),
    ] {
        for start in [K1s::with().bare(), K1s::with().bare().argument("check")] {
            mkfifo(&start.dir().join("a.fifo"), Mode::S_IRWXU).unwrap();
            let said = start.file("k1s.toml", &config).run();
            assert_eq!(said.code, Some(2), "{said:?}");
            assert!(said.stderr.contains(place), "{place}: {said:?}");
            let why = "a.fifo\" cannot be read: is not a regular file";
            assert!(said.stderr.contains(why), "{said:?}");
        }
    }
    // But this stands for an empty file, as where a drop-in of systemd is masked.
    let start = K1s::with().bare().argument("check");
    symlink("/dev/null", start.dir().join("masked.toml")).unwrap();
    let said = start.file("k1s.toml", "include = [\"masked.toml\"]\n").run();
    assert_eq!(said.code, Some(0), "{said:?}");
}
