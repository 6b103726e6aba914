//! A profile as text.

use pbe::engine::profile::{Estimate, LAUNCH_GAP, Mode, Roofline};
use pbe::report::Table;

use super::Setting;
use super::rows::{Group, ModeRows, Totals};

pub fn text(setting: &Setting, modes: &[ModeRows]) -> String {
    let mut text = format!("device   {}\n", setting.device);
    text += &format!("network  {}, {}\n", setting.network, setting.precision);
    text += &rooflines(setting, modes);
    let above = |mode: &ModeRows| mode.rows.iter().any(|row| row.totals.share() > Some(1.0));
    if modes.iter().any(above) {
        text += "         over 100 %: Winograd's form needs fewer products, or caches hold what was just written\n";
    }
    if setting.estimate {
        text += &explanation();
    }
    for mode in modes {
        for in_loop in [true, false] {
            let groups = mode.groups(in_loop);
            if !groups.is_empty() {
                text += &format!("\n{}\n", title(mode, in_loop));
                text += &table(setting, &groups).to_string();
            }
        }
    }
    text
}

fn explanation() -> String {
    let gap = 1e6 * LAUNCH_GAP;
    format!(
        "estimate each launch the longer of its products, in whole rounds of blocks, and its buffers' bytes;\n         \
         gaps {gap} us a launch of a graph. Nothing was run: this is the time of kernels that reach the roofline\n"
    )
}

fn rooflines(setting: &Setting, modes: &[ModeRows]) -> String {
    let [worker, whole] = &setting.rooflines;
    let peaks = |roofline: &Roofline| {
        let products = roofline.products(setting.precision);
        format!("{:.2} TFLOP/s in products, {:.1} GB/s", products / 1e12, roofline.bytes / 1e9)
    };
    let mut text = format!("roofline {}: {}\n", whole.name, peaks(whole));
    if worker != whole && modes.iter().any(|mode| mode.one_worker) {
        text += &format!("         one worker: {}\n", peaks(worker));
    }
    text + &format!("         {}\n", whole.source)
}

fn title(mode: &ModeRows, in_loop: bool) -> String {
    let part = match (mode.mode, in_loop) {
        (Mode::Attack, true) => "attack, a step",
        (Mode::Attack, false) => "attack, once",
        (Mode::Prepare, _) => return "prepare, after a change of the weights".into(),
        (Mode::Infer, _) => "infer",
        (Mode::Train, _) => "train, a step",
    };
    let worker = if mode.one_worker { ", one worker" } else { "" };
    format!("{part}: {} images{worker}", mode.images)
}

fn table(setting: &Setting, groups: &[Group]) -> Table {
    let columns = Columns {
        launches: groups.iter().any(|group| group.totals.launches > 0),
        moved: groups.iter().any(|group| group.totals.bytes_moved.is_some()),
    };
    let header = if setting.estimate { ESTIMATED.to_vec() } else { columns.header() };
    let mut table = Table::new(header);
    let mut row = |name: String, totals: &Totals, bound: String| {
        let cells = if setting.estimate { estimated(totals) } else { columns.cells(totals) };
        table.row([vec![name], cells, vec![bound]].concat());
    };
    for group in groups {
        let (first, totals) = (&group.first, &group.totals);
        let bound = match &totals.estimate {
            Some(estimate) => binding(estimate).to_string(),
            None => format!("{:?}", first.bound).to_lowercase(),
        };
        row(format!("{} {}", first.profile.op, first.profile.shape), totals, bound);
    }
    row("sum".into(), &Totals::sum(groups.iter().map(|group| &group.totals)), String::new());
    table
}

const ESTIMATED: [&str; 10] = [
    "op",
    "ops",
    "launches",
    "GFLOP",
    "least MB",
    "launch MB",
    "roofline us",
    "estimate us",
    "gaps us",
    "bound",
];

fn estimated(totals: &Totals) -> Vec<String> {
    let estimate = totals.estimate.unwrap_or_default();
    let mut cells = vec![totals.count.to_string(), totals.launches.to_string(), giga(flop(totals))];
    cells.extend([totals.cost.bytes, totals.launch_bytes].map(mega));
    cells
        .extend([totals.roofline_seconds, estimate.busy(), estimate.gaps].map(|s| format!("{:.1}", s * 1e6)));
    cells
}

/// Which columns a table of measurements has beside the others.
struct Columns {
    launches: bool,
    moved: bool,
}

impl Columns {
    fn header(&self) -> Vec<&'static str> {
        let launches: &[&str] = if self.launches { &["launches"] } else { &[] };
        let moved: &[&str] = if self.moved { &["moved MB", "moved/least"] } else { &[] };
        let (first, middle) = (["op", "ops"], ["GFLOP", "least MB"]);
        [&first, launches, &middle, moved, &["ms", "GFLOP/s", "GB/s", "roofline %", "bound"]].concat()
    }

    fn cells(&self, totals: &Totals) -> Vec<String> {
        let Totals { count, launches, cost, bytes_moved, .. } = totals;
        let mut cells = vec![count.to_string()];
        if self.launches {
            cells.push(launches.to_string());
        }
        cells.extend([giga(flop(totals)), mega(cost.bytes)]);
        if self.moved {
            let ratio = |moved: u64| format!("{:.2}", moved as f64 / cost.bytes as f64);
            cells.push(bytes_moved.map_or_else(String::new, mega));
            cells.push(bytes_moved.filter(|_| cost.bytes > 0).map_or_else(String::new, ratio));
        }
        let seconds = totals.seconds.unwrap_or(f64::NAN);
        let rate = |amount: u64| format!("{:.1}", amount as f64 / seconds / 1e9);
        cells.extend([format!("{:.3}", seconds * 1e3), rate(flop(totals)), rate(cost.bytes)]);
        cells.push(totals.share().map_or_else(String::new, |share| format!("{:.1}", 100.0 * share)));
        cells
    }
}

/// What most of an estimate is.
fn binding(estimate: &Estimate) -> &'static str {
    let Estimate { products, bytes, gaps } = *estimate;
    if gaps > products + bytes {
        "launches"
    } else if products > bytes {
        "products"
    } else {
        "bytes"
    }
}

fn flop(totals: &Totals) -> u64 {
    totals.cost.products + totals.cost.elementwise
}

fn giga(flop: u64) -> String {
    format!("{:.3}", flop as f64 / 1e9)
}

fn mega(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
