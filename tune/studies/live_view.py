"""What the user sees while a search runs: a live table on a terminal, a line per trial elsewhere.

Ray pickles the view with the search before it starts, and restores its state when a search is resumed; so the state is
plain values, and the terminal is opened only at the start.
"""

import time
from typing import Any

from ray import tune as ray_tune
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gru4rec.config.train_config import from_mapping
from tune.space.search_space import MODEL
from tune.trials.results import describe_model
from tune.trials.trial import EPOCH_METRIC, METRIC, NUMBER

SPARKS = "▁▂▃▄▅▆▇█"
SECONDS_BETWEEN_DRAWINGS = 0.5


class SearchView(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Shows a search, as a callback of Ray Tune.

    Args:
        n_trials: of the search.
        n_epochs: of a trial that is not stopped early.
        n_before: of the search's trials, those of earlier rounds.
    """

    def __init__(self, n_trials: int, n_epochs: int, n_before: int = 0):
        self._n_trials = n_trials
        self._n_before = n_before
        self._n_epochs = n_epochs
        self._best: tuple[float, int] = (0.0, 0)
        self._curves: dict[str, list[float]] = {}
        self._ended: set[str] = set()
        self._console: Console | None = None
        self._live: Live | None = None
        self._started = time.monotonic()
        self._drawn = 0.0
        self._ended_at_start: int | None = None

    def get_state(self) -> dict[str, Any]:
        """What a resumed search needs."""
        return {"best": self._best, "curves": self._curves, "over": self._ended}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of the search that is resumed."""
        self._best, self._curves, self._ended = state["best"], state["curves"], state["over"]

    def setup(self, **_: Any) -> None:
        """The search starts."""
        self._console = Console(stderr=True, highlight=False)
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Something may have happened."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn > SECONDS_BETWEEN_DRAWINGS:
            self._drawn = now
            self._live.update(self._draw(trials), refresh=True)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial finished an epoch."""
        if EPOCH_METRIC in result and not result.get("outcome"):
            self._curves.setdefault(trial.trial_id, []).append(result[EPOCH_METRIC])
        if result[METRIC] > self._best[0]:
            self._best = (result[METRIC], trial.config[NUMBER])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial ended."""
        result = trial.last_result
        epoch = result.get("epoch", 0)
        ended = result.get("outcome") or ("finished" if epoch >= self._n_epochs else "stopped early")
        if ended == "stopped early":
            ended += f" after epoch {epoch}/{self._n_epochs}"
        self._print(trial, f"{ended}: {result['error']}" if result.get("error") else ended)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial failed for the last time."""
        self._print(trial, "failed")

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """The search ended, or was interrupted."""
        if self._live is not None:
            self._live.stop()

    def _print(self, trial: Any, ended: str) -> None:
        if trial.trial_id in self._ended or self._console is None:
            return
        self._ended.add(trial.trial_id)
        result = trial.last_result
        quality = f"mrr@20 {result.get(METRIC, 0.0):.4f}  recall@20 {result.get('recall@20', 0.0):.4f}"
        best = f"best {self._best[0]:.4f} (trial {self._best[1]})" if self._best[1] else "no best yet"
        self._console.print(
            f"trial {trial.config[NUMBER]}/{self._n_trials} {ended}  {quality}  {result.get('seconds', 0.0):.0f} s  "
            f"[{describe_model(from_mapping(trial.config[MODEL]))}]  {best}",
            markup=False,
            soft_wrap=True,
        )

    def _draw(self, trials: list[Any]) -> Group:
        running = [trial for trial in trials if trial.status == "RUNNING"]
        done = self._n_before + sum(trial.is_finished() for trial in trials)
        if self._ended_at_start is None:
            self._ended_at_start = done
        elapsed, newly_done = time.monotonic() - self._started, done - self._ended_at_start
        to_go = elapsed / newly_done * (self._n_trials - done) if newly_done else None
        left = "time left unknown" if to_go is None else f"about {to_go / 60:.1f} min left"
        best = f"best mrr@20 {self._best[0]:.4f} (trial {self._best[1]})" if self._best[1] else "no epoch finished yet"
        table = Table(box=None, padding=(0, 1))
        for name in ("trial", "epoch", "mrr@20", "", "model"):
            table.add_column(name, justify="left" if name in ("", "model") else "right", no_wrap=name != "model")
        for trial in running:
            curve = self._curves.get(trial.trial_id, [])
            table.add_row(
                str(trial.config[NUMBER]),
                f"{len(curve)}/{self._n_epochs}",
                f"{curve[-1]:.4f}" if curve else "",
                sparkline(curve),
                describe_model(from_mapping(trial.config[MODEL])),
            )
        return Group(Text(f"{done}/{self._n_trials} trials done, {best}, {elapsed / 60:.1f} min, {left}"), table)


def sparkline(values: list[float]) -> str:
    """A curve in one line of text.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    places = [(value - low) / (high - low) if high > low else 1.0 for value in values]
    return "".join(SPARKS[round(place * (len(SPARKS) - 1))] for place in places)
