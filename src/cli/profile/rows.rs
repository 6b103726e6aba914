//! The totals of every op, and of ops that are alike.

use pbe::engine::profile::{Bound, Cost, Estimate, Mode, ModeProfile, OpProfile, Precision, Roofline};
use serde::Serialize;

use super::measure::Measured;

/// Totals of an op, or of several.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Ops.
    pub count: usize,
    pub launches: usize,
    pub cost: Cost,
    /// Bytes that the buffers of all launches have.
    pub launch_bytes: u64,
    /// Bytes moved, where the driver counted them.
    pub bytes_moved: Option<u64>,
    /// Seconds that were measured.
    pub seconds: Option<f64>,
    /// The least seconds under the roofline.
    pub roofline_seconds: f64,
    /// Seconds that the launches take at best.
    pub estimate: Option<Estimate>,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        let sum = |one: Option<f64>, other: Option<f64>| Some(one.unwrap_or(0.0) + other?);
        self.count += other.count;
        self.launches += other.launches;
        self.cost += other.cost;
        self.launch_bytes += other.launch_bytes;
        self.bytes_moved = other.bytes_moved.map(|bytes| bytes + self.bytes_moved.unwrap_or(0));
        self.seconds = sum(self.seconds, other.seconds);
        self.roofline_seconds += other.roofline_seconds;
        self.estimate = other.estimate.map(|estimate| {
            let mut sum = self.estimate.unwrap_or_default();
            sum += estimate;
            sum
        });
    }

    /// The sum of some.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Totals>) -> Totals {
        let mut sum = Totals::default();
        all.into_iter().for_each(|one| sum.add(one));
        sum
    }

    /// Share of the roofline.
    pub fn share(&self) -> Option<f64> {
        self.seconds.map(|seconds| self.roofline_seconds / seconds)
    }
}

/// An op and its totals.
#[derive(Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub profile: OpProfile,
    pub bound: Bound,
    #[serde(skip)]
    pub totals: Totals,
}

/// A job.
pub struct ModeRows {
    pub mode: Mode,
    pub images: usize,
    pub one_worker: bool,
    pub rows: Vec<Row>,
}

/// Ops of the same name and sizes.
pub struct Group<'a> {
    pub first: &'a Row,
    pub totals: Totals,
}

impl ModeRows {
    fn new(profile: ModeProfile, roofline: &Roofline, precision: Precision) -> Self {
        let ModeProfile { mode, images, one_worker, ops } = profile;
        let row = |profile: OpProfile| {
            let (roofline_seconds, bound) = roofline.least(&profile.cost, precision);
            let totals = Totals {
                count: 1,
                launches: profile.launches.len(),
                cost: profile.cost,
                launch_bytes: profile.launches.iter().map(|launch| launch.bytes).sum(),
                roofline_seconds,
                ..Totals::default()
            };
            Row { profile, bound, totals }
        };
        Self { mode, images, one_worker, rows: ops.into_iter().map(row).collect() }
    }

    /// Ops that are alike, in the order in which the first of each comes.
    pub fn groups(&self, in_loop: bool) -> Vec<Group<'_>> {
        let mut groups: Vec<Group> = Vec::new();
        for row in self.rows.iter().filter(|row| row.profile.in_loop == in_loop) {
            let OpProfile { op, shape, .. } = &row.profile;
            let same = |group: &&mut Group| {
                let first = &group.first.profile;
                (&first.op, &first.shape) == (op, shape)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.totals.add(&row.totals),
                None => groups.push(Group { first: row, totals: row.totals.clone() }),
            }
        }
        groups
    }
}

/// A job that was run.
pub fn measured(
    profile: ModeProfile,
    times: Measured,
    roofline: &Roofline,
    precision: Precision,
) -> ModeRows {
    let mut mode = ModeRows::new(profile, roofline, precision);
    for (at, (row, seconds)) in mode.rows.iter_mut().zip(times.seconds).enumerate() {
        row.totals.seconds = Some(seconds);
        row.totals.bytes_moved = times.moved.as_ref().map(|moved| moved[at]);
    }
    mode
}

/// A job that no device has run.
pub fn estimated(profile: ModeProfile, roofline: &Roofline, precision: Precision) -> ModeRows {
    let mut mode = ModeRows::new(profile, roofline, precision);
    for row in &mut mode.rows {
        row.totals.estimate = Some(row.profile.estimate(roofline, precision));
    }
    mode
}
