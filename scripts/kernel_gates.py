#!/usr/bin/env python3
"""Assembles kernels/ptx with two ptxas for every architecture; fails on a spill, stack or local memory, on
registers or shared memory over the budget, and where a tensor-core kernel's machine code lacks the matrix
instructions, matrix loads or asynchronous copies it is made for, or calls a function.

Keeps the table of kernels/README.md; --check compares it instead. Run through scripts/kernel_gates.sh,
which finds the tools.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90"]
# A block has 128 threads: 128 registers each let an SM of sm_80 hold four blocks, as does a third of its 164 KiB
# of shared memory; more than 48 KiB would need a call of the host.
REGISTERS, SHARED = 128, 48 << 10
# Of sm_80: registers, bytes of shared memory and what each block takes besides, warps.
SM = {"registers": 65536, "shared": 164 << 10, "reserved": 1 << 10, "warps": 64}
# Machine instructions of tensor-core kernels, whose names have this in them. RET is there if a function is
# called; CALL alone may be a jump to where threads end.
TENSOR, EXPECTED, FORBIDDEN = "_bf16", ["HMMA", "LDSM", "LDGSTS"], ["LDL", "STL", "RET"]
OPERANDS = {"conv_input_bf16", "load_filter_bf16"}
README = pathlib.Path("kernels/README.md")
START, END = "<!-- table: scripts/kernel_gates.sh -->", "<!-- end of table -->"


def assemble(ptxas, ptx, architecture, cubin):
    """ptxas -v: registers, shared bytes, stack and spills of each kernel."""
    command = [ptxas, "-v", "-Werror", "-warn-spills", f"-arch={architecture}", ptx, "-o", cubin]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{ptxas} refuses {ptx} for {architecture}:\n{done.stderr}")
    kernels = {}
    for part in done.stderr.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        number = lambda pattern: int(found.group(1)) if (found := re.search(pattern, part)) else 0
        kernels[name] = {
            "registers": number(r"Used (\d+) registers"),
            "shared": number(r"(\d+) bytes smem"),
            "stack": number(r"(\d+) bytes stack frame"),
            "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        }
    return kernels


def resources(cuobjdump, cubin):
    """cuobjdump --dump-resource-usage: local memory and stack of each function."""
    done = subprocess.run([cuobjdump, "--dump-resource-usage", cubin], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{cuobjdump} refuses {cubin}:\n{done.stdout}{done.stderr}")
    text = done.stdout
    found = re.findall(r"Function (\w+):\s*\n\s*REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    return {name: int(stack) + int(local) for name, stack, local in found}


def instructions(nvdisasm, cubin):
    """nvdisasm -json: how often each opcode of interest is in each function, predicated off ones left out."""
    done = subprocess.run([nvdisasm, "-json", cubin], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{nvdisasm} refuses {cubin}:\n{done.stdout}{done.stderr}")
    found = {}
    for function in json.loads(done.stdout)[1]:
        counts = found.setdefault(function["function-name"], {})
        for line in function["sass-instructions"]:
            name = line["opcode"].split(".")[0]
            if name in EXPECTED + FORBIDDEN and line.get("predicate") != "@!PT":
                counts[name] = counts.get(name, 0) + 1
    return found


def check_instructions(where, counts):
    """Exits where a tensor-core kernel isn't what it is made to be."""
    for name, found in counts.items():
        if TENSOR not in name or name in OPERANDS:
            continue
        missing = [opcode for opcode in EXPECTED if opcode not in found]
        unwanted = [opcode for opcode in FORBIDDEN if opcode in found]
        if missing or unwanted:
            sys.exit(f"{name} of {where}: lacks {missing}, has {unwanted}")


def warps(row):
    """Warps that an SM of sm_80 holds at once."""
    registers = -(-max(row["registers"]) // 8) * 8
    blocks = min(SM["registers"] // (registers * 128), SM["shared"] // (row["shared"] + SM["reserved"]))
    return min(4 * blocks, SM["warps"])


def gate(tools):
    """What the table says of every kernel, by file; exits at the first that breaks a rule."""
    cuobjdump, nvdisasm, assemblers = tools[0], tools[1], tools[2:]
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        cubin = f"{folder}/kernel.cubin"
        for ptx in sorted(pathlib.Path("kernels/ptx").glob("*.ptx")):
            for assembler in assemblers:
                for architecture in ARCHITECTURES:
                    kernels = assemble(assembler, str(ptx), architecture, cubin)
                    if not kernels:
                        sys.exit(f"{assembler} finds no kernel in {ptx}")
                    # The newer assembler's own cuobjdump; it can't read all that the older one writes.
                    if assembler == assemblers[0]:
                        local = resources(cuobjdump, cubin)
                        if set(local) != set(kernels) or any(local.values()):
                            sys.exit(f"{ptx} ({architecture}): {cuobjdump} finds {local}")
                        opcodes = instructions(nvdisasm, cubin)
                        check_instructions(f"{ptx} ({architecture})", opcodes)
                    for name, use in kernels.items():
                        over = use["registers"] > REGISTERS or use["shared"] > SHARED
                        if use["stack"] or use["spills"] or over:
                            sys.exit(f"{name} of {ptx} ({architecture}, {assembler}): {use}")
                        row = table.setdefault((ptx.stem, name), {"registers": [], "shared": 0, "opcodes": {}})
                        row["registers"].append(use["registers"])
                        row["shared"] = max(row["shared"], use["shared"])
                        if architecture == ARCHITECTURES[0] and assembler == assemblers[0]:
                            row["opcodes"] = opcodes.get(name, {})
    return table


def formulas():
    """What README's table says of each kernel beside the numbers: kernel -> (formula, launcher, test)."""
    rows = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:4]
    return rows


def render(table):
    said = formulas()
    names = {name for _, name in table}
    if names != set(said):
        sys.exit(f"{README} describes {sorted(set(said) - names)} too many, {sorted(names - set(said))} too few")
    columns = ["kernel", "formula", "launcher", "test", "registers", "shared bytes", "warps", " / ".join(EXPECTED)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (_, name), row in sorted(table.items()):
        least, most = min(row["registers"]), max(row["registers"])
        registers = f"{least}–{most}" if least < most else f"{least}"
        opcodes = " / ".join(str(row["opcodes"].get(opcode, 0)) for opcode in EXPECTED)
        opcodes = opcodes if any(row["opcodes"].get(opcode) for opcode in EXPECTED) else ""
        cells = [f"`{name}`", *said[name], registers, str(row["shared"]), str(warps(row)), opcodes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    check = "--check" in sys.argv
    table = render(gate([argument for argument in sys.argv[1:] if argument != "--check"]))
    print(table)
    text = README.read_text()
    before, rest = text.split(START)
    after = rest.split(END)[1]
    new = f"{before}{START}\n{table}\n{END}{after}"
    if check and new != text:
        sys.exit(f"{README}'s table is not current: run scripts/kernel_gates.sh")
    if not check:
        README.write_text(new)


main()
