"""Import this before the project's packages: `inference.py` in this folder is not the package of that name."""

import sys
from pathlib import Path

_path = sys.path[:]
sys.path[:] = [folder for folder in _path if Path(folder).resolve() != Path(__file__).parent.resolve()]
import inference  # noqa: E402, F401 - found now, it stays found

sys.path[:] = _path
