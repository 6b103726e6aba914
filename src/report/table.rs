//! Plain-text tables with aligned columns, and the one that ends every run.

use std::fmt;

use super::result::RunResult;
use crate::eval::Metrics;

/// Rows of cells; the first column is aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this first row; an empty name is a column without one.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![header.into_iter().map(Into::into).collect()] }
    }

    /// Appends a row; a short one is filled with empty cells.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, &width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                match column {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with two decimals; `—` for none.
pub fn two_decimals(value: Option<f64>) -> String {
    value.map_or_else(|| "—".into(), |value| format!("{value:.2}"))
}

/// The final table: the model before and after, and the benign floor where it is known. A command
/// that judges one model alone has one row, `model`.
pub fn comparison(result: &RunResult) -> Table {
    let alone = result.before == Metrics::default();
    let mut rows = vec![(if alone { "model" } else { "after" }, result.after, two_decimals(result.der))];
    if !alone {
        rows.insert(0, ("before", result.before, String::new()));
    }
    if let Some(floor) = result.floor {
        rows.push(("benign floor", floor, String::new()));
    }
    let mut table = Table::new(["per cent", "ACC", "ASR", "ASR incl. target", "R-ACC", "DER"]);
    for (name, metrics, der) in rows {
        let [acc, asr, inclusive, racc] =
            [metrics.clean_accuracy, metrics.asr, metrics.asr_inclusive, metrics.robust_accuracy]
                .map(two_decimals);
        table.row([name.into(), acc, asr, inclusive, racc, der]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_characters() {
        let mut table = Table::new(["", "ACC", "R-ACC"]);
        table.row(["before", "9.00", "—"]);
        table.row(["é", "100.00"]);
        assert_eq!(table.to_string(), "           ACC  R-ACC\nbefore    9.00      —\né       100.00\n");
    }

    #[test]
    fn before_after_and_floor() {
        let mut result = RunResult::new("purify", "cpu", 0);
        let before = Metrics {
            clean_accuracy: Some(81.88),
            asr: Some(100.0),
            asr_inclusive: Some(100.0),
            robust_accuracy: None,
        };
        let after = Metrics {
            clean_accuracy: Some(81.2),
            asr: Some(1.5),
            asr_inclusive: Some(10.25),
            robust_accuracy: Some(80.0),
        };
        result.judge(before, after);
        result.floor = Some(Metrics { asr: Some(1.7), ..Metrics::default() });
        let expected = "\
per cent        ACC     ASR  ASR incl. target  R-ACC    DER
before        81.88  100.00            100.00      —
after         81.20    1.50             10.25  80.00  98.91
benign floor      —    1.70                 —      —
";
        assert_eq!(comparison(&result).to_string(), expected);
    }

    #[test]
    fn one_model_alone() {
        let mut result = RunResult::new("evaluate", "cpu", 0);
        result.after.clean_accuracy = Some(50.0);
        let text = comparison(&result).to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("model")), "{text}");
    }
}
