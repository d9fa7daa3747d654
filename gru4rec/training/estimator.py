"""One object from clicks to recommendations, with the habits of scikit-learn.

    model = GRU4Rec(loss="bpr-max", layers=(96,), n_sample=512).fit(clicks)
    model.recommend([["i17", "i4"]], k=5)

It calls what is public elsewhere: `read_events` and `encode`, `train`, `evaluate`, `export` and `Recommender`.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gru4rec.config.train_config import TrainConfig, to_mapping
from gru4rec.data.events import encode, hold_out_last, read_events
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.assessment import Evaluation
from gru4rec.evaluation.evaluator import DEFAULT_CUTOFFS, evaluate
from gru4rec.onnx_export.exporter import export
from gru4rec.training.checkpoint import Model, load_model
from gru4rec.training.run import Callback, train
from gru4rec.training.warm_start import WarmStart
from inference.model.recommender import Recommendation, Recommender
from inference.shared.columns import Columns
from inference.shared.errors import UserError, unknown_choice

USUAL = Columns()


class GRU4Rec:
    """A recommender of next items for sessions.

    Args:
        parameters: the fields of `TrainConfig`, such as loss, layers, n_sample and n_epochs.

    Attributes:
        model_: the trained network with its items, after `fit`.

    Raises:
        UserError: there is no such parameter, or its value is wrong.
    """

    def __init__(self, **parameters: Any):
        self._parameters: dict[str, Any] = {}
        self._recommender: Recommender | None = None
        self.set_params(**parameters)

    # The habits of scikit-learn.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters; None stands for the default of the batching."""
        defaults = {
            field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            for field in dataclasses.fields(TrainConfig)
        }
        return defaults | self._parameters

    def set_params(self, **parameters: Any) -> "GRU4Rec":
        """Change parameters; a fitted model stays as it is until `fit` is called again."""
        names = [field.name for field in dataclasses.fields(TrainConfig)]
        for name in parameters:
            if name not in names:
                raise unknown_choice("parameter", name, names)
        TrainConfig(**self._parameters | parameters)  # checks the values
        self._parameters |= parameters
        return self

    def __repr__(self) -> str:
        return f"GRU4Rec({', '.join(f'{name}={value!r}' for name, value in self._parameters.items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    # From clicks to a model.

    def fit(
        self,
        clicks: Any,
        y: None = None,
        *,
        valid: Any = None,
        init: str | Path | None = None,
        session: str = USUAL.session,
        item: str = USUAL.item,
        time: str = USUAL.time,
        directory: str | Path | None = None,
        callback: Callback | None = None,
    ) -> "GRU4Rec":
        """Train.

        Args:
            clicks: a path, a data frame of any library, or a list of sessions, each of them a list of item ids.
            y: not used; the habit of scikit-learn.
            valid: later clicks to choose the best epoch by, or the share of the latest sessions that is held out.
            init: a model directory to start from.
            session, item, time: names of the columns of frames and files; usual names are recognised.
            directory: keep the model here, so that a killed run resumes and `load` finds it.
            callback: called after every step and epoch.

        Raises:
            UserError: as `read_events` and `train`.
        """
        columns = Columns(session, item, time)
        config = TrainConfig(**self._parameters)
        log = encode(read_events(clicks, columns))
        valid_sessions: Sessions | None = None
        if isinstance(valid, float):
            log, valid_sessions = hold_out_last(log, valid)
        start = WarmStart.read(init) if init is not None else None
        if start is not None:
            log = start.extend_vocabulary(log)
        if valid is not None and valid_sessions is None:
            valid_sessions = encode(read_events(valid, columns, part="valid"), log.vocabulary).sessions
        self.model_ = train(log, config, valid=valid_sessions, directory=directory, callback=callback, init=start)
        self._recommender = None
        return self

    # What a model is for.

    def recommend(self, sessions: Iterable[Sequence[str]], k: int = 20, **options: Any) -> list[Recommendation]:
        """The best next items for each session: `Recommender.recommend` of the exported model."""
        if self._recommender is None:
            with tempfile.TemporaryDirectory(prefix="gru4rec-") as folder:
                self.export(Path(folder) / "model.onnx")
                self._recommender = Recommender.load(Path(folder) / "model.onnx")
        return self._recommender.recommend(sessions, k, **options)

    def evaluate(
        self, clicks: Any, *, cutoffs: Sequence[int] = DEFAULT_CUTOFFS, columns: Columns = USUAL
    ) -> Evaluation:
        """Rank every next item of test sessions; see `gru4rec.evaluate`."""
        model = self._fitted()
        events = read_events(clicks, columns, part="test")
        return evaluate(model.network, encode(events, model.vocabulary).sessions, cutoffs=cutoffs)

    def export(self, path: str | Path) -> None:
        """Write the model as one ONNX file; see `gru4rec.export`."""
        model = self._fitted()
        export(model.network, model.vocabulary, path, config=to_mapping(model.config), metrics=model.metrics)

    @classmethod
    def load(cls, directory: str | Path) -> "GRU4Rec":
        """The model of a directory that `fit` or `gru4rec train` wrote.

        Raises:
            UserError: the folder is no model directory, or is damaged.
        """
        model = load_model(directory)
        loaded = cls(**{field.name: getattr(model.config, field.name) for field in dataclasses.fields(TrainConfig)})
        loaded.model_ = model
        return loaded

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise UserError("expected a trained model; call fit first")
        return self.model_
