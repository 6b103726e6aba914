"""Instructions that look across the lanes of a warp: shuffles, votes, matches, reductions, barriers."""

import random

from cases import File, chosen, exactly
from integers import value

FULL = ", 0xffffffff"
COUNT = 128


def shuffle_source(mode, lane, b, c):
    """Source lane and "in range": the manual's pseudo code."""
    b, clamp, segments = b & 31, c & 31, c >> 8 & 31
    most = lane & segments | clamp & ~segments & 31
    least = lane & segments
    j, inside = {
        "up": (lane - b, lane - b >= most),
        "down": (lane + b, lane + b <= most),
        "bfly": (lane ^ b, lane ^ b <= most),
        "idx": (least | b & ~segments & 31, least | b & ~segments & 31 <= most),
    }[mode]
    if mode == "bfly":
        inside = (lane ^ b) <= most
    if mode == "idx":
        inside = (least | b & ~segments & 31) <= most
    return (j if inside else lane), inside


class Across:
    def __init__(self):
        self.file = File("across")
        self.draw = random.Random("across")
        self.values = [self.draw.getrandbits(32) for _ in range(COUNT)]

    def warps(self, f):
        """f of the values of each warp gives a list of results."""
        return [result for at in range(0, COUNT, 32) for result in f(at)]

    def shuffles(self):
        for mode in ("up", "down", "bfly", "idx"):
            edge = 0 if mode == "up" else 31
            bs = [1] * 32 + [self.draw.randrange(32) for _ in range(32)] + [3] * 32
            cs = [edge] * 64 + [0x1800 | edge] * 32
            bs += [self.draw.getrandbits(32) for _ in range(32)]
            cs += [self.draw.getrandbits(32) for _ in range(32)]
            inputs = self.file.inputs(f"shuffle {mode}", "www", [self.values, bs, cs])
            picked, inside = [], []
            for i in range(COUNT):
                source, within = shuffle_source(mode, i % 32, bs[i], cs[i])
                picked.append(self.values[i // 32 * 32 + source])
                inside.append(within)
            opcode = f"shfl.sync.{mode}.b32"
            self.file.add(opcode, "OP $d0|$d1, $a0, $a1, $a2" + FULL, inputs, "wp", [exactly(picked), chosen(1, inside)], True)
            self.file.add(opcode, "OP $d0, $a0, $a1, $a2" + FULL, inputs, "w", [exactly(picked)], True)

    def by_halves(self, code):
        """The lower and the upper half of a warp as two groups."""
        halves = "mov.u32 %w0, %laneid; setp.lt.u32 %p0, %w0, 16; "
        return halves + f"@%p0 {code}, 0xffff; @!%p0 {code}, 0xffff0000"

    def votes(self):
        bits = [1] * 32 + [0] * 32 + [int(i == 9) for i in range(32)] + [self.draw.getrandbits(1) for _ in range(32)]
        inputs = self.file.inputs("votes", "p", [bits])
        for size, code in ((32, lambda code: code + FULL), (16, self.by_halves)):
            groups = [bits[i // size * size :][:size] for i in range(COUNT)]
            for mode, f in (("all", all), ("any", any), ("uni", lambda g: len(set(g)) == 1)):
                opcode = f"vote.sync.{mode}.pred"
                self.file.add(opcode, code("OP $d0, $a0"), inputs, "p", [chosen(1, [f(g) for g in groups])], True)
                inverted = [f([1 - bit for bit in g]) for g in groups]
                self.file.add(opcode, code("OP $d0, !$a0"), inputs, "p", [chosen(1, inverted)], True)
            masks = [sum(bit << n for n, bit in enumerate(g)) << (i % 32 // size * size) for i, g in enumerate(groups)]
            self.file.add("vote.sync.ballot.b32", code("OP $d0, $a0"), inputs, "w", [exactly(masks)], True)

    def matches(self):
        for bits, kind in ((32, "w"), (64, "l")):
            distinct = [self.draw.getrandbits(bits) for _ in range(5)] + [1 << bits - 1, 0]
            values = [self.draw.choice(distinct) for _ in range(64)] + [distinct[0]] * 47 + [distinct[1]] * 17
            inputs = self.file.inputs(f"match {bits}", kind, [values])
            for size, code in ((32, lambda code: code + FULL), (16, self.by_halves)):
                masks, alls, same = [], [], []
                for i, own in enumerate(values):
                    first = i // size * size
                    equal = sum((values[first + n] == own) << n for n in range(size))
                    masks.append(equal << first % 32)
                    same.append(equal == (1 << size) - 1)
                    alls.append(masks[-1] if same[-1] else 0)
                all_code = "OP $d0|$d1, $a0"
                self.file.add(f"match.any.sync.b{bits}", code("OP $d0, $a0"), inputs, "w", [exactly(masks)], True)
                self.file.add(f"match.all.sync.b{bits}", code(all_code), inputs, "wp", [exactly(alls), chosen(1, same)], True)
                self.file.add(f"match.all.sync.b{bits}", code("OP $d0, $a0"), inputs, "w", [exactly(alls)], True)

    def reductions(self):
        operations = {
            "add": sum, "min": min, "max": max,
            "and": lambda g: self.fold(g, int.__and__), "or": lambda g: self.fold(g, int.__or__), "xor": lambda g: self.fold(g, int.__xor__),
        }
        inputs = self.file.inputs("reduce", "w", [self.values])
        for name, f in operations.items():
            for ty in ("u32", "s32") if name in ("add", "min", "max") else ("b32",):
                for size, code in ((32, lambda code: code + FULL), (16, self.by_halves)):
                    groups = [self.values[i // size * size :][:size] for i in range(COUNT)]
                    results = [f([value(ty, x) for x in g]) & 0xFFFFFFFF for g in groups]
                    self.file.add(f"redux.sync.{name}.{ty}", code("OP $d0, $a0"), inputs, "w", [exactly(results)], True)

    @staticmethod
    def fold(values, f):
        result = values[0]
        for x in values[1:]:
            result = f(result, x)
        return result

    def others(self):
        inputs = self.file.inputs("reduce", "w", [self.values])
        self.file.add("activemask.b32", "OP $d0", inputs, "w", [exactly([0xFFFFFFFF] * COUNT)], True)
        elected = "OP %w0|$d1" + FULL + "; mov.u32 $d0, %w0"
        leaders = [exactly([0] * COUNT), chosen(1, [i % 32 == 0 for i in range(COUNT)])]
        self.file.add("elect.sync", elected, inputs, "wp", leaders, True)

    def barriers(self):
        """Over the whole block: 128 threads."""
        for name, bits in (("none", [0] * COUNT), ("some", [int(i % 3 == 0) for i in range(COUNT)]), ("all", [1] * COUNT)):
            inputs = self.file.inputs(f"barrier {name}", "p", [bits])
            for base in ("bar", "bar.cta", "barrier", "barrier.cta"):
                for aligned in ("", ".aligned") if base.startswith("barrier") else ("",):
                    for threads in ("", ", 128"):
                        count = [exactly([sum(bits)] * COUNT)]
                        self.file.add(f"{base}.red.popc{aligned}.u32", f"OP $d0, 1{threads}, $a0", inputs, "w", count, True)
                        for op, f in (("and", all), ("or", any)):
                            opcode = f"{base}.red.{op}{aligned}.pred"
                            for sign, seen in (("", bits), ("!", [1 - bit for bit in bits])):
                                result = [chosen(1, [f(seen)] * COUNT)]
                                self.file.add(opcode, f"OP $d0, 1{threads}, {sign}$a0", inputs, "p", result, True)


def file():
    across = Across()
    across.shuffles()
    across.votes()
    across.matches()
    across.reductions()
    across.others()
    across.barriers()
    return across.file
