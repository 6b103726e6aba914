//! Floating-point arithmetic.

use super::operands::arity;
use super::parts::Parts;
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
    pub fn float(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "fma" | "mad" => self.fma(parts),
            "testp" => self.testp(parts),
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => self.float2(parts),
            _ => self.float1(parts),
        }
    }

    fn float1(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a] = arity(parts.operands)?;
        let rounded = matches!(parts.name, "rcp" | "sqrt");
        let precision = precision(parts, rounded)?;
        let mode = mode(parts, precision, &["ftz"])?;
        let exact = precision == Precision::Rounded;
        let (op, types) = match (parts.name, exact) {
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
            ("tanh", false) => return Err(format!("{}: unknown modifier .ftz", parts.opcode)),
            _ => return Err(format!("{}: .approx expected", parts.opcode)),
        };
        let ty = parts.ty(types)?;
        if exact {
            check_half(parts, ty, mode)?;
        }
        let a = self.source(a, ty)?;
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Float1 { op, ty, mode, dst, a });
        Ok(())
    }

    fn float2(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b] = arity(parts.operands)?;
        let precision = precision(parts, parts.name == "div")?;
        let (op, types, allowed): (_, _, &[&str]) = match (parts.name, precision) {
            ("add", Precision::Rounded) => (Float2::Add, HALVES, &["round", "ftz", "sat"]),
            ("sub", Precision::Rounded) => (Float2::Sub, HALVES, &["round", "ftz", "sat"]),
            ("mul", Precision::Rounded) => (Float2::Mul, HALVES, &["round", "ftz", "sat"]),
            ("div", Precision::Rounded) => (Float2::Div, "f32 f64", &["ftz"]),
            ("div", Precision::Approximate) => (Float2::DivApprox, "f32", &["ftz"]),
            ("div", Precision::Full) => (Float2::DivFull, "f32", &["ftz"]),
            ("min", Precision::Rounded) => (Float2::Min, HALVES, &["ftz", "NaN", "xorsign"]),
            ("max", Precision::Rounded) => (Float2::Max, HALVES, &["ftz", "NaN", "xorsign"]),
            ("copysign", Precision::Rounded) => (Float2::Copysign, "f32 f64", &[]),
            _ => return Err(format!("{}: unknown precision", parts.opcode)),
        };
        let mode = mode(parts, precision, allowed)?;
        let ty = parts.ty(types)?;
        check_half(parts, ty, mode)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Float2 { op, ty, mode, dst, a, b });
        Ok(())
    }

    fn fma(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, c] = arity(parts.operands)?;
        let round = parts.round().ok_or_else(|| format!("{}: a rounding is needed", parts.opcode))?;
        let rest = mode(parts, Precision::Rounded, &["ftz", "sat", "relu"])?;
        let ty = parts.ty(if parts.name == "fma" { HALVES } else { "f32 f64" })?;
        let mode = Mode { round, ..rest };
        check_half(parts, ty, mode)?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Fma { ty, mode, dst, a, b, c });
        Ok(())
    }

    fn testp(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a] = arity(parts.operands)?;
        let tests = [
            ("finite", Test::Finite),
            ("infinite", Test::Infinite),
            ("number", Test::Number),
            ("notanumber", Test::NotANumber),
            ("normal", Test::Normal),
            ("subnormal", Test::Subnormal),
        ];
        let test = parts.require("test", &tests)?;
        let ty = parts.ty("f32 f64")?;
        let a = self.source(a, ty)?;
        let dst = self.predicate_destination(dst)?;
        self.emit(Op::Testp { test, ty, dst, a });
        Ok(())
    }
}

/// `.approx`, `.full`, or a rounding where one is `needed`.
fn precision(parts: &mut Parts, needed: bool) -> Result<Precision, Reason> {
    let approximate = [("approx", Precision::Approximate), ("full", Precision::Full)];
    match parts.choose(&approximate) {
        Some(Precision::Full) if parts.name != "div" => {
            Err(format!("{}: unknown modifier .full", parts.opcode))
        }
        Some(precision) => Ok(precision),
        None if needed && !["rn", "rz", "rm", "rp"].iter().any(|round| has(parts, round)) => {
            Err(format!("{}: a rounding or .approx is needed", parts.opcode))
        }
        None => Ok(Precision::Rounded),
    }
}

fn has(parts: &Parts, name: &str) -> bool {
    parts.opcode.split('.').any(|part| part == name)
}

/// The modifiers of the mode; those not allowed stay and become errors.
fn mode(parts: &mut Parts, precision: Precision, allowed: &[&str]) -> Result<Mode, Reason> {
    let rounds = precision == Precision::Rounded
        && (allowed.contains(&"round") || matches!(parts.name, "div" | "rcp" | "sqrt"));
    let mut take = |name: &str| allowed.contains(&name) && parts.take(name);
    let (ftz, sat, relu, nan) = (take("ftz"), take("sat"), take("relu"), take("NaN"));
    // Either alone stays in the opcode and is an error.
    let xorsign = allowed.contains(&"xorsign") && has(parts, "abs") && parts.take("xorsign");
    if xorsign {
        parts.take("abs");
    }
    let round = if rounds { parts.round().unwrap_or_default() } else { Round::Near };
    Ok(Mode { round, ftz, sat, relu, nan, xorsign })
}

/// Halves know only `.rn`; `.relu` is for halves and goes without `.sat`; doubles have none of these.
fn check_half(parts: &Parts, ty: Type, mode: Mode) -> Result<(), Reason> {
    let half = matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2);
    let wrong = (half && mode.round != Round::Near)
        || (!half && mode.relu)
        || (ty == Type::F64 && (mode.ftz || mode.sat || mode.nan || mode.xorsign))
        || (mode.sat && mode.relu)
        || (matches!(ty, Type::Bf16 | Type::Bf16x2) && (mode.ftz || mode.sat));
    if wrong { Err(format!("{}: these modifiers do not go with {ty:?}", parts.opcode)) } else { Ok(()) }
}
