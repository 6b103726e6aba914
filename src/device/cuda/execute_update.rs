//! Updates of the weights, and copies.

use super::execute::{Launched, Step, arguments};
use super::fuse::Share;
use super::launch::{Argument, Grid};
use super::update::Update;
use crate::device::ops;
use crate::device::{Op, Program, Span};

/// A step's whole update: what it consists of, the weight average, and where its table is.
#[derive(Clone, Copy)]
pub(super) struct Updated<'a> {
    pub update: &'a Update,
    pub average: Option<Span>,
    pub table: u64,
}

impl<'a> Updated<'a> {
    /// That of `program`, if it has one.
    pub fn of(program: &Program, update: Option<&'a Update>, table: u64) -> Option<Self> {
        let update = update?;
        let average = update.average.and_then(|op| match program.ops[op] {
            Op::MovingAverage(ops::MovingAverage { average, .. }) => Some(average),
            _ => None,
        });
        Some(Self { update, average, table })
    }
}

impl Step<'_> {
    pub(super) fn update(&self, op: &Op) -> Launched {
        match op {
            Op::Sgd(ops::Sgd { weights, gradients, momentum }) if self.links.share == Share::WithUpdate => {
                let Some(Updated { update, average, table }) = self.update else {
                    return Err("no table of its filters".into());
                };
                let list = arguments![
                    self.at(*weights),
                    self.at(*gradients),
                    self.at(*momentum),
                    self.maybe(average.filter(|_| self.averages())),
                    table,
                    update.len(),
                    weights.len,
                    self.scalars()
                ];
                self.launch("sgd_with_filters", Grid::Blocks(update.blocks(), 1), list)
            }
            Op::Sgd(ops::Sgd { weights, gradients, momentum }) => {
                let (gradients, velocity) = (self.at(*gradients), self.at(*momentum));
                let list = arguments![self.at(*weights), gradients, velocity, weights.len, self.scalars()];
                self.launch("sgd", Grid::Items(weights.len), list)
            }
            Op::Adam(ops::Adam { weights, gradients, first, second }) => {
                let list = arguments![
                    self.at(*weights),
                    self.at(*gradients),
                    self.at(*first),
                    self.at(*second),
                    weights.len,
                    self.scalars()
                ];
                self.launch("adam", Grid::Items(weights.len), list)
            }
            Op::MovingAverage(ops::MovingAverage { weights, average }) if self.averages() => {
                let list = arguments![self.at(*weights), self.at(*average), weights.len, self.scalars()];
                self.launch("moving_average", Grid::Items(weights.len), list)
            }
            Op::Copy(ops::Copy { elements, input, output }) => {
                let total = self.count() * elements;
                self.launch("copy", Grid::Items(total), arguments![self.at(*input), self.at(*output), total])
            }
            _ => Ok(()),
        }
    }

    fn averages(&self) -> bool {
        self.params.average_decay > 0.0
    }
}
