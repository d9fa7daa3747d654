"""Recommendations from an exported GRU4Rec model, with numpy and onnxruntime, without torch.

from inference import Recommender

recommender = Recommender.load("model.onnx")
for recommendation in recommender.recommend([["item 7", "item 9"]], k=5):
    print(recommendation.items, recommendation.scores)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inference.shared.errors import UserError

if TYPE_CHECKING:
    from inference.model.recommender import Recommendation, Recommender, SessionState
    from inference.shared.vocabulary import Vocabulary

__all__ = ["Recommendation", "Recommender", "SessionState", "UserError", "Vocabulary"]

_MODULES = {
    "Recommendation": "inference.model.recommender",
    "Recommender": "inference.model.recommender",
    "SessionState": "inference.model.recommender",
    "Vocabulary": "inference.shared.vocabulary",
}


def __getattr__(name: str) -> Any:
    """Load a name on first use: most of a short command is start-up, and --help needs no numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Include names that are not loaded yet, for completion in notebooks."""
    return sorted({*globals(), *__all__})
