//! The words of other systems for the fields of a job: users of supervisord, Docker Compose,
//! Kubernetes, systemd or crontab are told the field that k1s has for it.

/// The answer to a field of another system, if it is one; it has names of fields in backticks.
/// Case, `_` and `-` do not matter.
pub(super) fn answer(given: &str) -> Option<&'static str> {
    // Words are short, but a field of a request may be as long as its body.
    if given.len() > LONGEST {
        return None;
    }
    let letters = given.chars().filter(|letter| !matches!(letter, '_' | '-'));
    let word: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    WORDS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, answer)| *answer)
}

const LONGEST: usize = 32;

/// The words, without `_` and `-`, and the answer to them.
const WORDS: &[(&[&str], &str)] = &[
    (&["kind"], "here it is `type`"),
    (
        &["command", "cmd", "entrypoint", "execstart", "script", "program", "exec", "run"],
        "here it is `executable`, one program, and `arguments`, a list; for a line of shell, \
         executable \"sh\" and arguments [\"-c\", \"…\"]",
    ),
    (&["args", "argv"], "here it is `arguments`"),
    (
        &["workdir", "workingdir", "cwd", "directory", "dir", "chdir"],
        "here it is `workingDirectory`",
    ),
    (&["env", "environ", "envvars"], "here it is `environment`"),
    (&["envfile", "dotenv", "environmentfiles"], "here it is `environmentFile`, a path or a list"),
    (
        &["dependson", "depends", "after", "requires", "wants", "links"],
        "here it is `dependsOn`, with what each job waits for: {\"db\": \"ready\"}",
    ),
    (&["enabled", "enable", "disabled"], "here it is `autostart`; a cron job can also `suspend`"),
    (
        &["autorestart", "restartpolicy", "unexpected"],
        "here it is `restart`, with the policy \"always\", \"on-failure\" or \"never\"",
    ),
    (
        &["startretries", "maxretries", "backofflimit", "startlimitburst", "maxrestarts"],
        "here it is `maxRestarts` in `restart`, or `retries` for one-off jobs",
    ),
    (
        &["startsecs", "restartsec", "restartdelay", "startlimitintervalsec"],
        "the delays between restarts are in `restart`: `initialDelayMs`, `maxDelayMs`, `resetAfterMs`",
    ),
    (
        &["healthcheck", "health", "probe", "readinessprobe", "livenessprobe", "startupprobe"],
        "here it is `readiness`, for what waits for the job, and `liveness`, for restarts",
    ),
    (
        &["watchdogsec", "timeoutstartsec", "starttimeout", "startperiod"],
        "here it is `startTimeoutSeconds`, or `liveness` with {\"notify\": true} for a watchdog",
    ),
    (&["exitcodes", "successexitstatus"], "here it is `successExitCodes`"),
    (
        &["cron", "crontab", "oncalendar", "when"],
        "here it is `schedule`, an expression or a number of seconds, with the `type` \"cron\"",
    ),
    (&["interval", "every", "period"], "here it is `scheduleInSeconds`"),
    (&["tz", "crontz", "timezone"], "here it is `timeZone`"),
    (
        &["replicas", "numprocs", "scale", "instances", "processes"],
        "a job is one process; create one job for each, as `web-1` and `web-2`",
    ),
    (&["stopsignal", "killsignal"], "here it is `signal` in `stop`"),
    (
        &[
            "stopwaitsecs",
            "stopgraceperiod",
            "stoptimeout",
            "killtimeout",
            "timeoutstopsec",
            "terminationgraceperiodseconds",
        ],
        "here it is `timeoutSeconds` in `stop`",
    ),
    (
        &["stopasgroup", "killasgroup", "killmode"],
        "here it is `scope` in `stop`, \"group\" or \"process\"",
    ),
    (
        &[
            "stdoutlogfile",
            "stderrlogfile",
            "logfile",
            "redirectstderr",
            "logging",
            "stdoutlogfilemaxbytes",
            "stdoutlogfilebackups",
            "standardoutput",
        ],
        "here it is `file` in `output`, for both streams: {\"path\": \"/var/log/{job}.log\"}",
    ),
    (&["timeout", "activedeadlineseconds", "runtimemaxsec"], "here it is `timeoutSeconds`"),
    (
        &["image", "ports", "volumes", "networks", "container", "privileged"],
        "k1s runs programs of the machine or container that it is in, and starts no containers",
    ),
    (&["uid", "runas", "gid"], "here it is `user` and `group`, by name or number"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse::{FIELDS, OUTPUT_FIELDS, RESTART_FIELDS, STOP_FIELDS};

    #[test]
    fn no_word_is_said_twice_or_is_a_field_and_answers_name_fields() {
        let words: Vec<&str> = WORDS.iter().flat_map(|(words, _)| *words).copied().collect();
        for (at, word) in words.iter().enumerate() {
            assert!(!words[..at].contains(word), "{word}");
            assert!(word.bytes().all(|letter| letter.is_ascii_lowercase()), "{word}");
            assert!(word.len() <= LONGEST, "{word}");
            assert!(FIELDS.iter().all(|(name, _)| name != word), "{word}");
        }
        for (_, answer) in WORDS {
            for name in answer.split('`').skip(1).step_by(2) {
                let is_known = FIELDS.iter().any(|(known, _)| *known == name)
                    || RESTART_FIELDS.contains(&name)
                    || STOP_FIELDS.contains(&name)
                    || OUTPUT_FIELDS.contains(&name);
                assert!(is_known || ["web-1", "web-2"].contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn words_are_found_however_they_are_spelled() {
        for word in ["depends_on", "dependsOn", "DEPENDS-ON"] {
            assert!(
                answer(word).is_some_and(|said| said.starts_with("here it is `dependsOn`")),
                "{word}"
            );
        }
        assert_eq!(answer("colour"), None);
    }
}
