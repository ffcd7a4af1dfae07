//! Tables without borders.

use std::io;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Cell, Style, terminal_width, write_lines};

/// The space between two columns.
const GAP: usize = 2;
/// The least width to which a column is cut.
const MIN_WIDTH: usize = 4;

/// A table without borders. Its rows can be written in several parts, whose columns stay aligned unless a later cell is
/// wider.
#[derive(Clone, Debug)]
pub struct Table {
    titles: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    /// The widest cell of each column so far.
    widths: Vec<usize>,
}

impl Table {
    /// Creates a table with the titles of its columns; the first column is never cut. Without rows, nothing is printed.
    #[must_use]
    pub fn new(titles: &[&str]) -> Self {
        let titles: Vec<_> = titles.iter().map(|title| Cell::bold(title)).collect();
        Self {
            widths: titles.iter().map(|title| title.text.width()).collect(),
            titles,
            rows: Vec::new(),
        }
    }

    /// Creates a table without titles, whose rows are a name and a value.
    #[must_use]
    pub fn of_fields() -> Self {
        Self {
            titles: Vec::new(),
            rows: Vec::new(),
            widths: vec![0; 2],
        }
    }

    /// Adds a row. Control characters of its texts are removed.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = cell.text.width().max(*width);
        }
        self.rows.push(row);
    }

    /// Returns the rows that were added since the last call as lines, with the titles before the very first of them. Cells
    /// are cut so that a line has at most `width` columns.
    pub fn take_lines(&mut self, width: Option<usize>) -> Vec<String> {
        let mut widths = self.widths.clone();
        if let Some(width) = width {
            shrink(&mut widths, width);
        }
        let mut rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() && !self.titles.is_empty() {
            rows.insert(0, std::mem::take(&mut self.titles));
        }
        rows.iter().map(|row| line(row, &widths)).collect()
    }

    /// Writes the rows that were added since the last call to stdout. Cells are cut only on a terminal.
    ///
    /// # Errors
    /// The error of stdout.
    pub fn write(&mut self) -> io::Result<()> {
        write_lines(&self.take_lines(terminal_width()))
    }
}

/// Makes the widest columns, except the first one, narrower until a line has at most `limit` columns.
fn shrink(widths: &mut [usize], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        let widest = widths.iter_mut().skip(1).max_by_key(|width| **width);
        match widest {
            Some(width) if *width > MIN_WIDTH => *width -= 1,
            _ => return,
        }
    }
}

/// Returns a row as a line, with its cells cut and padded to the widths of their columns. The last cell is not padded.
fn line(row: &[Cell], widths: &[usize]) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let text = cut(&cell.text, *width);
        let is_last = row[index + 1..].iter().all(|cell| cell.text.is_empty());
        line.push_str(&styled(&text, cell.style));
        if is_last {
            break;
        }
        let padding = width.saturating_sub(text.width()) + GAP;
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line
}

impl Cell {
    /// Returns the text with its style, cut to `width`.
    #[must_use]
    pub fn line(&self, width: Option<usize>) -> String {
        match width {
            Some(width) => styled(&cut(&self.text, width), self.style),
            None => styled(&self.text, self.style),
        }
    }
}

fn styled(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns a text cut to `width` columns, with an ellipsis at the end if it was longer.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |char: &char| {
        used += char.width().unwrap_or_default();
        used <= width
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "NAME", "NOTE"]);
        table.row(["2000001", "lab-adventure-0001", ""]);
        table.row(["2", "x", "a note that is longer than the others"]);
        table
    }

    /// Returns the lines as they are shown, without their styles.
    fn shown(lines: &[String]) -> Vec<String> {
        let plain = |line| anstream::adapter::strip_str(line).to_string();
        lines.iter().map(|line| plain(line)).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_space_at_the_end() {
        assert_eq!(
            shown(&table().take_lines(None)),
            [
                "ID       NAME                NOTE",
                "2000001  lab-adventure-0001",
                "2        x                   a note that is longer than the others",
            ]
        );
    }

    #[test]
    fn widest_cells_are_cut_to_the_width_of_the_terminal() {
        assert_eq!(
            shown(&table().take_lines(Some(40))),
            [
                "ID       NAME             NOTE",
                "2000001  lab-adventure-…",
                "2        x                a note that i…",
            ]
        );
    }

    #[test]
    fn rows_of_a_later_page_have_the_columns_of_the_first() {
        let mut table = table();
        table.take_lines(None);
        table.row(["30", "y", "z"]);
        let lines = shown(&table.take_lines(None));
        assert_eq!(lines, ["30       y                   z"]);
    }

    #[test]
    fn table_without_rows_has_no_titles() {
        assert!(Table::new(&["ID"]).take_lines(None).is_empty());
    }

    /// The least width of a line of the next test: an id, four columns of the least width, and the gaps.
    const LEAST: usize = 7 + 4 * (MIN_WIDTH + GAP);

    proptest! {
        #[test]
        fn line_of_any_texts_fits_and_has_no_control_character(
            texts in proptest::collection::vec(any::<String>(), 4), width in LEAST..120
        ) {
            let mut table = Table::new(&["ID", "A", "B", "C", "D"]);
            table.row([&["2000001".to_owned()], &texts[..]].concat());
            for line in shown(&table.take_lines(Some(width))) {
                prop_assert!(line.width() <= width, "{line:?}");
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
