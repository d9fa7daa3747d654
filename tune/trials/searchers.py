"""Which model to try next: Optuna's TPE or random search through Ray Tune's searcher, no model twice.

In a space of few values TPE soon repeats itself, and a repeated trial costs as much as a new one and teaches nothing.
So a repeated suggestion is withdrawn and another one asked for, in the end at random. If even that gives nothing new,
the space is exhausted and the search ends early.

More trials for a finished search learn from the earlier ones: these are added to Optuna's study.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FixedTrial, create_trial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from gru4rec.config.train_config import to_mapping
from tune.settings import Algorithm
from tune.space.search_space import MODEL, SearchSpace, model_key
from tune.trials.results import TrialResult
from tune.trials.trial import METRIC, NUMBER

STUDY = "search"
REPEATS_BY_TPE = 10
REPEATS_AT_RANDOM = 200


class DistinctSuggestions(OptunaSearch):  # type: ignore[misc]  # Ray is untyped
    """Suggests models of a space, each once.

    Args:
        space: to search.
        starting_points: parameters to begin with.
        seed: of the search.
        earlier: trials of earlier rounds; their models are not suggested again.
        search: "optuna" for its TPE, "random" for suggestions that do not depend on the trials so far.
    """

    def __init__(
        self,
        space: SearchSpace,
        starting_points: list[dict[str, Any]],
        seed: int,
        earlier: Sequence[TrialResult] = (),
        search: Algorithm = "optuna",
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # other random choices than in the earlier rounds; Optuna's seeds have 32 bits, ours 63
        sampler_seed = (seed + len(earlier)) % ((1 << 32) - 1)
        storage = InMemoryStorage()
        super().__init__(
            space=space,
            metric=METRIC,
            mode="max",
            points_to_evaluate=starting_points,
            sampler=(TPESampler if search == "optuna" else RandomSampler)(seed=sampler_seed),
            study_name=STUDY,
            storage=storage,
        )
        self._models = space
        self._seen = {model_key(to_mapping(trial.config)) for trial in earlier}
        self._attempts: dict[str, str] = {}  # the id under which Ray's searcher knows a trial
        self._study = optuna.load_study(study_name=STUDY, storage=storage)
        self._random_study = optuna.create_study(sampler=RandomSampler(seed=sampler_seed + 1))
        add_trials(self._study, space, [trial for trial in earlier if trial.history])

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration: its number, its model and the parameters that led there."""
        for attempt in range(REPEATS_BY_TPE + REPEATS_AT_RANDOM):
            if attempt >= REPEATS_BY_TPE:
                random = self._random_study.ask()
                self._models(random)
                self._study.enqueue_trial(random.params)
            self._attempts[trial_id] = f"{trial_id}-{attempt}"
            suggested = super().suggest(self._attempts[trial_id])
            key = model_key(suggested[MODEL])
            if key not in self._seen:
                self._seen.add(key)
                return {NUMBER: len(self._seen), **copy.deepcopy(suggested)}
            super().on_trial_complete(self._attempts[trial_id], error=True)  # withdrawn: TPE ignores failed trials
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignored: Optuna would only use an epoch to stop trials, and accepts none twice from one that is resumed."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna the result of a trial."""
        super().on_trial_complete(self._attempts.get(trial_id, trial_id), result, error)


class ModelList(Searcher):  # type: ignore[misc]  # Ray is untyped
    """Suggests models of a list, in its order.

    Args:
        models: their configuration values.
        first_number: of the first model's trial.
    """

    def __init__(self, models: Sequence[Mapping[str, Any]], first_number: int = 1):
        super().__init__(metric=None, mode=None)
        self._models = list(models)
        self._first_number = first_number
        self._n_suggested = 0

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration: its number and its model."""
        place = self._n_suggested
        if place == len(self._models):
            return Searcher.FINISHED
        self._n_suggested += 1
        return {NUMBER: self._first_number + place, MODEL: dict(self._models[place])}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ignored: the models are given."""

    def save(self, checkpoint_path: str) -> None:
        """Write how many models were suggested."""
        Path(checkpoint_path).write_text(json.dumps(self._n_suggested), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Resume where another process stopped."""
        self._n_suggested = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))


def add_trials(study: optuna.Study, space: SearchSpace, trials: Sequence[TrialResult]) -> None:
    """Add trials to a study of Optuna, except for those whose model the space does not hold.

    Args:
        study: that learns from them.
        space: that their models were drawn from.
        trials: that finished an epoch.
    """
    for trial in trials:
        parameters = space.parameters(to_mapping(trial.config))
        if parameters is not None:
            fixed = FixedTrial(parameters)
            space(fixed)
            study.add_trial(create_trial(params=fixed.params, distributions=fixed.distributions, value=trial.mrr))
