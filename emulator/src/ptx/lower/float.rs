//! Floating-point arithmetic.

use super::super::ast::Operand;
use super::modifiers::Modifiers;
use super::operands::arity;
use super::{Lowering, Reason};
use crate::ir::{Float1, Float2, Mode, Op, Round, Test, Type};

const HALVES: &str = "f32 f64 f16 f16x2 bf16 bf16x2";

/// What comes instead of a rounding.
#[derive(Clone, Copy, PartialEq)]
enum Precision {
    Rounded,
    Approximate,
    Full,
}

impl<'a> Lowering<'a, '_> {
    /// Float arithmetic.
    pub fn float(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        match modifiers.name {
            "fma" | "mad" => self.fma(modifiers, operands),
            "testp" => self.testp(modifiers, operands),
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => self.float2(modifiers, operands),
            _ => self.float1(modifiers, operands),
        }
    }

    fn float1(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a] = arity(operands)?;
        let rounded = matches!(modifiers.name, "rcp" | "sqrt");
        let precision = precision(modifiers, rounded)?;
        let mode = mode(modifiers, precision, &["ftz"])?;
        let exact = precision == Precision::Rounded;
        let (op, types) = match (modifiers.name, exact) {
            ("neg", true) => (Float1::Neg, HALVES),
            ("abs", true) => (Float1::Abs, HALVES),
            ("sqrt", true) => (Float1::Sqrt, "f32 f64"),
            ("rcp", true) => (Float1::Rcp, "f32 f64"),
            ("sqrt", _) => (Float1::SqrtApprox, "f32"),
            ("rcp", _) if mode.ftz => (Float1::RcpApprox, "f32 f64"),
            ("rcp", _) => (Float1::RcpApprox, "f32"),
            // With .ftz the f64 forms are gross approximations of their own.
            ("rsqrt", false) => (Float1::RsqrtApprox, "f32 f64"),
            ("sin", false) => (Float1::Sin, "f32"),
            ("cos", false) => (Float1::Cos, "f32"),
            ("lg2", false) => (Float1::Lg2, "f32"),
            ("ex2", false) if mode.ftz => (Float1::Ex2, "f32 bf16 bf16x2"),
            ("ex2", false) => (Float1::Ex2, "f32 f16 f16x2"),
            ("tanh", false) if !mode.ftz => (Float1::Tanh, "f32 f16 f16x2 bf16 bf16x2"),
            ("tanh", false) => return Err(format!("{}: unknown modifier .ftz", modifiers.opcode)),
            _ => return Err(format!("{}: .approx expected", modifiers.opcode)),
        };
        let ty = modifiers.ty(types)?;
        if exact {
            check_half(modifiers, ty, mode)?;
        }
        let a = self.source(a, ty)?;
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Float1 { op, ty, mode, dst, a });
        Ok(())
    }

    fn float2(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a, b] = arity(operands)?;
        let precision = precision(modifiers, modifiers.name == "div")?;
        let (op, types, allowed): (_, _, &[&str]) = match (modifiers.name, precision) {
            ("add", Precision::Rounded) => (Float2::Add, HALVES, &["round", "ftz", "sat"]),
            ("sub", Precision::Rounded) => (Float2::Sub, HALVES, &["round", "ftz", "sat"]),
            ("mul", Precision::Rounded) => (Float2::Mul, HALVES, &["round", "ftz", "sat"]),
            ("div", Precision::Rounded) => (Float2::Div, "f32 f64", &["ftz"]),
            ("div", Precision::Approximate) => (Float2::DivApprox, "f32", &["ftz"]),
            ("div", Precision::Full) => (Float2::DivFull, "f32", &["ftz"]),
            ("min", Precision::Rounded) => (Float2::Min, HALVES, &["ftz", "NaN", "xorsign"]),
            ("max", Precision::Rounded) => (Float2::Max, HALVES, &["ftz", "NaN", "xorsign"]),
            ("copysign", Precision::Rounded) => (Float2::Copysign, "f32 f64", &[]),
            _ => return Err(format!("{}: unknown precision", modifiers.opcode)),
        };
        let mode = mode(modifiers, precision, allowed)?;
        let ty = modifiers.ty(types)?;
        check_half(modifiers, ty, mode)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Float2 { op, ty, mode, dst, a, b });
        Ok(())
    }

    fn fma(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a, b, c] = arity(operands)?;
        let round = modifiers.round().ok_or_else(|| format!("{}: a rounding is needed", modifiers.opcode))?;
        let rest = mode(modifiers, Precision::Rounded, &["ftz", "sat", "relu"])?;
        let ty = modifiers.ty(if modifiers.name == "fma" { HALVES } else { "f32 f64" })?;
        let mode = Mode { round, ..rest };
        check_half(modifiers, ty, mode)?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Fma { ty, mode, dst, a, b, c });
        Ok(())
    }

    fn testp(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a] = arity(operands)?;
        let tests = [
            ("finite", Test::Finite),
            ("infinite", Test::Infinite),
            ("number", Test::Number),
            ("notanumber", Test::NotANumber),
            ("normal", Test::Normal),
            ("subnormal", Test::Subnormal),
        ];
        let test = modifiers.require("test", &tests)?;
        let ty = modifiers.ty("f32 f64")?;
        let a = self.source(a, ty)?;
        let Operand::Name(name, 0) = dst else { return Err("testp needs a predicate".to_owned()) };
        let dst = self.predicate_destination(name)?;
        self.emit(Op::Testp { test, ty, dst, a });
        Ok(())
    }
}

