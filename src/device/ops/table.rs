//! What an op's row in the table consists of, and the macro that makes types and matches of the rows.

use crate::device::operand::{Addend, Affine, Augment, FilterId, ImageSlot, Norm, Prologue, Span};
use crate::device::shape::{ConvShape, PoolShape};

/// How an op uses a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Each element is read before the same element of the output is written: the output may be the same span.
    ReadInPlace,
    /// Written only.
    Write,
    /// Read and written: updated in place.
    Update,
}

impl Access {
    /// Whether the op changes the span.
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Update)
    }
}

/// What an op expects of one of its spans.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Operand {
    /// The field of the op; a part of an affine map is `scale` or `shift`, a prologue's mask `mask`.
    pub name: &'static str,
    /// Elements the op touches (per image where `per_image`).
    pub len: usize,
    /// Whether the elements are words (bits, indices), which have no other precision.
    pub words: bool,
    /// One part for each image (`Arena`, `Staging`), or one for all of them.
    pub per_image: bool,
    /// How it is used.
    pub access: Access,
}

/// Elements of each image.
pub(super) fn image(len: usize) -> Operand {
    Operand { name: "", len, words: false, per_image: true, access: Access::Read }
}

/// Words of each image.
pub(super) fn words(len: usize) -> Operand {
    Operand { words: true, ..image(len) }
}

/// Elements that all images share.
pub(super) fn shared(len: usize) -> Operand {
    Operand { per_image: false, ..image(len) }
}

/// An operand that is read only.
pub(super) fn read(operand: Operand) -> Operand {
    Operand { access: Access::Read, ..operand }
}

/// An operand whose span may be the output's.
pub(super) fn in_place(operand: Operand) -> Operand {
    Operand { access: Access::ReadInPlace, ..operand }
}

/// An operand that is written only.
pub(super) fn write(operand: Operand) -> Operand {
    Operand { access: Access::Write, ..operand }
}

/// An operand that is read and written.
pub(super) fn update(operand: Operand) -> Operand {
    Operand { access: Access::Update, ..operand }
}

/// A prologue of so many channels whose mask the op ignores.
pub(super) fn unmasked(channels: usize) -> [Operand; 2] {
    masked(channels, 0)
}

/// A prologue of so many channels whose mask has so many words of each image.
pub(super) fn masked(channels: usize, mask: usize) -> [Operand; 2] {
    [read(shared(channels)), write(words(mask))]
}

pub(in crate::device) type Visitor<'a> = &'a mut dyn FnMut(Operand, &mut Span);

