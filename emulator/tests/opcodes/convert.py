"""cvt between all types: what the manual's table and notes say about rounding, saturation and NaN."""

import itertools
from fractions import Fraction

from cases import File, exactly, number
from floats import KINDS, spelled
from integers import clamp, columns, value, width
from softfloat import FORMATS, INFINITE, NAN, numbers, rectified, saturated, to_integral

INTEGERS = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"]
FLOATS = ["f16", "bf16", "f32", "f64"]
ROUNDS = ["rn", "rz", "rm", "rp"]
INTEGRAL = ["rni", "rzi", "rmi", "rpi"]


def kind(ty):
    return KINDS.get(ty) or {"8": "h", "16": "h", "32": "w", "64": "l"}[ty.lstrip("usbf")]


def covers(wide, narrow):
    """Does a type hold every value of the other?"""
    low, high = (clamp(narrow, sign * 2**70) for sign in (-1, 1))
    return clamp(wide, low) == low and clamp(wide, high) == high


class Convert:
    def __init__(self):
        self.file = File("convert")

    def operands(self, ty):
        """Floats: special ones, those around the bounds of integer types, halves between integers."""
        if ty in INTEGERS:
            column = columns(width(ty), 1, "convert")[0]
            return self.file.inputs(ty.replace("s", "u"), kind(ty), [column]), column
        fmt = FORMATS[ty]
        column = numbers(fmt, 28, "convert")
        for bits in (7, 8, 15, 16, 31, 32, 63, 64):
            bound = fmt.encode((0, Fraction(2) ** bits))
            column += [bound, bound - (1 << fmt.padding), bound | fmt.sign]
        for quarters in (1, 2, 3, 5, 6, 10, 14, 254, 511, 1021, 1022, 513):
            column.append(fmt.encode((quarters % 3 % 2, Fraction(quarters, 4))))
        return self.file.inputs(ty, kind(ty), [column]), column

    def add(self, opcode, inputs, kinds, results, code="@OP $d0, $a0"):
        self.file.add(opcode, code, inputs, kinds, results)

    def integers(self):
        for to, source in itertools.product(INTEGERS, INTEGERS):
            inputs, column = self.operands(source)
            for sat in ("", "sat"):
                if sat and covers(to, source):
                    continue
                values = [value(source, bits) for bits in column]
                values = [clamp(to, v) if sat else v for v in values]
                self.integer_results(spelled("cvt", sat, to, source), inputs, to, values, sat == "")
            if kind(source) != "l" and not covers(to, source):
                # A register wider than the source: its low bits count.
                wide, bits = self.operands("u64")
                low = [value(source, x) for x in bits]
                self.add(spelled("cvt", to, source), wide, kind(to), [exactly([value(to, v) & (1 << max(width(to), 16)) - 1 for v in low])])

    def integer_results(self, opcode, inputs, to, values, extended):
        """In a register wider than the type the result is extended by its sign."""
        for k, bits in (("h", 16), ("w", 32), ("l", 64)):
            if bits >= width(to) and (extended or k == kind(to)):
                wrapped = [value(to, v) & (1 << bits) - 1 for v in values]
                self.add(opcode, inputs, k, [exactly(wrapped)])

    def from_integers(self):
        for to, source in itertools.product(FLOATS, INTEGERS):
            fmt = FORMATS[to]
            inputs, column = self.operands(source)
            for mode, ftz, sat in itertools.product(ROUNDS, ["", "ftz"] if to == "f32" else [""], ["", "sat"]):
                exact = [(int(v < 0), Fraction(abs(v))) for v in (value(source, bits) for bits in column)]
                exact = [saturated(v) for v in exact] if sat else exact
                results = [exactly([fmt.encode(v, mode) for v in exact])]
                self.add(spelled("cvt", mode, ftz, sat, to, source), inputs, kind(to), results)

    def to_integers(self):
        """They saturate by themselves. NaN: 0, but the lowest number (or 2^63) where f64 or 64 bits take part."""
        for source, to in itertools.product(FLOATS, INTEGERS):
            fmt = FORMATS[source]
            inputs, column = self.operands(source)
            for mode, ftz, sat in itertools.product(INTEGRAL, ["", "ftz"] if source == "f32" else [""], ["", "sat"]):
                values = []
                for bits in column:
                    sign, size = to_integral(fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits), mode)
                    if size == NAN:
                        indefinite = source == "f64" or width(to) == 64
                        values.append(1 << width(to) - 1 if indefinite else 0)
                    else:
                        size = 2**200 if size == INFINITE else int(size)
                        values.append(clamp(to, -size if sign else size))
                self.integer_results(spelled("cvt", mode, ftz, sat, to, source), inputs, to, values, False)

    def floats(self):
        for source, to in itertools.product(FLOATS, FLOATS):
            wider = source == to or to == "f64" or (to == "f32" and source in ("f16", "bf16"))
            ftzs = ["", "ftz"] if "f32" in (source, to) else [""]
            for mode, ftz, sat in itertools.product(([""] if wider else []) + ROUNDS, ftzs, ["", "sat"]):
                self.between(spelled("cvt", mode, ftz, sat, to, source), source, to, mode or "rn", ftz, sat)
            if source == to:
                for mode, ftz, sat in itertools.product(INTEGRAL, ftzs, ["", "sat"]):
                    self.between(spelled("cvt", mode, ftz, sat, to, source), source, to, mode, ftz, sat)
        for to in ("f16", "bf16"):
            for mode in ("rn", "rz"):
                self.between(f"cvt.{mode}.relu.{to}.f32", "f32", to, mode, "", "relu")
                for relu in ("", "relu"):
                    self.pairs(spelled("cvt", mode, relu, to + "x2", "f32"), to, mode, relu)
        self.between("cvt.rna.tf32.f32", "f32", "tf32", "rna", "", "")
        for mode, relu in itertools.product(("rn", "rz"), ("", "relu")):
            self.between(spelled("cvt", mode, relu, "tf32", "f32"), "f32", "tf32", mode, "", relu)

    def one(self, bits, source, to, mode, ftz, sat):
        fmt, target = FORMATS[source], FORMATS[to]
        result = fmt.decode(bits)
        result = fmt.flush(result) if ftz and source == "f32" else result
        result = to_integral(result, mode) if mode in INTEGRAL else result
        result = saturated(result) if sat == "sat" else rectified(result) if sat == "relu" else result
        return target.encode(result, "rn" if mode in INTEGRAL else mode, ftz and to == "f32")

    def between(self, opcode, source, to, mode, ftz, sat):
        inputs, column = self.operands(source)
        values = [self.one(bits, source, to, mode, ftz, sat) for bits in column]
        target = "w" if to == "tf32" else kind(to)
        self.add(opcode, inputs, target, [number(FORMATS[to], values)])

    def pairs(self, opcode, to, mode, relu):
        column = self.operands("f32")[1]
        inputs = self.file.inputs("f32 pairs", "ww", [column, column[5:] + column[:5]])
        low = [self.one(bits, "f32", to, mode, "", relu) for bits in column]
        results = [number(FORMATS[to], v) for v in (low[5:] + low[:5], low)]
        self.add(opcode, inputs, "hh", results, "@OP %w0, $a0, $a1; @mov.b32 {$d0, $d1}, %w0")

    def packs(self):
        """Saturated and put side by side, below what $a2 holds."""
        for ty in ("u16", "s16", "u8", "s8"):
            a, b, c = columns(32, 3, "pack")
            a[40:] = [(x - 200) * (x % 7) * 5 & 0xFFFFFFFF for x in range(188, 212)]
            inputs = self.file.inputs("pack", "www", [a, b, c])
            low = lambda bits: clamp(ty, value("s32", bits)) & (1 << width(ty)) - 1
            both = [low(x) << width(ty) | low(y) for x, y in zip(a, b)]
            if width(ty) == 16:
                self.add(f"cvt.pack.sat.{ty}.s32", inputs, "w", [exactly(both)], "@OP $d0, $a0, $a1")
            else:
                whole = [(z << 16 | x) & 0xFFFFFFFF for x, z in zip(both, c)]
                self.add(f"cvt.pack.sat.{ty}.s32.b32", inputs, "w", [exactly(whole)], "@OP $d0, $a0, $a1, $a2")

    def all(self):
        self.integers()
        self.from_integers()
        self.to_integers()
        self.floats()
        self.packs()
        return self.file


def file():
    return Convert().all()
