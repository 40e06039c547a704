//! Opens, rotates and removes log files, in directories that other users may write to.
//!
//! k1s may be root, and an ordinary user may put anything into a directory of theirs, at any time.
//! So k1s writes only to regular files with one name, and follows no symbolic link that another
//! user could have made. openat2(2) follows none at all; if there is one, k1s walks to the directory
//! step by step, and looks up each name in the directory that it has reached.
//!
//! Only local file systems answer at once. One that hangs (NFS without its server) holds up the
//! caller, and so all of k1s.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat, renameat,
};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, ftruncate, getegid, geteuid, unlinkat};

use super::limits::nofile;
use super::{errno_of, reason};
use crate::time::Wall;

/// An open log file. Writes go to its end, even if another process has moved that.
#[derive(Debug)]
pub struct LogFile(File);

/// What the system says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// In bytes.
    pub size: u64,
    /// It has no name any more, because it or its directory was removed.
    pub is_removed: bool,
}

/// Why something cannot be done to a log file, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    text: String,
    is_shortage: bool,
}

impl FileError {
    /// Whether there was no descriptor or no memory for it: others may have taken them.
    pub fn is_shortage(&self) -> bool {
        self.is_shortage
    }

    fn about(what: impl Display, errno: Errno) -> FileError {
        let error = FileError::from(errno);
        FileError { text: format!("{what}: {error}"), ..error }
    }

    fn refused(text: impl Into<String>) -> FileError {
        FileError { text: text.into(), is_shortage: false }
    }
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> FileError {
        let is_shortage = matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM);
        FileError { text: reason(errno), is_shortage }
    }
}

impl Display for FileError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl LogFile {
    /// Opens the file at an absolute path, and creates it if there is none: readable by its group,
    /// as far as k1s's umask permits. The directory must exist.
    ///
    /// # Errors
    /// The system's reason, for people; or it is not a regular file, has a second name (a hard
    /// link), or is reached by a symbolic link that another user could have made.
    pub fn open(path: &Path) -> Result<LogFile, FileError> {
        match open_without_links(path, APPEND, FILE_MODE) {
            Ok(file) => checked(file),
            Err(errno) if may_be_a_link(errno) => {
                let (directory, name) = directory_of(path)?;
                append_in(&directory, name)
            }
            // The file itself would have been created.
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                Err(FileError::about(NO_DIRECTORY, errno))
            }
            Err(errno) => Err(refusal(errno)),
        }
    }

    /// The present size of the file, and whether it was removed.
    ///
    /// # Errors
    /// The system's reason, for people.
    pub fn status(&self) -> Result<FileStatus, FileError> {
        let found = fstat(&self.0)?;
        let size = u64::try_from(found.st_size).unwrap_or(0);
        Ok(FileStatus { size, is_removed: found.st_nlink == 0 })
    }

    /// Writes all bytes. Returns how many were written, and if not all, why.
    pub fn append(&mut self, bytes: &[u8]) -> (usize, Result<(), FileError>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.0.write(rest) {
                Ok(0) => return (written, Err(Errno::ENOSPC.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(errno_of(&error).into())),
            }
        }
        (written, Ok(()))
    }

    /// Empties the file.
    ///
    /// # Errors
    /// The system's reason, for people.
    pub fn clear(&mut self) -> Result<(), FileError> {
        Ok(ftruncate(&self.0, 0)?)
    }
}

/// Renames the file at an absolute path to `PATH.1`, the one with that name to `PATH.2`, and so on
/// up to `rotated`, 1 or more; later ones are removed. Returns the new file.
///
/// # Errors
/// Those of [`LogFile::open`]; some files may have been renamed.
pub fn rotate(path: &Path, rotated: usize) -> Result<LogFile, FileError> {
    let (directory, name) = directory_of(path)?;
    let is_there = |number| {
        let name = numbered(name, number);
        fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    };
    // Also the oldest that is to be replaced: ext4 writes a file to the disk when it is renamed over
    // another (`auto_da_alloc`), which took 20 ms for 10 MB.
    let first = if is_there(rotated.saturating_sub(1)) { rotated } else { rotated + 1 };
    let surplus = (first..=MOST_ROTATED).take_while(|number| {
        let name = numbered(name, *number);
        unlinkat(&directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir).is_ok()
    });
    surplus.for_each(drop);
    for number in (0..rotated).rev() {
        let (from, to) = (numbered(name, number), numbered(name, number + 1));
        match renameat(&directory, from.as_os_str(), &directory, to.as_os_str()) {
            // There are fewer than allowed, or another process has removed one.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                let what = format!("{} cannot be renamed", from.display());
                return Err(FileError::about(what, errno));
            }
        }
    }
    append_in(&directory, name)
}