/// A field that holds spans; a row says what the op expects of them.
pub(super) trait Operands {
    /// What a row says of such a field.
    type Expected;
    fn visit(&mut self, name: &'static str, expected: Self::Expected, visit: Visitor);
}

impl Operands for Span {
    type Expected = Operand;
    fn visit(&mut self, name: &'static str, expected: Operand, visit: Visitor) {
        visit(Operand { name, ..expected }, self);
    }
}

impl Operands for Affine {
    type Expected = Operand;
    fn visit(&mut self, _name: &'static str, expected: Operand, visit: Visitor) {
        self.scale.visit("scale", expected, visit);
        self.shift.visit("shift", expected, visit);
    }
}

impl<T: Operands> Operands for Option<T> {
    type Expected = T::Expected;
    fn visit(&mut self, name: &'static str, expected: T::Expected, visit: Visitor) {
        if let Some(field) = self {
            field.visit(name, expected, visit);
        }
    }
}

impl Operands for Prologue {
    type Expected = [Operand; 2];
    fn visit(&mut self, name: &'static str, [affine, mask]: [Operand; 2], visit: Visitor) {
        self.affine.visit(name, affine, visit);
        if mask.len > 0 {
            self.mask.visit("mask", mask, visit);
        }
    }
}

/// An addend's tensor, and the channels of its prologue.
impl Operands for Addend {
    type Expected = (Operand, usize);
    fn visit(&mut self, name: &'static str, (tensor, channels): (Operand, usize), visit: Visitor) {
        self.input.visit(name, tensor, visit);
        self.prologue.visit(name, unmasked(channels), visit);
    }
}

/// A field that holds no span. A field of spans of which a row says nothing has no such impl, and doesn't compile.
pub(super) trait Plain {
    /// What is wrong with the value in itself.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Plain for usize {}
impl Plain for f32 {}
impl Plain for bool {}
impl Plain for FilterId {}
impl Plain for ImageSlot {}
impl Plain for Augment {}
impl Plain for Norm {}

impl Plain for ConvShape {
    fn check(&self) -> Result<(), String> {
        if self.possible() { Ok(()) } else { Err(format!("impossible shape {self:?}")) }
    }
}

impl Plain for PoolShape {
    fn check(&self) -> Result<(), String> {
        if self.possible() { Ok(()) } else { Err(format!("impossible shape {self:?}")) }
    }
}

/// An op's arithmetic, and the bytes that no span of it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::device) struct Work {
    /// FLOP of matrix products, of an image.
    pub products: usize,
    /// All other FLOP: of an image, or of the whole op where `once`.
    pub elementwise: usize,
    /// Whether the arithmetic doesn't depend on the number of images.
    pub once: bool,
    /// Elements of a filter in the device's form.
    pub filter: usize,
    /// Bytes of an image in a set.
    pub pixels: usize,
    /// Whether the op does nothing unless it is asked to, and counts as nothing.
    pub idle: bool,
}

/// FLOP of matrix products and others, of an image.
pub(super) fn flop(products: usize, elementwise: usize) -> Work {
    Work { products, elementwise, ..Work::default() }
}

/// FLOP that don't depend on the number of images.
pub(super) fn once(elementwise: usize) -> Work {
    Work { elementwise, once: true, ..Work::default() }
}

impl Work {
    pub(super) fn with_filter(self, filter: usize) -> Self {
        Self { filter, ..self }
    }
}

/// Makes the structs of the rows, [`Op`](super::Op), and what follows from a row. A row has
/// - fields, those of spans with what the op expects of them;
/// - `sizes`: its sizes in words, the same words for the same sizes;
/// - `work`: a [`Work`];
/// - `check`: what else has to hold in a program, if anything.
///
/// `program` is the name by which rows refer to the program; `$` is passed in for the macro `each_op`.
macro_rules! op_table {
    ($dollar:tt $program:ident: $(
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $type:ty $(= $expected:expr)?),* $(,)? }
        sizes: $sizes:expr,
        work: $work:expr $(, check: $check:expr)?;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq)]
            #[allow(missing_docs)]
            pub struct $name { $(pub $field: $type),* }

            impl From<$name> for Op {
                fn from(op: $name) -> Op {
                    Op::$name(op)
                }
            }
        )*

        /// One step of a program.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op {
            $($name($name)),*
        }

        /// The same expression for an op of any type: where a row's type lacks what the expression calls, a device
        /// doesn't handle that op.
        macro_rules! each_op {
            ($dollar op:expr, $dollar inner:ident => $dollar body:expr) => {
                match $dollar op {
                    $($crate::device::Op::$name($dollar inner) => $dollar body),*
                }
            };
        }
        pub(in crate::device) use each_op;

        #[allow(unused_variables)]
        impl Op {
            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),* }
            }

            /// Its sizes in words; the same words are the same sizes.
            pub fn sizes(&self, $program: &Program) -> String {
                match *self { $(Op::$name($name { $($field),* }) => $sizes),* }
            }

            /// Its arithmetic.
            pub(in crate::device) fn work(&self) -> Work {
                match *self { $(Op::$name($name { $($field),* }) => $work),* }
            }

            /// What is wrong with it in a program, its operands apart.
            pub(in crate::device) fn check(&self, $program: &Program) -> Result<(), String> {
                match *self {
                    $(Op::$name($name { $($field),* }) => {
                        $(op_table!(@plain $field $(= $expected)?);)*
                        $($check?;)?
                    }),*
                }
                Ok(())
            }

            /// Calls `visit` with every span and what the op expects of it.
            pub(in crate::device) fn visit_operands(&mut self, visit: Visitor) {
                match self {
                    $(Op::$name(op) => {
                        let $name { $($field),* } = *op;
                        $($(op.$field.visit(stringify!($field), $expected, visit);)?)*
                    }),*
                }
            }
        }
    };
    (@plain $field:ident = $expected:expr) => {};
    (@plain $field:ident) => { Plain::check(&$field)? };
}
pub(super) use op_table;
