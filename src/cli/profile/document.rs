//! A profile as one JSON object.

use pbe::engine::profile::{Mode, Roof};
use pbe::error::{Error, Result};
use serde::Serialize;

use super::Setting;
use super::rows::{Figures, ModeRows, Row};

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    command: &'static str,
    version: &'static str,
    commit: &'static str,
    device: &'a str,
    network: &'a str,
    precision: String,
    /// Nothing was run.
    estimate: bool,
    roof: &'a Roof,
    roof_of_a_lane: &'a Roof,
    modes: Vec<ModeObject<'a>>,
}

#[derive(Serialize)]
struct ModeObject<'a> {
    mode: Mode,
    images: usize,
    lane: bool,
    /// Of all ops, each once.
    sum: Figures,
    /// Of the ops of an attack's step.
    step: Option<Figures>,
    ops: Vec<OpObject<'a>>,
}

#[derive(Serialize)]
struct OpObject<'a> {
    #[serde(flatten)]
    row: &'a Row,
    seconds: Option<f64>,
    bytes_moved: Option<u64>,
    roof_seconds: f64,
    roof_share: Option<f64>,
    #[serde(flatten)]
    estimate: Option<Estimated>,
}

#[derive(Serialize)]
struct Estimated {
    estimate_seconds: f64,
    estimate_gaps: f64,
}

pub fn text(setting: &Setting, modes: &[ModeRows]) -> Result<String> {
    let [lane, whole] = &setting.roofs;
    let document = Document {
        schema: pbe::report::SCHEMA,
        command: "profile",
        version: env!("CARGO_PKG_VERSION"),
        commit: pbe::report::COMMIT,
        device: &setting.device,
        network: &setting.network,
        precision: setting.precision.to_string(),
        estimate: setting.estimate,
        roof: whole,
        roof_of_a_lane: lane,
        modes: modes.iter().map(mode).collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(Error::run)
}

fn mode(rows: &ModeRows) -> ModeObject<'_> {
    let ModeRows { mode, images, lane, rows } = rows;
    let sum = |step: bool| {
        Figures::sum(rows.iter().filter(|row| !step || row.profile.repeated).map(|row| &row.figures))
    };
    let step = (*mode == Mode::Attack).then(|| sum(true));
    ModeObject {
        mode: *mode,
        images: *images,
        lane: *lane,
        sum: sum(false),
        step,
        ops: rows.iter().map(op).collect(),
    }
}

fn op(row: &Row) -> OpObject<'_> {
    let Figures { seconds, bytes_moved, roof_seconds, estimate, .. } = row.figures;
    let estimate = estimate
        .map(|estimate| Estimated { estimate_seconds: estimate.busy(), estimate_gaps: estimate.gaps });
    OpObject { row, seconds, bytes_moved, roof_seconds, roof_share: row.figures.share(), estimate }
}
