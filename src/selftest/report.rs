//! The results of a self-test, as rows of a table.

use serde::Serialize;

use crate::error::Error;

/// The largest error of one op or property.
#[derive(Clone, Debug, Serialize)]
pub struct SelftestRow {
    /// The op, or the property of a network.
    pub name: String,
    /// What it was compared with: `f64`, the reference device, or `cpu`, the CPU device.
    pub against: &'static str,
    /// Number of cases.
    pub cases: usize,
    /// The largest error; null is infinite (NaN, wrong bits, an error of the device).
    pub worst: f64,
    /// The case with the largest error, and the place in memory.
    pub place: String,
    /// The largest error allowed.
    pub tolerance: f64,
}

impl SelftestRow {
    /// Whether something was tested, and no error was too large.
    pub fn passes(&self) -> bool {
        self.cases > 0 && self.worst <= self.tolerance
    }
}

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub struct SelftestReport {
    /// The device, in words.
    pub device: String,
    /// In the order in which they were added.
    pub rows: Vec<SelftestRow>,
    /// What the name of a row has to contain; empty for all rows.
    #[serde(skip)]
    only: String,
}

impl SelftestReport {
    /// A report without rows; it takes only rows whose name contains `only`.
    pub fn new(device: String, only: &str) -> Self {
        Self { device, rows: Vec::new(), only: only.to_string() }
    }

    /// Adds an empty row if it is wanted. A row that gets no case fails.
    pub fn expect(&mut self, name: &str, against: &'static str, tolerance: f64) {
        if name.contains(&self.only) && self.find(name, against).is_none() {
            let (name, place) = (name.to_string(), String::new());
            self.rows.push(SelftestRow { name, against, cases: 0, worst: 0.0, place, tolerance });
        }
    }

    /// Adds a case with its error to a row; does nothing if there is no such row.
    pub fn add(&mut self, name: &str, against: &'static str, error: f64, case: &str, place: &str) {
        let Some(row) = self.find(name, against) else {
            return;
        };
        row.cases += 1;
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if error > row.worst {
            row.worst = error;
            row.place = if place.is_empty() { case.to_string() } else { format!("{case}: {place}") };
        }
    }

    /// A case that the device didn't finish.
    pub fn failed(&mut self, name: &str, against: &'static str, case: &str, error: &Error) {
        self.add(name, against, f64::INFINITY, case, &error.to_string());
    }

    /// Whether every row passes.
    pub fn passes(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(SelftestRow::passes)
    }

    /// Whether an error was too large.
    pub fn misses(&self) -> bool {
        self.rows.iter().any(|row| row.worst > row.tolerance)
    }

    /// Whether there is a row of this name.
    pub fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.name == name)
    }

    fn find(&mut self, name: &str, against: &str) -> Option<&mut SelftestRow> {
        self.rows.iter_mut().find(|row| row.name == name && row.against == against)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_cases_or_with_a_nan_fails() {
        let mut report = SelftestReport::new("none".into(), "");
        assert!(!report.passes());
        report.expect("GlobalAvgPool", "f64", 1e-3);
        assert!(!report.passes());
        report.add("GlobalAvgPool", "f64", 1e-4, "one", "");
        assert!(report.passes());
        report.add("GlobalAvgPool", "f64", f64::NAN, "two", "here");
        assert!(!report.passes());
        assert_eq!(report.rows[0].place, "two: here");
        assert_eq!(report.rows[0].cases, 2);
    }

    #[test]
    fn only_rows_that_are_wanted_are_announced() {
        let mut report = SelftestReport::new("none".into(), "GlobalAvgPool");
        ["GlobalAvgPool", "GlobalAvgPoolDgrad", "Conv"]
            .iter()
            .for_each(|name| report.expect(name, "f64", 1e-3));
        assert_eq!(
            report.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
            ["GlobalAvgPool", "GlobalAvgPoolDgrad"]
        );
        report.add("Conv", "f64", 1.0, "one", "");
        assert!(report.has("GlobalAvgPool") && !report.has("Conv"));
    }
}
