"""Comparisons and selections: every comparison of every type, unordered ones too."""

import itertools

from cases import File, chosen, exactly
from convert import kind
from integers import columns, value, width
from softfloat import FORMATS, INFINITE, NAN, tuples

UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
COUNT = 64
YES = {"u16": 0xFFFF, "s16": 0xFFFF, "u32": 0xFFFFFFFF, "s32": 0xFFFFFFFF, "f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80}
BITS = ["b16", "b32", "b64"]
INTEGERS = ["u16", "s16", "u32", "s32", "u64", "s64"]


def holds(compare, a, b):
    """Operands as numbers that can be compared, None for NaN."""
    if compare in ("num", "nan"):
        return (a is not None and b is not None) == (compare == "num")
    ordered = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
    base = compare[:2]
    if a is None or b is None:
        return compare.endswith("u") and compare != base
    return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[ordered[base]]


def comparisons(ty):
    both = ["eq", "ne"] if ty in BITS else ["eq", "ne", "lt", "le", "gt", "ge"]
    if ty[0] == "u":
        return both + list(UNSIGNED)
    return both + (["equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"] if ty in FORMATS else [])


def as_number(ty, bits, ftz):
    if ty not in FORMATS:
        return value(ty, bits)
    fmt = FORMATS[ty]
    sign, size = fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits)
    if size == NAN:
        return None
    size = 10**400 if size == INFINITE else size
    return -size if sign else size


LOGIC = {"": lambda x, c: x, "and": lambda x, c: x and c, "or": lambda x, c: x or c, "xor": lambda x, c: x != c}


