//! The environment of a run, as execve(2) takes it.
//!
//! First that of k1s without `K1S_*` and what is for k1s alone (or nothing), then HOME, USER and
//! LOGNAME of the account, then what files say, then that of the job, then `K1S_JOB`, `K1S_RUN` and
//! others that k1s gives. Later values replace earlier ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, OsString};
use std::os::unix::ffi::OsStringExt;

use super::user::Account;
use crate::gather::gather;
use crate::job::Variables;
use crate::job::spec::Command;

/// The part of k1s's own environment that jobs inherit: `NAME=value` by name.
#[derive(Debug)]
pub(super) struct Inherited(BTreeMap<Vec<u8>, CString>);

/// The whole environment of one run.
#[derive(Debug)]
pub(super) struct Environment<'a> {
    /// `NAME=value`; those that k1s gives come first, so that `K1S_RUN` is found quickly in
    /// `/proc/PID/environ`.
    pub(super) entries: Vec<Cow<'a, CStr>>,
    /// The value of PATH, if there is one.
    pub(super) path: Option<Vec<u8>>,
    /// Whether that is from a file, and must not be shown.
    pub(super) is_path_secret: bool,
}

impl Inherited {
    /// Keeps the variables that jobs may see: all but `K1S_*`, which may be secret, and those by
    /// which a service manager addresses the process that it has started, which is k1s.
    pub(super) fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Inherited {
        let visible = variables
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            .filter(|(name, _)| !name.starts_with(b"K1S_") && !OWN.contains(&name.as_slice()));
        // What came through execve contains no NUL, so nothing is dropped here.
        let entries = visible.filter_map(|(name, value)| {
            let entry = entry(&name, &value).ok()?;
            Some((name, entry))
        });
        Inherited(gather(entries))
    }

    /// The environment of a run, with the variables that its files have and those that k1s has
    /// `given`.
    ///
    /// # Errors
    /// A value contains a NUL byte, which the checks of a job refuse.
    pub(super) fn for_run<'a>(
        &'a self,
        command: &Command,
        account: Option<&Account>,
        from_files: &Variables,
        given: &[(&str, &str)],
    ) -> Result<Environment<'a>, NulError> {
        let mut variables: BTreeMap<Cow<'a, [u8]>, Cow<'a, CStr>> = BTreeMap::new();
        if !command.clear_environment {
            let own = self.0.iter();
            variables.extend(
                own.map(|(name, entry)| (Cow::from(&name[..]), Cow::from(entry.as_c_str()))),
            );
        }
        let login = account.map(Account::variables).unwrap_or_default();
        let login = login.into_iter().map(|(name, value)| (name, value.as_bytes()));
        let read = from_files.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let declared = command.environment.iter();
        let declared = declared.map(|(name, value)| (name.as_str(), value.as_bytes()));
        for (name, value) in login.chain(read).chain(declared) {
            let entry = entry(name.as_bytes(), value)?;
            variables.insert(Cow::from(name.as_bytes().to_vec()), Cow::from(entry));
        }
        let path = variables
            .get(&b"PATH"[..])
            .and_then(|entry| entry.to_bytes().strip_prefix(b"PATH="))
            .map(<[u8]>::to_vec);
        let mut entries = Vec::with_capacity(variables.len() + given.len());
        for (name, value) in given {
            entries.push(Cow::from(entry(name.as_bytes(), value.as_bytes())?));
            variables.remove(name.as_bytes());
        }
        entries.extend(variables.into_values());
        let is_path_secret = !command.environment.contains_key("PATH")
            && from_files.iter().any(|(name, _)| name == "PATH");
        Ok(Environment { entries, path, is_path_secret })
    }
}

fn entry(name: &[u8], value: &[u8]) -> Result<CString, NulError> {
    CString::new([name, b"=", value].concat())
}

