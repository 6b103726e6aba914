//! Where a case's memory differs from the expected one, and which op wrote there.

use super::case::{Case, RegionValues};
use crate::device::{Op, Region, Span};

/// The largest difference in the elements of one op.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Name of the op that writes there, or may have written there although no op should.
    pub op: &'static str,
    /// |value − expected| / (1 + |expected|); infinite if only one of the two is NaN.
    pub error: f64,
    /// Region and element, value and expected value.
    pub place: String,
}

/// For each op of `case` the largest difference in the elements it wrote last, and in those that no op should
/// write. [`words`] compares the words.
pub fn floats(case: &Case, found: &RegionValues, expected: &RegionValues) -> Vec<Difference> {
    let owners = Owners::new(case);
    let mut worst = owners.nothing();
    for ((region, found), expected) in Region::ALL.iter().zip(found).zip(expected) {
        for (element, (&value, &wanted)) in found.iter().zip(expected).enumerate() {
            let same = value.to_bits() == wanted.to_bits() || value.is_nan() && wanted.is_nan();
            if same || case.is_word(*region, element) || !case.counts(*region, element) {
                continue;
            }
            let place = || format!("{region:?} {element}: {value} is not {wanted}");
            owners.note(&mut worst, *region, element, distance(value, wanted), place);
        }
    }
    worst
}

/// As [`floats`], for masks: any bit that differs is an infinite error.
pub fn words(case: &Case, found: &RegionValues, expected: &RegionValues) -> Vec<Difference> {
    bits_where(case, found, expected, |region, element| case.is_word(region, element))
}

/// As [`words`], for all of memory.
pub fn bits(case: &Case, found: &RegionValues, expected: &RegionValues) -> Vec<Difference> {
    bits_where(case, found, expected, |_, _| true)
}

fn bits_where(
    case: &Case,
    found: &RegionValues,
    expected: &RegionValues,
    counts: impl Fn(Region, usize) -> bool,
) -> Vec<Difference> {
    let owners = Owners::new(case);
    let mut worst = owners.nothing();
    for ((region, found), expected) in Region::ALL.iter().zip(found).zip(expected) {
        for (element, (value, wanted)) in found.iter().zip(expected).enumerate() {
            let differs = value.to_bits() != wanted.to_bits();
            if differs && counts(*region, element) && case.counts(*region, element) {
                let place = || {
                    format!(
                        "{region:?} {element}: bits {:08x} are not {:08x}",
                        value.to_bits(),
                        wanted.to_bits()
                    )
                };
                owners.note(&mut worst, *region, element, f64::INFINITY, place);
            }
        }
    }
    worst
}

fn distance(value: f32, wanted: f32) -> f64 {
    let (value, wanted) = (f64::from(value), f64::from(wanted));
    let error = (value - wanted).abs() / (1.0 + wanted.abs());
    if error.is_nan() { f64::INFINITY } else { error }
}

/// What each op of a case writes.
struct Owners<'a> {
    case: &'a Case,
    ops: Vec<(&'static str, Vec<Span>)>,
}

impl<'a> Owners<'a> {
    fn new(case: &'a Case) -> Self {
        let ops = case.setup.iter().chain(&case.ops).map(|op| (op.name(), written(op)));
        Self { case, ops: ops.collect() }
    }

    fn nothing(&self) -> Vec<Difference> {
        let none =
            |(name, _): &(&'static str, Vec<Span>)| Difference { op: name, error: 0.0, place: String::new() };
        self.ops.iter().map(none).collect()
    }

    fn note(
        &self,
        worst: &mut [Difference],
        region: Region,
        element: usize,
        error: f64,
        place: impl Fn() -> String,
    ) {
        let writes = |(_, spans): &(&'static str, Vec<Span>)| {
            spans.iter().any(|span| span.region == region && self.case.extent(*span).contains(&element))
        };
        let owner = self.ops.iter().rposition(writes);
        let suspects = owner.map_or(0..self.ops.len(), |owner| owner..owner + 1);
        for slot in worst[suspects].iter_mut().filter(|slot| error > slot.error) {
            (slot.error, slot.place) = (error, place());
        }
    }
}

fn written(op: &Op) -> Vec<Span> {
    op.spans().filter(|(_, access)| access.writes()).map(|(span, _)| span).collect()
}
