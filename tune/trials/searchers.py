"""Which model to try next: Optuna's TPE, or chance, through Ray Tune's searcher, without trying any model twice.

In a space of few values TPE soon suggests what it has suggested before; such a trial would cost as much as a new one
and teach nothing. So a repeated suggestion is withdrawn and another is asked for, in the end at random; where even that
finds nothing new, the space is exhausted and the search ends early.

A search that is given more trials learns from those it had: they are told to Optuna as if it had suggested them.
"""

import copy
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher, SearchGenerator
from ray.tune.search.optuna import OptunaSearch

from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from tune.cluster.storage import write_seal
from tune.settings import Algorithm
from tune.space.search_space import MODEL, SearchSpace, model_key

NUMBER = "number"
"""Key of a trial's number, from 1, in its configuration."""
REPEATS_BY_TPE = 10
REPEATS_AT_RANDOM = 200


@dataclass(frozen=True)
class Experience:
    """A trial that an earlier round of the search ran.

    Attributes:
        model: its configuration values.
        values: its best metric so far after each epoch; empty if no epoch was finished.
    """

    model: Mapping[str, Any]
    values: Sequence[float]


class DistinctSuggestions(OptunaSearch):  # type: ignore[misc]  # Ray is untyped
    """Suggests models of a space, each once.

    Args:
        space: what to search.
        metric: the key of a trial's reports to maximise.
        starting_points: parameters to begin with.
        seed: of the search.
        experience: trials that were run before; their models are not suggested again.
        search: "optuna" for its TPE, "random" for suggestions that do not depend on the trials so far.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        metric: str,
        starting_points: list[dict[str, Any]],
        seed: int,
        experience: Sequence[Experience] = (),
        search: Algorithm = "optuna",
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._seen = {model_key(trial.model) for trial in experience}
        # not the random choices of the earlier rounds over again; Optuna's seeds have 32 bits, ours 63
        sampler_seed = (seed + len(experience)) % (1 << 32)
        self._at_random = RandomSampler(seed=sampler_seed)
        super().__init__(
            space=space,
            metric=metric,
            mode="max",
            points_to_evaluate=starting_points,
            sampler=TPESampler(seed=sampler_seed) if search == "optuna" else self._at_random,
        )
        for trial in experience:
            told = to_optuna_trial(space, from_mapping(trial.model), trial.values[-1]) if trial.values else None
            if told is not None:
                self._ot_study.add_trial(told)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration: its number, its model and the parameters that led there."""
        sampler = self._ot_study.sampler
        try:
            for attempt in range(REPEATS_BY_TPE + REPEATS_AT_RANDOM):
                if attempt >= REPEATS_BY_TPE:
                    self._ot_study.sampler = self._at_random
                suggested = super().suggest(trial_id)
                key = model_key(suggested[MODEL])
                if key not in self._seen:
                    self._seen.add(key)
                    return {NUMBER: len(self._seen), **copy.deepcopy(suggested)}
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.FAIL)
        finally:
            self._ot_study.sampler = sampler
        finished: str = Searcher.FINISHED
        return finished

    def restore(self, checkpoint_path: str) -> None:
        """Read the state that another process saved; the space is the one of this process."""
        with open(checkpoint_path, "rb") as file:
            state = _StateUnpickler(file).load()
        self.__dict__.update({**state, "_space": self._space})

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch is over: Optuna would only use it to stop trials, and takes none twice from one that goes on."""


class _StateUnpickler(pickle.Unpickler):
    """Reads the state of a searcher without our own classes: they may have moved since a search was interrupted."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of this name, or a stand-in for one of ours."""
        return type(name, (), {}) if module.startswith("tune.") else super().find_class(module, name)


class ModelList(Searcher):  # type: ignore[misc]  # Ray is untyped
    """Suggests models of a list, in its order.

    Args:
        models: their configuration values.
        first_number: of the first one's trial.
    """

    def __init__(self, models: Sequence[Mapping[str, Any]], first_number: int = 1):
        super().__init__(metric=None, mode=None)
        self._models = list(models)
        self._first_number = first_number
        self._given = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration: its number and its model."""
        if self._given == len(self._models):
            finished: str = Searcher.FINISHED
            return finished
        place = self._given
        self._given += 1
        return {NUMBER: self._first_number + place, MODEL: dict(self._models[place])}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learnt."""

    def save(self, checkpoint_path: str) -> None:
        """Write how far it has come."""
        Path(checkpoint_path).write_text(json.dumps(self._given), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Take up where another process stopped."""
        self._given = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))


class CheckedSearchGenerator(SearchGenerator):  # type: ignore[misc]  # Ray is untyped
    """Makes trials of what a searcher suggests, as Ray does, and seals the state of both; see `tune.cluster.storage`.

    Args:
        searcher: suggests them.
    """

    def __init__(self, searcher: Searcher):
        super().__init__(searcher)
        self._trials: list[str] = []

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Any:
        """The next trial, if there is one."""
        trial = super().create_trial_if_possible(experiment_spec)
        if trial is not None:
            self._trials.append(trial.trial_id)
        return trial

    def get_state(self) -> dict[str, Any]:
        """What goes on when the search does."""
        return {**super().get_state(), "trials": self._trials}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up where another process stopped."""
        super().set_state(state)
        self._trials = state["trials"]

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Write the state, and its seal."""
        super().save_to_dir(dirpath, session_str)
        names = (self.searcher.CKPT_FILE_TMPL, self.CKPT_FILE_TMPL)
        write_seal(Path(dirpath), session_str, self._trials, [name.format(session_str) for name in names])


def to_optuna_trial(space: SearchSpace, config: TrainConfig, value: float) -> FrozenTrial | None:
    """A finished trial as Optuna would have it; None if the space does not hold the model.

    Args:
        space: that the model was drawn from.
        config: of the model.
        value: its metric.
    """
    parameters = space.parameters(to_mapping(config))
    if parameters is None:
        return None
    fixed = FixedTrial(parameters)
    space(fixed)
    return create_trial(params=fixed.params, distributions=fixed.distributions, value=value)
