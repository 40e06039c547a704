//! Who may do what: tokens, their scopes, and the jobs that are there for them.
//!
//! ```text
//!   TCP, Authorization: Bearer … ─▶ SHA-256, compared with all ─▶ Access ─▶ Scope: may they?
//!   the unix socket ─▶ its user: root, or k1s's own ──────────────┘     └─▶ Visible: is it there?
//!                             └▶ anyone else: barred, whatever they send
//! ```
//!
//! Of a secret only the digest is kept. A job that an [`Access`] does not see is as one that does
//! not exist, wherever something is shown or asked.

mod sha256;

use std::fmt::{self, Display, Formatter};
use std::hint::black_box;
use std::rc::Rc;

use crate::pattern;

/// What somebody may do. Each scope contains those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To read everything.
    Read,
    /// Also to kill, start, restart, run, reload and signal the jobs that there are.
    Run,
    /// Everything.
    Admin,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// TCP: anyone, known by the token alone.
    Network,
    /// The unix socket, from root or from k1s's own user.
    Owner {
        /// The user.
        uid: u32,
    },
    /// The unix socket, from another user.
    Other {
        /// The user.
        uid: u32,
    },
}

/// Who sends a request.
#[derive(Clone, Debug, Default)]
pub enum Caller {
    /// Somebody without a token, who may do what is open to all.
    #[default]
    Stranger,
    /// A user for whom the unix socket is not.
    Barred {
        /// The user.
        uid: u32,
    },
    /// Somebody with this access.
    Known(Rc<Access>),
}

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Who has the token with this name.
    Token(Rc<str>),
    /// The user with this number, over the unix socket.
    Uid(u32),
}

/// The jobs that are there for somebody; by default, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible(Option<Rc<[String]>>);

/// Who asks, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub asker: Asker,
    /// What they may do.
    pub scope: Scope,
    /// The jobs that are there for them.
    pub visible: Visible,
    /// The secret that shows that they are who they are, if one is needed.
    secret: Option<Digest>,
}

/// The SHA-256 of a secret. `Debug` does not show it, because a bad secret can be guessed from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest([u8; DIGEST_BYTES]);

/// All tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens(Vec<Rc<Access>>);

impl Scope {
    /// All scopes, by their names.
    pub const ALL: [(&'static str, Scope); 3] =
        [("read", Scope::Read), ("run", Scope::Run), ("admin", Scope::Admin)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Run => "run",
            Scope::Admin => "admin",
        }
    }
}

/// `token ci`, `uid 0`.
impl Display for Asker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Token(name) => write!(f, "token {name}"),
            Asker::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

impl Visible {
    /// The jobs whose ids match one of the patterns.
    pub fn matching(patterns: Vec<String>) -> Visible {
        Visible(Some(patterns.into()))
    }

    /// Whether all jobs are.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the job with this id is.
    pub fn has(&self, id: &str) -> bool {
        self.0.as_ref().is_none_or(|all| all.iter().any(|one| pattern::matches(one, id)))
    }

