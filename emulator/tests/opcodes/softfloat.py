"""Binary floating point by exact fractions: every result is computed exactly and rounded once."""

import random
from fractions import Fraction
from math import isqrt

INFINITE = "infinite"
NAN = "NaN"


class Format:
    """Widths of the fields; `padding` zero bits below the mantissa (tf32 lies in 32 bits)."""

    def __init__(self, name, exponent, mantissa, padding=0, nan=None):
        self.name, self.exponent, self.mantissa, self.padding = name, exponent, mantissa, padding
        self.width = 1 + exponent + mantissa + padding
        self.bias = (1 << (exponent - 1)) - 1
        self.sign = 1 << (self.width - 1)
        self.infinity = ((1 << exponent) - 1) << (mantissa + padding)
        self.nan = self.sign - 1 if nan is None else nan
        self.least = Fraction(2) ** (1 - self.bias)

    def decode(self, bits):
        """(sign, size): the size is a fraction, INFINITE or NAN. Padding counts: tf32 is read as f32."""
        low = self.mantissa + self.padding
        fraction = bits & ((1 << low) - 1)
        exponent = bits >> low & ((1 << self.exponent) - 1)
        sign = bits >> (self.width - 1) & 1
        if exponent == (1 << self.exponent) - 1:
            return sign, NAN if fraction else INFINITE
        if exponent == 0:
            return sign, fraction * Fraction(2) ** (1 - self.bias - low)
        return sign, (fraction + (1 << low)) * Fraction(2) ** (exponent - self.bias - low)

    def encode(self, value, mode="rn", ftz=False):
        """Rounds into the format; subnormal results become zeros of their sign if `ftz`."""
        sign, size = value
        top = self.sign if sign else 0
        if size == NAN:
            return self.nan
        if size == INFINITE:
            return top | self.infinity
        if size == 0:
            return top
        exponent = max(floor_log2(size), 1 - self.bias)
        units = size / Fraction(2) ** (exponent - self.mantissa)
        kept, rest = divmod(units.numerator, units.denominator)
        half = 2 * rest - units.denominator
        kept += {
            "rn": half > 0 or (half == 0 and kept & 1),
            "rna": half >= 0,
            "rz": False,
            "rm": sign and rest > 0,
            "rp": not sign and rest > 0,
        }[mode]
        bits = (exponent + self.bias - 1 << self.mantissa) + kept
        if bits >= self.infinity >> self.padding:
            away = mode in ("rn", "rna") or (mode == "rm" and sign) or (mode == "rp" and not sign)
            bits = (self.infinity >> self.padding) - (not away)
        if ftz and bits < 1 << self.mantissa:
            bits = 0
        return top | bits << self.padding

    def flush(self, value):
        """Subnormals to zeros of their sign."""
        sign, size = value
        return (sign, Fraction(0)) if size not in (NAN, INFINITE) and size < self.least else value


F16 = Format("f16", 5, 10)
BF16 = Format("bf16", 8, 7)
TF32 = Format("tf32", 8, 10, 13)
F32 = Format("f32", 8, 23)
F64 = Format("f64", 11, 52, nan=0x7FF8_0000_0000_0000)
FORMATS = {f.name: f for f in (F16, BF16, TF32, F32, F64)}


def floor_log2(size):
    guess = size.numerator.bit_length() - size.denominator.bit_length()
    return guess if size >= Fraction(2) ** guess else guess - 1


def negate(value):
    return 1 - value[0], value[1]


def signed(value):
    return -value[1] if value[0] else value[1]


def add(a, b, mode="rn"):
    """The exact sum; the sign of a zero depends on the rounding."""
    if NAN in (a[1], b[1]):
        return 0, NAN
    if INFINITE in (a[1], b[1]):
        if a[1] == b[1]:
            return a if a[0] == b[0] else (0, NAN)
        return a if a[1] == INFINITE else b
    total = signed(a) + signed(b)
    if total == 0:
        return (a[0] if a[0] == b[0] else int(mode == "rm")), Fraction(0)
    return int(total < 0), abs(total)


def multiply(a, b):
    sign = a[0] ^ b[0]
    if NAN in (a[1], b[1]) or (INFINITE in (a[1], b[1]) and 0 in (a[1], b[1])):
        return 0, NAN
    return (sign, INFINITE) if INFINITE in (a[1], b[1]) else (sign, a[1] * b[1])


