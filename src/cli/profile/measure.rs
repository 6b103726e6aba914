//! Seconds of each op, and the bytes that the driver counted, where it does.

use std::path::Path;
use std::time::{Duration, Instant};

use pbe::engine::profile::{ModeProfile, Profiler};
use pbe::error::{Error, Result};
use serde::Deserialize;

/// Timed runs at most, after one that warms up.
const RUNS: usize = 9;
/// No timed run but the first begins later.
const TIME: Duration = Duration::from_secs(3);

/// What ops took.
pub struct Measured {
    /// The median of all runs, by op.
    pub seconds: Vec<f64>,
    /// Bytes moved in the last run, by op.
    pub moved: Option<Vec<u64>>,
}

/// A line of the counters' file.
#[derive(Deserialize)]
struct CounterRecord {
    kernel: String,
    bytes: u64,
}

/// Runs a job a few times.
pub fn measure(profiler: &mut Profiler, profile: &ModeProfile, counters: Option<&Path>) -> Result<Measured> {
    profiler.time(profile.mode)?;
    let begun = Instant::now();
    let (mut runs, mut moved): (Vec<Vec<f64>>, _) = (Vec::new(), None);
    while runs.is_empty() || (runs.len() < RUNS && begun.elapsed() < TIME) {
        let before = counters.map(lines).transpose()?.unwrap_or_default().len();
        runs.push(profiler.time(profile.mode)?);
        if let Some(path) = counters {
            moved = Some(by_op(profile, &lines(path)?[before..], path)?);
        }
    }
    let median = |op: usize| {
        let mut seconds: Vec<f64> = runs.iter().map(|run| run[op]).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    Ok(Measured { seconds: (0..profile.ops.len()).map(median).collect(), moved })
}

fn lines(path: &Path) -> Result<Vec<CounterRecord>> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::file(path, cause))?;
    let read = |line| serde_json::from_str(line);
    text.lines().map(read).collect::<serde_json::Result<_>>().map_err(|cause| Error::file(path, cause))
}

/// Joins what was counted to the ops by the order of their launches.
fn by_op(profile: &ModeProfile, lines: &[CounterRecord], path: &Path) -> Result<Vec<u64>> {
    let expected = profile.ops.iter().flat_map(|op| &op.launches).map(|launch| launch.kernel);
    if !expected.eq(lines.iter().map(|line| line.kernel.as_str())) {
        let cause = format!("holds other launches than those of {}: {} lines", profile.mode, lines.len());
        return Err(Error::file(path, cause));
    }
    let mut lines = lines.iter();
    let sum = |launches: usize| lines.by_ref().take(launches).map(|line| line.bytes).sum();
    Ok(profile.ops.iter().map(|op| op.launches.len()).map(sum).collect())
}