    /// The patterns; none: all jobs.
    pub fn patterns(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Caller {
    /// What they may do, if they are known.
    pub fn access(&self) -> Option<&Access> {
        match self {
            Caller::Known(access) => Some(access),
            Caller::Stranger | Caller::Barred { .. } => None,
        }
    }
}

impl Access {
    /// Of a user who needs no token.
    pub fn of_user(uid: u32) -> Access {
        let (scope, visible) = (Scope::Admin, Visible::default());
        Access { asker: Asker::Uid(uid), scope, visible, secret: None }
    }

    /// Of whoever has this secret.
    pub fn of_token(name: &str, secret: Digest, scope: Scope, visible: Visible) -> Access {
        Access { asker: Asker::Token(name.into()), scope, visible, secret: Some(secret) }
    }
}

impl Digest {
    /// The digest of a secret.
    pub fn of(secret: &[u8]) -> Digest {
        Digest(sha256::digest(secret))
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Digest> {
        let mut digest = [0; DIGEST_BYTES];
        let mut digits = text.chars().map(|digit| digit.to_digit(16));
        for byte in &mut digest {
            *byte = u8::try_from(digits.next()?? << 4 | digits.next()??).ok()?;
        }
        digits.next().is_none().then_some(Digest(digest))
    }

    /// Whether they are equal, in a time that does not depend on where they differ.
    fn is(&self, other: &Digest) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        // All bytes count for this number, which is asked for, and not only for whether it is 0.
        black_box(pairs.fold(0, |differences: u8, (a, b)| differences | (a ^ b))) == 0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Tokens {
    /// One token that may do everything.
    pub fn of_admin(secret: &[u8]) -> Tokens {
        let secret = Digest::of(secret);
        let access = Access::of_token(DEFAULT_NAME, secret, Scope::Admin, Visible::default());
        Tokens(vec![access.into()])
    }

    /// Adds a token.
    ///
    /// # Errors
    /// Another token has the same secret: who that is.
    pub fn add(&mut self, access: Access) -> Result<(), Asker> {
        match self.0.iter().find(|other| other.secret == access.secret) {
            Some(other) => Err(other.asker.clone()),
            None => {
                self.0.push(access.into());
                Ok(())
            }
        }
    }

    /// The access of whoever shows this secret, in a time that depends on its length and the number
    /// of tokens alone.
    pub fn find(&self, secret: &[u8]) -> Option<&Rc<Access>> {
        let digest = Digest::of(secret);
        let mut found = None;
        for access in &self.0 {
            if access.secret.as_ref().is_some_and(|secret| secret.is(&digest)) {
                found = Some(access);
            }
        }
        found
    }

    /// Whether there still is a token with this access.
    pub fn grant(&self, access: &Access) -> bool {
        access.secret.is_none() || self.0.iter().any(|granted| **granted == *access)
    }
}

/// The name of the token that is not in a table of the config.
pub const DEFAULT_NAME: &str = "default";
const DIGEST_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(patterns: &[&str]) -> Visible {
        Visible::matching(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
    }

    fn access(name: &str, secret: &[u8], scope: Scope, visible: Visible) -> Access {
        Access::of_token(name, Digest::of(secret), scope, visible)
    }

    #[test]
    fn each_secret_has_its_access_and_no_other_has_one() {
        let mut tokens = Tokens::of_admin(b"abc123");
        for number in 0..100 {
            let (name, secret) = (format!("t{number}"), format!("secret{number}"));
            let added = access(&name, secret.as_bytes(), Scope::Read, Visible::default());
            assert_eq!(tokens.add(added), Ok(()));
        }
        let who = |secret: &[u8]| tokens.find(secret).map(|access| access.asker.to_string());
        assert_eq!(who(b"abc123").as_deref(), Some("token default"));
        for number in 0..100 {
            let secret = format!("secret{number}");
            assert_eq!(who(secret.as_bytes()), Some(format!("token t{number}")));
        }
        for secret in ["", "abc12", "abc1234", "abc124", "ABC123", "secret", "secret100"] {
            assert_eq!(who(secret.as_bytes()), None, "{secret}");
        }
        assert_eq!(Tokens::default().find(b"abc123"), None);
        let again = access("again", b"secret7", Scope::Run, Visible::default());
        assert_eq!(tokens.add(again), Err(Asker::Token("t7".into())));
    }

    #[test]
    fn what_was_granted_counts_until_anything_of_it_changes() {
        let mut tokens = Tokens::of_admin(b"x");
        let granted = access("a", b"1", Scope::Run, visible(&["web*"]));
        tokens.add(granted.clone()).unwrap();
        assert!(tokens.grant(&granted));
        for other in [
            access("b", b"1", Scope::Run, visible(&["web*"])),
            access("a", b"2", Scope::Run, visible(&["web*"])),
            access("a", b"1", Scope::Admin, visible(&["web*"])),
            access("a", b"1", Scope::Run, visible(&["web"])),
            access("a", b"1", Scope::Run, Visible::default()),
        ] {
            assert!(!tokens.grant(&other), "{other:?}");
        }
    }

    #[test]
    fn scopes_contain_those_before_them() {
        assert!(Scope::ALL.is_sorted_by_key(|(_, scope)| *scope));
        assert!(Scope::ALL.iter().all(|(name, scope)| scope.name() == *name));
    }

    #[test]
    fn jobs_are_visible_by_their_ids() {
        assert!(Visible::default().is_all() && Visible::default().has("anything"));
        let some = visible(&["web*", "db-?"]);
        assert!(!some.is_all() && some.has("web") && some.has("web:1") && some.has("db-1"));
        assert!(!some.has("db-10") && !some.has("my-web") && !some.has(""));
    }

    /// FIPS 180-4, as `sha256sum` prints it.
    #[test]
    fn digests_are_read_in_either_case_and_never_shown() {
        let digits = "6ca13d52ca70c883e0f0bb101e425a89e8624de51db2d2392593af6a84118090";
        assert_eq!(Digest::parse(digits), Some(Digest::of(b"abc123")));
        assert_eq!(Digest::parse(&digits.to_uppercase()), Some(Digest::of(b"abc123")));
        for wrong in ["", "6c", &digits[1..], &format!("{digits}0"), &digits.replace('6', "g")] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
        let tokens = format!("{:?}", Tokens::of_admin(b"abc123"));
        assert!(tokens.contains("***") && !tokens.contains("108"), "{tokens}");
    }
}
