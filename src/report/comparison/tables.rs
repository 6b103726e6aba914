//! The tables of a comparison: one for each model, and one over all models.

use super::{Comparison, Spread, Summary};
use crate::report::two_decimals;

/// A cell, which may be the best of its column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCell {
    pub text: String,
    pub best: bool,
}

impl From<&str> for TableCell {
    fn from(text: &str) -> Self {
        Self::from(text.to_string())
    }
}

impl From<String> for TableCell {
    fn from(text: String) -> Self {
        Self { text, best: false }
    }
}

/// A table with its heading; the first row is its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonTable {
    pub title: String,
    pub rows: Vec<Vec<TableCell>>,
    pub caption: String,
}

/// A column: its name, the value in it, and whether more of it is better; none where neither is.
type Column = (&'static str, fn(&Summary) -> Option<Spread>, Option<bool>);

const COLUMNS: [Column; 5] = [
    ("ACC", |summary| summary.clean_accuracy, Some(true)),
    ("ASR", |summary| summary.asr, Some(false)),
    ("R-ACC", |summary| summary.robust_accuracy, Some(true)),
    ("DER", |summary| summary.der, Some(true)),
    // A defence that does nothing is the fastest.
    ("seconds", |summary| summary.seconds, None),
];

const NOTHING: &str = "—";

impl Comparison {
    /// A table for each model, and the last one over all models.
    pub fn tables(&self) -> Vec<ComparisonTable> {
        let models = self.models().into_iter();
        let mut tables: Vec<_> = models.map(|(model, attack)| self.of_model(model, attack)).collect();
        tables.push(self.over_models());
        tables
    }

    fn of_model(&self, model: &str, attack: &str) -> ComparisonTable {
        let mut rows = vec![
            ["defence", "runs"]
                .into_iter()
                .chain(COLUMNS.map(|(name, ..)| name))
                .map(TableCell::from)
                .collect(),
        ];
        let before = self.before(model).unwrap_or_default();
        let before = [before.clean_accuracy, before.asr, before.robust_accuracy].map(two_decimals);
        let mut first: Vec<TableCell> = vec!["before".into(), "".into()];
        first.extend(before.map(TableCell::from));
        first.extend([TableCell::default(), TableCell::default()]);
        rows.push(first);
        let summaries: Vec<_> = self.defences().into_iter().map(|it| (it, self.summary(model, it))).collect();
        for (defence, summary) in &summaries {
            let runs = summary.as_ref().map_or(0, |summary| summary.runs);
            let mut row: Vec<TableCell> = vec![(*defence).into(), runs.to_string().into()];
            for (name, value, _) in COLUMNS {
                let decimals = if name == "seconds" { 1 } else { 2 };
                let spread = summary.as_ref().and_then(value);
                row.push(spread.map_or_else(|| NOTHING.into(), |spread| spread.text(decimals)).into());
            }
            rows.push(row);
        }
        for (column, (_, value, more)) in COLUMNS.into_iter().enumerate() {
            let values = summaries.iter().map(|(_, summary)| Some(value(summary.as_ref()?)?.mean));
            mark_best(&mut rows[2..], column + 2, &values.collect::<Vec<_>>(), more);
        }
        ComparisonTable { title: format!("{model} ({attack})"), rows, caption: String::new() }
    }

    fn over_models(&self) -> ComparisonTable {
        let mut rows: Vec<Vec<TableCell>> =
            vec![["defence", "models", "mean DER", "lowest DER"].map(TableCell::from).to_vec()];
        let ders: Vec<_> = self.defences().into_iter().map(|it| (it, self.ders(it))).collect();
        let most = ders.iter().map(|(_, ders)| ders.len()).max().unwrap_or(0);
        let lowest = |ders: &[f64]| ders.iter().copied().reduce(f64::min);
        for (defence, ders) in &ders {
            let figures = [Spread::of(ders).map(|der| der.mean), lowest(ders)].map(two_decimals);
            let mut row = vec![TableCell::from(*defence), ders.len().to_string().into()];
            row.extend(figures.map(TableCell::from));
            rows.push(row);
        }
        // A mean over fewer models is of an easier or a harder task.
        let whole = |ders: &[f64], figure: Option<f64>| figure.filter(|_| ders.len() == most);
        let means = ders.iter().map(|(_, ders)| whole(ders, Spread::of(ders).map(|der| der.mean)));
        let lows = ders.iter().map(|(_, ders)| whole(ders, lowest(ders)));
        let columns: [Vec<Option<f64>>; 2] = [means.collect(), lows.collect()];
        for (column, values) in columns.iter().enumerate() {
            mark_best(&mut rows[1..], column + 2, values, Some(true));
        }
        let caption = "Over the models, of the means over the seeds. Models without an attack have no DER. A defence with \
                       fewer models than others is never the best.";
        ComparisonTable { title: "All models".into(), rows, caption: caption.into() }
    }
}

/// Marks the best cells of a column, all that read the same, where there is more than one value.
fn mark_best(rows: &mut [Vec<TableCell>], column: usize, values: &[Option<f64>], more: Option<bool>) {
    let Some(more) = more.filter(|_| values.iter().flatten().count() > 1) else {
        return;
    };
    let better = |a: f64, b: f64| if (a > b) == more { a } else { b };
    let best = values.iter().flatten().copied().reduce(better);
    for (row, value) in rows.iter_mut().zip(values) {
        if let Some(cell) = row.get_mut(column) {
            cell.best = value.is_some() && two_decimals(*value) == two_decimals(best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{comparison, done};
    use super::*;

    /// Cells as text, the best with a star.
    fn text(row: &[TableCell]) -> Vec<String> {
        row.iter().map(|cell| format!("{}{}", cell.text, if cell.best { "*" } else { "" })).collect()
    }

    #[test]
    fn a_table_for_each_model_and_one_over_all() {
        let tables = comparison().tables();
        let titles: Vec<_> = tables.iter().map(|table| table.title.as_str()).collect();
        assert_eq!(titles, ["m_1 (badnets)", "m2 (badnets)", "All models"]);
        let rows: Vec<_> = tables[0].rows.iter().map(|row| text(row)).collect();
        assert_eq!(rows[0], ["defence", "runs", "ACC", "ASR", "R-ACC", "DER", "seconds"]);
        assert_eq!(rows[1], ["before", "", "80.00", "100.00", "50.00", "", ""]);
        let pbe = ["pbe", "2", "80.00 ± 1.41", "3.00 ± 1.41*", "50.00 ± 0.00*", "98.25 ± 1.06*", "2.0 ± 0.0"];
        assert_eq!(rows[2], pbe);
        assert_eq!(rows[3], ["f|t_<1>", "1", "82.00*", "50.00", "50.00*", "75.00", "2.0"]);
    }

    #[test]
    fn what_is_not_there_is_a_dash_and_nothing_is_better_than_it() {
        let tables = comparison().tables();
        let rows: Vec<_> = tables[1].rows.iter().map(|row| text(row)).collect();
        assert_eq!(rows[3], ["f|t_<1>", "0", "—", "—", "—", "—", "—"]);
        assert!(rows[2].iter().all(|cell| !cell.ends_with('*')), "{rows:?}");
        // 98.25 and 95.
        let all: Vec<_> = tables[2].rows.iter().map(|row| text(row)).collect();
        assert_eq!(all[1], ["pbe", "2", "96.62", "95.00"]);
        assert_eq!(all[2], ["f|t_<1>", "1", "75.00", "75.00"]);
    }

    #[test]
    fn the_best_mean_over_the_same_models() {
        let runs =
            vec![done("m", "a", 0, 80.0, 2.0), done("m", "b", 0, 80.0, 2.001), done("m", "c", 0, 80.0, 3.0)];
        let tables = Comparison { about: String::new(), runs }.tables();
        let best: Vec<_> = tables[1].rows[1..].iter().map(|row| row[2].best).collect();
        // The first two read the same.
        assert_eq!(best, [true, true, false]);
    }
}
