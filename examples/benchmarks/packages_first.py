"""Import this before the project's packages, or `inference` would be the script `inference.py` of this folder."""

import sys
from pathlib import Path

_path = sys.path[:]
sys.path[:] = [folder for folder in _path if Path(folder).resolve() != Path(__file__).parent.resolve()]
import inference  # noqa: E402, F401 - later imports find it loaded

sys.path[:] = _path