def divide(a, b):
    sign = a[0] ^ b[0]
    if NAN in (a[1], b[1]) or (a[1] == b[1] and a[1] in (0, INFINITE)):
        return 0, NAN
    if a[1] == INFINITE or b[1] == 0:
        return sign, INFINITE
    return (sign, Fraction(0)) if b[1] == INFINITE else (sign, a[1] / b[1])


def square_root(a):
    """The root to 300 bits, and half a unit more if it isn't exact: enough to round as the root itself."""
    if a[1] == NAN or (a[0] and a[1] != 0):
        return 0, NAN
    if a[1] in (0, INFINITE):
        return a
    shift = 600 + 2 * max(0, -floor_log2(a[1]))
    scaled = a[1] * Fraction(2) ** shift
    whole = scaled.numerator // scaled.denominator
    root = isqrt(whole)
    exact = root * root == whole and scaled.denominator == 1
    return 0, (Fraction(root) + (0 if exact else Fraction(1, 2))) / Fraction(2) ** (shift // 2)


def to_integral(value, mode):
    sign, size = value
    if size in (NAN, INFINITE):
        return value
    whole, rest = divmod(size.numerator, size.denominator)
    half = 2 * rest - size.denominator
    whole += {
        "rni": half > 0 or (half == 0 and whole & 1),
        "rzi": False,
        "rmi": sign and rest > 0,
        "rpi": not sign and rest > 0,
    }[mode]
    return sign, Fraction(whole)


def saturated(value):
    """Clamped to [0, 1]; NaN and every negative number become +0."""
    sign, size = value
    if size == NAN or sign:
        return 0, Fraction(0)
    return 0, Fraction(1) if size == INFINITE else min(size, Fraction(1))


def rectified(value):
    return (0, Fraction(0)) if value[0] and value[1] != NAN else value


def special(f):
    """Bits at the edges of a format."""
    one = f.bias << f.mantissa
    size = f.infinity >> f.padding
    values = [0, one, size, size - 1, 1, (1 << f.mantissa) - 1, 1 << f.mantissa, one + 1, one - 1,
              one + (1 << f.mantissa), one + (1 << f.mantissa - 1), one - (1 << f.mantissa)]
    return [v << f.padding | s for v in values for s in (0, f.sign)] + [f.infinity | 1 << f.padding, f.nan, f.nan | f.sign]


def numbers(f, count, seed):
    """The special values, then drawn ones: half of them near 1, half with any bits."""
    draw = random.Random(f"{f.name} {seed}")
    values = special(f)[:count]
    while len(values) < count:
        bits = draw.getrandbits(f.width) >> f.padding << f.padding
        if draw.random() < 0.5:
            near = f.bias + draw.randint(-3, 3) << f.mantissa + f.padding
            bits = bits & (f.sign | (1 << f.mantissa + f.padding) - 1) | near
        values.append(bits)
    return values


def tuples(f, arity, count, seed):
    """Columns of operands: pairs of edges first, then sums and products that cancel, tie and underflow."""
    draw = random.Random(f"{f.name} {arity} {seed}")
    edges = special(f)
    core = [edges[0], edges[1], edges[2], edges[3], edges[4], edges[5], f.nan, edges[8]]
    rows = [(a, b) + tuple(draw.choice(edges) for _ in range(arity - 2)) for a in core for b in core]
    unit = 1 << f.padding
    pool = numbers(f, 4 * count, seed)
    while len(rows) < count:
        a, b = draw.choice(pool), draw.choice(pool)
        kind = draw.randrange(5)
        if kind == 0:  # nearly the same, so that differences cancel
            b = a ^ f.sign ^ draw.randrange(4) * unit
        elif kind == 1:  # far smaller, so that sums round
            low = f.mantissa + f.padding
            exponent = max((a >> low & (1 << f.exponent) - 1) - f.mantissa - draw.randint(-1, 2), 0)
            b = b & (f.sign | (1 << low) - 1 if draw.random() < 0.5 else f.sign) | exponent << low
        elif kind == 2:  # products around the least normal number
            a = draw.choice(pool) & (f.sign | f.infinity >> 1 | (1 << f.mantissa + f.padding) - 1)
        rest = []
        for _ in range(arity - 2):
            exact = f.encode(negate(multiply(f.decode(a), f.decode(b))))
            rest.append(draw.choice([draw.choice(pool), exact ^ draw.randrange(2) * unit, draw.choice(edges)]))
        rows.append((a, b) + tuple(rest))
    return [list(column) for column in zip(*rows[:count])]
