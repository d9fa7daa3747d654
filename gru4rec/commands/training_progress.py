"""A training run on the terminal: a bar and a line per epoch; elsewhere only the lines."""

from rich.progress import Progress

from gru4rec.training.memory import GIB, Forecast
from gru4rec.training.run import Callback, EpochResult


class TrainingProgress(Callback):
    """Prints the progress of a training run on stderr.

    Args:
        bar: as `terminal.progress_bar` makes it, started.
        n_epochs: of the run.
    """

    def __init__(self, bar: Progress, n_epochs: int):
        self._bar, self._n_epochs = bar, n_epochs
        self._task = bar.add_task("training", total=None)

    def on_forecast(self, forecast: Forecast) -> None:
        """Announce a run that takes much memory."""
        if forecast.needed >= GIB:
            self._bar.console.print(f"memory: {forecast}", soft_wrap=True)

    def on_step_end(self, epoch: int, done: int, total: int) -> None:
        """Move the bar."""
        if done == 1 or done % 20 == 0 or done == total:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._n_epochs}", completed=done, total=total)

    def on_epoch_end(self, result: EpochResult) -> None:
        """Print the result of the epoch."""
        quality = "" if result.mrr is None else f"  recall@20 {result.recall:.4f}  mrr@20 {result.mrr:.4f}"
        self._bar.console.print(
            f"epoch {result.epoch}/{self._n_epochs}  loss {result.loss:.4f}{quality}  "
            f"{result.seconds:.1f} s  {result.pairs_per_second:,.0f} events/s",
            soft_wrap=True,
        )
