//! Findings and counters: findings as text on standard error at once, all of it as JSON in a file.
//!
//! The file is written when the process ends, and after every finding, so that a program that is killed
//! then leaves one too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use serde::Serialize;

use crate::config::{Config, names};
use crate::exec::Counters;
use crate::fault::{Fault, Place};

/// What the file holds.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Version of this crate.
    pub emulator: &'static str,
    /// Compute capability of the device.
    pub capability: String,
    /// The seed of the scheduling.
    pub seed: u64,
    /// The checks that were on.
    pub checks: Vec<&'static str>,
    /// By kernel.
    pub kernels: BTreeMap<String, Kernel>,
    /// Launches of graphs, whose kernels are among those.
    pub graphs: u64,
    /// In the order they were made.
    pub findings: Vec<Finding>,
}

/// The launches of a kernel.
#[derive(Debug, Default, Serialize)]
pub struct Kernel {
    /// Seconds that the emulation took.
    pub seconds: f64,
    /// Launches that a finding ended; the counters leave them out.
    pub failed: u64,
    /// Sums over the other launches.
    pub counters: Counters,
}

/// A finding.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Name of the [`crate::fault::Kind`].
    pub kind: String,
    /// Where.
    #[serde(flatten)]
    pub place: Location,
    /// In its space.
    pub address: Option<u64>,
    /// What exactly.
    pub detail: String,
    /// The other party of a race.
    pub other: Option<Location>,
}

/// A [`Place`] in a file.
#[derive(Debug, Serialize)]
pub struct Location {
    kernel: String,
    source_file: Option<String>,
    source_line: Option<u32>,
    ptx_line: u32,
    block: [u32; 3],
    thread: [u32; 3],
}

impl Location {
    fn new(place: &Place) -> Location {
        let (source_file, source_line) = place.source.clone().unzip();
        let Place { kernel, ptx_line, block, thread, .. } = place.clone();
        Location { kernel, source_file, source_line, ptx_line, block, thread }
    }
}

/// A line of the file of launches.
#[derive(Serialize)]
struct Line<'a> {
    kernel: &'a str,
    blocks: u64,
    /// Of the sectors that the launch's requests to global memory touched.
    bytes: u64,
}

struct State {
    path: Option<PathBuf>,
    /// Where a line goes for each launch.
    launches: Option<File>,
    report: Report,
}

/// Bytes of a sector.
const SECTOR: u64 = 32;

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn at_exit() {
    if let Some(State { path: Some(path), report, .. }) = &*state() {
        write(path, report);
    }
}

/// Begins the report of this process.
///
/// # Errors
/// The file of launches can't be made.
pub fn begin(config: &Config) -> io::Result<()> {
    let launches = config.launches.as_ref().map(File::create).transpose()?;
    let report = Report {
        emulator: env!("CARGO_PKG_VERSION"),
        capability: format!("{}.{}", config.capability.0, config.capability.1),
        seed: config.settings.seed,
        checks: names(&config.settings.checks),
        ..Report::default()
    };
    *state() = Some(State { path: config.report.clone(), launches, report });
    if config.report.is_some() {
        // SAFETY: the function stays, as the library is never unloaded before the process ends; where it
        // is, the C library calls it then.
        unsafe { libc::atexit(at_exit) };
    }
    Ok(())
}

/// A launch has ended well.
pub fn launched(kernel: &str, counters: &Counters, time: Duration) {
    let mut state = state();
    let Some(State { path, launches, report }) = &mut *state else {
        return;
    };
    if let Some(file) = launches {
        let Counters { global_loads, global_stores, async_copies, blocks, .. } = counters;
        let sectors = global_loads.sectors + global_stores.sectors + async_copies.sectors;
        let line = Line { kernel, blocks: *blocks, bytes: SECTOR * sectors };
        let text = serde_json::to_string(&line).map_err(io::Error::other);
        // At once, so that the program can read it while it runs.
        if let Err(error) = text.and_then(|text| file.write_all((text + "\n").as_bytes())) {
            eprintln!("ptx-emulator: the file of launches: {error}");
        }
    }
    if path.is_some() {
        let kernel = report.kernels.entry(kernel.to_string()).or_default();
        kernel.seconds += time.as_secs_f64();
        kernel.counters += counters;
    }
}

/// A graph is launched.
pub fn graph() {
    if let Some(state) = &mut *state() {
        state.report.graphs += 1;
    }
}

/// A finding has ended a launch.
pub fn found(fault: &Fault) {
    eprint!("{}", describe(fault));
    if let Some(State { path: Some(path), report, .. }) = &mut *state() {
        report.kernels.entry(fault.place.kernel.clone()).or_default().failed += 1;
        report.findings.push(Finding {
            kind: format!("{:?}", fault.kind),
            place: Location::new(&fault.place),
            address: fault.address,
            detail: fault.detail.clone(),
            other: fault.other.as_ref().map(Location::new),
        });
        write(path, report);
    }
}

/// A finding as lines of text.
pub fn describe(fault: &Fault) -> String {
    let mut text = format!("ptx-emulator: {:?} in {}\n", fault.kind, fault.place);
    // Writing to a string can't fail.
    if let Some(address) = fault.address {
        let _ = writeln!(text, "    address {address:#x}");
    }
    if !fault.detail.is_empty() {
        let _ = writeln!(text, "    {}", fault.detail);
    }
    if let Some(other) = &fault.other {
        let _ = writeln!(text, "    the other party: {other}");
    }
    text
}

fn write(path: &Path, report: &Report) {
    let written = serde_json::to_vec_pretty(report)
        .map_err(io::Error::other)
        .and_then(|text| fs::write(path, [text, b"\n".to_vec()].concat()));
    if let Err(error) = written {
        eprintln!("ptx-emulator: {}: {error}", path.display());
    }
}
