"""Writes the cases of `cargo test -p ptx-emulator --test opcodes`: what every instruction has to give, from
exact integers and fractions, by the PTX manual. `make.py --check` only compares. Where numpy is installed it gives
a second opinion on the rounding."""

import pathlib
import sys

import across
import approximations
import atomics
import compare
import convert
import floats
import integers
import matrices
import memory

FAMILIES = [integers, floats, approximations, convert, compare, across, matrices, memory, atomics]


def main():
    try:
        import opinion

        opinion.check()
    except ModuleNotFoundError:
        print("no numpy: rounding is checked against nothing else", file=sys.stderr)
    folder = pathlib.Path(__file__).parent
    stale = []
    for family in FAMILIES:
        file = family.file()
        path, text = folder / f"{file.name}.txt", file.text()
        if "--check" not in sys.argv:
            path.write_text(text)
        elif path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what make.py gives: {' '.join(stale)}")


if __name__ == "__main__":
    main()
