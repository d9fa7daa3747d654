"""GRU4Rec: session-based recommendation with recurrent networks, from a click log to one ONNX file.

    from gru4rec import GRU4Rec

    model = GRU4Rec(loss="bpr-max").fit("clicks.tsv")
    model.recommend([["i17", "i4"]], k=5)
    model.export("model.onnx")

The wings, in the order of the data: `data` → `preparation` → `model` → `training` → `evaluation` → `onnx_export`. The
command line is in `cli` and `commands`, the configuration of a run in `config`, compiled loops in `kernels`. What
training and scoring share is in the package `inference`, which never imports this one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gru4rec.config.train_config import TrainConfig as TrainConfig
    from gru4rec.data.events import encode as encode
    from gru4rec.data.events import hold_out_last as hold_out_last
    from gru4rec.data.events import read_events as read_events
    from gru4rec.evaluation.evaluator import evaluate as evaluate
    from gru4rec.model.losses import register_loss as register_loss
    from gru4rec.onnx_export.exporter import export as export
    from gru4rec.training.checkpoint import load_model as load_model
    from gru4rec.training.estimator import GRU4Rec as GRU4Rec
    from gru4rec.training.run import train as train
    from gru4rec.training.samplers import register_sampler as register_sampler

_MODULES = {
    "TrainConfig": "gru4rec.config.train_config",
    "encode": "gru4rec.data.events",
    "hold_out_last": "gru4rec.data.events",
    "read_events": "gru4rec.data.events",
    "evaluate": "gru4rec.evaluation.evaluator",
    "register_loss": "gru4rec.model.losses",
    "export": "gru4rec.onnx_export.exporter",
    "load_model": "gru4rec.training.checkpoint",
    "GRU4Rec": "gru4rec.training.estimator",
    "train": "gru4rec.training.run",
    "register_sampler": "gru4rec.training.samplers",
}


__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that the command line can show its help without loading torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The names, loaded or not, for completion in notebooks."""
    return sorted({*globals(), *__all__})
