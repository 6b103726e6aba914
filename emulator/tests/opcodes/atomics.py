"""atom and red: the old value, and what lies there afterwards."""

from cases import File, exactly, number
from convert import kind
from integers import columns, value, width
from softfloat import FORMATS, add, tuples

COUNT = 32


class Atomics:
    def __init__(self):
        self.file = File("atomic")

    def drawn(self, w):
        """Half of them at the edges; some equal."""
        a, b = (column[10 : 10 + COUNT] for column in columns(w, 2, "atomic"))
        b[20:26] = a[20:26]
        return a, b

    def emit(self, op, ty, inputs, olds, news, spaces, exact=True, extra=""):
        k = kind(ty) if not ty.endswith("x2") else "w"
        size = {"h": "b16", "w": "b32", "l": "b64"}[k]
        results = exactly(news) if exact else number(FORMATS[ty], news)
        operands = ", $a1, $a2" if op == "cas" else ", $a1"
        for space, address, base in spaces:
            dotted = f".{space}" if space else ""
            store, load = f"st.{base}.{size} [{address}], $a0; ", f"; @ld.{base}.{size} $d1, [{address}]"
            code = f"{store}@OP $d0, [{address}]{operands}{load}"
            self.file.add(f"atom{dotted}.{op}{extra}.{ty}", code, inputs, [k, k], [exactly(olds), results])
            if op not in ("cas", "exch"):
                code = f"{store}OP [{address}]{operands}{load.replace('$d1', '$d0').replace('@', '')}"
                self.file.add(f"red{dotted}.{op}{extra}.{ty}", code, inputs, [k], [results], True)

    def integers(self):
        spaces = [("global", "%m", "global"), ("shared", "%t", "shared"), ("shared::cta", "%t", "shared"), ("", "%m", "global")]
        operations = [("add", ["u32", "s32", "u64"], lambda ty, a, b: a + b)]
        for name, f in (("min", min), ("max", max)):
            operations.append((name, ["u32", "s32", "u64", "s64"], lambda ty, a, b, f=f: f(value(ty, a), value(ty, b))))
        operations.append(("inc", ["u32"], lambda ty, a, b: 0 if a >= b else a + 1))
        operations.append(("dec", ["u32"], lambda ty, a, b: b if a == 0 or a > b else a - 1))
        for name, f in (("and", int.__and__), ("or", int.__or__), ("xor", int.__xor__), ("exch", lambda a, b: b)):
            operations.append((name, ["b32", "b64"], lambda ty, a, b, f=f: f(a, b)))
        for name, types, f in operations:
            for ty in types:
                a, b = self.drawn(width(ty))
                inputs = self.file.inputs(f"b{width(ty)}", kind(ty) * 2, [a, b])
                cut = (1 << width(ty)) - 1
                self.emit_integers(name, ty, inputs, a, [f(ty, x, y) & cut for x, y in zip(a, b)], spaces)
        for w in (16, 32, 64):
            a, b, c = (column[:COUNT] for column in columns(w, 3, "swap"))
            b[::2] = a[::2]
            inputs = self.file.inputs(f"b{w} swap", kind(f"b{w}") * 3, [a, b, c])
            news = [z if x == y else x for x, y, z in zip(a, b, c)]
            self.emit_integers("cas", f"b{w}", inputs, a, news, spaces)

    def emit_integers(self, op, ty, inputs, olds, news, spaces):
        """A generic address in shared memory too; the other accesses go there by the shared one."""
        self.emit(op, ty, inputs, olds, news, spaces)
        k = kind(ty)
        size = {"h": "b16", "w": "b32", "l": "b64"}[k]
        operands = ", $a1, $a2" if op == "cas" else ", $a1"
        code = f"st.shared.{size} [%t], $a0; @OP $d0, [%s]{operands}; @ld.shared.{size} $d1, [%t]"
        self.file.add(f"atom.{op}.{ty}", code, inputs, [k, k], [exactly(olds), exactly(news)])

    def floats(self):
        """add.f32 flushes subnormals in global memory and doesn't in shared memory."""
        places = [("global", "%m", "global"), ("", "%m", "global"), ("shared", "%t", "shared"), ("shared::cta", "%t", "shared")]
        for ty in ("f32", "f64"):
            fmt = FORMATS[ty]
            a, b = tuples(fmt, 2, COUNT + 32, "atomic")
            a, b = a[32:], b[32:]
            inputs = self.file.inputs(ty, kind(ty) * 2, [a, b])
            for place in places:
                ftz = ty == "f32" and place[2] == "global"
                read = lambda bits: fmt.flush(fmt.decode(bits)) if ftz else fmt.decode(bits)
                news = [fmt.encode(add(read(x), read(y)), "rn", ftz) for x, y in zip(a, b)]
                self.emit("add", ty, inputs, a, news, [place], exact=ty == "f32")
        for ty in ("f16", "bf16"):
            fmt = FORMATS[ty]
            a, b = tuples(fmt, 2, COUNT + 32, "atomic")
            a, b = a[32:], b[32:]
            inputs = self.file.inputs(ty, "hh", [a, b])
            news = [fmt.encode(add(fmt.decode(x), fmt.decode(y))) for x, y in zip(a, b)]
            self.emit("add", ty, inputs, a, news, places, extra=".noftz")
            pair = lambda column: [low | high << 16 for low, high in zip(column, column[1:] + column[:1])]
            inputs = self.file.inputs(f"{ty}x2", "ww", [pair(a), pair(b)])
            self.emit("add", f"{ty}x2", inputs, pair(a), pair(news), places, extra=".noftz")

    def orders(self):
        a, b = self.drawn(32)
        inputs = self.file.inputs("b32", "ww", [a, b])
        results = [exactly(a), exactly([(x + y) & 0xFFFFFFFF for x, y in zip(a, b)])]
        names = ["relaxed", "acquire", "release", "acq_rel"]
        for order in [f"{name}.{scope}" for name in names for scope in ("cta", "gpu", "sys")]:
            code = "st.global.u32 [%m], $a0; @OP $d0, [%m], $a1; @ld.global.u32 $d1, [%m]"
            self.file.add(f"atom.{order}.global.add.u32", code, inputs, "ww", results)
            if order.split(".")[0] in ("relaxed", "release"):
                code = "st.global.u32 [%m], $a0; OP [%m], $a1; ld.global.u32 $d0, [%m]"
                self.file.add(f"red.{order}.global.add.u32", code, inputs, "w", results[1:], True)
        hint = "mov.u64 %l7, 0; st.global.u32 [%m], $a0; OP {}[%m], $a1, %l7; ld.global.u32 $d{}, [%m]"
        self.file.add("atom.global.add.L2::cache_hint.u32", hint.format("$d0, ", 1), inputs, "ww", results, True)
        self.file.add("red.global.add.L2::cache_hint.u32", hint.format("", 0), inputs, "w", results[1:], True)


def file():
    atomics = Atomics()
    atomics.integers()
    atomics.floats()
    atomics.orders()
    return atomics.file