/// A file that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In bytes.
    pub size: u64,
    /// When it was last written to.
    pub modified: Wall,
}

/// The files at an absolute path: the current one, which may not exist yet, and up to `rotated`
/// rotated ones, by their numbers. Files that k1s cannot look at are left out.
pub fn find(path: &Path, rotated: usize) -> Vec<Found> {
    let Ok((directory, name)) = directory_of(path) else { return vec![Found::default()] };
    let find = |number| {
        let name = numbered(name, number);
        let found = fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let size = u64::try_from(found.st_size).ok().filter(|_| kind(&found) == SFlag::S_IFREG)?;
        let millis = found.st_mtime.saturating_mul(1000) + found.st_mtime_nsec / 1_000_000;
        Some(Found { size, modified: Wall(millis) })
    };
    let current = find(0).unwrap_or_default();
    let rotated = (1..=rotated).map_while(find);
    std::iter::once(current).chain(rotated).collect()
}

/// Removes the rotated file with this number at an absolute path, or for 0 the current one. It is
/// no error if it does not exist.
///
/// # Errors
/// Those of [`LogFile::open`].
pub fn remove(path: &Path, number: usize) -> Result<(), FileError> {
    let (directory, name) = directory_of(path)?;
    let name = numbered(name, number);
    match unlinkat(&directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The name of the rotated file with this number; 0 is the current one.
fn numbered(name: &OsStr, number: usize) -> OsString {
    let mut name = name.to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name
}

/// The directory of a path, and the name in it.
fn directory_of(path: &Path) -> Result<(OwnedFd, &OsStr), FileError> {
    let name = path.file_name().ok_or_else(|| FileError::refused("is not the path of a file"))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    // With O_NOFOLLOW, a link at the end would be ENOTDIR.
    let flags = (LOOK | OFlag::O_DIRECTORY).difference(OFlag::O_NOFOLLOW);
    match open_without_links(parent, flags, Mode::empty()) {
        Ok(directory) => Ok((directory, name)),
        Err(errno) if may_be_a_link(errno) => Ok((walk(parent)?, name)),
        Err(errno) => Err(FileError::about(NO_DIRECTORY, errno)),
    }
}

/// Opens what is at an absolute path, if no symbolic link leads there: openat2(2).
fn open_without_links(path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags).mode(mode);
    openat2(AT_FDCWD, path, how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS))
}

/// Whether openat2(2) has met a link. It may as well be unknown, before Linux 5.6, or refused by a
/// sandbox that does not know it.
fn may_be_a_link(errno: Errno) -> bool {
    matches!(errno, Errno::ELOOP | Errno::ENOSYS | Errno::EPERM)
}

/// Opens the directory at an absolute path, without a symbolic link that another user could have
/// made.
fn walk(path: &Path) -> Result<OwnedFd, FileError> {
    let mut here = step(None, OsStr::new("/"))?;
    let mut names: VecDeque<OsString> = names_of(path).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let from = if name == "/" { None } else { Some(&here) };
        match step(from, &name) {
            Ok(next) => here = next,
            // With O_DIRECTORY, a link gives this error as well.
            Err(Errno::ENOTDIR) if links < MOST_LINKS => {
                links += 1;
                let target = target_of(&here, &name)?;
                let steps: Vec<OsString> = names_of(Path::new(&target)).collect();
                steps.into_iter().rev().for_each(|name| names.push_front(name));
            }
            Err(Errno::ENOTDIR) => return Err(Errno::ELOOP.into()),
            Err(errno) => return Err(FileError::about(NO_DIRECTORY, errno)),
        }
    }
    Ok(here)
}

/// Where a symbolic link in this directory leads.
fn target_of(directory: &OwnedFd, name: &OsStr) -> Result<OsString, FileError> {
    let link = openat(directory, name, LOOK, Mode::empty())?;
    if kind(&fstat(&link)?) != SFlag::S_IFLNK {
        return Err(FileError::about(NO_DIRECTORY, Errno::ENOTDIR));
    }
    if !is_closed_to_others(directory)? {
        return Err(FileError::refused(format!(
            "the symbolic link {} on the way to it is not followed, as others may write to the \
             directory that it is in",
            name.display()
        )));
    }
    Ok(readlinkat(&link, "")?)
}

/// The names of a path; `/` first if it is absolute.
fn names_of(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().map(|component| component.as_os_str().to_owned())
}

