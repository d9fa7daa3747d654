"""The names that `gru4rec` offers to programs."""

import subprocess
import sys

FACE = """
import sys
import gru4rec

assert not (loaded := {"numpy", "torch", "polars"} & set(sys.modules)), loaded
assert set(gru4rec.__all__) <= set(dir(gru4rec))
for name in gru4rec.__all__:
    assert getattr(gru4rec, name).__name__ == name
"""


def test_every_name_is_there_and_imported_when_it_is_used():
    ended = subprocess.run([sys.executable, "-c", FACE], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
