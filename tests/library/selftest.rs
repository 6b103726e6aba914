//! The self-test passes on the CPU and detects faults: a device that corrupts what one op writes fails in
//! that op's row.

use pbe::device::ops;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use pbe::data::ImageSet;
use pbe::device::cpu::CpuDevice;
use pbe::device::{
    BatchSlice, Device, ImageSlot, MemoryLayout, Op, Program, ProgramId, Region, Session, Span, StepParams,
};
use pbe::error::{Error, Result};
use pbe::selftest::{Depth, SelftestReport, TOLERANCES, run};

/// What the faulty device does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The last element of every span that these ops write: a bit for each of [`TOLERANCES`].
    Ops(u32),
    /// The last bit of masks and argmax.
    Mask,
    /// A folded scale.
    Scale,
    /// The last element of a region, which no op may write.
    Outside,
    /// Runs fail.
    Error,
    /// A weight, by a different amount in every session.
    Varying,
}

struct Faulty(CpuDevice, Fault, AtomicUsize);

struct FaultySession {
    inner: Box<dyn Session>,
    layout: MemoryLayout,
    programs: Vec<Program>,
    fault: Fault,
    session: usize,
    /// Elements that are read wrong.
    spoiled: BTreeSet<(Region, usize)>,
}

impl Device for Faulty {
    fn describe(&self) -> String {
        format!("{:?} wrong", self.1)
    }
    fn kind(&self) -> String {
        self.0.kind()
    }
    fn workers(&self) -> usize {
        self.0.workers()
    }
    fn preferred_batch(&self, elements_per_image: usize) -> usize {
        self.0.preferred_batch(elements_per_image)
    }
    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize {
        self.0.needs(layout, programs)
    }
    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>> {
        let inner = self.0.open(layout)?;
        let session = self.2.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FaultySession {
            inner,
            layout,
            programs: vec![],
            fault: self.1,
            session,
            spoiled: BTreeSet::new(),
        }))
    }
}

impl FaultySession {
    fn spoil(&mut self, region: Region, element: usize) {
        let mut value = [0.0];
        let amount = if self.fault == Fault::Varying { 1e-3 * self.session as f32 } else { 1.0 };
        self.inner.read(region, element, &mut value).unwrap();
        if self.fault == Fault::Mask {
            self.inner.write_words(region, element, &[value[0].to_bits() ^ 1]).unwrap();
        } else {
            self.inner.write(region, element, &[value[0] + amount]).unwrap();
        }
    }
}

/// The spans that `op` writes, without its masks and argmax indices.
fn written(op: &Op) -> Vec<Span> {
    let mask = mask(op);
    let written = op.spans().filter(|(span, access)| access.writes() && Some(*span) != mask);
    written.map(|(span, _)| span).collect()
}

/// The mask or argmax indices that `op` writes.
fn mask(op: &Op) -> Option<Span> {
    match op {
        Op::Conv(ops::Conv { prologue, .. }) => prologue.mask,
        Op::MaxPool(ops::MaxPool { argmax, .. }) => *argmax,
        _ => None,
    }
}

impl Session for FaultySession {
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()> {
        self.inner.attach(slot, images)
    }
    fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()> {
        self.inner.write(region, offset, values)
    }
    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) -> Result<()> {
        self.inner.write_words(region, offset, values)
    }
    fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()> {
        self.inner.read(region, offset, values)?;
        let inside = |&&(of, element): &&(Region, usize)| {
            of == region && (offset..offset + values.len()).contains(&element)
        };
        let spoiled: Vec<usize> = self.spoiled.iter().filter(inside).map(|&(_, element)| element).collect();
        spoiled.into_iter().for_each(|element| values[element - offset] += 1.0);
        Ok(())
    }
    fn prepare(&mut self, mut program: Program) -> Result<ProgramId> {
        if self.fault == Fault::Scale {
            for op in &mut program.ops {
                if let Op::LoadFilter(ops::LoadFilter { scale, .. }) = op {
                    *scale = None;
                }
            }
        }
        self.programs.push(program.clone());
        self.inner.prepare(program)
    }
    fn run(&mut self, program: ProgramId, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        self.inner.run(program, params, slices)?;
        let Program { ops, .. } = self.programs[program.0].clone();
        let images = slices[0].first + slices[0].count;
        let last = |span: &Span| match span.region {
            Region::Arena => span.offset + span.len * slices[0].count.max(1) - 1,
            Region::Staging => span.offset + span.len * images.max(1) - 1,
            _ => span.offset + span.len - 1,
        };
        match self.fault {
            Fault::Error => return Err(Error::run("the device is gone")),
            Fault::Ops(set) => {
                let of_set = |op: &Op| {
                    let place = TOLERANCES.iter().position(|(name, _)| *name == op.name());
                    place.is_some_and(|place| set >> place & 1 == 1)
                };
                // A span that a later op overwrites belongs to that op. The value is corrupted when it is read, so
                // the next run continues from the right one.
                for (at, op) in ops.iter().enumerate().filter(|(_, op)| of_set(op)) {
                    let later: Vec<Span> = ops[at + 1..].iter().flat_map(written).collect();
                    let own = written(op).into_iter().filter(|span| !later.contains(span));
                    self.spoiled.extend(own.map(|span| (span.region, last(&span))));
                }
            }
            Fault::Mask => {
                ops.iter().filter_map(mask).for_each(|span| self.spoil(span.region, last(&span)));
            }
            Fault::Outside if self.layout.derived > 0 => self.spoil(Region::Derived, self.layout.derived - 1),
            Fault::Varying if self.layout.weights > 0 => self.spoil(Region::Weights, 0),
            _ => {}
        }
        Ok(())
    }
    fn time(&mut self, program: ProgramId, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>> {
        self.inner.time(program, params, slice)
    }
    fn bytes(&self) -> usize {
        self.inner.bytes()
    }
}

