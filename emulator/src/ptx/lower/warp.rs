//! Instructions that look across the lanes of a warp.

use super::operands::arity;
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{AtomicOp, Op, Shuffle, Type, Vote};

impl<'a> Lowering<'a, '_> {
    /// `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.
    pub fn warp(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        if parts.name == "activemask" {
            let [dst] = arity(parts.operands)?;
            parts.ty("b32")?;
            let dst = self.destination(dst, Type::U32)?;
            self.emit(Op::ActiveMask { dst });
            return Ok(());
        }
        parts.expect("sync")?;
        match parts.name {
            "shfl" => self.shuffle(parts),
            "vote" => self.vote(parts),
            "match" => self.matching(parts),
            "elect" => self.elect(parts),
            _ => self.redux(parts),
        }
    }

    fn shuffle(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, c, mask] = arity(parts.operands)?;
        let modes = [
            ("up", Shuffle::Up),
            ("down", Shuffle::Down),
            ("bfly", Shuffle::Butterfly),
            ("idx", Shuffle::Index),
        ];
        let mode = parts.require("mode", &modes)?;
        let ty = parts.ty("b32")?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (c, mask) = (self.source(c, ty)?, self.source(mask, ty)?);
        let (dst, found) = Self::pair(dst);
        let dst = self.destination(&dst, ty)?;
        let found = found.map(|found| self.predicate_destination(&found)).transpose()?;
        self.emit(Op::Shfl { mode, dst, found, a, b, c, mask });
        Ok(())
    }

    fn vote(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, src, mask] = arity(parts.operands)?;
        let modes =
            [("all", Vote::All), ("any", Vote::Any), ("uni", Vote::Uniform), ("ballot", Vote::Ballot)];
        let mode = parts.require("mode", &modes)?;
        let src = self.predicate(src)?;
        let mask = self.source(mask, Type::U32)?;
        let dst = if mode == Vote::Ballot {
            let ty = parts.ty("b32")?;
            self.destination(dst, ty)?
        } else {
            parts.expect("pred")?;
            self.predicate_destination(dst)?
        };
        self.emit(Op::Vote { mode, dst, src, mask });
        Ok(())
    }

    fn matching(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, mask] = arity(parts.operands)?;
        let all = parts.require("mode", &[("any", false), ("all", true)])?;
        let ty = parts.ty("b32 b64")?;
        let (a, mask) = (self.source(a, ty)?, self.source(mask, Type::U32)?);
        let (dst, found) = Self::pair(dst);
        if found.is_some() && !all {
            return Err("match.any has one result".to_owned());
        }
        let dst = self.destination(&dst, Type::U32)?;
        let found = found.map(|found| self.predicate_destination(&found)).transpose()?;
        self.emit(Op::Match { all, file: ty.file(), dst, found, a, mask });
        Ok(())
    }

    fn elect(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, mask] = arity(parts.operands)?;
        let mask = self.source(mask, Type::U32)?;
        let (dst, Some(found)) = Self::pair(dst) else {
            return Err("elect needs a register and a predicate".to_owned());
        };
        let dst = self.destination(&dst, Type::U32)?;
        let found = self.predicate_destination(&found)?;
        self.emit(Op::Elect { dst, found, mask });
        Ok(())
    }

    fn redux(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, mask] = arity(parts.operands)?;
        let operations = [
            ("add", (AtomicOp::Add, "u32 s32")),
            ("min", (AtomicOp::Min, "u32 s32")),
            ("max", (AtomicOp::Max, "u32 s32")),
            ("and", (AtomicOp::And, "b32")),
            ("or", (AtomicOp::Or, "b32")),
            ("xor", (AtomicOp::Xor, "b32")),
        ];
        let (op, types) = parts.require("operation", &operations)?;
        let ty = parts.ty(types)?;
        let (a, mask) = (self.source(a, ty)?, self.source(mask, Type::U32)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Redux { op, ty, dst, a, mask });
        Ok(())
    }
}
