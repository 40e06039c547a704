//! The target of a request: its path and query (RFC 9112, section 3.2; RFC 3986).

use super::ProtocolError;

/// A decoded path: its segments are UTF-8 without control characters.
///
/// It is split before it is decoded, so that `%2F` is an ordinary character of a segment. Nothing
/// is normalized: `/job/` has the segments `job` and an empty one, and `..` is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Each segment after a NUL, which no segment can contain: one allocation for all.
    text: String,
}

impl Path {
    /// The parts between slashes: one empty segment for `/`, none for `*`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('\0').skip(1)
    }

    /// The target `*`, which is no path (RFC 9110, section 9.3.7).
    fn asterisk() -> Path {
        Path { text: String::new() }
    }

    fn from_separated(text: String) -> Path {
        Path { text }
    }
}

/// A path and the pairs of its query, both decoded.
pub(super) type RequestTarget = (Path, Vec<(String, String)>);

/// Parses a target. All methods allow origin-form and absolute-form, OPTIONS also allows `*`;
/// authority-form is for CONNECT, which was refused before.
pub(super) fn parse_target(text: &[u8], is_options: bool) -> Result<RequestTarget, ProtocolError> {
    if text == b"*" && is_options {
        return Ok((Path::asterisk(), Vec::new()));
    }
    let origin = match text.first() {
        Some(b'/') => text,
        _ => after_authority(text)?,
    };
    let (path, query) = match origin.iter().position(|byte| *byte == b'?') {
        Some(at) => {
            (origin.get(..at).unwrap_or_default(), origin.get(at + 1..).unwrap_or_default())
        }
        None => (origin, [].as_slice()),
    };
    Ok((parse_path(path)?, parse_query(query)?))
}

/// Whether this looks like `host [":" port]`, as in `Host` and in absolute-form: a name, or an IPv6
/// address in brackets. A user is an error (RFC 9110, section 4.2.4), and so is an empty host
/// (4.2.1).
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host_is_fine, rest) = match text.strip_prefix(b"[") {
        Some(inner) => {
            let end = inner.iter().position(|byte| *byte == b']');
            let (address, rest) = inner.split_at(end.unwrap_or(0));
            (is_ipv6_shape(address), rest.get(1..).unwrap_or_default())
        }
        None => {
            let end = text.iter().position(|byte| *byte == b':');
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            (is_registered_name(name), rest)
        }
    };
    host_is_fine && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

/// What follows the authority in an absolute-form: a path and its query.
fn after_authority(text: &[u8]) -> Result<&[u8], ProtocolError> {
    let error = ProtocolError::bad("request target is not a path");
    let scheme_end = text.iter().position(|byte| *byte == b':').ok_or(error)?;
    let (scheme, rest) = text.split_at(scheme_end);
    let rest = rest.strip_prefix(b"://").ok_or(error)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(error);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, origin) = rest.split_at(end.unwrap_or(rest.len()));
    if !is_authority(authority) {
        return Err(ProtocolError::bad("malformed authority in the request target"));
    }
    Ok(origin)
}

/// Splits first and decodes then, so that an encoded slash is data.
fn parse_path(text: &[u8]) -> Result<Path, ProtocolError> {
    let text = if text.is_empty() { b"/" } else { text };
    let decoded = decode(text, |byte| if byte == b'/' { 0 } else { byte })?;
    Ok(Path::from_separated(decoded))
}

fn parse_query(text: &[u8]) -> Result<Vec<(String, String)>, ProtocolError> {
    let pairs = || text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    if pairs().nth(MAX_PAIRS).is_some() {
        return Err(ProtocolError::bad("too many pairs in the query"));
    }
    pairs()
        .map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
            let plus_is_space = |byte| if byte == b'+' { b' ' } else { byte };
            Ok((
                decode(name, plus_is_space)?,
                decode(value.get(1..).unwrap_or_default(), plus_is_space)?,
            ))
        })
        .collect()
}

/// Decodes `%XX` once; `literal` translates the other bytes.
fn decode(text: &[u8], literal: impl Fn(u8) -> u8) -> Result<String, ProtocolError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (hex_digit(bytes.next()), hex_digit(bytes.next()));
            let (Some(high), Some(low)) = (high, low) else {
                return Err(ProtocolError::bad("broken percent-encoding in the request target"));
            };
            let byte = high << 4 | low;
            if byte.is_ascii_control() {
                return Err(ProtocolError::bad("control character in the request target"));
            }
            decoded.push(byte);
        } else if is_target_byte(byte) {
            decoded.push(literal(byte));
        } else {
            return Err(ProtocolError::bad("byte in the request target that must be encoded"));
        }
    }
    let decoded = String::from_utf8(decoded)
        .map_err(|_| ProtocolError::bad("request target is not UTF-8 when decoded"))?;
    // The controls of Latin-1, U+0080 to U+009F, are two bytes each.
    if !decoded.is_ascii() && decoded.chars().any(|c| c.is_control() && c != '\0') {
        return Err(ProtocolError::bad("control character in the request target"));
    }
    Ok(decoded)
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Whether a byte is allowed in a path or a query: `pchar`, `/` and `?` (RFC 3986, 3.3 and 3.4).
fn is_target_byte(byte: u8) -> bool {
    is_name_byte(byte) || matches!(byte, b':' | b'@' | b'/' | b'?')
}

/// `unreserved` and `sub-delims` (RFC 3986, section 2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

fn is_registered_name(name: &[u8]) -> bool {
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => hex_digit(bytes.next()).is_some() && hex_digit(bytes.next()).is_some(),
            _ => is_name_byte(byte),
        };
        if !is_fine {
            return false;
        }
    }
    !name.is_empty()
}

/// Whether this has two colons and consists of allowed characters. The address is never used.
fn is_ipv6_shape(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        && text.iter().filter(|byte| **byte == b':').count() >= 2
}

/// Whether this is a number up to 65535, or empty: `host:` means the default port (RFC 3986,
/// 3.2.3).
fn is_port(text: &[u8]) -> bool {
    let number = text.iter().try_fold(0u16, |port, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    });
    number.is_some()
}

/// More than any route needs. A pair takes up to forty times the memory of its text.
const MAX_PAIRS: usize = 100;
