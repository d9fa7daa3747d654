"""The best parameters that the authors of GRU4Rec published, one set per public data set.

They were found by long searches on logs of very different kinds, with a constrained embedding, 2048 additional samples
and 10 epochs, so they are good first guesses for a new log. Small networks come first, so that a search has results
early. Source: the parameter files of the official implementation (github.com/hidasib/GRU4Rec_PyTorch_Official).
"""

from typing import Any

from tune.space.search_space import SearchSpace

_COMMON: dict[str, Any] = {"constrained_embedding": True, "n_sample": 2048}


def _cross_entropy(**values: Any) -> dict[str, Any]:
    return {**_COMMON, "loss": "cross-entropy", "logq": 1.0, **values}


def _bpr_max(**values: Any) -> dict[str, Any]:
    return {**_COMMON, "loss": "bpr-max", **values}


def _rates(embed: float, hidden: float, learning_rate: float, momentum: float) -> dict[str, float]:
    return {
        "dropout_p_embed": embed,
        "dropout_p_hidden": hidden,
        "learning_rate": learning_rate,
        "momentum": momentum,
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "retailrocket": _bpr_max(
        layers=224, batch_size=80, **_rates(0.5, 0.05, 0.05, 0.4), sample_alpha=0.4, bpreg=1.95, elu_param=0.5
    ),
    "rsc15": _cross_entropy(layers=100, batch_size=32, **_rates(0.0, 0.4, 0.2, 0.2), sample_alpha=0.5),
    "diginetica": _bpr_max(
        layers=512, batch_size=128, **_rates(0.5, 0.3, 0.05, 0.15), sample_alpha=0.3, bpreg=0.9, elu_param=1.0
    ),
    "yoochoose": _cross_entropy(layers=480, batch_size=48, **_rates(0.0, 0.2, 0.07, 0.0), sample_alpha=0.2),
    "rees46": _cross_entropy(layers=512, batch_size=240, **_rates(0.45, 0.0, 0.065, 0.0), sample_alpha=0.5),
    "coveo": _bpr_max(
        layers=512, batch_size=144, **_rates(0.35, 0.0, 0.05, 0.4), sample_alpha=0.2, bpreg=1.85, elu_param=1.0
    ),
}
"""Configuration values by the name of the data set they were found on."""


DEVELOPED_WITH: dict[str, Any] = {"batching": "whole-session", "logq": 1.0}
"""The defaults of whole-session mini-batches: not published, but what they were developed with."""


def first_points(space: SearchSpace, at_most: int) -> list[dict[str, Any]]:
    """The known good models that a space holds, as parameters for a search to begin with.

    Args:
        space: of the search.
        at_most: how many to give.
    """
    points = [space.parameters(model) for model in (*PUBLISHED.values(), DEVELOPED_WITH)]
    return [point for point in points if point is not None][:at_most]
