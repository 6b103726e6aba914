"""The approximations: the exact value and the error that the manual allows."""

import math
from fractions import Fraction

from cases import File, exactly
from floats import KINDS, as_float, near, packed, spelled
from softfloat import BF16, F16, F32, F64, FORMATS, INFINITE, NAN, divide, numbers, square_root, tuples

TINY = 2.0**-148


def settled(fmt, x, ftz):
    """Where the result is beyond the format's range it is infinite, and with .ftz below it a zero."""
    if math.isnan(x) or math.isinf(x) or x == 0:
        return x
    size = fmt.encode((0, Fraction(abs(x)))) & ~fmt.sign
    if size == fmt.infinity:
        return math.copysign(math.inf, x)
    return math.copysign(0.0, x) if ftz and abs(x) < fmt.least else x


def real(f, x):
    """A function of math, with NaN outside of its domain."""
    try:
        return f(x)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def lg2(x):
    return -math.inf if x == 0 else real(math.log2, x)


def ex2(x):
    return real(lambda x: 2.0**x, x)


def rsqrt(x):
    return math.copysign(math.inf, x) if x == 0 else real(lambda x: 1 / math.sqrt(x), x)


def reciprocal(x):
    return math.copysign(math.inf, x) if x == 0 else 1 / x


def unary(file):
    inside = [bits for bits in numbers(F32, 400, "angles") if abs(as_float(F32.decode(bits))) < 6.28][:64]
    rest = [F32.encode((i % 2, Fraction(i * 49, 100))) for i in range(64 - len(inside))]
    plain = numbers(F32, 128, "approximations")
    small = [F32.encode((i % 2, Fraction(i * i, 77))) for i in range(32)] + [0, 0x80000000, F32.nan, F32.infinity]
    small += [F32.infinity | F32.sign] + numbers(F32, 64, "exponents")[37:64]
    functions = [
        ("rcp", reciprocal, plain, 2.0**-149, 2.0**-23),
        ("sqrt", lambda x: x if x == 0 else real(math.sqrt, x), plain, 0.0, 2.0**-23),
        ("rsqrt", rsqrt, plain, 0.0, 2.0**-22.9),
        ("sin", lambda x: x if x == 0 else real(math.sin, x), inside + rest, 2.0**-20.5, 0.0),
        ("cos", lambda x: real(math.cos, x), inside + rest, 2.0**-20.5, 0.0),
        ("ex2", ex2, small, TINY, 2.0**-22),
        ("tanh", math.tanh, plain, 0.0, 2.0**-11),
    ]
    for name, f, column, absolute, relative in functions:
        for ftz in ("", "ftz") if name != "tanh" else ("",):
            inputs = file.inputs(f"f32 {name}", "w", [column])
            decoded = [F32.decode(bits) for bits in column]
            exact = [settled(F32, f(as_float(F32.flush(x) if ftz else x)), ftz) for x in decoded]
            file.add(spelled(name, "approx", ftz, "f32"), "@OP $d0, $a0", inputs, "w", [near(F32, absolute, relative, exact)])
    logarithms(file, plain)
    for ty, bound in (("f16", 2.0**-10.987), ("bf16", 2.0**-8)):
        halves(file, spelled("tanh", "approx", ty), ty, math.tanh, bound, 0.0, "")
    halves(file, "ex2.approx.f16", "f16", ex2, 2.0**-24, 2.0**-9.9, "")
    halves(file, "ex2.approx.ftz.bf16", "bf16", ex2, TINY, 2.0**-7, "ftz")


