//! The figures of every op, and of ops that are alike.

use pbe::engine::profile::{Bound, Cost, Estimate, Mode, ModeProfile, OpProfile, Precision, Roofline};
use serde::Serialize;

use super::measure::Taken;

/// Figures of an op, or of several.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
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

impl Figures {
    fn add(&mut self, other: &Figures) {
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
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Figures>) -> Figures {
        let mut sum = Figures::default();
        all.into_iter().for_each(|one| sum.add(one));
        sum
    }

    /// Share of the roofline.
    pub fn share(&self) -> Option<f64> {
        self.seconds.map(|seconds| self.roofline_seconds / seconds)
    }
}

/// An op and its figures.
#[derive(Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub profile: OpProfile,
    pub bound: Bound,
    #[serde(skip)]
    pub figures: Figures,
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
    pub figures: Figures,
}

impl ModeRows {
    fn new(profile: ModeProfile, roofline: &Roofline, precision: Precision) -> Self {
        let ModeProfile { mode, images, one_worker, ops } = profile;
        let row = |profile: OpProfile| {
            let (roofline_seconds, bound) = roofline.least(&profile.cost, precision);
            let figures = Figures {
                count: 1,
                launches: profile.launches.len(),
                cost: profile.cost,
                launch_bytes: profile.launches.iter().map(|launch| launch.bytes).sum(),
                roofline_seconds,
                ..Figures::default()
            };
            Row { profile, bound, figures }
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
                Some(group) => group.figures.add(&row.figures),
                None => groups.push(Group { first: row, figures: row.figures.clone() }),
            }
        }
        groups
    }
}

/// A job that was run.
pub fn measured(profile: ModeProfile, taken: Taken, roofline: &Roofline, precision: Precision) -> ModeRows {
    let mut mode = ModeRows::new(profile, roofline, precision);
    for (at, (row, seconds)) in mode.rows.iter_mut().zip(taken.seconds).enumerate() {
        row.figures.seconds = Some(seconds);
        row.figures.bytes_moved = taken.moved.as_ref().map(|moved| moved[at]);
    }
    mode
}

/// A job that no device has run.
pub fn estimated(profile: ModeProfile, roofline: &Roofline, precision: Precision) -> ModeRows {
    let mut mode = ModeRows::new(profile, roofline, precision);
    for row in &mut mode.rows {
        row.figures.estimate = Some(row.profile.estimate(roofline, precision));
    }
    mode
}
