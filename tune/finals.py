"""The finals: the best models of a search once more, with other seeds.

The best of many trials owes part of its lead to chance, for it was picked by the very number that is reported. Training
the best few again from other random numbers shows how good they are on average, and how much that varies; the winner is
then named by those runs alone. Source: Cawley & Talbot, On Over-fitting in Model Selection, JMLR 11 (2010).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gru4rec.config import TrainConfig, to_mapping
from tune.results import TrialResult, ranked
from tune.suggestions import GivenModels
from tune.trial import EPOCH_METRIC


@dataclass(frozen=True)
class Finals:
    """The runs of the finalists; `tune.study` runs them.

    Attributes:
        finalists: trials of the search, the best first.
        repeats: runs of each, with the seeds that follow its own.
    """

    finalists: tuple[TrialResult, ...]
    repeats: int

    @classmethod
    def of(cls, trials: Sequence[TrialResult], n_finalists: int, repeats: int) -> "Finals":
        """The finals of the best trials of a search that finished an epoch."""
        return cls(tuple(trial for trial in ranked(trials) if trial.best_epoch)[:n_finalists], repeats)

    @property
    def configs(self) -> list[TrainConfig]:
        """Of all runs, finalist after finalist."""
        return [
            trial.config.replace(seed=trial.config.seed + 1 + repeat)
            for trial in self.finalists
            for repeat in range(self.repeats)
        ]

    @property
    def name(self) -> str:
        """Of the folder: other runs have another."""
        models = json.dumps([to_mapping(config) for config in self.configs], sort_keys=True)
        return f"finals-{hashlib.sha256(models.encode()).hexdigest()[:12]}"

    @property
    def n_trials(self) -> int:
        """Of runs."""
        return len(self.configs)

    @property
    def n_total(self) -> int:
        """Of runs, for who counts them."""
        return self.n_trials

    @property
    def n_epochs(self) -> int:
        """Of each run."""
        return max((trial.config.n_epochs for trial in self.finalists), default=1)

    def searcher(self) -> Any:
        """Gives the runs one after the other."""
        return GivenModels([to_mapping(config) for config in self.configs])

    def scheduler(self) -> Any:
        """None: every run is finished, or an average would mean little."""
        return None

    def results(self, runs: Sequence[TrialResult]) -> list["Finalist"]:
        """What came of the finalists, the best first.

        Args:
            runs: in the order of `configs`, none missing.
        """
        rows = [runs[place : place + self.repeats] for place in range(0, len(runs), self.repeats)]
        results = [finalist_of(trial, row) for trial, row in zip(self.finalists, rows, strict=True)]
        return sorted(results, key=lambda finalist: -finalist.mrr)


@dataclass(frozen=True)
class Finalist:
    """A model and its runs.

    Attributes:
        trial: of the search.
        best_epoch: after which the runs were best on average, from 1.
        mrr, recall: at 20, means over the runs after that epoch.
        spread: standard deviation of their MRR@20 (n - 1), 0 for a single run.
        repeats: runs.
    """

    trial: TrialResult
    best_epoch: int
    mrr: float
    recall: float
    spread: float
    repeats: int

    @property
    def as_winner(self) -> TrialResult:
        """The trial with what is known from the runs in the place of what was seen in the search."""
        return replace(self.trial, best_epoch=self.best_epoch, mrr=self.mrr, recall=self.recall)


def finalist_of(trial: TrialResult, runs: Sequence[TrialResult]) -> Finalist:
    """A finalist from its runs; an epoch that a run did not reach, because it diverged, counts as 0.

    Args:
        trial: of the search.
        runs: at least one.
    """
    mrr = np.zeros((len(runs), trial.config.n_epochs))  # [runs, epochs]
    recall = np.zeros_like(mrr)
    for row, run in enumerate(runs):
        for epoch in run.history:
            mrr[row, epoch["epoch"] - 1] = epoch[EPOCH_METRIC]
            recall[row, epoch["epoch"] - 1] = epoch["epoch_recall@20"]
    best = int(mrr.mean(axis=0).argmax())
    spread = float(mrr[:, best].std(ddof=1)) if len(runs) > 1 else 0.0
    return Finalist(trial, best + 1, float(mrr[:, best].mean()), float(recall[:, best].mean()), spread, len(runs))