def logarithms(file, column):
    """2^-22 absolute between 1/2 and 2, else relative."""
    for ftz in ("", "ftz"):
        values = [as_float(F32.flush(F32.decode(bits)) if ftz else F32.decode(bits)) for bits in column]
        for part, inside in (("near 1", True), ("elsewhere", False)):
            chosen = [bits for bits, x in zip(column, values) if (0.5 < x < 2) == inside]
            chosen = (chosen * 32)[: 32 * max(1, len(chosen) // 32)]
            inputs = file.inputs(spelled("f32 lg2", part, ftz), "w", [chosen])
            exact = [lg2(as_float(F32.flush(F32.decode(bits)) if ftz else F32.decode(bits))) for bits in chosen]
            bounds = (2.0**-22, 0.0) if inside else (0.0, 2.0**-22)
            file.add(spelled("lg2.approx", ftz, "f32"), "@OP $d0, $a0", inputs, "w", [near(F32, *bounds, exact)])


def halves(file, opcode, ty, f, absolute, relative, ftz):
    fmt = FORMATS[ty]
    column = numbers(fmt, 64, "approximations")
    decoded = [fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits) for bits in column]
    exact = [settled(fmt, f(as_float(x)), ftz) for x in decoded]
    inputs = file.inputs(f"{ty} 1", "h", [column])
    file.add(opcode, "@OP $d0, $a0", inputs, "h", [near(fmt, absolute, relative, exact)])
    inputs = file.inputs(f"{ty}x2 1", "w", [packed(column)])
    results = [near(fmt, absolute, relative, values) for values in (exact, exact[1:] + exact[:1])]
    file.add(opcode + "x2", "@OP %w0, $a0; @mov.b32 {$d0, $d1}, %w0", inputs, "hh", results)


def division(file):
    """div.approx is not specified for subnormal divisors; beyond 2^126 it gives zeros, NaN for infinities."""
    a, b = tuples(F32, 2, 128, "quotients")
    b = [0x3F800000 if 0 < bits & 0x7FFFFFFF < 0x800000 else bits for bits in b]
    b[100:104], a[100:104] = [0x7E800001, 0xFF000000, 0x7E800000, 0x7F7FFFFF], [0x40000000, 0x7F7FFFFF, 0x3F800000, 0x7F800000]
    inputs = file.inputs("f32 quotients", "ww", [a, b])
    for ftz in ("", "ftz"):
        for name in ("approx", "full"):
            exact = []
            for row in zip(a, b):
                x, y = (F32.flush(F32.decode(bits)) if ftz else F32.decode(bits) for bits in row)
                if name == "approx" and y[1] not in (NAN, INFINITE) and y[1] > 2**126 and x[1] != NAN:
                    exact.append(math.nan if x[1] == INFINITE else (-0.0 if x[0] ^ y[0] else 0.0))
                else:
                    exact.append(settled(F32, as_float(divide(x, y)), ftz))
            file.add(spelled("div", name, ftz, "f32"), "@OP $d0, $a0, $a1", inputs, "w", [near(F32, TINY, 2.0**-22, exact)])


def doubles(file):
    """The f64 forms: with .ftz only the upper word counts, and the lower word of the result is 0."""
    column = numbers(F64, 64, "approximations")
    column = [bits & ~(0xF << 28) if i % 2 else bits for i, bits in enumerate(column)]
    column = [bits for bits in column if not (bits >> 52 & 0x7FF == 0 and bits << 12 & 2**64 - 1 and bits >> 32 & 0xFFFFF == 0)]
    column = (column + column)[:64]
    inputs = file.inputs("f64 1", "l", [column])
    code = "@OP $d0, $a0"
    exact = [rsqrt(as_float(F64.decode(bits))) for bits in column]
    file.add("rsqrt.approx.f64", code, inputs, "l", [near(F64, 0.0, 2.0**-48, exact)])
    for name, f in (("rcp", reciprocal), ("rsqrt", rsqrt)):
        upper = [bits >> 32 << 32 for bits in column]
        # A NaN with nothing in the upper word counts as one all the same.
        upper = [F64.nan if F64.decode(bits)[1] == NAN else up for bits, up in zip(column, upper)]
        exact = [settled(F64, f(as_float(F64.flush(F64.decode(bits)))), True) for bits in upper]
        results = [near(F64, 0.0, 2.0**-19, exact), exactly([0] * 64)]
        file.add(f"{name}.approx.ftz.f64", code + "; @mov.b64 {$d1, %w1}, $d0", inputs, "lw", results)


def file():
    result = File("approximation")
    unary(result)
    division(result)
    doubles(result)
    return result
