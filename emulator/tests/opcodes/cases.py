"""The files of cases: operands and expected results of instructions, as hexadecimal numbers.

    inputs NAME
    KIND HEX …         a line for each operand: h 16 bits, w 32, l 64, p predicate (0 or 1)
    ops OPCODE …       a case begins: instructions with the same operands and results
    lanes any|all      all: it is only run with all lanes of its warps
    code TEXT          what is run: OP the opcode, $a0 … operands, $d0 … results, $m $s $t $v the lane's own
                       memory (global, shared as a generic address, shared, local); with any lanes, @ before an
                       instruction is none or a guard
    in NAME            the operands
    out KIND …         kinds of the results
    = HEX …            a line for each result: these bits
    n FORMAT HEX …     these bits, or if they are a NaN any NaN
    ~ FORMAT ABS REL HEX …   within the larger error of the f64 with these bits
    ? HEX HEX …        the first number where the bit of the tuple is set in the others, else 0

What a case doesn't say of lanes, code, in and out is as in the case before it.
"""


class File:
    """Collects cases; those that differ by the opcode only become one."""

    def __init__(self, name):
        self.name, self.operands, self.cases, self.count = name, {}, {}, {}

    def inputs(self, name, kinds, columns):
        """Names operand columns, once."""
        assert len({len(column) for column in columns}) == 1 and len(columns[0]) % 32 == 0, name
        lines = [f"{kind} " + " ".join(f"{value:x}" for value in column) for kind, column in zip(kinds, columns)]
        known = self.operands.setdefault(name, lines)
        assert known == lines, f"two operand lists named {name}"
        self.count[name] = len(columns[0])
        return name

    def add(self, opcode, code, inputs, kinds, results, whole=False):
        """Results are lines made by the functions below."""
        key = (code, inputs, " ".join(kinds), tuple(results), whole)
        opcodes = self.cases.setdefault(key, [])
        assert opcode not in opcodes, f"{opcode} twice with {code}"
        opcodes.append(opcode)

    def text(self):
        parts = [f"inputs {name}\n" + "\n".join(lines) for name, lines in self.operands.items()]
        known = {}
        for (code, inputs, kinds, results, whole), opcodes in self.cases.items():
            said = {"lanes": "all" if whole else "any", "code": code, "in": inputs, "out": kinds}
            news = [f"{word} {what}" for word, what in said.items() if known.get(word) != what]
            known = said
            parts.append("\n".join(["ops " + " ".join(opcodes), *news, *results]))
        return "\n".join(parts) + "\n"


def exactly(values):
    return "= " + " ".join(f"{value:x}" for value in values)


def number(f, values):
    """Any NaN where the format has one."""
    return f"n {f.name} " + " ".join(f"{value:x}" for value in values)


def chosen(yes, bits):
    masks = [sum(bool(bit) << lane for lane, bit in enumerate(bits[at : at + 32])) for at in range(0, len(bits), 32)]
    return f"? {yes:x} " + " ".join(f"{mask:x}" for mask in masks)
