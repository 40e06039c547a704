//! Frames: what is written at once, with a checksum, and how they are found again.
//!
//! ```text
//!   segment:  k1s state 1\n │ frame │ frame │ …
//!   frame:    magic, length, checksum │ what was safe before, both clocks, entries
//! ```
//!
//! A frame is there as a whole or not at all. Each says up to where everything was safe as it was
//! written, so that a torn end, which nobody was told of, differs from damage. The checksum depends
//! on the place, so that old bytes at another place are no frame.

use super::checksum::xxh64;
use super::codec::{Reader, Writer};
use crate::time::Now;

/// A place in the segments: the number of a segment, and an offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of the segment.
    pub segment: u64,
    /// The offset in it, in bytes.
    pub offset: u64,
}

/// What a frame says.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Everything before was safe.
    pub(super) safe: Position,
    /// When it was written.
    pub(super) at: Now,
    pub(super) entries: Reader<'a>,
}

/// A part of a segment.
pub(super) enum Part<'a> {
    Frame(Frame<'a>),
    /// Bytes from here up to this offset are no frame.
    Gap(u64, u64),
}

/// Appends an empty frame, to which entries are appended; [`finish`] completes it.
pub(super) fn begin(out: &mut Vec<u8>, safe: Position, now: Now) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    let mut writer = Writer(out);
    writer.number(safe.segment);
    writer.number(safe.offset);
    writer.now(now);
}

/// Completes a frame that is written to this place.
pub(super) fn finish(frame: &mut [u8], at: Position) {
    let Some((header, body)) = frame.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let checksum = checksum(body, at);
    let (magic, rest) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    let (place, rest) = rest.split_at_mut(4);
    place.copy_from_slice(&length.to_le_bytes());
    rest.copy_from_slice(&checksum.to_le_bytes());
}

/// Whether the segment begins as it should: `Err` is the version of another format, or nothing.
pub(super) fn check_head(bytes: &[u8]) -> Result<(), Option<u32>> {
    if bytes.starts_with(HEAD) {
        return Ok(());
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let version = str::from_utf8(line).ok().and_then(|line| line.strip_prefix("k1s state "));
    Err(version.and_then(|version| version.parse().ok()))
}

/// The parts of a segment, in order.
pub(super) fn parts(bytes: &[u8], segment: u64) -> impl Iterator<Item = Part<'_>> {
    let mut offset = HEAD.len().min(bytes.len());
    std::iter::from_fn(move || {
        if offset >= bytes.len() {
            return None;
        }
        if let Some((frame, length)) = frame_at(bytes, segment, offset) {
            offset += length;
            return Some(Part::Frame(frame));
        }
        let begin = offset;
        offset = next_frame(bytes, segment, offset + 1).unwrap_or(bytes.len());
        Some(Part::Gap(begin as u64, offset as u64))
    })
}

/// The length of the frame at this offset, of which it is known that it is one.
pub(super) fn length_at(bytes: &[u8], offset: u64) -> u64 {
    let length = || {
        let rest = bytes.get(usize::try_from(offset).ok()? + MAGIC.len()..)?;
        Some(u64::from(u32::from_le_bytes(*rest.first_chunk::<4>()?)))
    };
    HEADER_BYTES as u64 + length().unwrap_or(0)
}

fn next_frame(bytes: &[u8], segment: u64, from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let candidates = rest.windows(MAGIC.len()).enumerate().filter(|(_, four)| *four == MAGIC);
    let mut places = candidates.map(|(index, _)| from + index);
    places.find(|place| frame_at(bytes, segment, *place).is_some())
}

fn frame_at(bytes: &[u8], segment: u64, offset: usize) -> Option<(Frame<'_>, usize)> {
    let mut rest = Reader(bytes.get(offset..)?);
    if rest.take(MAGIC.len())? != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
    let written = u64::from_le_bytes(rest.take(8)?.try_into().ok()?);
    let body = rest.take(usize::try_from(length).ok()?)?;
    if checksum(body, Position { segment, offset: offset as u64 }) != written {
        return None;
    }
    let mut entries = Reader(body);
    let safe = Position { segment: entries.number()?, offset: entries.number()? };
    let at = entries.now()?;
    Some((Frame { safe, at, entries }, HEADER_BYTES + body.len()))
}

fn checksum(body: &[u8], at: Position) -> u64 {
    xxh64(body, at.segment.rotate_left(40) ^ at.offset)
}

/// The first line of a segment: the version of the format.
pub const HEAD: &[u8] = b"k1s state 1\n";
/// The version that this k1s writes.
pub const VERSION: u32 = 1;
const MAGIC: [u8; 4] = [0xf5, b'k', b'1', 0xa7];
const HEADER_BYTES: usize = MAGIC.len() + 4 + 8;
