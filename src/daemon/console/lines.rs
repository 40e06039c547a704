//! Lines out of what a process writes, in whatever pieces it comes.
//!
//! A line that is longer than [`MOST_BYTES`] is passed on in pieces, so that a process that
//! never ends a line takes no more memory than that. A character of UTF-8 is not cut in two.

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    is_continued: bool,
}

/// A line, or a part of a long one, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// What was written.
    pub(super) text: &'a [u8],
    /// The piece before is of the same line.
    pub(super) is_continued: bool,
    /// The next piece is of the same line.
    pub(super) is_partial: bool,
}

impl Lines {
    /// Hands out each line that `bytes` end, and keeps the rest.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(at);
            if self.partial.is_empty() && line.len() <= MOST_BYTES {
                self.end(line, take);
            } else {
                self.add(line, take);
                self.finish_line(take);
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.add(bytes, take);
    }

    /// No more will come: hands out the line that was not ended.
    pub(super) fn finish(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        if !self.partial.is_empty() {
            self.finish_line(take);
        }
    }

    fn add(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        while self.partial.len() + bytes.len() > MOST_BYTES {
            let (head, rest) = bytes.split_at(MOST_BYTES.saturating_sub(self.partial.len()));
            self.partial.extend_from_slice(head);
            bytes = rest;
            let (piece, kept) = self.partial.split_at(end_of_characters(&self.partial));
            take(Piece { text: piece, is_continued: self.is_continued, is_partial: true });
            self.is_continued = true;
            self.partial = kept.to_vec();
        }
        self.partial.extend_from_slice(bytes);
    }

    fn finish_line(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        let line = std::mem::take(&mut self.partial);
        self.end(&line, take);
    }

    fn end(&mut self, line: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        let is_continued = std::mem::take(&mut self.is_continued);
        take(Piece { text: line, is_continued, is_partial: false });
    }
}

/// The length without a character at the end that is not whole; at most three bytes less.
fn end_of_characters(bytes: &[u8]) -> usize {
    let is_start = |byte: &u8| *byte & 0b1100_0000 != 0b1000_0000;
    let tail = bytes.len().saturating_sub(4);
    let last = bytes.iter().skip(tail).rposition(is_start).map(|at| tail + at);
    let whole = |from: usize| bytes.get(from..).is_some_and(|part| str::from_utf8(part).is_ok());
    match last {
        Some(at) if at > 0 && !whole(at) => at,
        Some(_) | None => bytes.len(),
    }
}

/// The longest line that is passed on whole, in bytes; container runtimes have the same bound.
const MOST_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// `>` marks a piece that goes on, `<` one that continues.
    #[track_caller]
    fn check(writes: &[&[u8]], wanted: &[(&str, usize, &[u8])]) {
        let (mut lines, mut pieces) = (Lines::default(), Vec::new());
        let mut take = |piece: Piece<'_>| {
            let marks = match (piece.is_continued, piece.is_partial) {
                (false, false) => "",
                (true, false) => "<",
                (false, true) => ">",
                (true, true) => "<>",
            };
            let end = piece.text.iter().rev().take(4).rev().copied().collect::<Vec<_>>();
            pieces.push((marks, piece.text.len(), end));
        };
        for write in writes {
            lines.push(write, &mut take);
        }
        lines.finish(&mut take);
        let wanted: Vec<_> = wanted.iter().map(|(m, n, end)| (*m, *n, end.to_vec())).collect();
        assert_eq!(pieces, wanted);
    }

    #[test]
    fn lines_are_put_together_and_taken_apart() {
        check(&[], &[]);
        check(&[b"a\nb\n\nc"], &[("", 1, b"a"), ("", 1, b"b"), ("", 0, b""), ("", 1, b"c")]);
        check(&[b"a", b"b", b"\n", b"c\r\n"], &[("", 2, b"ab"), ("", 2, b"c\r")]);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = |count: usize| vec![b'x'; count];
        let full = MOST_BYTES;
        check(&[&long(full), b"\n"], &[("", full, b"xxxx")]);
        check(&[&long(full), b"y\nz\n"], &[(">", full, b"xxxx"), ("<", 1, b"y"), ("", 1, b"z")]);
        let line = [&long(full), b"\n".as_slice()].concat();
        check(&[b"yy", &line], &[(">", full, b"xxxx"), ("<", 2, b"xx")]);
        check(
            &[&long(2 * full + 1)],
            &[(">", full, b"xxxx"), ("<>", full, b"xxxx"), ("<", 1, b"x")],
        );
    }

    #[test]
    fn characters_are_not_cut_and_bytes_that_are_none_do_not_matter() {
        let full = MOST_BYTES;
        let text = [vec![b'x'; full - 2], "\u{20ac}".into(), b"\n".to_vec()].concat();
        check(&[&text], &[(">", full - 2, b"xxxx"), ("<", 3, "\u{20ac}".as_bytes())]);
        let text = [vec![b'x'; full - 3], "\u{20ac}y\n".into()].concat();
        check(&[&text], &[(">", full, "x\u{20ac}".as_bytes()), ("<", 1, b"y")]);
        let binary = vec![0xbf; full + 1];
        check(&[&binary], &[(">", full, &[0xbf; 4]), ("<", 1, &[0xbf])]);
        let binary = vec![0xff; full + 1];
        check(&[&binary], &[(">", full - 1, &[0xff; 4]), ("<", 2, &[0xff; 2])]);
    }
}
