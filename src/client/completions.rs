//! `k1s completions`: scripts for shells, which ask k1s what may come next.
//!
//! ```text
//!   Tab ─▶ the script ─▶ k1s completions words -- WORD… ─▶ what may stand there: a command, an
//!                                                           option, an id that k1s has
//! ```
//!
//! So there is one place that knows the commands. Where nothing is known, shells complete files.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;

use super::session::{Session, print};
use super::{Failure, Options};

/// Print a script that completes the words of k1s, with the ids of jobs: bash, zsh or fish.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help"),
    example = "source <(k1s completions bash)"
)]
pub struct Completions {
    /// bash, zsh or fish
    #[argh(positional, arg_name = "SHELL")]
    shell: String,
    /// for those scripts: the words of the line
    #[argh(positional, greedy, arg_name = "WORD")]
    words: Vec<String>,
}

/// What the words after the options of a command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Ids,
    /// One signal, then ids.
    SignalAndIds,
    /// One of these.
    One(&'static [&'static str]),
    Other,
}

impl Completions {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        match self.shell.as_str() {
            "bash" => print(BASH)?,
            "zsh" => print(ZSH)?,
            "fish" => print(FISH)?,
            "words" => {
                for word in self.candidates(|| self.ids(session)) {
                    print(format_args!("{word}\n"))?;
                }
            }
            other => {
                return Err(Failure::Usage(format!("{other:?} must be bash, zsh or fish")));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The ids of all jobs; none if k1s does not tell.
    fn ids(&self, session: &Session) -> Vec<String> {
        let value = |option: &str| {
            let at = self.words.iter().position(|word| word == option)?;
            self.words.get(at + 1).cloned()
        };
        let (url, token_file) = (value("--url"), value("--token-file").map(PathBuf::from));
        let typed = Session::begin(&Options { url, token_file, json: false });
        let session = typed.unwrap_or_else(|_| session.clone());
        session.ids().unwrap_or_default()
    }

    /// What may stand in place of the last word, which is begun.
    fn candidates(&self, ids: impl FnOnce() -> Vec<String>) -> Vec<String> {
        let Some((begun, before)) = self.words.split_last() else { return Vec::new() };
        let mut words = before.iter().map(String::as_str).peekable();
        let (mut command, mut given) = (None, 0);
        while let Some(word) = words.next() {
            let takes_value = VALUES.iter().any(|(option, _)| *option == word);
            if takes_value && words.peek().is_none() {
                return of_option(word, begun);
            }
            match word {
                "--" => return Vec::new(),
                _ if takes_value => drop(words.next()),
                _ if word.starts_with('-') => {}
                _ if command.is_none() => command = Some(word),
                _ => given += 1,
            }
        }
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let Some(command) = command else {
            return match begun.starts_with('-') {
                true => starting(texts(&GLOBAL), begun),
                false => starting(texts(&COMMANDS.map(|(name, ..)| name)), begun),
            };
        };
        let Some((_, options, kind)) = COMMANDS.iter().find(|(name, ..)| *name == command) else {
            return Vec::new();
        };
        let candidates = match kind {
            _ if begun.starts_with('-') => texts(&[options, &CLIENT[..], &["--help"]].concat()),
            Words::SignalAndIds if given == 0 => texts(&SIGNALS),
            Words::One(words) if given == 0 => texts(words),
            Words::Ids | Words::SignalAndIds => ids(),
            Words::One(_) | Words::Other => Vec::new(),
        };
        starting(candidates, begun)
    }
}

/// The values of an option.
fn of_option(option: &str, begun: &str) -> Vec<String> {
    let values = VALUES.iter().find(|(name, _)| *name == option);
    let values = values.map_or(&[][..], |(_, values)| values);
    starting(values.iter().map(|value| (*value).to_owned()).collect(), begun)
}

fn starting(mut words: Vec<String>, begun: &str) -> Vec<String> {
    words.retain(|word| word.starts_with(begun));
    words
}

/// The commands of k1s, their options, and what comes after those.
const COMMANDS: [(&str, &[&str], Words); 23] = [
    ("apply", &["-f", "--file", "--dry-run"], Words::Other),
    ("check", &["-c", "--config", "--against"], Words::Other),
    ("completions", &[], Words::One(&["bash", "zsh", "fish"])),
    ("events", &[], Words::Ids),
    ("exec", &["--name", "--rm", "-e", "--env", "-d", "--detach"], Words::Other),
    ("explain", &[], Words::Other),
    ("init", &["-c", "--config"], Words::Other),
    ("kill", VERB, Words::Ids),
    ("logs", &["-f", "--follow", "-n", "--lines", "--run", "--stream"], Words::Ids),
    ("ps", &["-l", "--label", "-w", "--watch"], Words::Ids),
    ("reload", &["--dry-run", "-l", "--label"], Words::Ids),
    ("restart", VERB, Words::Ids),
    ("rm", VERB, Words::Ids),
    ("run", VERB, Words::Ids),
    ("schedule", &["--tz", "--after", "-n", "--count"], Words::Other),
    ("set", &["--dry-run"], Words::Ids),
    ("show", &["-n", "--runs"], Words::Ids),
    ("signal", &["-l", "--label", "--group"], Words::SignalAndIds),
    ("start", VERB, Words::Ids),
    ("state", &["-d", "--directory", "--json"], Words::Other),
    ("top", &["-l", "--label"], Words::Other),
    ("wait", &["--for", "--timeout"], Words::Ids),
    ("help", &[], Words::Other),
];
const VERB: &[&str] = &["-l", "--label", "--wait"];
/// The options of all commands of the client.
const CLIENT: [&str; 3] = ["--url", "--token-file", "--json"];
const GLOBAL: [&str; 6] = ["--url", "--token-file", "--json", "--config", "--version", "--help"];
/// The options that take a value, and which, as far as that is known.
const VALUES: [(&str, &[&str]); 20] = [
    ("--url", &[]),
    ("--token-file", &[]),
    ("--against", &[]),
    ("-c", &[]),
    ("--config", &[]),
    ("-f", &[]),
    ("--file", &[]),
    ("-l", &[]),
    ("--label", &[]),
    ("-n", &[]),
    ("--lines", &[]),
    ("--runs", &[]),
    ("--run", &[]),
    ("--stream", &["stdout", "stderr"]),
    ("--for", &["ready", "ended", "succeeded"]),
    ("--timeout", &[]),
    ("--name", &[]),
    ("-e", &[]),
    ("--env", &[]),
    ("--tz", &[]),
];
const SIGNALS: [&str; 8] = ["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "STOP"];

/// Ids may have a colon, at which bash splits words: it wants what follows the last one.
const BASH: &str = r#"_k1s() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$' \t\n'
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local word=${words[${#words[@]}-1]} IFS=$'\n'
    COMPREPLY=($(k1s completions words -- "${words[@]:1}" 2>/dev/null))
    if [[ $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o default -F _k1s k1s
"#;

const ZSH: &str = r#"#compdef k1s
_k1s() {
    local -a found
    found=("${(@f)$(k1s completions words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $found[1] ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
compdef _k1s k1s
"#;

const FISH: &str = r#"function __k1s_words
    set -l typed (commandline -opc)
    set -l found (k1s completions words -- $typed[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c k1s -f -a '(__k1s_words)'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, wanted: &[&str]) {
        let words = line.split(' ').map(str::to_owned).collect();
        let completions = Completions { shell: "words".into(), words };
        let ids = || ["web", "worker:0", "db"].map(str::to_owned).to_vec();
        assert_eq!(completions.candidates(ids), wanted, "{line}");
    }

    #[test]
    fn what_may_stand_there_depends_on_what_stands_before() {
        check("re", &["reload", "restart"]);
        check("--ur", &["--url"]);
        check("--url http://x sho", &["show"]);
        check("show w", &["web", "worker:0"]);
        check("show worker:", &["worker:0"]);
        check("kill web d", &["db"]);
        check("kill --w", &["--wait"]);
        check("signal U", &["USR1", "USR2"]);
        check("signal HUP d", &["db"]);
        check("wait --for r", &["ready"]);
        check("wait --for ready d", &["db"]);
        check("logs --stream std", &["stdout", "stderr"]);
        check("logs -n 5 d", &["db"]);
        check("completions b", &["bash"]);
        check("apply -f ", &[]);
        check("exec -- d", &[]);
        check("init d", &[]);
        check("nothing d", &[]);
    }
}
