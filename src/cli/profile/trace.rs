//! A profile in the format of Chrome's trace viewer: a line for each job, its ops one after the other.

use pbe::error::{Error, Result};
use serde_json::{Value, json};

use super::Setting;
use super::rows::{ModeRows, Row};

pub fn text(setting: &Setting, modes: &[ModeRows]) -> Result<String> {
    let mut events = Vec::new();
    for (thread, mode) in modes.iter().enumerate() {
        let name = json!({"name": mode.mode.to_string()});
        events.push(json!({"name": "thread_name", "ph": "M", "pid": 0, "tid": thread, "args": name}));
        let mut now = 0.0;
        for row in &mode.rows {
            let duration = microseconds(row);
            events.push(event(row, thread, now, duration));
            now += duration;
        }
    }
    let other = json!({
        "device": setting.device,
        "network": setting.network,
        "times": if setting.estimate { "an estimate" } else { "measured, op by op" },
        "roofline": setting.rooflines[1].name,
    });
    let trace = json!({"displayTimeUnit": "ms", "otherData": other, "traceEvents": events});
    serde_json::to_string(&trace).map(|text| text + "\n").map_err(Error::run)
}

/// Measured, or estimated.
fn microseconds(row: &Row) -> f64 {
    let estimate = || row.totals.estimate.map(|estimate| estimate.busy() + estimate.gaps);
    1e6 * row.totals.seconds.or_else(estimate).unwrap_or(0.0)
}

fn event(row: &Row, thread: usize, begin: f64, duration: f64) -> Value {
    let (profile, totals) = (&row.profile, &row.totals);
    let kernels: Vec<&str> = profile.launches.iter().map(|launch| launch.kernel).collect();
    let arguments = json!({
        "shape": profile.shape,
        "in a step": profile.in_loop,
        "flop": totals.cost.products + totals.cost.elementwise,
        "least bytes": totals.cost.bytes,
        "bytes moved": totals.bytes_moved,
        "share of the roofline": totals.share(),
        "kernels": kernels,
    });
    json!({
        "name": profile.op, "cat": "op", "ph": "X", "pid": 0, "tid": thread, "ts": begin, "dur": duration,
        "args": arguments,
    })
}
