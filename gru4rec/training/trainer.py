"""Training, one epoch at a time, on either kind of mini-batches.

`session_parallel` or `whole_session` runs the steps. Steps do not wait for the device: the losses stay there and are
checked a few times per epoch, so that a diverged training ends soon.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gru4rec.config.train_config import WHOLE_SESSION, TrainConfig
from gru4rec.data.sessions import EncodedLog
from gru4rec.model.device import choose_device
from gru4rec.model.losses import get_loss
from gru4rec.model.network import Network
from gru4rec.model.precision import choose_precision
from gru4rec.training.dropout import DropNumbers
from gru4rec.training.learner import Learner
from gru4rec.training.optimizers import RowAdagrad, RowAdamW, RowOptimiser
from gru4rec.training.plugins import check_loss, plugin_errors
from gru4rec.training.samplers import build_sampler
from gru4rec.training.session_parallel.batching import SessionParallel
from gru4rec.training.whole_session.batching import WholeSession
from inference.shared.errors import UserError

CHECKS_PER_EPOCH = 32
"""How often the losses of an epoch are fetched from the device."""


class Diverged(UserError):  # noqa: N818 - it says what happened
    """The loss became NaN or infinite, or rose too far.

    Attributes:
        epoch: numbered from 1.
        step: within the epoch, numbered from 0.
    """

    def __init__(self, epoch: int, step: int, what: str = "the loss is not finite"):
        super().__init__(
            f"training diverged: {what} in epoch {epoch}, step {step}; "
            "lower learning_rate or momentum, or raise the dropout"
        )
        self.epoch = epoch
        self.step = step


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did.

    Attributes:
        loss: mean over the trained pairs.
        step_losses: float32 [steps], each the sum over the step's rows / batch_size.
        n_pairs: pairs trained on.
        seconds: wall-clock.
    """

    loss: float
    step_losses: np.ndarray
    n_pairs: int
    seconds: float


class Trainer:
    """A network being trained on one log.

    Args:
        config: the run's choices; its plug-ins are imported already.
        log: the training sessions and their items.
        device: where to train; by default what the configuration names.

    Attributes:
        config, log: as given.
        network: the parameters.
        optimiser: their update rule and its state.
        batching: runs the steps.
        epoch: epochs finished.
        n_steps: steps of an epoch.

    Raises:
        UserError: the configuration names something that does not exist, a plug-in fails or returns something invalid,
            or the log has nothing to train on.
    """

    def __init__(self, config: TrainConfig, log: EncodedLog, device: torch.device | None = None):
        self.config = config
        self.log = log
        self.device = choose_device(config.device) if device is None else device
        precision = choose_precision(config.precision, self.device)
        loss = get_loss(config.loss)
        loss_options = loss.chosen_options(config)
        with plugin_errors(config.plugins):
            check_loss(loss, loss_options, self.device)
            sampler = build_sampler(log.support, config)
        if not (log.sessions.lengths > 1).any():
            raise UserError("expected sessions of at least two clicks to train on, got none")
        batching = WholeSession if config.batching == WHOLE_SESSION else SessionParallel
        self.batching: SessionParallel | WholeSession = batching(config, log, sampler, self.device)
        self.n_steps = self.batching.n_steps
        self.network = Network(len(log.vocabulary), config, self.device)
        self.network.vocabulary = log.vocabulary
        self.optimiser: RowOptimiser
        if config.optimizer == "adamw":
            self.optimiser = RowAdamW(self.network, config.learning_rate, config.n_epochs * self.n_steps)
        else:
            self.optimiser = RowAdagrad(self.network, config.learning_rate, config.momentum)
        dropout = DropNumbers(self.device)
        self.learner = Learner(config, self.network, self.optimiser, sampler, loss, loss_options, dropout, precision)
        self.epoch = 0

    def run_epoch(self, on_step_end: Callable[[int], None] | None = None, max_rise: float = math.inf) -> EpochReport:
        """Train on every session once.

        Args:
            on_step_end: called after every step with the number of steps done.
            max_rise: within the first epoch, the highest ratio of the mean loss between two checks to the loss of the
                first step, which is that of random weights.

        Raises:
            Diverged: the loss of a step was not finite, or the losses rose by more than `max_rise`.
            UserError: a plug-in failed.
        """
        began = time.perf_counter()
        seed = np.random.default_rng([self.config.seed, self.epoch]).integers(1 << 62)
        self.learner.dropout.restart(int(seed))
        # One tensor for all losses: thousands of small ones, each allocated between a step's large ones, would keep the
        # allocator from reusing the memory of those.
        losses, step_losses = torch.empty(self.n_steps, device=self.device), np.empty(0, dtype=np.float32)
        check_interval = max(1, self.n_steps // CHECKS_PER_EPOCH)
        n_done, n_pairs = 0, 0
        with plugin_errors(self.config.plugins):
            for n_targets, loss in self.batching.run(self.learner, self.epoch):
                losses[n_done] = loss
                n_done += 1
                n_pairs += n_targets
                if n_done % check_interval == 0:
                    step_losses = self._check_losses(losses[:n_done], len(step_losses), max_rise)
                if on_step_end is not None:
                    on_step_end(n_done)
        step_losses = self._check_losses(losses[:n_done], len(step_losses), max_rise)
        if not self.network.is_finite():  # the last update, after the last loss, broke it
            raise Diverged(self.epoch + 1, len(step_losses) - 1)
        self.epoch += 1
        total = float(step_losses.astype(np.float64).sum()) * self.config.batch_size
        return EpochReport(total / n_pairs, step_losses, n_pairs, time.perf_counter() - began)

    def _check_losses(self, losses: torch.Tensor, n_seen: int, max_rise: float) -> np.ndarray:
        """The losses of an epoch so far.

        Raises:
            Diverged: a loss after the first `n_seen` is not finite, or they are too high.
        """
        seen = losses.cpu().numpy()
        new = seen[n_seen:]
        broken = np.flatnonzero(~np.isfinite(new))
        if len(broken):
            raise Diverged(self.epoch + 1, n_seen + int(broken[0]))
        if self.epoch == 0 and len(new) and 0 < abs(seen[0]) < new.mean() / max_rise:
            what = f"the loss rose from {seen[0]:.3g} to {new.mean():.3g}"
            raise Diverged(self.epoch + 1, len(seen) - 1, what)
        return seen
