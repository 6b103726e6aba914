//! Results of earlier runs: rounds of purifications, precision-recall curves of rankings.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pbe::error::{Error, Result};
use pbe::eval::Metrics;
use pbe::report::RunResult;

/// A purification after one of its rounds (from metrics.csv), or before the first.
pub struct RoundPoint {
    /// From 1; 0 is before the first.
    pub round: f64,
    pub clean_accuracy: Option<f64>,
    pub asr: Option<f64>,
    pub average_precision: Option<f64>,
}

/// Purifications and curves, each with the name of its folder or file.
pub struct Runs {
    pub rounds: Vec<(String, Vec<RoundPoint>)>,
    /// (recall, precision).
    pub curves: Vec<(String, Vec<[f64; 2]>)>,
}

impl Runs {
    /// Reads them all.
    ///
    /// # Errors
    /// Names the file, and the column or cell that isn't there or isn't a number.
    pub fn read(runs: &[PathBuf], curves: &[PathBuf]) -> Result<Self> {
        let rounds = runs.iter().map(|run| Ok((name(run.file_name(), run), rounds(run)?)));
        let curves = curves.iter().map(|file| Ok((name(file.file_stem(), file), curve(file)?)));
        Ok(Self { rounds: rounds.collect::<Result<_>>()?, curves: curves.collect::<Result<_>>()? })
    }
}

fn name(part: Option<&OsStr>, path: &Path) -> String {
    part.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn rounds(run: &Path) -> Result<Vec<RoundPoint>> {
    let path = run.join("metrics.csv");
    let rows = columns(&path, ["round", "clean_accuracy", "asr", "average_precision"])?;
    let mut rounds: Vec<RoundPoint> = before(run)?.into_iter().collect();
    for [round, acc, asr, average_precision] in rows {
        let round = round.ok_or_else(|| Error::file(&path, "a row without a round"))? + 1.0;
        rounds.push(RoundPoint { round, clean_accuracy: acc, asr, average_precision });
    }
    Ok(rounds)
}

/// The model before, from result.json; none if the run isn't finished.
fn before(run: &Path) -> Result<Option<RoundPoint>> {
    let path = run.join("result.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|cause| Error::file(&path, cause))?;
    let result: RunResult =
        serde_json::from_slice(&bytes).map_err(|cause| Error::file(&path, format!("no result: {cause}")))?;
    let Metrics { clean_accuracy, asr, .. } = result.before;
    Ok(Some(RoundPoint { round: 0.0, clean_accuracy, asr, average_precision: None }))
}

fn curve(path: &Path) -> Result<Vec<[f64; 2]>> {
    let point = |[recall, precision]: [Option<f64>; 2]| match (recall, precision) {
        (Some(recall), Some(precision)) => Ok([recall, precision]),
        _ => Err(Error::file(path, "a row without recall or precision")),
    };
    columns(path, ["recall", "precision"])?.into_iter().map(point).collect()
}

/// The columns of these names, row by row; an empty cell is none.
fn columns<const N: usize>(path: &Path, names: [&str; N]) -> Result<Vec<[Option<f64>; N]>> {
    let fault = |cause: String| Error::file(path, cause);
    let mut reader = csv::Reader::from_path(path).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(cause) => fault(cause.to_string()),
        other => fault(format!("{other:?}")),
    })?;
    let header = reader.headers().map_err(|error| fault(error.to_string()))?.clone();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = header.iter().position(|column| column == name);
        *place = found.ok_or_else(|| fault(format!("no column `{name}`")))?;
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| fault(error.to_string()))?;
        let mut row = [None; N];
        for (cell, place) in row.iter_mut().zip(places) {
            let text = &record[place];
            if !text.is_empty() {
                let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
                *cell = Some(number.ok_or_else(|| fault(format!("`{text}` is not a number")))?);
            }
        }
        rows.push(row);
    }
    if rows.is_empty() { Err(fault("no row".into())) } else { Ok(rows) }
}
