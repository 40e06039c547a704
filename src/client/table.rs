//! Tables that fit the terminal.
//!
//! ```text
//!   rows ─▶ how wide is each column? ─▶ too wide: cut those that may be cut, the last first ─▶ lines
//! ```
//!
//! Where there is no terminal, nothing is cut.

use std::fmt::Write;

use super::screen::Screen;
use super::text::{Colour, Escaped, OFF, columns_of, width};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// Numbers are aligned to the right.
    pub(super) is_number: bool,
    cut: Cut,
}

/// What may be done to a column where there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    /// It may be cut to so many characters; to none: it may be left out.
    To(usize),
    /// It is whole, or left out: a part of a number is another number.
    Out,
}

impl Column {
    pub(super) const fn text(title: &'static str) -> Column {
        Column { title, is_number: false, cut: Cut::Never }
    }

    pub(super) const fn number(title: &'static str) -> Column {
        Column { title, is_number: true, cut: Cut::Never }
    }

    pub(super) const fn cut_to(self, least: usize) -> Column {
        Column { cut: Cut::To(least), ..self }
    }

    pub(super) const fn optional(self) -> Column {
        Column { cut: Cut::Out, ..self }
    }
}

/// What stands in a row below a column.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A cell with a text of anybody.
    pub(super) fn new(text: &str) -> Cell {
        Cell { text: Escaped(text).to_string(), colour: None }
    }

    /// In a colour.
    pub(super) fn painted(self, colour: Option<Colour>) -> Cell {
        Cell { colour, ..self }
    }

    fn width(&self) -> usize {
        width(&self.text)
    }
}

