"""A second opinion on softfloat.py: numpy's rounding to nearest, and the other directions from its neighbours."""

import numpy

from softfloat import F16, F32, F64, add, divide, multiply, square_root, tuples

TYPES = {"f16": (numpy.float16, numpy.uint16), "f32": (numpy.float32, numpy.uint32), "f64": (numpy.float64, numpy.uint64)}


def same(fmt, bits, other):
    nan = lambda x: x & ~fmt.sign > fmt.infinity
    return bits == other or (nan(bits) and nan(other))


def check():
    for fmt in (F16, F32, F64):
        real, whole = TYPES[fmt.name]
        a, b = tuples(fmt, 2, 2000, "second opinion")
        x, y = (numpy.array(column, dtype=whole).view(real) for column in (a, b))
        with numpy.errstate(all="ignore"):
            theirs = {"add": x + y, "multiply": x * y, "divide": x / y, "root": numpy.sqrt(x)}
        ours = {"add": add, "multiply": multiply, "divide": divide, "root": lambda x, y: square_root(x)}
        for name, values in theirs.items():
            for p, q, other in zip(a, b, values.view(whole)):
                exact = ours[name](fmt.decode(p), fmt.decode(q))
                bits = fmt.encode(exact)
                assert same(fmt, bits, int(other)), (fmt.name, name, hex(p), hex(q), hex(bits), hex(int(other)))
                enclosed(fmt, exact, bits)
        converted(fmt, a, x)


def enclosed(fmt, exact, nearest):
    """Down <= nearest <= up, at most a unit apart; towards zero is one of them."""
    key = lambda bits: -(bits & ~fmt.sign) if bits & fmt.sign else bits
    down, up, zero = (fmt.encode(exact, mode) for mode in ("rm", "rp", "rz"))
    if nearest & ~fmt.sign <= fmt.infinity:
        assert key(down) <= key(nearest) <= key(up) and key(up) - key(down) <= 1 and zero in (down, up)
        assert abs(key(zero)) == min(abs(key(down)), abs(key(up)))


def converted(fmt, a, x):
    for target in (F16, F32):
        real, whole = TYPES[target.name]
        with numpy.errstate(all="ignore"):
            theirs = x.astype(real).view(whole)
        for bits, other in zip(a, theirs):
            assert same(target, target.encode(fmt.decode(bits)), int(other)), (fmt.name, target.name, hex(bits))
