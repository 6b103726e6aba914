//! A profile as one JSON object.

use pbe::engine::profile::{Mode, Roofline};
use pbe::error::{Error, Result};
use serde::Serialize;

use super::Setting;
use super::rows::{ModeRows, Row, Totals};

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
    roofline: &'a Roofline,
    roofline_of_a_worker: &'a Roofline,
    modes: Vec<ModeObject<'a>>,
}

#[derive(Serialize)]
struct ModeObject<'a> {
    mode: Mode,
    images: usize,
    one_worker: bool,
    /// Of all ops, each once.
    sum: Totals,
    /// Of the ops of an attack's step.
    step: Option<Totals>,
    ops: Vec<OpObject<'a>>,
}

#[derive(Serialize)]
struct OpObject<'a> {
    #[serde(flatten)]
    row: &'a Row,
    seconds: Option<f64>,
    bytes_moved: Option<u64>,
    roofline_seconds: f64,
    roofline_share: Option<f64>,
    #[serde(flatten)]
    estimate: Option<Estimated>,
}

#[derive(Serialize)]
struct Estimated {
    estimate_seconds: f64,
    estimate_gaps: f64,
}

pub fn text(setting: &Setting, modes: &[ModeRows]) -> Result<String> {
    let [one_worker, whole] = &setting.rooflines;
    let document = Document {
        schema: pbe::report::SCHEMA,
        command: "profile",
        version: env!("CARGO_PKG_VERSION"),
        commit: pbe::report::COMMIT,
        device: &setting.device,
        network: &setting.network,
        precision: setting.precision.to_string(),
        estimate: setting.estimate,
        roofline: whole,
        roofline_of_a_worker: one_worker,
        modes: modes.iter().map(mode).collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(Error::run)
}

fn mode(rows: &ModeRows) -> ModeObject<'_> {
    let ModeRows { mode, images, one_worker, rows } = rows;
    let sum = |step: bool| {
        Totals::sum(rows.iter().filter(|row| !step || row.profile.in_loop).map(|row| &row.totals))
    };
    let step = (*mode == Mode::Attack).then(|| sum(true));
    ModeObject {
        mode: *mode,
        images: *images,
        one_worker: *one_worker,
        sum: sum(false),
        step,
        ops: rows.iter().map(op).collect(),
    }
}

fn op(row: &Row) -> OpObject<'_> {
    let Totals { seconds, bytes_moved, roofline_seconds, estimate, .. } = row.totals;
    let estimate = estimate
        .map(|estimate| Estimated { estimate_seconds: estimate.busy(), estimate_gaps: estimate.gaps });
    OpObject { row, seconds, bytes_moved, roofline_seconds, roofline_share: row.totals.share(), estimate }
}
