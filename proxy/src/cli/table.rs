//! Text in columns, for a terminal.

/// Rows of cells; the first row is the head.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row. What could steer a terminal is taken out of the cells, for some come from elsewhere.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let clean = |cell: String| cell.chars().filter(|character| !character.is_control()).collect();
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// The table with columns two spaces apart, every line ended.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NODE", "STATE"]);
        table.row(["10.0.0.11:80".into(), "up".into()]);
        table.row(["b".into(), "do\u{1b}wn\n".into()]);
        assert_eq!(table.text(), "NODE          STATE\n10.0.0.11:80  up\nb             down\n");
    }
}