/// The variables of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3).
const OWN: [&[u8]; 7] = [
    b"NOTIFY_SOCKET",
    b"WATCHDOG_USEC",
    b"WATCHDOG_PID",
    b"LISTEN_FDS",
    b"LISTEN_FDNAMES",
    b"LISTEN_PID",
    b"LISTEN_PIDFDID",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::command;

    const GIVEN: [(&str, &str); 2] = [("K1S_JOB", "j"), ("K1S_RUN", "i.j.1")];

    fn check(own: &str, clear: bool, job: &[(&str, &str)], account: bool, expected: &str) {
        check_with(own, clear, &[], job, account, expected);
    }

    fn check_with(
        own: &str,
        clear: bool,
        files: &[(&str, &str)],
        job: &[(&str, &str)],
        account: bool,
        expected: &str,
    ) {
        let files = files.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let variables = own.split(' ').filter_map(|v| v.split_once('='));
        let inherited = Inherited::new(variables.map(|(n, v)| (n.into(), v.into())));
        let mut command = command("true", &[]);
        command.clear_environment = clear;
        command.environment = job.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let bob = Account {
            name: "bob".into(),
            uid: 7,
            gid: Some(7),
            home: "/home/bob".into(),
            groups: Vec::new(),
        };
        let environment =
            inherited.for_run(&command, account.then_some(&bob), &files, &GIVEN).unwrap();
        let entries: Vec<_> = environment.entries.iter().map(|e| e.to_str().unwrap()).collect();
        assert_eq!(entries.join(" "), format!("K1S_JOB=j K1S_RUN=i.j.1{expected}"));
    }

    #[test]
    fn what_comes_later_wins() {
        let own = "PATH=/bin HOME=/root USER=root K1S_AUTH_TOKEN=secret K1S_RUN=outer";
        check(own, false, &[], false, " HOME=/root PATH=/bin USER=root");
        check(own, true, &[], false, "");
        check(own, true, &[("A", "1=2")], false, " A=1=2");
        check(
            own,
            false,
            &[("HOME", "/h"), ("K1S_RUN", "forged"), ("K1S_X", "kept")],
            true,
            " HOME=/h K1S_X=kept LOGNAME=bob PATH=/bin USER=bob",
        );
        check(own, true, &[], true, " HOME=/home/bob LOGNAME=bob USER=bob");
        let files = [("HOME", "/file"), ("A", "1"), ("A", "2"), ("B", "1"), ("K1S_JOB", "x")];
        check_with(
            own,
            true,
            &files,
            &[("B", "2")],
            true,
            " A=2 B=2 HOME=/file LOGNAME=bob USER=bob",
        );
    }

    #[test]
    fn what_a_service_manager_tells_k1s_is_not_for_jobs() {
        let own = "LISTEN_FDS=1 LISTEN_FDNAMES=x LISTEN_PID=1 LISTEN_PIDFDID=1 LISTEN_PORT=80 \
                   NOTIFY_SOCKET=/run/x WATCHDOG_PID=1 WATCHDOG_USEC=1";
        check(own, false, &[], false, " LISTEN_PORT=80");
        // But a job may be given one, and what k1s gives comes last.
        check(own, false, &[("NOTIFY_SOCKET", "/y")], false, " LISTEN_PORT=80 NOTIFY_SOCKET=/y");
        let mut command = command("true", &[]);
        command.environment = [("NOTIFY_SOCKET".into(), "/y".into())].into();
        let inherited = Inherited::new([].into_iter());
        let given = [GIVEN[0], ("NOTIFY_SOCKET", "@k1s")];
        let environment = inherited.for_run(&command, None, &Vec::new(), &given).unwrap();
        let entries: Vec<_> = environment.entries.iter().map(|e| e.to_str().unwrap()).collect();
        assert_eq!(entries, ["K1S_JOB=j", "NOTIFY_SOCKET=@k1s"]);
    }

    #[test]
    fn the_path_is_that_of_the_final_environment() {
        let own = || [("PATH".into(), "/own".into())].into_iter();
        let path = |clear, given: Option<&str>| {
            let mut command = command("true", &[]);
            command.clear_environment = clear;
            command.environment = given.map(|p| ("PATH".into(), p.into())).into_iter().collect();
            let inherited = Inherited::new(own());
            let environment = inherited.for_run(&command, None, &Vec::new(), &GIVEN).unwrap();
            environment.path.map(|p| String::from_utf8(p).unwrap())
        };
        assert_eq!(path(false, None).as_deref(), Some("/own"));
        assert_eq!(path(false, Some("/job")).as_deref(), Some("/job"));
        assert_eq!(path(true, Some("")).as_deref(), Some(""));
        assert_eq!(path(true, None), None);
    }
}
