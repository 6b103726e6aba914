#!/usr/bin/env python3
"""Assembles kernels/ptx with two ptxas for every architecture; fails on a spill, stack or local memory.

Keeps the table of kernels/README.md; --check compares it instead. Run through scripts/kernel_gates.sh,
which finds the tools.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90"]
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


def gate(tools):
    """Registers and shared memory of every kernel, by file; exits at the first that uses the stack."""
    cuobjdump, assemblers = tools[0], tools[1:]
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
                    for name, use in kernels.items():
                        if use["stack"] or use["spills"]:
                            sys.exit(f"{name} of {ptx} ({architecture}, {assembler}): {use}")
                        row = table.setdefault((ptx.stem, name), {"registers": [], "shared": 0})
                        row["registers"].append(use["registers"])
                        row["shared"] = max(row["shared"], use["shared"])
    return table


def formulas():
    """What README's table says of each kernel beside the numbers: kernel -> (formula, launcher, test)."""
    rows = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:4]
    return rows


def render(table):
    said = formulas()
    names = {name for _, name in table}
    if names != set(said):
        sys.exit(f"{README} describes {sorted(set(said) - names)} too many, {sorted(names - set(said))} too few")
    lines = ["| kernel | formula | launcher | test | registers | shared bytes |", "|---|---|---|---|---|---|"]
    for (_, name), row in sorted(table.items()):
        least, most = min(row["registers"]), max(row["registers"])
        registers = f"{least}–{most}" if least < most else f"{least}"
        lines.append(f"| `{name}` | {' | '.join(said[name])} | {registers} | {row['shared']} |")
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
