//! Users and groups, read from `/etc/passwd` and `/etc/group`: passwd(5), group(5).
//!
//! A static binary has no NSS, so k1s reads the files. It does at every spawn that asks for a user,
//! so that new accounts are found.

use std::fs;
use std::io::ErrorKind;

use super::errno_of;
use super::failure::{SpawnError, cannot_run};

/// The account that a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// The login name, or the number of a user without an entry.
    pub(super) name: String,
    /// The user id.
    pub(super) uid: u32,
    /// The user's own group; `None` for a number without an entry.
    pub(super) gid: Option<u32>,
    /// The home directory.
    pub(super) home: String,
    /// The other groups that list the user as a member.
    pub(super) groups: Vec<u32>,
}

impl Account {
    /// The variables that login(1) would set.
    pub(super) fn variables(&self) -> Vec<(&str, &str)> {
        vec![("HOME", &self.home), ("LOGNAME", &self.name), ("USER", &self.name)]
    }
}

/// Whether k1s runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The account of a user, by name or number.
///
/// # Errors
/// For people: `user bob: no such user in /etc/passwd`; or a file cannot be read, perhaps because
/// of a shortage of descriptors.
pub(super) fn account(user: &str) -> Result<Account, SpawnError> {
    let (passwd, group) = (read(PASSWD)?, read(GROUP)?);
    find_account(user, &passwd, &group)
        .ok_or_else(|| cannot_run(format!("user {user}: no such user in {PASSWD}")))
}

/// The id of a group, by name or number.
///
/// # Errors
/// For people: `group staff: no such group in /etc/group`; or those of [`account`].
pub(super) fn group_id(group: &str) -> Result<u32, SpawnError> {
    find_group(group, &read(GROUP)?)
        .ok_or_else(|| cannot_run(format!("group {group}: no such group in {GROUP}")))
}

fn find_account(user: &str, passwd: &str, group: &str) -> Option<Account> {
    let number = id(user);
    let entries = || passwd.lines().filter_map(PasswdEntry::parse);
    let entry = entries()
        .find(|entry| entry.name == user)
        .or_else(|| entries().find(|entry| Some(entry.uid) == number));
    let Some(entry) = entry else {
        return number.map(|uid| Account {
            name: user.to_owned(),
            uid,
            gid: None,
            home: "/".to_owned(),
            groups: Vec::new(),
        });
    };
    Some(Account {
        name: entry.name.to_owned(),
        uid: entry.uid,
        gid: Some(entry.gid),
        home: if entry.home.is_empty() { "/" } else { entry.home }.to_owned(),
        groups: memberships(entry.name, entry.gid, group),
    })
}

fn find_group(wanted: &str, group: &str) -> Option<u32> {
    let by_name = group.lines().filter_map(GroupEntry::parse).find(|entry| entry.name == wanted);
    by_name.map(|entry| entry.gid).or_else(|| id(wanted))
}

fn memberships(name: &str, own: u32, group: &str) -> Vec<u32> {
    let entries = group.lines().filter_map(GroupEntry::parse);
    let mut ids: Vec<u32> = entries
        .filter(|entry| entry.members.split(',').any(|member| member == name))
        .map(|entry| entry.gid)
        .filter(|gid| *gid != own)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A line of passwd(5): `name:password:uid:gid:comment:home:shell`.
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> PasswdEntry<'a> {
    fn parse(line: &'a str) -> Option<PasswdEntry<'a>> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    }
}

/// A line of group(5): `name:password:gid:member,member`.
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupEntry<'a> {
    fn parse(line: &'a str) -> Option<GroupEntry<'a>> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(GroupEntry { name, gid, members })
    }
}

/// An id in decimal. The highest number is no id: for setresuid(2) it means "no change".
fn id(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.filter(|id| *id != u32::MAX)
}

/// A missing file, as in an image from scratch, has no entries. Names that are not UTF-8 never
/// match.
fn read(path: &str) -> Result<String, SpawnError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(SpawnError::at(path, errno_of(&error))),
    }
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        # a comment\n\
        bob:x:1000:1001:Bob:/home/bob:/bin/sh\n\
        short:x:5:5\n\
        bad:x:many:5::/:\n\
        42:x:77:77::/forty-two:\n";
    const GROUP: &str = "root:x:0:\nbob:x:1001:\nstaff:x:50:alice,bob\n\
        video:x:44:bob\nstaff2:x:50:bob\nbobs:x:1001:bob\nbobby:x:9:bobby,obob\nempty:x:8\n";

    #[test]
    fn users_are_found_by_name_then_by_number() {
        for (user, expected) in [
            ("root", Some(("root", 0, Some(0), "/root", vec![]))),
            ("0", Some(("root", 0, Some(0), "/root", vec![]))),
            ("bob", Some(("bob", 1000, Some(1001), "/home/bob", vec![44, 50]))),
            ("1000", Some(("bob", 1000, Some(1001), "/home/bob", vec![44, 50]))),
            ("42", Some(("42", 77, Some(77), "/forty-two", vec![]))),
            ("short", Some(("short", 5, Some(5), "/", vec![]))),
            ("4711", Some(("4711", 4711, None, "/", vec![]))),
            ("alice", None),
            ("bad", None),
            ("", None),
            ("+5", None),
            ("-1", None),
            ("4294967295", None),
        ] {
            let found = find_account(user, PASSWD, GROUP);
            let found = found.as_ref();
            let found =
                found.map(|a| (a.name.as_str(), a.uid, a.gid, a.home.as_str(), a.groups.clone()));
            assert_eq!(found, expected, "{user}");
        }
    }

    #[test]
    fn groups_are_found_by_name_then_by_number() {
        for (group, expected) in [
            ("staff", Some(50)),
            ("empty", Some(8)),
            ("4711", Some(4711)),
            ("nope", None),
            ("", None),
            ("4294967295", None),
        ] {
            assert_eq!(find_group(group, GROUP), expected, "{group}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let missing = |text: &str| cannot_run(text.to_owned());
        assert_eq!(
            account("no-such-user-here"),
            Err(missing("user no-such-user-here: no such user in /etc/passwd"))
        );
        assert_eq!(
            group_id("no-such-group-here"),
            Err(missing("group no-such-group-here: no such group in /etc/group"))
        );
    }
}