fn step(from: Option<&OwnedFd>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = LOOK | OFlag::O_DIRECTORY;
    match from {
        Some(directory) => openat(directory, name, flags, Mode::empty()),
        None => open(name, flags, Mode::empty()),
    }
}

/// Whether only root and k1s's own user can write to the directory.
fn is_closed_to_others(directory: &impl AsFd) -> nix::Result<bool> {
    let found = fstat(directory)?;
    let is_ours = found.st_uid == 0 || Uid::from_raw(found.st_uid) == geteuid();
    let mode = Mode::from_bits_truncate(found.st_mode);
    let is_open_to_group =
        mode.contains(Mode::S_IWGRP) && ![0, getegid().as_raw()].contains(&found.st_gid);
    Ok(is_ours && !mode.contains(Mode::S_IWOTH) && !is_open_to_group)
}

fn append_in(directory: &impl AsFd, name: &OsStr) -> Result<LogFile, FileError> {
    checked(openat(directory, name, APPEND, FILE_MODE).map_err(refusal)?)
}

fn refusal(errno: Errno) -> FileError {
    match errno {
        Errno::ELOOP => FileError::refused("is a symbolic link"),
        // A FIFO without a reader, or a socket.
        Errno::ENXIO => FileError::refused(NOT_REGULAR),
        errno => errno.into(),
    }
}

