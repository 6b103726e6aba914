//! Which tensors the arena keeps in bf16.
//!
//! The sums of a residual network, and their gradients, are read again a block later: in f32 they were a third of
//! all bytes of an attack. A tensor is kept rounded if a convolution makes it (or the head, for the pixels' gradient)
//! and nobody reads it but convolutions, as the addend of a result or, without a prologue, as an operand. It then
//! lies in its own span, as pixels of whole vectors of channels, which is the form of an operand: who reads it as one
//! needs no copy.

use super::planner::Planner;
use super::{Operand, Side, tensors};
use crate::device::cuda::tensor::padded;
use crate::device::{Op, Region, Span};

/// Which tensors of an op are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::device) struct Rounded {
    pub output: bool,
    pub residual: bool,
    pub add: bool,
}

impl Rounded {
    pub(super) const NONE: Self = Self { output: false, residual: false, add: false };
}

/// A tensor of the arena that an op reads.
struct Read {
    reader: usize,
    name: &'static str,
    span: Span,
    /// The op that made it; none where it isn't one alone.
    writer: Option<usize>,
    /// Whether the reader could do with bf16.
    able: bool,
}

impl Read {
    fn is_rounded(&self, rounded: &[bool]) -> bool {
        self.able && self.writer.is_some_and(|writer| rounded[writer])
    }
}

impl Planner<'_> {
    /// Decides, once it is known who hands on what.
    pub(super) fn round(&mut self) {
        let mut rounded: Vec<bool> = (0..self.links.len()).map(|op| self.may_round(op)).collect();
        let reads: Vec<Read> = (0..self.links.len()).flat_map(|op| self.reads(op)).collect();
        for read in &reads {
            let (writer, able) = (read.writer, read.able);
            let lost = |&op: &usize| {
                let made = self.made(op).is_some_and(|made| self.overlap(&made, &read.span));
                made && writer.is_none_or(|writer| op == writer && !able)
            };
            (0..rounded.len()).filter(lost).for_each(|op| rounded[op] = false);
        }
        let is_read = |op| reads.iter().any(|read| read.able && read.writer == Some(op));
        let read: Vec<bool> = (0..rounded.len()).map(is_read).collect();
        rounded.iter_mut().zip(&read).for_each(|(rounded, read)| *rounded &= read);
        while let Some(op) = reads.iter().find_map(|one| self.clash(one, &rounded, &read)) {
            rounded[op] = false;
        }
        for op in (0..rounded.len()).filter(|&op| rounded[op]) {
            let launch = self.launch(op);
            self.links[launch].rounded.output = true;
        }
        reads.iter().filter(|read| read.is_rounded(&rounded)).for_each(|read| self.read_rounded(read));
    }

    /// Whether an op's result has a form that a rounded tensor can have.
    fn may_round(&self, op: usize) -> bool {
        let norm = matches!(self.program.ops[op], Op::BatchNormDgrad(_));
        // Whole vectors, which begin at multiples of their size, have to fit the span.
        let fits = |(span, pixels, channels): (Span, usize, usize)| {
            span.len == pixels * channels && padded(channels) <= 2 * channels && span.offset % 4 == 0
        };
        !norm && self.result(op).is_some_and(fits)
    }

    /// What op `reader` reads, and whose results these are. No writer is named for what is made of several tensors'
    /// parts, or was written in another part of the program.
    fn reads(&self, reader: usize) -> Vec<Read> {
        let op = &self.program.ops[reader];
        let mut read = self.named(reader, false);
        // Operands without a prologue that have been handed on are the tensor too.
        let operands = || tensors(op).filter(|(_, tensor)| tensor.plain());
        read.extend(operands().map(|(side, tensor)| (side.name(), tensor.span)));
        read.retain(|(_, span)| span.region == Region::Arena);
        let able = |name: &str| match (op, name) {
            (Op::Conv(_) | Op::ConvDgrad(_), "residual" | "add") => true,
            _ => operands().any(|(side, _)| side.name() == name),
        };
        let writer = |span: &Span| {
            let writer = (0..reader).rev().find(|&op| self.writes(op, span))?;
            let whole = self.spans(writer, true).any(|written| written == *span);
            (whole && self.same_part(writer, reader)).then_some(writer)
        };
        let found = |(name, span)| Read { reader, name, span, writer: writer(&span), able: able(name) };
        read.into_iter().map(found).collect()
    }

    /// A tensor that can't be rounded because its launch writes it over what it reads, or the next one writes over
    /// it, and only one of the two is: an element would not lie where it did. What nobody reads as a tensor, and isn't
    /// stored, lies nowhere.
    fn clash(&self, one: &Read, rounded: &[bool], read: &[bool]) -> Option<usize> {
        let launch = self.launch(one.reader);
        let over = |&op: &usize| {
            self.launch(op) == launch && self.made(op).is_some_and(|made| self.overlap(&made, &one.span))
        };
        let output =
            (launch..rounded.len()).find(over).filter(|&op| self.links[launch].stored || read[op])?;
        match (one.is_rounded(rounded), rounded[output]) {
            (true, false) => one.writer,
            (false, true) => Some(output),
            _ => None,
        }
    }

    /// A rounded tensor's reader: as an operand it needs no buffer.
    fn read_rounded(&mut self, read: &Read) {
        let links = &mut self.links[read.reader];
        let side = match read.name {
            "residual" => return links.rounded.residual = true,
            "add" => return links.rounded.add = true,
            name if name == Side::Input.name() => Side::Input,
            _ => Side::Gradient,
        };
        *links.operand(side) = Operand { buffer: None, fill: false };
        if let Some(writer) = read.writer {
            let launch = self.launch(writer);
            self.links[launch].stored = true;
        }
        let own = |&(op, of, _): &(usize, Side, usize)| (op, of) == (read.reader, side);
        let life = self.uses.iter().find(|used| own(used)).map(|&(.., life)| life);
        if let Some(maker) = life.and_then(|life| self.lives[life].maker) {
            let launch = self.launch(maker);
            self.links[launch].next = None;
        }
        self.uses.retain(|used| !own(used));
    }
}
