"""Floating-point arithmetic, rounded once from the exact result, and the approximations with the errors that the
manual allows them."""

import itertools
import math
import struct
from fractions import Fraction

from cases import File, exactly, number
from softfloat import (BF16, F16, F32, F64, FORMATS, INFINITE, NAN, add, divide, multiply, negate, numbers, rectified,
                       saturated, square_root, tuples)

COUNT = 96
ROUNDS = ["rn", "rz", "rm", "rp"]
KINDS = {"f16": "h", "bf16": "h", "f32": "w", "f64": "l"}
HALVES = ["f16", "bf16"]


def modifiers(*choices):
    """All combinations of modifiers, each given by its alternatives ("" is none)."""
    return itertools.product(*choices)


def spelled(*parts):
    return ".".join(part for part in parts if part)


def packed(column):
    """Pairs of neighbours: every value once in each half."""
    return [low | high << 16 for low, high in zip(column, column[1:] + column[:1])]


class Floats:
    def __init__(self):
        self.file = File("float")

    def run(self, name, types, arity, f, exact=True):
        """An instruction of several operands: `f` takes decoded operands, gives bits. Halves also in pairs."""
        for ty in types:
            fmt = FORMATS[ty]
            columns = tuples(fmt, arity, COUNT, "arithmetic") if arity > 1 else [numbers(fmt, 64, "arithmetic")]
            self.emit(f"{name}.{ty}", ty, columns, lambda row: f(fmt, row), exact and ty != "f64")
            if ty in HALVES:
                self.emit_packed(f"{name}.{ty}x2", ty, columns, lambda row: f(fmt, row), exact)

    def emit(self, opcode, ty, columns, f, exact):
        inputs = self.file.inputs(f"{ty} {len(columns)} {len(columns[0])}", KINDS[ty] * len(columns), columns)
        values = [f(row) for row in zip(*columns)]
        code = "@OP $d0, " + ", ".join(f"$a{i}" for i in range(len(columns)))
        self.file.add(opcode, code, inputs, [KINDS[ty]], [exactly(values) if exact else number(FORMATS[ty], values)])

    def emit_packed(self, opcode, ty, columns, f, exact):
        inputs = self.file.inputs(f"{ty}x2 {len(columns)}", "w" * len(columns), [packed(c) for c in columns])
        low = [f(row) for row in zip(*columns)]
        results = [exactly(v) if exact else number(FORMATS[ty], v) for v in (low, low[1:] + low[:1])]
        code = "@OP %w0, " + ", ".join(f"$a{i}" for i in range(len(columns))) + "; @mov.b32 {$d0, $d1}, %w0"
        self.file.add(opcode, code, inputs, ["h", "h"], results)

    def sums(self):
        operations = [
            ("add", 2, lambda v, mode: add(*v, mode)),
            ("sub", 2, lambda v, mode: add(v[0], negate(v[1]), mode)),
            ("mul", 2, lambda v, mode: multiply(*v)),
            ("fma", 3, lambda v, mode: add(multiply(v[0], v[1]), v[2], mode)),
            ("mad", 3, lambda v, mode: add(multiply(v[0], v[1]), v[2], mode)),
        ]
        for name, arity, f in operations:
            def computed(fmt, row, mode, ftz, sat):
                operands = [fmt.decode(bits) for bits in row]
                result = f([fmt.flush(x) for x in operands] if ftz else operands, mode or "rn")
                result = saturated(result) if sat == "sat" else rectified(result) if sat == "relu" else result
                return fmt.encode(result, mode or "rn", ftz)

            default = [""] if arity == 2 else []
            for mode, ftz, sat in modifiers(default + ROUNDS, ["", "ftz"], ["", "sat"]):
                run = lambda fmt, row: computed(fmt, row, mode, ftz, sat)
                self.run(spelled(name, mode, ftz, sat), ["f32"] + ["f64"] * (not ftz and not sat), arity, run)
            if name == "mad":
                continue
            for mode, ftz, sat in modifiers(default + ["rn"], ["", "ftz"], ["", "sat", "relu"]):
                if sat == "relu" and name != "fma":
                    continue
                types = ["f16"] + ["bf16"] * (not ftz and sat != "sat")
                self.run(spelled(name, mode, ftz, sat), types, arity, lambda fmt, row: computed(fmt, row, mode, ftz, sat))

    def quotients(self):
        one = (0, Fraction(1))
        operations = [
            ("div", 2, lambda v: divide(*v)),
            ("rcp", 1, lambda v: divide(one, *v)),
            ("sqrt", 1, lambda v: square_root(*v)),
        ]
        for name, arity, f in operations:
            for mode, ftz in modifiers(ROUNDS, ["", "ftz"]):
                def computed(fmt, row):
                    operands = [fmt.decode(bits) for bits in row]
                    return fmt.encode(f([fmt.flush(x) for x in operands] if ftz else operands), mode, ftz)

                self.run(spelled(name, mode, ftz), ["f32"] + ["f64"] * (not ftz), arity, computed)

    def extremes(self):
        for name, nan, ftz, xorsign in modifiers(["min", "max"], ["", "NaN"], ["", "ftz"], ["", "xorsign.abs"]):
            def computed(fmt, row):
                a, b = (fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits) for bits in row)
                sign = a[0] ^ b[0]
                if xorsign:
                    a, b = (0, a[1]), (0, b[1])
                if a[1] == NAN or b[1] == NAN:
                    both = nan or a[1] == b[1]
                    result = (0, NAN) if both else b if a[1] == NAN else a
                else:
                    # -0 is below +0.
                    order = lambda v: ((-1 if v[0] else 1) * (Fraction(10**1000) if v[1] == INFINITE else v[1]), -v[0])
                    result = (min if name == "min" else max)(a, b, key=order)
                if xorsign and result[1] != NAN:
                    result = sign, result[1]
                return fmt.encode(result, "rn", ftz)

            plain = ["f64"] * (not (nan or ftz or xorsign))
            types = ["f32", "f16"] + ["bf16"] * (not ftz) + plain
            self.run(spelled(name, ftz, nan, xorsign), types, 2, computed)

    def signs(self):
        """The sign of a NaN is not specified."""
        for ftz in ("", "ftz"):
            types = ["f32", "f16"] + ["f64", "bf16"] * (not ftz)
            flushed = lambda fmt, bits: fmt.encode(fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits))
            self.run(spelled("neg", ftz), types, 1, lambda fmt, row: flushed(fmt, row[0]) ^ fmt.sign, exact=False)
            self.run(spelled("abs", ftz), types, 1, lambda fmt, row: flushed(fmt, row[0]) & ~fmt.sign, exact=False)
        for ty in ("f32", "f64"):
            fmt = FORMATS[ty]
            columns = tuples(fmt, 2, COUNT, "arithmetic")
            self.emit(f"copysign.{ty}", ty, columns, lambda row: row[0] & fmt.sign | row[1] & ~fmt.sign, True)

    def tests(self):
        for ty in ("f32", "f64"):
            fmt = FORMATS[ty]
            column = numbers(fmt, 64, "arithmetic")
            inputs = self.file.inputs(f"{ty} 1 64", KINDS[ty], [column])
            normal = lambda size: size not in (NAN, INFINITE) and (size == 0 or size >= fmt.least)
            tests = {
                "finite": lambda size: size not in (NAN, INFINITE),
                "infinite": lambda size: size == INFINITE,
                "number": lambda size: size != NAN,
                "notanumber": lambda size: size == NAN,
                "normal": normal,
                "subnormal": lambda size: size not in (NAN, INFINITE) and not normal(size),
            }
            for test, f in tests.items():
                holds = [int(f(fmt.decode(bits)[1])) for bits in column]
                self.file.add(f"testp.{test}.{ty}", "@OP $d0, $a0", inputs, "p", [exactly(holds)])


def bits64(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def near(fmt, absolute, relative, values):
    return f"~ {fmt.name} {absolute!r} {relative!r} " + " ".join(f"{bits64(value):x}" for value in values)


def as_float(value):
    sign, size = value
    size = math.nan if size == NAN else math.inf if size == INFINITE else float(size)
    return -size if sign else size


def file():
    floats = Floats()
    floats.sums()
    floats.quotients()
    floats.extremes()
    floats.signs()
    floats.tests()
    return floats.file
