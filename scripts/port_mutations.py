"""Brings the edits of tests/mutations/*.rs to kernels that have been compiled anew: registers and labels have other
numbers then, and an edit that names them no longer fits.

Usage: port_mutations.py REVISION

REVISION is the commit whose kernels/ptx the edits fit. Instructions of the old and the new PTX are matched by
what they are without their numbers; edits whose instruction is gone are left as they are and listed. Read the
diff: a mutation has to say the same as before.
"""
import collections
import difflib
import pathlib
import re
import subprocess
import sys

NUMBERED = re.compile(r"%[a-z]+\d+|\$L_\w+")
MUTATION = re.compile(r'kernel: "(\w+)".*?edits: &\[(.*?)\],\n        caught', re.S)
EDIT = re.compile(r'\(\s*"((?:[^"\\]|\\.)*)",\s*(\d+),\s*"((?:[^"\\]|\\.)*)",?\s*\)')


def kernels(texts):
    """The body of every kernel."""
    found = {}
    for text in texts:
        for part in text.split(".entry ")[1:]:
            name, body = part.split("(", 1)
            found[name] = instructions(body[: body.index("\n}")])
    return found


def instructions(body):
    """Its lines without places in the source, spaces as an edit has them."""
    lines = (" ".join(line.split()) for line in body.split("\n"))
    return [line for line in lines if line and not line.startswith(".loc")]


def plain(line):
    return NUMBERED.sub("#", line)


class Port:
    """From an old body to a new one."""

    def __init__(self, old, new):
        self.old_lines, self.new_lines = old, new
        matcher = difflib.SequenceMatcher(None, list(map(plain, old)), list(map(plain, new)), False)
        self.line = {}
        votes = collections.defaultdict(collections.Counter)
        for block in matcher.get_matching_blocks():
            for i in range(block.size):
                self.line[block.a + i] = block.b + i
                pair = (NUMBERED.findall(self.old_lines[block.a + i]), NUMBERED.findall(self.new_lines[block.b + i]))
                for one, other in zip(*pair):
                    votes[one][other] += 1
        self.names = {name: counter.most_common(1)[0][0] for name, counter in votes.items()}

    def edit(self, find, number, replace):
        """The edit for the new body, or None."""
        find = " ".join(find.split())
        places = [i for i, line in enumerate(self.old_lines) if find in line]
        if not places or number > len(places) or (number == 0 and len(places) > 1):
            return None
        at = self.line.get(places[max(number, 1) - 1])
        if at is None:
            return None
        old, new = self.old_lines[places[max(number, 1) - 1]], self.new_lines[at]
        names = dict(self.names)
        names.update(zip(NUMBERED.findall(old), NUMBERED.findall(new)))
        rename = lambda text: NUMBERED.sub(lambda found: names.get(found.group(), found.group()), text)
        wanted = rename(find)
        places = [i for i, line in enumerate(self.new_lines) if wanted in line]
        if at not in places:
            return None
        return wanted, (places.index(at) + 1 if len(places) > 1 else 0), rename(replace)


def main():
    revision = sys.argv[1]
    paths = sorted(pathlib.Path("kernels/ptx").glob("*.ptx"))
    git = lambda path: subprocess.run(["git", "show", f"{revision}:{path}"], capture_output=True, text=True).stdout
    old, new = kernels(map(git, paths)), kernels(path.read_text() for path in paths)
    ports = {}
    for path in sorted(pathlib.Path("tests/mutations").glob("*.rs")):
        text = path.read_text()

        def mutation(found):
            name, edits = found.groups()
            if name not in old or old[name] == new.get(name):
                return found.group()
            port = ports.setdefault(name, Port(old[name], new[name]))

            def edit(one):
                find, number, replace = one.group(1), int(one.group(2)), one.group(3)
                ported = port.edit(find, number, replace)
                if ported is None:
                    print(f"{path}: {name}: no place for {find!r}, {number}")
                    return one.group()
                return '("{}", {}, "{}")'.format(*ported)

            return found.group().replace(edits, EDIT.sub(edit, edits))

        path.write_text(MUTATION.sub(mutation, text))


main()
