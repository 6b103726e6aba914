"""Integer arithmetic and bits, as Python integers: the manual's definitions, written down again."""

import random

from cases import File, exactly

WIDTHS = {"16": "h", "32": "w", "64": "l"}
ALL = ["u16", "s16", "u32", "s32", "u64", "s64"]
COUNT = 64


def width(ty):
    return int(ty[1:])


def kind(ty):
    return WIDTHS[ty[1:]]


def value(ty, bits):
    bits &= (1 << width(ty)) - 1
    return bits - (1 << width(ty)) if ty[0] == "s" and bits >> (width(ty) - 1) else bits


def cut(ty, number):
    return number & ((1 << width(ty)) - 1)


def clamp(ty, number):
    low, high = (-(1 << width(ty) - 1), (1 << width(ty) - 1) - 1) if ty[0] == "s" else (0, (1 << width(ty)) - 1)
    return min(max(number, low), high)


def columns(bits, arity, seed=0):
    """Operands at the edges and drawn ones, of every length."""
    draw = random.Random(f"{bits} {arity} {seed}")
    edges = [0, 1, 2, 3, (1 << bits) - 1, (1 << bits) - 2, 1 << bits - 1, (1 << bits - 1) - 1, (1 << bits - 1) + 1,
             0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 1 << bits // 2, (1 << bits // 2) - 1, 0xFF, 0x8000, 7]
    edges = [edge & (1 << bits) - 1 for edge in edges]
    some = lambda: draw.choice(edges) if draw.random() < 0.4 else draw.getrandbits(draw.randint(1, bits))
    rows = [(a, b) for a in edges[4:9:2] + [0, 1] for b in edges[4:9:2] + [0, 1]]
    rows = [row + tuple(some() for _ in range(arity - 2)) if arity > 1 else (edge,) for row, edge in zip(rows, edges)]
    rows += [tuple(some() for _ in range(arity)) for _ in range(COUNT - len(rows))]
    return [list(column) for column in zip(*rows)]


def amounts(seed):
    """Shift amounts and field positions: inside, at the width, far beyond."""
    draw = random.Random(f"amount {seed}")
    fixed = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 0x1F20, 1 << 31, (1 << 32) - 1]
    return [fixed[i] if i < len(fixed) else draw.randrange(70) for i in draw.sample(range(COUNT), COUNT)]


def quotient(ty, a, b):
    if value(ty, b) == 0:
        return None
    a, b = value(ty, a), value(ty, b)
    size = abs(a) // abs(b)
    return -size if (a < 0) != (b < 0) else size


def low24(ty, bits):
    bits &= 0xFFFFFF
    return bits - (1 << 24) if ty[0] == "s" and bits >> 23 else bits


def field(ty, bits, position, length):
    """bfe, from the manual's loop."""
    position, length, top = position & 0xFF, length & 0xFF, width(ty) - 1
    bit = lambda index: bits >> index & 1
    sign = 0 if ty[0] == "u" or length == 0 else bit(min(position + length - 1, top))
    return sum((bit(position + i) if i < length and position + i <= top else sign) << i for i in range(top + 1))


def insert(bits, a, b, position, length):
    """bfi."""
    position, length = position & 0xFF, length & 0xFF
    for i in range(length):
        if position + i < bits:
            b = b & ~(1 << position + i) | (a >> i & 1) << position + i
    return b


def leading(ty, bits):
    """bfind: the highest bit that isn't the sign's copy."""
    number = value(ty, bits)
    number = ~number if number < 0 else number
    return number.bit_length() - 1 if number else None


def permuted(mode, a, b, c):
    source = a | b << 32
    picks = {
        "": lambda i: c >> 4 * i & 0xF,
        "f4e": lambda i: (c & 3) + i,
        "b4e": lambda i: ((c & 3) - i) % 8,
        "rc8": lambda i: c & 3,
        "ecl": lambda i: max(c & 3, i),
        "ecr": lambda i: min(c & 3, i),
        "rc16": lambda i: (c & 1) * 2 + i % 2,
    }[mode]
    result = 0
    for i in range(4):
        byte = source >> 8 * (picks(i) & 7) & 0xFF
        if mode == "" and picks(i) & 8:
            byte = 0xFF if byte & 0x80 else 0
        result |= byte << 8 * i
    return result


