//! Finds where a log file ends and the next one begins.
//!
//! A file is rotated at the end of a line, before it would exceed its limit. Only a line that was
//! begun may make it longer, by up to 16 KiB; a longer line is cut.

/// How many of these bytes still go into a file of this size before it is rotated; `None`: all of
/// them, without a rotation. `is_mid_line`: the last line in the file has no end yet.
pub(super) fn cut(size: u64, limit: u64, is_mid_line: bool, bytes: &[u8]) -> Option<usize> {
    let index = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let room = index(limit.saturating_sub(size));
    let (fits, rest) = bytes.split_at_checked(room).filter(|(_, rest)| !rest.is_empty())?;
    if let Some(end) = fits.iter().rposition(is_newline) {
        return Some(end + 1);
    }
    if size > 0 && !is_mid_line {
        return Some(0);
    }
    let most = index((limit + LONGEST_REST).saturating_sub(size));
    let rest = rest.get(..most - room).unwrap_or(rest);
    match rest.iter().position(is_newline) {
        Some(end) => Some(room + end + 1),
        None => (bytes.len() > most).then_some(most),
    }
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

/// How much longer than its limit the last line may make a file, in bytes.
const LONGEST_REST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_ends_with_a_line() {
        for (size, is_mid_line, bytes, expected) in [
            (0, false, "", None),
            (0, false, "123456789\n", None),
            (10, false, "1\n", Some(0)),
            (4, false, "12345\n", None),
            (4, false, "123456\n", Some(0)),
            (4, true, "123456\n7\n", Some(7)),
            (4, true, "1\n23456\n", Some(2)),
            (4, false, "1\n2\n3\n4\n", Some(6)),
            (10, true, "\n", Some(1)),
            (50, true, "1\n2\n", Some(2)),
            (50, false, "1\n2\n", Some(0)),
            (0, false, "longer than the limit\nshort\n", Some(22)),
            (0, false, "longer than the limit", None),
            (9, true, "no end yet", None),
        ] {
            let found = cut(size, 10, is_mid_line, bytes.as_bytes());
            assert_eq!(found, expected, "{size} {is_mid_line} {bytes:?}");
        }
    }

    #[test]
    fn a_line_is_cut_only_if_it_is_too_long() {
        let line = vec![b'x'; 20_000];
        let most = 10 + 16 * 1024;
        assert_eq!(cut(0, 10, false, &line), Some(most));
        assert_eq!(cut(most as u64 - 1, 10, true, &line), Some(1));
        assert_eq!(cut(most as u64, 10, true, &line), Some(0));
        assert_eq!(cut(most as u64 + 9, 10, true, &line), Some(0));
    }

    /// Whatever is written in whatever pieces, no file is longer than it may be, none is empty,
    /// and those of short lines end with one.
    #[test]
    fn files_are_as_long_as_they_may_be() {
        let text: String = (0..400).map(|number| format!("line {number}\n")).collect();
        for piece in 1..200 {
            let (mut files, mut file, mut is_mid_line) = (Vec::new(), Vec::new(), false);
            for mut bytes in text.as_bytes().chunks(piece) {
                while !bytes.is_empty() {
                    let count = cut(file.len() as u64, 100, is_mid_line, bytes);
                    let (now, later) = bytes.split_at(count.unwrap_or(bytes.len()));
                    file.extend_from_slice(now);
                    is_mid_line = file.last().is_some_and(|last| *last != b'\n');
                    if count.is_some() {
                        files.push(std::mem::take(&mut file));
                        is_mid_line = false;
                    }
                    bytes = later;
                }
            }
            files.push(file);
            assert_eq!(files.concat(), text.as_bytes());
            for file in &files {
                assert!(file.ends_with(b"\n") && file.len() < 110, "{piece}: {}", file.len());
            }
            assert!(files.len() < 60, "{piece}: {}", files.len());
        }
    }
}