/// `.approx`, `.full`, or a rounding where one is `needed`.
fn precision(modifiers: &mut Modifiers, needed: bool) -> Result<Precision, Reason> {
    let approximate = [("approx", Precision::Approximate), ("full", Precision::Full)];
    match modifiers.choose(&approximate) {
        Some(Precision::Full) if modifiers.name != "div" => {
            Err(format!("{}: unknown modifier .full", modifiers.opcode))
        }
        Some(precision) => Ok(precision),
        None if needed && !["rn", "rz", "rm", "rp"].iter().any(|round| has(modifiers, round)) => {
            Err(format!("{}: a rounding or .approx is needed", modifiers.opcode))
        }
        None => Ok(Precision::Rounded),
    }
}

fn has(modifiers: &Modifiers, name: &str) -> bool {
    modifiers.opcode.split('.').any(|part| part == name)
}

/// The modifiers of the mode; those not allowed stay and become errors.
fn mode(modifiers: &mut Modifiers, precision: Precision, allowed: &[&str]) -> Result<Mode, Reason> {
    let rounds = precision == Precision::Rounded
        && (allowed.contains(&"round") || matches!(modifiers.name, "div" | "rcp" | "sqrt"));
    let mut take = |name: &str| allowed.contains(&name) && modifiers.take(name);
    let (ftz, sat, relu, nan) = (take("ftz"), take("sat"), take("relu"), take("NaN"));
    // Either alone stays in the opcode and is an error.
    let xorsign = allowed.contains(&"xorsign") && has(modifiers, "abs") && modifiers.take("xorsign");
    if xorsign {
        modifiers.take("abs");
    }
    let round = if rounds { modifiers.round().unwrap_or_default() } else { Round::Near };
    Ok(Mode { round, ftz, sat, relu, nan, xorsign })
}

/// Halves know only `.rn`; `.relu` is for halves and goes without `.sat`; doubles have none of these.
fn check_half(modifiers: &Modifiers, ty: Type, mode: Mode) -> Result<(), Reason> {
    let half = matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2);
    let wrong = (half && mode.round != Round::Near)
        || (!half && mode.relu)
        || (ty == Type::F64 && (mode.ftz || mode.sat || mode.nan || mode.xorsign))
        || (mode.sat && mode.relu)
        || (matches!(ty, Type::Bf16 | Type::Bf16x2) && (mode.ftz || mode.sat));
    if wrong { Err(format!("{}: these modifiers do not go with {ty:?}", modifiers.opcode)) } else { Ok(()) }
}
