"""Loads, stores, moves, address conversions and asynchronous copies: what arrives where."""

import random

from cases import File, exactly
from convert import kind

COUNT = 32
TYPES = ["b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "b64", "u64", "s64"]
TYPES += ["f16", "f16x2", "bf16", "bf16x2", "f32", "f64"]
SPACES = {"global": "%m", "shared": "%t", "shared::cta": "%t", "local": "%v", "": "%m"}
BLOCK = bytes((0x81 + 37 * i) & 0xFF for i in range(64))
BACKGROUND = 0x1122334455667788
WORD = "bits {}"


def bits(ty):
    return {"f16": 16, "f16x2": 32, "bf16": 16, "bf16x2": 32}.get(ty) or int(ty[1:])


def register(ty):
    return {8: "h", 16: "h", 32: "w", 64: "l"}[bits(ty)]


class Memory:
    def __init__(self):
        self.file = File("memory")
        draw = random.Random("memory")
        self.draw = [[draw.getrandbits(64) for _ in range(COUNT)] for _ in range(4)]
        # Bytes with and without their highest bit set in every place.
        self.draw[0][:4] = [0, 2**64 - 1, 0x7F807F807F807F80, 0x807F807F807F807F]

    def operands(self, k):
        width = {"h": 16, "w": 32, "l": 64}[k]
        columns = [[value & (1 << width) - 1 for value in column] for column in self.draw]
        return self.file.inputs(f"four {k}", k * 4, columns), columns

    def stores(self, opcode, ty, count, address):
        """Over a background; a register wider than the type gives its low bits."""
        for k in {"h": "hwl", "w": "wl", "l": "l"}[register(ty)] if ty[0] in "bus" and ty[:2] != "bf" else register(ty):
            if k != register(ty) and count > 1:
                continue
            inputs, columns = self.operands(k)
            code = f"st.u64 [%m], {BACKGROUND}; st.u64 [%m+8], {BACKGROUND}; st.shared.u64 [%t], {BACKGROUND}; "
            code += f"st.shared.u64 [%t+8], {BACKGROUND}; st.local.u64 [%v], {BACKGROUND}; st.local.u64 [%v+8], {BACKGROUND}; "
            values = "$a0" if count == 1 else "{" + ", ".join(f"$a{i}" for i in range(count)) + "}"
            base = {"%m": "global", "%t": "shared", "%v": "local"}[address]
            code += f"@OP [{address}], {values}; ld.{base}.v2.u64 {{$d0, $d1}}, [{address}]"
            used = [f"st.{'' if space == '%m' else names + '.'}u64" for space, names in (("%m", ""), ("%t", "shared"), ("%v", "local"))]
            # Only the background of the space in question.
            keep = {"%m": used[0], "%t": used[1], "%v": used[2]}[address]
            code = "; ".join(part for part in code.split("; ") if not part.startswith("st.") or part.startswith(keep + " "))
            low = (1 << bits(ty)) - 1
            whole = []
            for lane in range(COUNT):
                stored = BACKGROUND | BACKGROUND << 64
                for i in range(count):
                    at = i * bits(ty)
                    stored = stored & ~(low << at) | (columns[i][lane] & low) << at
                whole.append(stored)
            results = [exactly([x & 2**64 - 1 for x in whole]), exactly([x >> 64 for x in whole])]
            self.file.add(opcode, code.replace("@OP", "OP"), inputs, "ll", results, True)

    def loads(self, opcode, ty, count, address, before, contents, more=""):
        """`contents` is what lies there, 16 bytes a lane; into wider registers by the type's sign."""
        for k in {"h": "hwl", "w": "wl", "l": "l"}[register(ty)] if ty[0] in "bus" and ty[:2] != "bf" else register(ty):
            if k != register(ty) and count > 1:
                continue
            width = {"h": 16, "w": 32, "l": 64}[k]
            columns = []
            for i in range(count):
                column = []
                for content in contents:
                    part = content >> i * bits(ty) & (1 << bits(ty)) - 1
                    if ty[0] == "s" and part >> bits(ty) - 1:
                        part |= (1 << width) - (1 << bits(ty))
                    column.append(part)
                columns.append(column)
            targets = "$d0" if count == 1 else "{" + ", ".join(f"$d{i}" for i in range(count)) + "}"
            inputs = self.operands("l")[0]
            self.file.add(opcode, f"{before}@OP {targets}, [{address}]{more}", inputs, k * count, [exactly(c) for c in columns])

    def all_accesses(self):
        drawn = self.operands("l")[1]
        own = [low | high << 64 for low, high in zip(drawn[0], drawn[1])]
        block = [int.from_bytes(BLOCK[16:32], "little")] * COUNT
        for ty in TYPES:
            for vector, count in (("", 1), (".v2", 2), (".v4", 4)):
                if count * bits(ty) > 128:
                    continue
                for space, address in SPACES.items():
                    dotted = "." + space if space else ""
                    self.stores(f"st{dotted}{vector}.{ty}", ty, count, address)
                    base = {"%m": "global", "%t": "shared", "%v": "local"}[address]
                    before = f"st.{base}.v2.u64 [{address}], {{$a0, $a1}}; "
                    self.loads(f"ld{dotted}{vector}.{ty}", ty, count, address, before, own)
                for space in ("param", "param::entry", "param::func"):
                    self.loads(f"ld.{space}{vector}.{ty}", ty, count, "block+16", "", block)
                self.loads(f"ld.const{vector}.{ty}", ty, count, "table+16", "", block)
                before = "st.global.v2.u64 [%m], {$a0, $a1}; "
                for space in (".global", ""):
                    self.loads(f"ldu{space}{vector}.{ty}", ty, count, "%m", before, own)

    def orders_and_hints(self):
        """They change nothing here."""
        drawn = self.operands("l")[1]
        own = [low | high << 64 for low, high in zip(drawn[0], drawn[1])]
        before = "st.global.v2.u64 [%m], {$a0, $a1}; "
        scopes = ["cta", "gpu", "sys"]
        orders = ["volatile", "weak"] + [f"relaxed.{s}" for s in scopes] + ["mmio.relaxed.sys"]
        for order in orders + [f"acquire.{s}" for s in scopes]:
            self.loads(f"ld.{order}.global.b32", "b32", 1, "%m", before, own)
        for hint in ("ca", "cg", "cs", "lu", "cv", "nc", "nc.L1::no_allocate", "L1::evict_last", "L2::128B", "nc.L2::256B"):
            self.loads(f"ld.global.{hint}.b32", "b32", 1, "%m", before, own)
        self.loads("ld.global.L2::cache_hint.b32", "b32", 1, "%m", before + "mov.u64 %l7, 0; ", own, ", %l7")
        for order in orders + [f"release.{s}" for s in scopes]:
            self.stores(f"st.{order}.global.b32", "b32", 1, "%m")
        for hint in ("wb", "cg", "cs", "wt", "L1::no_allocate"):
            self.stores(f"st.global.{hint}.b32", "b32", 1, "%m")

    def moves(self):
        for ty in TYPES:
            inputs, columns = self.operands(register(ty))
            if bits(ty) > 8:
                self.file.add(f"mov.{ty}", "@OP $d0, $a0", inputs, register(ty), [exactly(columns[0])])
        pred = [i % 3 % 2 for i in range(COUNT)]
        inputs = self.file.inputs("predicate", "p", [pred])
        self.file.add("mov.pred", "@OP $d0, $a0", inputs, "p", [exactly(pred)])
        for ty, count, k in (("b32", 2, "h"), ("b64", 2, "w"), ("b64", 4, "h")):
            width = bits(ty) // count
            inputs, columns = self.operands(k)
            whole = [sum(columns[i][lane] << i * width for i in range(count)) for lane in range(COUNT)]
            vector = lambda name: "{" + ", ".join(f"${name}{i}" for i in range(count)) + "}"
            self.file.add(f"mov.{ty}", f"@OP $d0, {vector('a')}", inputs, register(ty), [exactly(whole)])
            inputs, columns = self.operands(register(ty))
            parts = [[x >> i * width & (1 << width) - 1 for x in columns[0]] for i in range(count)]
            self.file.add(f"mov.{ty}", f"@OP {vector('d')}, $a0", inputs, k * count, [exactly(p) for p in parts])
        inputs, columns = self.operands("h")
        four = [sum((columns[i][lane] & 0xFF) << 8 * i for i in range(4)) for lane in range(COUNT)]
        bytes_of = lambda values, n: [[x >> 8 * i & 0xFF for x in values] for i in range(n)]
        self.file.add("mov.b32", "@OP $d0, {$a0, $a1, $a2, $a3}", inputs, "w", [exactly(four)])
        self.file.add("mov.b16", "@OP $d0, {$a0, $a1}", inputs, "h", [exactly([x & 0xFFFF for x in four])])
        self.file.add("mov.b16", "@OP {$d0, $d1}, $a0", inputs, "hh", [exactly(c) for c in bytes_of(columns[0], 2)])
        inputs, columns = self.operands("w")
        self.file.add("mov.b32", "@OP {$d0, $d1, $d2, $d3}, $a0", inputs, "hhhh", [exactly(c) for c in bytes_of(columns[0], 4)])

    def addresses(self):
        inputs, columns = self.operands("l")
        there = [exactly(columns[0])]
        add = lambda opcode, code: self.file.add(opcode, code.replace("@", ""), inputs, "l", there, True)
        add("cvta.global.u64", "@OP %l0, %m; st.u64 [%l0], $a0; ld.global.u64 $d0, [%m]")
        add("cvta.to.global.u64", "@OP %l0, %m; st.global.u64 [%l0], $a0; ld.u64 $d0, [%m]")
        for shared in ("shared", "shared::cta"):
            add(f"cvta.{shared}.u64", "cvt.u64.u32 %l0, %t; @OP %l0, %l0; st.u64 [%l0], $a0; ld.shared.u64 $d0, [%t]")
            add(f"cvta.to.{shared}.u64", "@OP %l0, %s; st.shared.u64 [%l0], $a0; ld.u64 $d0, [%s]")
        local = "cvt.u64.u32 %l0, %v; cvta.local.u64 %l1, %l0; "
        add("cvta.local.u64", local.replace("cvta.local.u64", "@OP") + "st.u64 [%l1], $a0; ld.local.u64 $d0, [%v]")
        add("cvta.to.local.u64", local + "@OP %l2, %l1; st.local.u64 [%l2], $a0; ld.u64 $d0, [%l1]")
        constant = [exactly([int.from_bytes(BLOCK[:8], "little")] * COUNT)]
        for where, name in (("const", "table"), ("param", "block")):
            there = constant
            add(f"cvta.{where}.u64", f"mov.u64 %l0, {name}; @OP %l1, %l0; ld.u64 $d0, [%l1]")
            add(f"cvta.to.{where}.u64", f"mov.u64 %l0, {name}; cvta.{where}.u64 %l1, %l0; @OP %l2, %l1; ld.{where}.u64 $d0, [%l2]")
        places = "cvt.u64.u32 %l0, %v; cvta.local.u64 %l0, %l0; mov.u64 %l1, block; cvta.param.u64 %l1, %l1; "
        spaces = {"global": "1000", "shared": "0100", "shared::cta": "0100", "local": "0010", "param": "0001"}
        for space, bits_ in spaces.items():
            code = places + "; ".join(f"@OP $d{i}, {a}" for i, a in enumerate(("%m", "%s", "%l0", "%l1")))
            self.file.add(f"isspacep.{space}", code, inputs, "pppp", [exactly([int(bit)] * COUNT) for bit in bits_])

    def copies(self):
        drawn = self.operands("l")[1]
        inputs = self.file.inputs("copies", "llwp", [drawn[0], drawn[1], [i % 17 for i in range(COUNT)], [i % 2 for i in range(COUNT)]])
        own = [low | high << 64 for low, high in zip(drawn[0], drawn[1])]
        before = f"st.global.v2.u64 [%m], {{$a0, $a1}}; st.shared.v2.u64 [%t], {{{BACKGROUND}, {BACKGROUND}}}; "
        after = "; {}; ld.shared.v2.u64 {{$d0, $d1}}, [%t]"
        waits = ["cp.async.wait_all", "cp.async.commit_group; cp.async.wait_group 0"]
        background = BACKGROUND | BACKGROUND << 64
        self.waited(inputs, before, drawn)
        for operator, size in (("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)):
            mask = (1 << 8 * size) - 1
            split = lambda values: [exactly([v & 2**64 - 1 for v in values]), exactly([v >> 64 for v in values])]
            copied = lambda seen: [background & ~mask | x & mask for x in seen]
            for space in ("shared", "shared::cta"):
                for hint, more in (("", ""), (".L2::128B", ""), (".L2::cache_hint", ", %l7")):
                    opcode = f"cp.async.{operator}.{space}.global{hint}"
                    policy = "mov.u64 %l7, 0; " if more else ""
                    for wait in waits:
                        code = f"{before}{policy}@OP [%t], [%m], {size}{more}{after.format(wait)}"
                        self.file.add(opcode, code.replace("@", ""), inputs, "ll", split(copied(own)), True)
            opcode = f"cp.async.{operator}.shared.global"
            part = [x & (1 << 8 * min(i % 17, size)) - 1 for i, x in enumerate(own)]
            code = f"{before}min.u32 %w0, $a2, {size}; OP [%t], [%m], {size}, %w0{after.format(waits[0])}"
            self.file.add(opcode, code, inputs, "ll", split(copied(part)), True)
            code = f"{before}OP [%t], [%m], {size}, $a3{after.format(waits[0])}"
            self.file.add(opcode, code, inputs, "ll", split(copied([0 if i % 2 else x for i, x in enumerate(own)])), True)

    def waited(self, inputs, before, drawn):
        """Two groups; the wait leaves the younger one pending, so the older one can be read."""
        first, second = "cp.async.ca.shared.global [%t], [%m], 8; ", "; cp.async.ca.shared.global [%t+8], [%m+8], 8; "
        results = [exactly(drawn[0]), exactly(drawn[1])]
        one, two = "; ld.shared.u64 $d0, [%t]", "; ld.shared.u64 $d1, [%t+8]"
        group = "cp.async.commit_group"
        copies = before + first + group + second + group
        add = lambda opcode, code: self.file.add(opcode, code, inputs, "ll", results, True)
        add("cp.async.wait_group", copies + "; OP 1" + one + "; OP 0" + two)
        add("cp.async.commit_group", copies.replace(group, "OP") + "; cp.async.wait_group 0" + one + two)
        add("cp.async.wait_all", before + first + group + second.rstrip("; ") + "; OP" + one + two)

    def prefetches(self):
        """They change nothing."""
        inputs, columns = self.operands("l")
        prefetches = [f"prefetch{space}.{level}" for space in ("", ".global") for level in ("L1", "L2", "L2::evict_last")]
        for opcode in prefetches + ["prefetchu.L1"]:
            self.file.add(opcode, "OP [%m]; mov.b64 $d0, $a0", inputs, "l", [exactly(columns[0])], True)
        for level in ("L1", "L2"):
            code = "st.local.u64 [%v], $a0; OP [%v]; ld.local.u64 $d0, [%v]"
            self.file.add(f"prefetch.local.{level}", code, inputs, "l", [exactly(columns[0])], True)
        policy = "OP %l7, 1.0; st.global.u64 [%m], $a0; ld.global.L2::cache_hint.u64 $d0, [%m], %l7"
        self.file.add("createpolicy.fractional.L2::evict_last.b64", policy, inputs, "l", [exactly(columns[0])], True)


def file():
    memory = Memory()
    memory.all_accesses()
    memory.orders_and_hints()
    memory.moves()
    memory.addresses()
    memory.copies()
    memory.prefetches()
    return memory.file