/// The file, if it is one to write to, and the last descriptors are left for other things, such as
/// an accepted connection: of the free numbers, each gets the lowest.
fn checked(file: OwnedFd) -> Result<LogFile, FileError> {
    let number = u64::try_from(file.as_raw_fd()).unwrap_or(0);
    if nofile().is_ok_and(|limit| number + LEFT_DESCRIPTORS >= limit.rlim_cur) {
        return Err(Errno::EMFILE.into());
    }
    let found = fstat(&file)?;
    if kind(&found) != SFlag::S_IFREG {
        return Err(FileError::refused(NOT_REGULAR));
    }
    if found.st_nlink > 1 {
        return Err(FileError::refused("has another name as well (a hard link)"));
    }
    Ok(LogFile(File::from(file)))
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

const LEFT_DESCRIPTORS: u64 = 4;
const NOT_REGULAR: &str = "is not a regular file";
const NO_DIRECTORY: &str = "its directory cannot be opened";
/// O_NONBLOCK: does not wait for a FIFO or a lease (fcntl(2)).
const APPEND: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR).union(Mode::S_IRGRP);
/// The limit of the kernel: path_resolution(7).
const MOST_LINKS: usize = 40;
/// As many as a job may have, to find those it had before it had fewer, too.
pub const MOST_ROTATED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    /// A directory for one test, whose path has no link.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let base = fs::canonicalize(std::env::temp_dir()).unwrap();
            let path = base.join(format!("k1s-os-logfile-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            Place(path)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        #[track_caller]
        fn refuses(&self, name: &str, why: &str) {
            let error = LogFile::open(&self.at(name)).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn append(file: &mut LogFile, text: &str) {
        assert_eq!(file.append(text.as_bytes()), (text.len(), Ok(())));
    }

    fn write(path: &Path, text: &str) {
        append(&mut LogFile::open(path).unwrap(), text);
    }

    #[test]
    fn a_file_is_created_and_appended_to_wherever_its_end_is() {
        let place = Place::new("append");
        write(&place.at("x"), "a");
        let mut file = LogFile::open(&place.at("x")).unwrap();
        append(&mut file, "b");
        append(&mut LogFile::open(&place.at("x")).unwrap(), "c");
        append(&mut file, "d");
        assert_eq!(fs::read(place.at("x")).unwrap(), b"abcd");
        assert_eq!(file.status(), Ok(FileStatus { size: 4, is_removed: false }));
        file.clear().unwrap();
        append(&mut file, "e");
        assert_eq!(fs::read(place.at("x")).unwrap(), b"e");
        let mode = fs::metadata(place.at("x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
        fs::remove_dir_all(&place.0).unwrap();
        assert!(file.status().unwrap().is_removed);
        append(&mut file, "nowhere");
        place.refuses("x", "No such file or directory (ENOENT)");
    }

    #[test]
    fn what_is_no_regular_file_of_one_name_is_refused() {
        let place = Place::new("refuse");
        fs::create_dir(place.at("directory")).unwrap();
        place.refuses("directory", "Is a directory");
        fs::write(place.at("target"), "").unwrap();
        symlink("target", place.at("link")).unwrap();
        place.refuses("link", "is a symbolic link");
        nix::unistd::mkfifo(&place.at("fifo"), Mode::S_IRWXU).unwrap();
        place.refuses("fifo", NOT_REGULAR);
        let nonblock = OFlag::O_NONBLOCK.bits();
        let fifo = fs::File::options().read(true).custom_flags(nonblock).open(place.at("fifo"));
        place.refuses("fifo", NOT_REGULAR);
        drop(fifo);
        fs::hard_link(place.at("target"), place.at("second")).unwrap();
        place.refuses("second", "a hard link");
        place.refuses("target/x", "(ENOTDIR)");
        let null = LogFile::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(null, FileError::refused(NOT_REGULAR));
        assert_eq!(fs::read(place.at("target")).unwrap(), b"");
    }

    #[test]
    fn a_link_on_the_way_is_followed_where_nobody_else_can_have_made_it() {
        let place = Place::new("links");
        fs::create_dir_all(place.at("real/deep")).unwrap();
        symlink("real", place.at("relative")).unwrap();
        symlink(place.at("relative/deep"), place.at("absolute")).unwrap();
        write(&place.at("absolute/../x"), "x");
        assert_eq!(fs::read(place.at("real/x")).unwrap(), b"x");
        symlink("loop", place.at("loop")).unwrap();
        place.refuses("loop/x", "(ELOOP)");
        for mode in [0o777, 0o1777] {
            fs::set_permissions(&place.0, fs::Permissions::from_mode(mode)).unwrap();
            place.refuses("relative/x", "the symbolic link relative on the way to it is not");
            place.refuses("absolute/x", "the symbolic link absolute on the way to it is not");
            write(&place.at("real/x"), "y");
        }
        assert_eq!(fs::read(place.at("real/x")).unwrap(), b"xyy");
    }

    /// The directory belongs to the user, who may put links into it whatever its mode.
    #[test]
    fn a_link_in_a_directory_of_another_user_is_not_followed() {
        let place = Place::new("others");
        fs::create_dir_all(place.at("home/real")).unwrap();
        symlink("real", place.at("home/link")).unwrap();
        if nix::unistd::chown(&place.at("home"), Some(Uid::from_raw(60_000)), None).is_err() {
            eprintln!("SKIPPED: only root may give a directory to another user");
            return;
        }
        place.refuses("home/link/x", "the symbolic link link on the way to it is not");
        write(&place.at("home/real/x"), "x");
        // As where there is no openat2(2).
        assert!(walk(&place.at("home/real")).is_ok() && walk(&place.at("home/link")).is_err());
    }

    #[test]
    fn rotation_keeps_as_many_files_as_there_may_be() {
        let place = Place::new("rotate");
        let path = place.at("x");
        let files = || {
            let entries = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<(String, String)> = entries
                .map(|path| {
                    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                    (name, fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            files
        };
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        for text in ["a", "b", "c", "d"] {
            write(&path, text);
            append(&mut rotate(&path, 3).unwrap(), "");
        }
        assert_eq!(files(), [pair("x", ""), pair("x.1", "d"), pair("x.2", "c"), pair("x.3", "b")]);
        fs::remove_file(place.at("x.2")).unwrap();
        write(&path, "e");
        append(&mut rotate(&path, 3).unwrap(), "f");
        assert_eq!(files(), [pair("x", "f"), pair("x.1", "e"), pair("x.2", "d"), pair("x.3", "b")]);
        let sizes = |rotated| find(&path, rotated).into_iter().map(|found| found.size);
        assert!(sizes(9).eq([1; 4]) && sizes(0).eq([1]));
        let newest = find(&path, 0)[0].modified;
        assert!(find(&path, 9).iter().all(|found| found.modified <= newest && newest.0 > 0));
        rotate(&path, 1).unwrap();
        assert_eq!(files(), [pair("x", ""), pair("x.1", "f")], "the surplus is removed");
        fs::create_dir(place.at("x.2")).unwrap();
        let error = rotate(&path, 2).unwrap_err().to_string();
        assert!(error.starts_with("x.1 cannot be renamed: "), "{error}");
        assert_eq!(fs::read(place.at("x.1")).unwrap(), b"f");
        assert!(sizes(9).eq([0, 1]), "a directory is no rotated file");
        assert!(remove(&path, 2).is_err());
        remove(&path, 1).unwrap();
        remove(&path, 0).unwrap();
        remove(&path, 0).unwrap();
        assert!(!path.exists() && !place.at("x.1").exists());
        assert_eq!(find(&place.at("nowhere/x"), 9), [Found::default()]);
    }
}
