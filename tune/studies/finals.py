"""The finals: the best models of a search once more, with other seeds.

The best of many trials owes part of its lead to chance, since it was picked by the very number that is reported.
Training the best few again with other random numbers shows how good they are on average, and how much that varies; the
winner is chosen by these runs alone. Source: Cawley & Talbot, On Over-fitting in Model Selection, JMLR 11 (2010).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gru4rec.config.train_config import TrainConfig, to_mapping
from tune.trials.results import TrialResult, rank
from tune.trials.trial import EPOCH_METRIC, serialize_model


class Finals:
    """The runs of the finalists: the best trials of a search that finished an epoch, the best first.

    Args:
        trials: of the search.
        n_finalists: how many of them.
        repeats: runs of each, with the seeds that follow its own.
        known: runs of earlier finals, which are not run again.
    """

    def __init__(
        self, trials: Sequence[TrialResult], n_finalists: int, repeats: int, known: Sequence[TrialResult] = ()
    ):
        self.finalists = [trial for trial in rank(trials) if trial.best_epoch][:n_finalists]
        self.repeats = repeats
        self._known = {_key(run.config): run for run in known}

    def configs_of(self, trial: TrialResult) -> list[TrainConfig]:
        """Of all runs of a finalist."""
        return [trial.config.replace(seed=trial.config.seed + 1 + repeat) for repeat in range(self.repeats)]

    @property
    def missing(self) -> list[TrainConfig]:
        """Of the runs that are not known, finalist after finalist."""
        configs = [config for trial in self.finalists for config in self.configs_of(trial)]
        return [config for config in configs if _key(config) not in self._known]

    @property
    def name(self) -> str:
        """Of the folder of the missing runs: other runs have another."""
        return f"finals-{hashlib.sha256(json.dumps([*map(_key, self.missing)]).encode()).hexdigest()[:12]}"

    def results(self) -> list["Finalist"]:
        """The results of the finalists, the best first, when no run is missing."""
        results = [
            average_runs(trial, [self._known[_key(config)] for config in self.configs_of(trial)])
            for trial in self.finalists
        ]
        return sorted(results, key=lambda finalist: -finalist.mrr)


@dataclass(frozen=True)
class Finalist:
    """A model and its runs.

    Attributes:
        trial: of the search.
        best_epoch: with the best mean over the runs, from 1.
        mrr, recall: at 20, means over the runs after that epoch.
        spread: standard deviation of their MRR@20 (n - 1), 0 for a single run.
        repeats: runs.
        failures: reasons of the runs that failed.
    """

    trial: TrialResult
    best_epoch: int
    mrr: float
    recall: float
    spread: float
    repeats: int
    failures: tuple[str, ...] = ()

    @property
    def as_winner(self) -> TrialResult:
        """The trial with the figures of the runs in place of those of the search."""
        return replace(self.trial, best_epoch=self.best_epoch, mrr=self.mrr, recall=self.recall)


def average_runs(trial: TrialResult, runs: Sequence[TrialResult]) -> Finalist:
    """A finalist from its runs.

    An epoch that a run did not reach, because it diverged or failed, counts as 0. Where runs were stopped early, only
    the epochs that all of those reached count.

    Args:
        trial: of the search.
        runs: at least one.
    """
    n_epochs = min((run.epochs for run in runs if run.status == "stopped"), default=trial.config.n_epochs)
    mrr = np.zeros((len(runs), n_epochs))  # [runs, epochs]
    recall = np.zeros_like(mrr)
    for row, run in enumerate(runs):
        for epoch in run.history[:n_epochs]:
            mrr[row, epoch["epoch"] - 1] = epoch[EPOCH_METRIC]
            recall[row, epoch["epoch"] - 1] = epoch["epoch_recall@20"]
    best = int(mrr.mean(axis=0).argmax())
    spread = float(mrr[:, best].std(ddof=1)) if len(runs) > 1 else 0.0
    failures = tuple(run.error for run in runs if run.status == "failed")
    return Finalist(
        trial, best + 1, float(mrr[:, best].mean()), float(recall[:, best].mean()), spread, len(runs), failures
    )


def _key(config: TrainConfig) -> str:
    return serialize_model(to_mapping(config))
