//! Dtypes: which tensors the arena keeps in bf16.
//!
//! The sums of a residual network, and their gradients, are read again a block later: in f32 they were a third of
//! all bytes of an attack. A tensor is kept in bf16 if a convolution makes it (or the classifier, for the pixels'
//! gradient) and only convolutions read it, as an addend of their result or, without a prologue, as an operand. It
//! then lies in its own span, as pixels of whole vectors of channels, which is the form of an operand: a convolution
//! that reads it as one needs no copy.

use super::forwarding::Forwarding;
use super::operands::{ConvOperand, Side, operands};
use crate::device::cuda::ops::tiles::padded;
use crate::device::{Op, Region, Span};

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
    fn is_bf16(&self, bf16: &[bool]) -> bool {
        self.able && self.writer.is_some_and(|writer| bf16[writer])
    }
}

impl Forwarding<'_> {
    /// Decides, once it is known which operands are forwarded.
    pub(super) fn assign_dtypes(&mut self) {
        let mut bf16: Vec<bool> = (0..self.ops.len()).map(|op| self.may_be_bf16(op)).collect();
        let reads: Vec<Read> = (0..self.ops.len()).flat_map(|op| self.reads(op)).collect();
        for read in &reads {
            let (writer, able) = (read.writer, read.able);
            let lost = |&op: &usize| {
                let made = self.made(op).is_some_and(|made| self.overlap(&made, &read.span));
                made && writer.is_none_or(|writer| op == writer && !able)
            };
            (0..bf16.len()).filter(lost).for_each(|op| bf16[op] = false);
        }
        let is_read = |op| reads.iter().any(|read| read.able && read.writer == Some(op));
        let read: Vec<bool> = (0..bf16.len()).map(is_read).collect();
        bf16.iter_mut().zip(&read).for_each(|(bf16, read)| *bf16 &= read);
        while let Some(op) = reads.iter().find_map(|one| self.clash(one, &bf16, &read)) {
            bf16[op] = false;
        }
        for op in (0..bf16.len()).filter(|&op| bf16[op]) {
            let launch = self.launch(op);
            self.ops[launch].bf16.output = true;
        }
        reads.iter().filter(|read| read.is_bf16(&bf16)).for_each(|read| self.read_bf16(read));
    }

    /// Whether an op's result has a form that a bf16 tensor can have.
    fn may_be_bf16(&self, op: usize) -> bool {
        let norm = matches!(self.program.ops[op], Op::BatchNormDgrad(_));
        // Whole vectors, which begin at multiples of their size, have to fit the span.
        let fits = |(span, pixels, channels): (Span, usize, usize)| {
            span.len == pixels * channels && padded(channels) <= 2 * channels && span.offset % 4 == 0
        };
        !norm && self.result(op).is_some_and(fits)
    }

    /// What op `reader` reads, and which ops made it. No writer is named for what is made of several tensors' parts, or
    /// was written in another part of the program.
    fn reads(&self, reader: usize) -> Vec<Read> {
        let op = &self.program.ops[reader];
        let mut read = self.named(reader, false);
        // Forwarded operands without a prologue are the tensor too.
        let operands = || operands(op).filter(|(_, tensor)| tensor.is_plain());
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

    /// A tensor that can't be in bf16 because its launch writes it over what it reads, or the next one writes over it,
    /// and only one of the two is in bf16: an element would not lie where it did. A tensor that is neither stored nor
    /// read lies nowhere.
    fn clash(&self, one: &Read, bf16: &[bool], read: &[bool]) -> Option<usize> {
        let launch = self.launch(one.reader);
        let over = |&op: &usize| {
            self.launch(op) == launch && self.made(op).is_some_and(|made| self.overlap(&made, &one.span))
        };
        let output = (launch..bf16.len()).find(over).filter(|&op| self.ops[launch].stored || read[op])?;
        match (one.is_bf16(bf16), bf16[output]) {
            (true, false) => one.writer,
            (false, true) => Some(output),
            _ => None,
        }
    }

    /// A bf16 tensor's reader: as an operand it needs no buffer.
    fn read_bf16(&mut self, read: &Read) {
        let plan = &mut self.ops[read.reader];
        let side = match read.name {
            "residual" => return plan.bf16.residual = true,
            "add" => return plan.bf16.add = true,
            name if name == Side::Input.name() => Side::Input,
            _ => Side::Gradient,
        };
        *plan.operand(side) = ConvOperand { buffer: None, fill: false };
        if let Some(writer) = read.writer {
            let launch = self.launch(writer);
            self.ops[launch].stored = true;
        }
        let own = |&(op, of, _): &(usize, Side, usize)| (op, of) == (read.reader, side);
        let range = self.uses.iter().find(|used| own(used)).map(|&(.., range)| range);
        if let Some(maker) = range.and_then(|range| self.live[range].maker) {
            let launch = self.launch(maker);
            self.ops[launch].forward = None;
        }
        self.uses.retain(|used| !own(used));
    }
}
