"""mma and ldmatrix, lane by lane: the fragment tables of the PTX manual. Elements are small whole numbers, so that
every sum is exact whatever the order of additions."""

import random
from fractions import Fraction

from cases import File, exactly
from softfloat import BF16, F16, F32, TF32

# Row (of A, by element i) and column (of A), from group = lane / 4 and place = lane % 4; B: row and column.
LAYOUTS = {
    ("m16n8k4", 32): (
        lambda g, p, i: (g + 8 * (i == 1), p),
        lambda g, p, i: (p, g),
    ),
    ("m16n8k8", 32): (
        lambda g, p, i: (g if i in (0, 2) else g + 8, p if i in (0, 1) else p + 4),
        lambda g, p, i: (p if i == 0 else p + 4, g),
    ),
    ("m16n8k8", 16): (
        lambda g, p, i: (g if i < 2 else g + 8, 2 * p + (i & 1)),
        lambda g, p, i: (2 * p + i, g),
    ),
    ("m16n8k16", 16): (
        lambda g, p, i: (g if 0 <= i < 2 or 4 <= i < 6 else g + 8, 2 * p + (i & 1) + (0 if i < 4 else 8)),
        lambda g, p, i: (2 * p + (i & 1) + (0 if i < 2 else 8), g),
    ),
    ("m8n8k16", 8): (
        lambda g, p, i: (g, 4 * p + i),
        lambda g, p, i: (4 * p + i, g),
    ),
    ("m16n8k16", 8): (
        lambda g, p, i: (g if i < 4 else g + 8, 4 * p + (i & 3)),
        lambda g, p, i: (4 * p + i, g),
    ),
    ("m16n8k32", 8): (
        lambda g, p, i: (g if i < 4 or 8 <= i < 12 else g + 8, 4 * p + (i & 3) + (0 if i < 8 else 16)),
        lambda g, p, i: (4 * p + (i & 3) + (0 if i < 4 else 16), g),
    ),
}


def place_c(g, p, i):
    return (g if i < 2 else g + 8, 2 * p + (i & 1))


def sizes(shape):
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


FORMATS = {"f16": F16, "bf16": BF16, "tf32": TF32, "f32": F32}


def bits_of(ty, number):
    if ty in FORMATS:
        return FORMATS[ty].encode((int(number < 0), Fraction(abs(number))))
    return number & ((1 << int(ty[1:])) - 1)


def width(ty):
    return {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32}.get(ty) or int(ty[1:])


def words(matrix, ty, place, elements):
    """The registers of a fragment, column by column of the case file: registers, each of 32 lanes."""
    per = 32 // width(ty)
    registers = []
    for first in range(0, elements, per):
        lanes = []
        for lane in range(32):
            word = 0
            for e in range(per):
                row, column = place(lane // 4, lane % 4, first + e)
                word |= bits_of(ty, matrix[row][column]) << e * width(ty)
            lanes.append(word)
        registers.append(lanes)
    return registers


def product(a, b, c, clamp):
    m, n, k = len(a), len(b[0]), len(b)
    total = lambda i, j: c[i][j] + sum(a[i][l] * b[l][j] for l in range(k))
    bound = (lambda x: min(max(x, -(2**31)), 2**31 - 1)) if clamp else lambda x: x
    return [[bound(total(i, j)) for j in range(n)] for i in range(m)]


def mma(file, shape, a_ty, b_ty, c_ty, saturate):
    m, n, k = sizes(shape)
    place_a, place_b = LAYOUTS[shape, width(a_ty)]
    draw = random.Random(f"{shape} {a_ty} {b_ty} {c_ty}")
    limits = {"f16": (-9, 9), "bf16": (-99, 99), "tf32": (-999, 999), "u8": (0, 255), "s8": (-128, 127)}
    some = lambda rows, columns, ty: [[draw.randint(*limits[ty]) for _ in range(columns)] for _ in range(rows)]
    a, b = some(m, k, a_ty), some(k, n, b_ty)
    near = lambda: draw.choice([2**31 - 9, -(2**31) + 9, draw.randint(-(2**31), 2**31 - 1)])
    c = [[near() if c_ty == "s32" else draw.randint(-300, 300) for _ in range(n)] for _ in range(m)]
    columns = words(a, a_ty, place_a, m * k // 32)
    counts = [len(columns)]
    columns += words(b, b_ty, place_b, k * n // 32)
    counts.append(len(columns) - counts[0])
    c_words = words(c, c_ty, place_c, m * n // 32)
    columns += c_words
    opcode = f"mma.sync.aligned.{shape}.row.col{'.satfinite' if saturate else ''}.{c_ty}.{a_ty}.{b_ty}.{c_ty}"
    d = words(product(a, b, c, saturate), c_ty, place_c, m * n // 32)
    at, groups = 0, []
    for count in counts + [len(c_words)]:
        groups.append("{" + ", ".join(f"$a{at + i}" for i in range(count)) + "}")
        at += count
    results = "{" + ", ".join(f"$d{i}" for i in range(len(d))) + "}"
    inputs = file.inputs(f"{shape} {a_ty} {b_ty} {c_ty}", "w" * len(columns), columns)
    file.add(opcode, f"OP {results}, " + ", ".join(groups), inputs, "w" * len(d), [exactly(x) for x in d], True)


def ldmatrix(file):
    draw = random.Random("ldmatrix")
    rows = [[draw.getrandbits(32) for _ in range(32)] for _ in range(4)]
    order = list(range(32))
    draw.shuffle(order)
    inputs = file.inputs("rows", "wwwww", rows + [order])
    store = "st.shared.v4.b32 [%t], {$a0, $a1, $a2, $a3}; bar.warp.sync 0xffffffff; mov.u32 %w0, own; "
    store += "mad.lo.u32 %w0, $a4, 64, %w0; "
    for count in (1, 2, 4):
        for trans in ("", ".trans"):
            def half(matrix, row, column):
                word = rows[column // 2][order[8 * matrix + row]]
                return word >> 16 * (column % 2) & 0xFFFF

            results = []
            for matrix in range(count):
                lanes = []
                for lane in range(32):
                    g, p = lane // 4, lane % 4
                    low, high = ((2 * p, g), (2 * p + 1, g)) if trans else ((g, 2 * p), (g, 2 * p + 1))
                    lanes.append(half(matrix, *low) | half(matrix, *high) << 16)
                results.append(exactly(lanes))
            registers = "{" + ", ".join(f"$d{i}" for i in range(count)) + "}"
            for space in (".shared", ".shared::cta", ""):
                address = "[%w0]" if space else "[%l0]"
                generic = "" if space else "cvt.u64.u32 %l0, %w0; cvta.shared.u64 %l0, %l0; "
                opcode = f"ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16"
                file.add(opcode, f"{store}{generic}OP {registers}, {address}", inputs, "w" * count, results, True)


def file():
    result = File("matrix")
    for shape in ("m16n8k8", "m16n8k16"):
        mma(result, shape, "f16", "f16", "f32", False)
        mma(result, shape, "f16", "f16", "f16", False)
        mma(result, shape, "bf16", "bf16", "f32", False)
    for shape in ("m16n8k4", "m16n8k8"):
        mma(result, shape, "tf32", "tf32", "f32", False)
    for shape in ("m8n8k16", "m16n8k16", "m16n8k32"):
        for a in ("u8", "s8"):
            for b in ("u8", "s8"):
                for saturate in (False, True):
                    mma(result, shape, a, b, "s32", saturate)
    ldmatrix(result)
    return result