/// Writes a table: the headings, and a line for each row.
pub(super) fn draw<const N: usize>(
    columns: &[Column; N],
    rows: &[[Cell; N]],
    screen: Screen,
) -> String {
    let widths = widths(columns, rows, screen.width);
    let mut out = String::new();
    let headings = columns.map(|column| Cell { text: column.title.to_owned(), colour: None });
    for (index, row) in std::iter::once(&headings).chain(rows).enumerate() {
        let mut line = String::new();
        let mut plain = 0;
        for ((cell, column), width) in row.iter().zip(columns).zip(widths) {
            if width == 0 {
                continue;
            }
            let gap = if plain == 0 { 0 } else { GAP };
            plain = 1;
            let colour = if index == 0 { Some(Colour::Bold) } else { cell.colour };
            write_cell(&mut line, cell, column, width, gap, colour.filter(|_| screen.has_colours));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn write_cell(
    line: &mut String,
    cell: &Cell,
    column: &Column,
    width: usize,
    gap: usize,
    colour: Option<Colour>,
) {
    let length = cell.width();
    let pad = width.saturating_sub(length);
    let (before, after) = if column.is_number { (pad, 0) } else { (0, pad) };
    let _ = write!(line, "{:1$}", "", gap + before);
    let on = colour.filter(|_| length > 0).map_or("", Colour::on);
    line.push_str(on);
    if length <= width {
        line.push_str(&cell.text);
    } else {
        let (mut room, before) = (width.saturating_sub(1), line.len());
        line.extend(cell.text.chars().take_while(|c| {
            let fits = columns_of(*c) <= room;
            room = room.saturating_sub(columns_of(*c));
            fits
        }));
        let shown = line.get(before..).map_or(0, self::width);
        let _ = write!(line, "…{:1$}", "", width.saturating_sub(1 + shown));
    }
    line.push_str(if on.is_empty() { "" } else { OFF });
    let _ = write!(line, "{:1$}", "", after);
}

/// How wide each column is. One that is empty in all rows, or that is cut away, has no width. Without
/// rows there are the headings.
fn widths<const N: usize>(
    columns: &[Column; N],
    rows: &[[Cell; N]],
    most: Option<usize>,
) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    for (width, column) in widths.iter_mut().zip(columns) {
        if *width > 0 || column.cut == Cut::Never || rows.is_empty() {
            *width = column.title.len().max(*width);
        }
    }
    let Some(most) = most else { return widths };
    // The last column explains the others, and what is named first is to be read whole.
    let order =
        [(N - 1, 0), (0, LONG_NAME)].into_iter().chain((0..N).rev().map(|index| (index, 0)));
    for (index, floor) in order {
        let shown = widths.iter().filter(|width| **width > 0).count();
        let total = widths.iter().sum::<usize>() + GAP * shown.saturating_sub(1);
        let (Some(column), Some(width)) = (columns.get(index), widths.get_mut(index)) else {
            continue;
        };
        let cut = width.saturating_sub(total.saturating_sub(most));
        *width = match column.cut {
            _ if cut == *width => cut,
            Cut::Never => *width,
            Cut::Out => 0,
            Cut::To(0) if cut < FEWEST => 0,
            Cut::To(least) => cut.max(least.max(floor).min(*width)),
        };
    }
    widths
}

/// Blanks between two columns.
const GAP: usize = 2;
/// Fewer characters of a text say nothing.
const FEWEST: usize = 4;
/// A name that is longer is cut before other columns are.
const LONG_NAME: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::text("ID").cut_to(4), Column::number("PID"), Column::text("WHY").cut_to(0)];

    fn drawn(width: Option<usize>, has_colours: bool) -> String {
        let row = |id: &str, pid: &str, why: &str| {
            [Cell::new(id), Cell::new(pid).painted(Some(Colour::Red)), Cell::new(why)]
        };
        let rows = [row("web", "7", ""), row("a-long-one", "4711", "it is\tso")];
        draw(&COLUMNS, &rows, Screen { width, height: 10, is_terminal: true, has_colours })
    }

    #[track_caller]
    fn check(width: Option<usize>, lines: [&str; 3]) {
        let drawn = drawn(width, false);
        assert_eq!(drawn.lines().collect::<Vec<_>>(), lines);
        assert!(width.is_none_or(|width| drawn.lines().all(|line| line.chars().count() <= width)));
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let whole = ["ID           PID  WHY", "web            7", "a-long-one  4711  it is\\tso"];
        check(None, whole);
        check(Some(27), whole);
        check(Some(23), ["ID           PID  WHY", "web            7", "a-long-one  4711  it i…"]);
        check(Some(16), ["ID           PID", "web            7", "a-long-one  4711"]);
        check(Some(12), ["ID       PID", "web        7", "a-lon…  4711"]);
    }

    #[test]
    fn a_number_is_whole_or_not_there_and_wide_characters_count_twice() {
        const COLUMNS: [Column; 3] = [
            Column::text("ID").cut_to(2),
            Column::number("PID").optional(),
            Column::text("WHY").cut_to(0),
        ];
        let rows = [[Cell::new("web"), Cell::new("4711"), Cell::new("日本語")]];
        let drawn = |width| {
            let screen = Screen { width, height: 10, is_terminal: true, has_colours: false };
            draw(&COLUMNS, &rows, screen)
        };
        assert_eq!(drawn(None), "ID    PID  WHY\nweb  4711  日本語\n");
        assert_eq!(drawn(Some(17)), drawn(None));
        assert_eq!(drawn(Some(16)), "ID    PID  WHY\nweb  4711  日本…\n");
        assert_eq!(drawn(Some(15)), "ID    PID  WHY\nweb  4711  日…\n");
        assert_eq!(drawn(Some(14)), "ID    PID\nweb  4711\n");
        assert_eq!(drawn(Some(8)), "ID\nweb\n");
        assert_eq!(drawn(Some(2)), "ID\nw…\n");
    }

    #[test]
    fn colours_change_no_widths() {
        let coloured = drawn(None, true);
        assert!(coloured.contains("\x1b[31m4711\x1b[0m"), "{coloured:?}");
        let plain = coloured.replace("\x1b[31m", "").replace("\x1b[1m", "").replace(OFF, "");
        assert_eq!(plain, drawn(None, false));
    }

    #[test]
    fn a_column_that_may_be_cut_and_is_empty_is_not_there() {
        let rows = [[Cell::new("web"), Cell::new("7"), Cell::new("")]];
        let screen = Screen { width: None, height: 10, is_terminal: false, has_colours: false };
        assert_eq!(draw(&COLUMNS, &rows, screen), "ID   PID\nweb    7\n");
        assert_eq!(draw(&COLUMNS, &[], screen), "ID  PID  WHY\n");
    }
}