class Compare:
    def __init__(self):
        self.file = File("compare")
        self.third = [i // 2 % 2 for i in range(COUNT)]

    def operands(self, ty, packed=False):
        """Two operands and a predicate; in the packed list the upper halves are the next tuple's lower ones."""
        a, b = tuples(FORMATS[ty], 2, COUNT, "compare") if ty in FORMATS else columns(width(ty), 2, "compare")
        if ty in FORMATS:  # some of the pairs of edges give way to equal and close numbers
            a[48:], b[48:] = tuples(FORMATS[ty], 2, 96, "compare")[0][72:88], tuples(FORMATS[ty], 2, 96, "compare")[1][72:88]
            b[48:52] = a[48:52]
        else:
            b[40:48] = a[40:48]
        name = ty if ty in FORMATS else f"b{width(ty)}"
        if packed:
            pair = lambda column: [low | high << 16 for low, high in zip(column, column[1:] + column[:1])]
            return self.file.inputs(f"{name}x2", "wwp", [pair(a), pair(b), self.third]), a, b
        return self.file.inputs(name, kind(ty) * 2 + "p", [a, b, self.third]), a, b

    def results(self, ty, compare, ftz, a, b):
        compare = UNSIGNED.get(compare, compare)
        return [holds(compare, as_number(ty, x, ftz), as_number(ty, y, ftz)) for x, y in zip(a, b)]

    def combined(self, logic, results, negated):
        return [bool(LOGIC[logic](r, (not c) if negated else bool(c))) for r, c in zip(results, self.third)]

    def setp(self):
        for ty in BITS + INTEGERS + list(t for t in FORMATS if t != "tf32"):
            for ftz, compare, logic in itertools.product(["", "ftz"] if ty in ("f32", "f16") else [""], comparisons(ty), LOGIC):
                spelling = ".".join(x for x in ("setp", compare, logic, ftz) if x)
                inputs, a, b = self.operands(ty)
                yes = self.results(ty, compare, ftz, a, b)
                pair = [chosen(1, self.combined(logic, r, False)) for r in (yes, [not r for r in yes])]
                third = ", $a2" if logic else ""
                self.file.add(f"{spelling}.{ty}", f"@OP $d0|$d1, $a0, $a1{third}", inputs, "pp", pair)
                if not logic:
                    self.file.add(f"{spelling}.{ty}", "@OP $d0, $a0, $a1", inputs, "p", pair[:1])
                elif compare == "ne":
                    no = chosen(1, self.combined(logic, yes, True))
                    self.file.add(f"{spelling}.{ty}", "@OP $d0, $a0, $a1, !$a2", inputs, "p", [no])
                if ty in ("f16", "bf16"):
                    inputs = self.operands(ty, True)[0]
                    both = [chosen(1, self.combined(logic, r, False)) for r in (yes, yes[1:] + yes[:1])]
                    self.file.add(f"{spelling}.{ty}x2", f"@OP $d0|$d1, $a0, $a1{third}", inputs, "pp", both)

    def set(self):
        single = [(to, ty) for to in ("u32", "s32", "f32") for ty in BITS + INTEGERS + ["f32", "f64"]]
        single += [(half, ty) for half in ("f16", "bf16") for ty in BITS + INTEGERS + [half, "f32", "f64"]]
        single += [(to, half) for half in ("f16", "bf16") for to in ("u16", "s16", "u32", "s32")]
        for to, ty in single:
            for ftz, compare, logic in itertools.product(["", "ftz"] if ty in ("f32", "f16") else [""], comparisons(ty), LOGIC):
                opcode = ".".join(x for x in ("set", compare, logic, ftz, to, ty) if x)
                inputs, a, b = self.operands(ty)
                yes = self.combined(logic, self.results(ty, compare, ftz, a, b), False)
                code = "@OP $d0, $a0, $a1" + (", $a2" if logic else "")
                self.file.add(opcode, code, inputs, kind(to), [chosen(YES[to], yes)])
        for half, to in itertools.product(("f16", "bf16"), ("half", "u32", "s32")):
            for ftz, compare, logic in itertools.product(["", "ftz"] if half == "f16" else [""], comparisons(half), LOGIC):
                to = half + "x2" if to == "half" else to
                opcode = ".".join(x for x in ("set", compare, logic, ftz, to, half + "x2") if x)
                inputs, a, b = *self.operands(half, True)[:1], *self.operands(half)[1:]
                yes = self.results(half, compare, ftz, a, b)
                one = YES[half] if to.endswith("x2") else 0xFFFF
                both = [chosen(one, self.combined(logic, r, False)) for r in (yes, yes[1:] + yes[:1])]
                code = "@OP %w0, $a0, $a1" + (", $a2" if logic else "") + "; @mov.b32 {$d0, $d1}, %w0"
                self.file.add(opcode, code, inputs, "hh", both)

    def select(self):
        for ty in BITS + INTEGERS + ["f32", "f64"]:
            bits = "b" + (ty.lstrip("usbf"))
            inputs, a, b = self.operands(bits)
            picked = [x if c else y for x, y, c in zip(a, b, self.third)]
            self.file.add(f"selp.{ty}", "@OP $d0, $a0, $a1, $a2", inputs, kind(ty), [exactly(picked)])
            c = tuples(FORMATS["f32"], 2, COUNT, "select")[0]
            c[8:16] = [0, 1 << 31, 1, 0x80000001, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x7F800000]
            third = self.file.inputs(f"{bits} by", kind(ty) * 2 + "w", [a, b, c])
            for by, ftz in (("s32", ""), ("f32", ""), ("f32", "ftz")):
                # Where c is NaN the comparison with 0 fails.
                first = [n is not None and n >= 0 for n in (as_number(by, bits, ftz) for bits in c)]
                picked = [x if yes else y for x, y, yes in zip(a, b, first)]
                opcode = ".".join(x for x in ("slct", ftz, ty, by) if x)
                self.file.add(opcode, "@OP $d0, $a0, $a1, $a2", third, kind(ty), [exactly(picked)])


def file():
    compare = Compare()
    compare.setp()
    compare.set()
    compare.select()
    return compare.file
