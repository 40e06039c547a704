//! The unix socket of the API: its file, and who is at the other end of a connection to it.
//!
//! ```text
//!   lock PATH.lock ─▶ what is at PATH?
//!                       nothing ────────────────────────────────────┐
//!                       a socket on which nobody answers ─▶ removed ┤
//!                       a socket on which somebody answers ─▶ taken │
//!                       anything else ─▶ refused                    ▼
//!                                                    bind ─▶ mode 0600 ─▶ listen
//! ```
//!
//! Until it listens, connections are refused, so nobody gets in before its mode is set. The lock
//! orders those that start at once; it is there only for that long, and a k1s that is killed
//! meanwhile leaves a file that the next one takes over.
//!
//! Whoever may write to its directory could put a socket of theirs in its place, and be sent what is
//! meant for k1s; whoever may write to one above could do so with the directory itself. So each has
//! to belong to root or to k1s's own user, and nobody else may write to it, unless it is sticky, as
//! `/tmp` is: there others can only be first, and keep k1s from having that path. The client asks
//! nobody else than root and its own user, unless it is told to.

use std::env;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::unistd::geteuid;

use super::{is_root, reason, reason_of};

/// Where k1s has its socket when nobody says so; `None`: nowhere.
pub fn default_path() -> Option<PathBuf> {
    if is_root() {
        return Some("/run/k1s.sock".into());
    }
    let directory = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    directory.is_absolute().then(|| directory.join("k1s.sock"))
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalUser {
    /// The user.
    pub uid: u32,
    /// It is root, or the user of this process.
    pub is_owner: bool,
}

/// The user at the other end of this connection: who has connected, or has begun to listen
/// (`SO_PEERCRED`, unix(7)). One that this user namespace does not know has the uid 65534; the mode
/// keeps it off the socket of a k1s that is 65534, too.
///
/// # Errors
/// It is no unix socket.
pub fn user_of(connection: &impl AsFd) -> io::Result<LocalUser> {
    let uid = getsockopt(connection, sockopt::PeerCredentials)?.uid();
    Ok(LocalUser { uid, is_owner: uid == 0 || uid == geteuid().as_raw() })
}

/// Why there is no socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalError {
    /// Somebody answers on it already, or is just about to.
    Taken,
    /// Anything else, for people.
    Failed(String),
}

/// The file of a socket, which is removed when this is dropped, if it is still the same one. That
/// has to be before the socket is closed: nobody replaces a socket that is answered on.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity_at(&self.path) == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a socket at this path, for root and k1s's own user: non-blocking, close-on-exec. Its
/// directory is made if that alone is missing.
///
/// # Errors
/// [`LocalError`]; then nothing is changed, except that the directory may have been made.
pub fn listen_at(path: &Path) -> Result<(SocketFile, UnixListener), LocalError> {
    let address = UnixAddr::new(path).map_err(|errno| LocalError::Failed(reason(errno)))?;
    check_directory(path)?;
    let _lock = Lock::take(path)?;
    clear(path, &address)?;
    let failed = |what: &'static str| {
        move |errno: Errno| LocalError::Failed(format!("{what}: {}", reason(errno)))
    };
    let socket = stream_socket().map_err(failed("socket"))?;
    bind(socket.as_raw_fd(), &address).map_err(failed("it cannot be made"))?;
    let identity = identity_at(path).ok_or_else(|| failed("it is gone")(Errno::ENOENT))?;
    let file = SocketFile { path: path.to_owned(), identity };
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|error| LocalError::Failed(format!("its mode: {}", reason_of(&error))))?;
    listen(&socket, Backlog::MAXALLOWABLE).map_err(failed("listen"))?;
    Ok((file, UnixListener::from(socket)))
}

fn stream_socket() -> nix::Result<std::os::fd::OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// The directory has to be one in which only root and k1s's own user may replace the socket. Makes
/// it if it is missing, as `/run` is in an empty image.
fn check_directory(path: &Path) -> Result<(), LocalError> {
    let directory = path.parent().unwrap_or(path);
    match fs::metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_way(directory.parent().unwrap_or(directory), &mut { MOST_LINKS })?;
            DirBuilder::new().mode(0o755).create(directory).map_err(about(directory))
        }
        _ => check_way(directory, &mut { MOST_LINKS }),
    }
}

