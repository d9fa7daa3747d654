"""The best parameters that the authors of GRU4Rec published, one set per public data set.

They were found by long searches on logs of very different kinds, with a constrained embedding, 2048 additional samples
and 10 epochs, so they are good first guesses for a new log. Small networks come first, so that a search has results
early. Source: the parameter files of the official implementation (github.com/hidasib/GRU4Rec_PyTorch_Official).
"""

from typing import Any

from tune.space.search_space import SearchSpace

_RATES = ("dropout_p_embed", "dropout_p_hidden", "learning_rate", "momentum", "sample_alpha")


def _parameters(loss: str, layers: int, batch_size: int, *rates: float, **options: float) -> dict[str, Any]:
    common = {"constrained_embedding": True, "n_sample": 2048, "loss": loss, "layers": layers, "batch_size": batch_size}
    return {**common, **dict(zip(_RATES, rates, strict=True)), **options}


PUBLISHED: dict[str, dict[str, Any]] = {
    "retailrocket": _parameters("bpr-max", 224, 80, 0.5, 0.05, 0.05, 0.4, 0.4, bpreg=1.95, elu_param=0.5),
    "rsc15": _parameters("cross-entropy", 100, 32, 0.0, 0.4, 0.2, 0.2, 0.5, logq=1.0),
    "diginetica": _parameters("bpr-max", 512, 128, 0.5, 0.3, 0.05, 0.15, 0.3, bpreg=0.9, elu_param=1.0),
    "yoochoose": _parameters("cross-entropy", 480, 48, 0.0, 0.2, 0.07, 0.0, 0.2, logq=1.0),
    "rees46": _parameters("cross-entropy", 512, 240, 0.45, 0.0, 0.065, 0.0, 0.5, logq=1.0),
    "coveo": _parameters("bpr-max", 512, 144, 0.35, 0.0, 0.05, 0.4, 0.2, bpreg=1.85, elu_param=1.0),
}
"""Configuration values by the name of the data set they were found on."""


DEVELOPED_WITH: dict[str, Any] = {"batching": "whole-session", "logq": 1.0}
"""The defaults of whole-session mini-batches: not published, but what they were developed with."""


def select_starting_points(space: SearchSpace, at_most: int) -> list[dict[str, Any]]:
    """The known good models that a space holds, as parameters for a search to begin with.

    Args:
        space: of the search.
        at_most: how many to give.
    """
    points = [space.parameters(model) for model in (*PUBLISHED.values(), DEVELOPED_WITH)]
    return [point for point in points if point is not None][:at_most]