fn report(fault: Fault) -> SelftestReport {
    let device = Faulty(CpuDevice::new(Some(2)).unwrap(), fault, AtomicUsize::new(1));
    run(&device, Depth::Quick, "", false, &mut |_, _| ()).unwrap()
}

/// Whether a row of this name fails against another device.
fn fails(report: &SelftestReport, name: &str) -> bool {
    report.rows.iter().any(|row| row.name == name && row.against != "itself" && !row.passes())
}

#[test]
fn the_cpu_passes_and_every_row_has_cases() {
    let report = run(&CpuDevice::new(Some(1)).unwrap(), Depth::Quick, "", false, &mut |_, _| ()).unwrap();
    let failing: Vec<_> = report.rows.iter().filter(|row| !row.passes()).collect();
    assert!(report.passes(), "{failing:?}");
    assert!(report.rows.iter().all(|row| row.cases > 0));
}

/// Seven runs for all ops: each op is corrupted in three of them, and no two ops in the same three. So an op that made
/// another op's row fail would do so in a run where that other op is right.
#[test]
fn a_corrupted_op_fails_in_its_own_row_and_no_other() {
    let codes: Vec<u32> = (0..1 << 7).filter(|code: &u32| code.count_ones() == 3).collect();
    let spoiled = |op: usize, run: usize| codes[op] >> run & 1 == 1;
    for run in 0..7 {
        let set = (0..TOLERANCES.len()).filter(|&op| spoiled(op, run)).map(|op| 1 << op).sum();
        let report = report(Fault::Ops(set));
        for (op, (name, _)) in TOLERANCES.iter().enumerate() {
            assert_eq!(fails(&report, name), spoiled(op, run), "{name} in run {run}");
        }
        assert!(!report.passes());
    }
}

#[test]
fn masks_and_filters_are_looked_at() {
    let masked = report(Fault::Mask);
    for (words, floats) in [("Conv, mask bits", "Conv"), ("MaxPool, argmax", "MaxPool")] {
        assert!(fails(&masked, words) && !fails(&masked, floats));
    }
    let unscaled = report(Fault::Scale);
    assert!(fails(&unscaled, "Conv") && fails(&unscaled, "ConvDgrad") && fails(&unscaled, "network: logits"));
}

#[test]
fn writing_where_nothing_belongs_fails() {
    assert!(!report(Fault::Outside).passes());
}

#[test]
fn errors_of_the_device_are_misses() {
    let report = report(Fault::Error);
    for (name, _) in TOLERANCES {
        assert!(fails(&report, name), "{name}");
    }
    let row = report.rows.iter().find(|row| row.name == "GlobalAvgPool").unwrap();
    assert!(row.place.contains("the device is gone"), "{row:?}");
}

#[test]
fn fail_fast_ends_after_the_first_case_that_fails() {
    let device = Faulty(CpuDevice::new(Some(2)).unwrap(), Fault::Error, AtomicUsize::new(1));
    let mut cases = 0;
    let report = run(&device, Depth::Quick, "", true, &mut |_, _| cases += 1).unwrap();
    assert_eq!(cases, 1);
    assert!(
        !report.rows.is_empty() && report.rows.iter().all(|row| row.cases == 1 && !row.passes()),
        "{report:?}"
    );
}

#[test]
fn results_that_vary_fail() {
    let report = report(Fault::Varying);
    assert!(report.rows.iter().any(|row| row.against == "itself" && !row.passes()));
}

#[test]
fn a_part_of_the_rows_runs_what_they_need() {
    let device = CpuDevice::new(Some(1)).unwrap();
    let names = |only: &str| {
        let mut labels = vec![];
        let report =
            run(&device, Depth::Quick, only, false, &mut |label, _| labels.push(label.to_string())).unwrap();
        assert!(report.passes(), "{report:?}");
        let names: Vec<String> =
            report.rows.into_iter().map(|row| format!("{} {}", row.name, row.against)).collect();
        (names.join(", "), labels)
    };
    let (rows, labels) = names("MaxPool");
    assert_eq!(rows, "MaxPool f64, MaxPool cpu, MaxPoolDgrad f64, MaxPoolDgrad cpu, MaxPool, argmax cpu");
    assert!(!labels.is_empty() && labels.iter().all(|label| label.starts_with("MaxPoolCase ")), "{labels:?}");
    let (rows, labels) = names("mask bits");
    assert_eq!(rows, "Conv, mask bits cpu");
    let convolution = |label: &String| {
        label.contains(" stride ")
            || ["NanInputCase ", "ConvChainCase ", "ConvStatisticsCase ", "TrainStepsCase "]
                .iter()
                .any(|start| label.starts_with(start))
    };
    assert!(labels.len() > 10 && labels.iter().all(convolution), "{labels:?}");
    let (rows, labels) = names("network: random start");
    assert_eq!((rows.as_str(), labels.len()), ("network: random start, bits cpu", 2));
    let error = run(&device, Depth::Quick, "Convolution", false, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().starts_with("--only Convolution: no row has that in its name; there are Conv, ")
    );
}