class Integers:
    def __init__(self):
        self.file = File("integer")

    def each(self, opcode, types, f, result=None, code=None, inputs=None, kinds=None):
        """One result of operands of one type."""
        arity = f.__code__.co_argcount
        ty = types
        name = inputs or self.file.inputs(f"{width(ty)}x{arity}", kind(ty) * arity, columns(width(ty), arity))
        rows = zip(*[[int(x, 16) for x in line.split()[1:]] for line in self.file.operands[name]])
        result = result or ty
        values = [f(*row) for row in rows]
        code = code or "@OP $d0, " + ", ".join(f"$a{i}" for i in range(arity))
        self.file.add(opcode, code, name, kinds or [kind(result)], [exactly([cut(result, v) for v in values])])

    def arithmetic(self):
        for ty in ALL:
            v = lambda bits, ty=ty: value(ty, bits)
            w = width(ty)
            self.each(f"add.{ty}", ty, lambda a, b: a + b)
            self.each(f"sub.{ty}", ty, lambda a, b: a - b)
            self.each(f"mul.lo.{ty}", ty, lambda a, b: a * b)
            self.each(f"mul.hi.{ty}", ty, lambda a, b: v(a) * v(b) >> w)
            self.each(f"mad.lo.{ty}", ty, lambda a, b, c: a * b + c)
            self.each(f"mad.hi.{ty}", ty, lambda a, b, c: (v(a) * v(b) >> w) + c)
            self.each(f"sad.{ty}", ty, lambda a, b, c: c + abs(v(a) - v(b)))
            self.each(f"min.{ty}", ty, lambda a, b: min(v(a), v(b)))
            self.each(f"max.{ty}", ty, lambda a, b: max(v(a), v(b)))
            if ty[0] == "s":
                self.each(f"neg.{ty}", ty, lambda a: -a)
                self.each(f"abs.{ty}", ty, lambda a: abs(v(a)))
            self.divide(ty)
            if w < 64:
                self.wide(ty)
        self.each("add.sat.s32", "s32", lambda a, b: clamp("s32", value("s32", a) + value("s32", b)))
        self.each("sub.sat.s32", "s32", lambda a, b: clamp("s32", value("s32", a) - value("s32", b)))
        high = lambda a, b: value("s32", a) * value("s32", b) >> 32
        self.each("mad.hi.sat.s32", "s32", lambda a, b, c: clamp("s32", high(a, b) + value("s32", c)))
        for ty in ("u32", "s32"):
            product = lambda a, b, ty=ty: low24(ty, a) * low24(ty, b)
            self.each(f"mul24.lo.{ty}", ty, lambda a, b: product(a, b))
            self.each(f"mul24.hi.{ty}", ty, lambda a, b: product(a, b) >> 16)
            self.each(f"mad24.lo.{ty}", ty, lambda a, b, c: product(a, b) + c)
            self.each(f"mad24.hi.{ty}", ty, lambda a, b, c: (product(a, b) >> 16) + c)

    def divide(self, ty):
        """Division by zero has no defined result: there divisors are 1."""
        a, b = columns(width(ty), 2, "quotient")
        name = self.file.inputs(f"{width(ty)} divisors", kind(ty) * 2, [a, [x or 1 for x in b]])
        self.each(f"div.{ty}", ty, lambda a, b: quotient(ty, a, b), inputs=name)
        rest = lambda a, b: value(ty, a) - value(ty, b) * quotient(ty, a, b)
        self.each(f"rem.{ty}", ty, rest, inputs=name)

    def wide(self, ty):
        double = ty[0] + str(2 * width(ty))
        product = lambda a, b: value(ty, a) * value(ty, b)
        self.each(f"mul.wide.{ty}", ty, lambda a, b: product(a, b), result=double)
        (a, b), c = columns(width(ty), 2), columns(width(double), 1)[0]
        name = self.file.inputs(f"{width(ty)} wide", kind(ty) * 2 + kind(double), [a, b, c])
        self.each(f"mad.wide.{ty}", ty, lambda a, b, c: product(a, b) + c, result=double, inputs=name)

    def carries(self):
        """The carry goes in by an addition (or subtraction) that makes one where $a3 isn't 0, and is read."""
        for ty in ("u32", "s32", "u64", "s64"):
            w, k = width(ty), kind(ty)
            drawn = columns(w, 3, "carry")
            name = self.file.inputs(f"{w} carry", k * 3 + "w", drawn + [[i % 3 % 2 for i in range(COUNT)]])
            rows = list(zip(*drawn, [i % 3 % 2 for i in range(COUNT)]))
            into = {"add": "@add.cc.u32 %w0, $a3, 0xffffffff; ", "sub": "@sub.cc.u32 %w0, 0, $a3; "}
            out = {"add": f"; @addc.{ty} $d1, 0, 0", "sub": f"; @subc.{ty} $d1, 0, 0"}
            product = lambda a, b: value(ty, a) * value(ty, b)
            operations = [
                ("add", "add{}", "", "$a0, $a1", lambda a, b, c, i: a + b + i),
                ("sub", "sub{}", "", "$a0, $a1", lambda a, b, c, i: a - b - i),
                ("add", "mad{}", ".lo", "$a0, $a1, $a2", lambda a, b, c, i: cut(ty, product(a, b)) + c + i),
                ("add", "mad{}", ".hi", "$a0, $a1, $a2", lambda a, b, c, i: cut(ty, product(a, b) >> w) + c + i),
            ]
            for direction, base, part, operands, f in operations:
                for reads in (False, True):
                    for writes in (False, True):
                        if not reads and not writes:
                            continue
                        opcode = base.format("c" if reads else "") + part + (".cc" if writes else "") + f".{ty}"
                        sums = [f(a, b, c, i if reads else 0) for a, b, c, i in rows]
                        results = [exactly([cut(ty, s) for s in sums])]
                        if writes:
                            overflow = [int(s < 0 or s >> w != 0) for s in sums]
                            sign = -1 if direction == "sub" else 1
                            results.append(exactly([cut(ty, sign * o) for o in overflow]))
                        code = (into[direction] if reads else "") + f"@OP $d0, {operands}" + (out[direction] if writes else "")
                        self.file.add(opcode, code, name, [k] * len(results), results)

    def bits(self):
        for w in (16, 32, 64):
            b = f"u{w}"
            self.each(f"and.b{w}", b, lambda a, b: a & b)
            self.each(f"or.b{w}", b, lambda a, b: a | b)
            self.each(f"xor.b{w}", b, lambda a, b: a ^ b)
            self.each(f"not.b{w}", b, lambda a: ~a)
            self.each(f"cnot.b{w}", b, lambda a: int(a == 0))
            name = self.file.inputs(f"{w} shift", kind(b) + "w", [columns(w, 1, "shift")[0], amounts(w)])
            self.each(f"shl.b{w}", b, lambda a, n: a << min(n, 64), inputs=name)
            for ty in (f"b{w}", f"u{w}", f"s{w}"):
                self.each(f"shr.{ty}", b, lambda a, n: value(ty, a) >> min(n, w), inputs=name)
        for w in (32, 64):
            ty = f"u{w}"
            self.each(f"popc.b{w}", ty, lambda a: a.bit_count(), result="u32")
            self.each(f"clz.b{w}", ty, lambda a: w - a.bit_length(), result="u32")
            self.each(f"brev.b{w}", ty, lambda a: int(f"{a:0{w}b}"[::-1], 2))
            fields = self.file.inputs(f"{w} field", kind(ty) + "ww", [columns(w, 1, "field")[0], amounts("p"), amounts("l")])
            inserts = self.file.inputs(f"{w} insert", kind(ty) * 2 + "ww", columns(w, 2, "insert") + [amounts("q"), amounts("m")])
            for ty in (f"u{w}", f"s{w}"):
                none = lambda found, f: 0xFFFFFFFF if found is None else f(found)
                self.each(f"bfind.{ty}", ty, lambda a: none(leading(ty, a), lambda at: at), result="u32")
                self.each(f"bfind.shiftamt.{ty}", ty, lambda a: none(leading(ty, a), lambda at: w - 1 - at), result="u32")
                self.each(f"bfe.{ty}", ty, lambda a, p, n: field(ty, a, p, n), inputs=fields)
            self.each(f"bfi.b{w}", ty, lambda a, b, p, n: insert(w, a, b, p, n), inputs=inserts)

    def words(self):
        tables = (0x00, 0x01, 0x1E, 0x80, 0x96, 0xCA, 0xE8, 0xFE, 0xFF)
        for table in tables:
            looked_up = lambda a, b, c: sum((table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1) << i for i in range(32))
            self.each("lop3.b32", "u32", looked_up, code=f"@OP $d0, $a0, $a1, $a2, {table:#x}")
        for mode in ("", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
            self.each("prmt.b32" + (mode and "." + mode), "u32", lambda a, b, c: permuted(mode, a, b, c))
        name = self.file.inputs("funnel", "www", columns(32, 2, "funnel") + [amounts("funnel")])
        for mode, by in (("clamp", lambda n: min(n, 32)), ("wrap", lambda n: n & 31)):
            self.each(f"shf.l.{mode}.b32", "u32", lambda a, b, n: (b << 32 | a) << by(n) >> 32, inputs=name)
            self.each(f"shf.r.{mode}.b32", "u32", lambda a, b, n: (b << 32 | a) >> by(n), inputs=name)
        part = lambda ty, bits, i, w: value(ty[0] + str(w), bits >> i * w)
        for x in ("u32", "s32"):
            for y in ("u32", "s32"):
                self.each(f"dp4a.{x}.{y}", "u32", lambda a, b, c: c + sum(part(x, a, i, 8) * part(y, b, i, 8) for i in range(4)))
                for half, first in (("lo", 0), ("hi", 2)):
                    products = lambda a, b: sum(part(x, a, i, 16) * part(y, b, first + i, 8) for i in range(2))
                    self.each(f"dp2a.{half}.{x}.{y}", "u32", lambda a, b, c: c + products(a, b))

    def predicates(self):
        a, b = [i >> 1 & 1 for i in range(COUNT)], [i & 1 for i in range(COUNT)]
        name = self.file.inputs("predicates", "pp", [a, b])
        for op, f in (("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b)):
            self.file.add(f"{op}.pred", "@OP $d0, $a0, $a1", name, "p", [exactly(map(f, a, b))])
        self.file.add("not.pred", "@OP $d0, $a0", name, "p", [exactly([1 - x for x in a])])


def file():
    integers = Integers()
    integers.arithmetic()
    integers.carries()
    integers.bits()
    integers.words()
    integers.predicates()
    return integers.file
