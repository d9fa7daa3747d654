"""Hyper-parameter search with Ray Tune: from a click log to the best model, exported.

    from tune import SearchSettings, run_search

    data = Path("data")
    settings = SearchSettings(train=data, valid=data, out=Path("search"), space_values={"loss": "bpr-max"})
    outcome = run_search(settings)

`python -m tune.search` is the command. Read `search` → `settings` (its flags) → `pipeline` (from data to the exported
model) → the wings in the order of a search: `space` → `cluster` → `trials` → `studies` → `outcome`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.pipeline import run_search
    from tune.settings import SearchSettings

__all__ = ["SearchSettings", "run_search"]

_MODULES = {"SearchSettings": "tune.settings", "run_search": "tune.pipeline"}


def __getattr__(name: str) -> Any:
    """Import on first use: Ray takes seconds to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
