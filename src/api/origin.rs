//! Where a request comes from, which decides whether it needs a token.
//!
//! ```text
//!   over TCP ─────────────────────────────▶ needs the token
//!   over the unix socket ─▶ as root, or as k1s's own user: may do everything, without a token
//!                       └─▶ as anyone else: refused, whatever it sends
//! ```

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