/// Nobody else may replace this directory, one above it, or what symbolic links among them lead to.
fn check_way(directory: &Path, links: &mut usize) -> Result<(), LocalError> {
    for at in directory.ancestors() {
        let metadata = fs::symlink_metadata(at).map_err(about(at))?;
        let (is_link, owner, mode) = (metadata.is_symlink(), metadata.uid(), metadata.mode());
        let is_ours = owner == 0 || owner == geteuid().as_raw();
        if !is_ours && !is_unknown(owner) {
            return Err(insecure(&format!("user {owner}"), at));
        }
        if !is_link && mode & OTHERS_MAY_WRITE != 0 && mode & STICKY == 0 {
            return Err(insecure("others", at));
        }
        if is_link {
            *links = links.checked_sub(1).ok_or_else(|| about(at)(Errno::ELOOP.into()))?;
            let target = fs::read_link(at).map_err(about(at))?;
            check_way(&at.parent().unwrap_or(at).join(target), links)?;
        }
    }
    Ok(())
}

/// Whether this stands for all users that this user namespace does not know, such as the root of
/// the machine, who owns nearly all (user_namespaces(7)).
fn is_unknown(uid: u32) -> bool {
    let knows = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u32>().ok());
        let (Some(Some(first)), Some(Some(count))) = (numbers.next(), numbers.nth(1)) else {
            return true;
        };
        uid.checked_sub(first).is_some_and(|place| place < count)
    };
    uid == UNKNOWN
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.lines().any(knows))
}

fn insecure(who: &str, at: &Path) -> LocalError {
    LocalError::Failed(format!(
        "{who} may change {}, and so put another socket in its place; the directory and all above \
         it must belong to root or to k1s's own user, and nobody else may write to them, unless \
         they are sticky, as /tmp is",
        at.display()
    ))
}

fn about(directory: &Path) -> impl Fn(io::Error) -> LocalError {
    let shown = directory.display();
    move |error| LocalError::Failed(format!("directory {shown}: {}", reason_of(&error)))
}

/// Removes a socket that was left over.
fn clear(path: &Path, address: &UnixAddr) -> Result<(), LocalError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| LocalError::Failed(reason_of(&error)))?,
    };
    if !metadata.file_type().is_socket() {
        let error = "there is something else than a socket, which k1s does not remove";
        return Err(LocalError::Failed(error.to_owned()));
    }
    let probe = stream_socket().map_err(|errno| LocalError::Failed(reason(errno)))?;
    match connect(probe.as_raw_fd(), address) {
        // EAGAIN: so many have connected that no other may.
        Ok(()) | Err(Errno::EAGAIN) => Err(LocalError::Taken),
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|error| LocalError::Failed(reason_of(&error)))
        }
        Err(errno) => Err(LocalError::Failed(format!("what is there: {}", reason(errno)))),
    }
}

/// A locked file, which is removed before it is unlocked: flock(2).
struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    fn take(socket: &Path) -> Result<Lock, LocalError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |error: &io::Error| {
            LocalError::Failed(format!("{}: {}", path.display(), reason_of(error)))
        };
        for _ in 0..LOCK_TRIES {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
            let file = options.open(&path).map_err(|error| failed(&error))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LocalError::Taken),
                Err((_, errno)) => return Err(failed(&errno.into())),
            };
            // The one that had it before may have removed it meanwhile.
            let own = file.metadata().map_err(|error| failed(&error))?;
            if identity_at(&path) == Some(identity(&own)) {
                return Ok(Lock { path, _file: file });
            }
        }
        Err(LocalError::Taken)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What tells a file from all others: its device and its inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn identity_at(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|metadata| identity(&metadata))
}

/// The bits of a directory's mode that let its group or others write to it.
const OTHERS_MAY_WRITE: u32 = 0o022;
/// The bit of a directory's mode that lets only owners remove and rename what is in it.
const STICKY: u32 = 0o1000;
/// The uid that stands for those that a user namespace does not know.
const UNKNOWN: u32 = 65534;
/// As many symbolic links as Linux follows in a path.
const MOST_LINKS: usize = 40;
/// Each try fails only because another k1s has just finished with the lock.
const LOCK_TRIES: usize = 16;
