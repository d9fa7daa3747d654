"""The blocks of a document: what is set off from its prose as commands, code, or what a command shows."""

import re
import shlex
from dataclasses import dataclass
from itertools import groupby

from tests.support.paths import ROOT

FOLDERS = ("gru4rec", "inference", "tune", "examples", "tests")
GOLDEN_RUNS = ROOT / "tests" / "golden"
FILES = [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
DOCUMENTS = sorted(str(file.relative_to(ROOT)) for file in FILES if GOLDEN_RUNS not in file.parents)
"""Every document of the project; that of the golden runs came with them."""
PROGRAMS = ("gru4rec", "gru4rec-infer", "python", "python3", "bash", "git", ".venv/bin/ruff")
"""What the first line of a block of commands begins with, after assignments of variables."""
ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=\S*$")


@dataclass(frozen=True)
class Block:
    """Lines of a document that are set off.

    Attributes:
        place: document and line, for people.
        kind: the language of a fence; "commands" or "shown" where lines are indented, by their first word.
        text: the lines, without indentation.
    """

    place: str
    kind: str
    text: str

    def commands(self) -> list[list[str]]:
        """The words of each command; comments are left out, and lines that end in a backslash go on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        return [list(part) for line in words for joins, part in groupby(line, "&&".__eq__) if not joins]


def prose_and_blocks(name: str) -> tuple[str, list[Block]]:
    """A document's text without its blocks, and its blocks in their order."""
    prose: list[str] = []
    blocks: list[Block] = []
    fence: str | None = None
    held: list[str] = []

    def close(line: int, kind: str) -> None:
        if held:
            blocks.append(Block(f"{name}:{line - len(held)}", kind, "\n".join(held) + "\n"))
            held.clear()

    blank_before = True
    for number, line in enumerate([*(ROOT / name).read_text(encoding="utf-8").splitlines(), ""], start=1):
        if line.startswith("```"):
            if fence is not None:
                close(number, fence)
            fence = line.removeprefix("```") if fence is None else None
        elif fence is not None:
            held.append(line)
        elif line.startswith("    ") and (blank_before or held):
            held.append(line[4:])
        else:
            close(number, _kind(held))
            prose.append(line)
        blank_before = not line.strip()
    assert fence is None, f"{name}: a fence is not closed"
    return "\n".join(prose), blocks


def without_assignments(words: list[str]) -> list[str]:
    """A command without the variables that are set for it."""
    return [word for number, word in enumerate(words) if not all(map(ASSIGNMENT.match, words[: number + 1]))]


def _kind(lines: list[str]) -> str:
    first = without_assignments(lines[0].split()) if lines else []
    return "commands" if first and first[0] in PROGRAMS else "shown"
