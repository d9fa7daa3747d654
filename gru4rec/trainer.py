"""The training step and the epoch.

One step takes one click of every lane:

    gather the rows of the inputs and of the scored columns → GRU → scores [B, C] → loss → gradients with respect to the
    gathered rows and the GRU weights → update those rows and weights.

The state is detached: there is no back-propagation through time. The dropped-out output of a layer is both the next
layer's input and the state carried to the next step. Within an epoch nothing waits for the device: losses stay there
and are looked at once, at the end.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec.config import TrainConfig
from gru4rec.losses import correct_for_sampling, get_loss
from gru4rec.model import Network
from gru4rec.optim import RowAdagrad
from gru4rec.samplers import build_sampler
from gru4rec.schedule import SessionParallelSchedule
from gru4rec.sessions import EncodedLog
from gru4rec.steps import Step, StepPreparation
from inference.errors import UserError


class Diverged(UserError):  # noqa: N818 - it says what happened
    """The loss became NaN or infinite.

    Attributes:
        epoch: numbered from 1.
        step: within the epoch, numbered from 0.
    """

    def __init__(self, epoch: int, step: int):
        super().__init__(
            f"training diverged: the loss is not finite in epoch {epoch}, step {step}; "
            "lower learning_rate or momentum, or raise the dropout"
        )
        self.epoch = epoch
        self.step = step


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did.

    Attributes:
        epoch: numbered from 1.
        loss: mean over the trained pairs.
        step_losses: float32 [steps], each the sum over the step's rows / batch_size.
        n_pairs: pairs trained on.
        seconds: wall-clock.
    """

    epoch: int
    loss: float
    step_losses: np.ndarray
    n_pairs: int
    seconds: float


def import_plugins(config: TrainConfig) -> None:
    """Import the modules that register the user's own losses and samplers.

    Raises:
        UserError: a module cannot be imported.
    """
    for module in config.plugins:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"plugins: cannot import {module!r}: {error}; is its folder on PYTHONPATH?") from error


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or else the CPU.

    Raises:
        UserError: no such device is there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device: cannot use {name!r} ({reason}); use auto, cpu or cuda") from None
    return device


class Trainer:
    """A network being trained on one log.

    Args:
        config: the run's choices.
        log: the training sessions and their items.

    Attributes:
        config, log: as given.
        network: the parameters.
        optimiser: their update rule and its state.
        epoch: epochs finished.
        n_steps: steps of an epoch.

    Raises:
        UserError: the configuration names something that does not exist, or the log has nothing to train on.
    """

    def __init__(self, config: TrainConfig, log: EncodedLog):
        import_plugins(config)
        self.config = config
        self.log = log
        self.device = choose_device(config.device)
        self._loss = get_loss(config.loss)
        self._loss_options = self._loss.chosen_options(config)
        self._sampler = build_sampler(log.support, config)
        self._schedule = SessionParallelSchedule(log.sessions, config.batch_size)
        self.n_steps = self._schedule.n_steps
        lanes = min(config.batch_size, self._schedule.n_sessions)
        if lanes == 0:
            raise UserError("expected sessions of at least two clicks to train on, got none")
        if lanes + self._sampler.n_sample < 2 and not self._sampler.every_item:
            raise UserError(
                "expected negatives to learn from, got a single lane and no additional samples; "
                "raise batch_size or n_sample, or give more sessions"
            )

        self.network = Network(len(log.vocabulary), config, self.device)
        self.optimiser = RowAdagrad(self.network, config.learning_rate, config.momentum)
        self.epoch = 0
        self._preparation = StepPreparation(
            self._schedule,
            self._sampler,
            len(log.vocabulary),
            constrained=self.network.constrained,
            seed=config.seed,
            device=self.device,
        )
        self._diagonal = torch.arange(config.batch_size, device=self.device)
        self._log_support = torch.from_numpy(np.log(log.support)).to(self.device, torch.float32)
        self._log_weight = torch.from_numpy(self._sampler.log_weight).to(self.device, torch.float32)
        self._dropout = torch.Generator(self.device)

    def run_epoch(self, progress: Callable[[int], None] | None = None) -> EpochReport:
        """Train on every session once.

        Args:
            progress: called with the number of steps done, after every step.

        Raises:
            Diverged: the loss of a step was not finite.
        """
        began = time.perf_counter()
        self._dropout.manual_seed(int(np.random.default_rng([self.config.seed, self.epoch]).integers(1 << 62)))
        losses, n_pairs = [], 0
        for step, loss in self._steps():
            losses.append(loss)
            n_pairs += len(step.targets)
            if progress is not None:
                progress(step.number + 1)
        step_losses = torch.stack(losses).cpu().numpy()
        broken = np.flatnonzero(~np.isfinite(step_losses))
        if len(broken):
            raise Diverged(self.epoch + 1, int(broken[0]))
        if not self.network.is_finite():  # broken by the last update, after the last loss
            raise Diverged(self.epoch + 1, len(step_losses) - 1)
        self.epoch += 1
        total = float(step_losses.astype(np.float64).sum()) * self.config.batch_size
        return EpochReport(self.epoch, total / n_pairs, step_losses, n_pairs, time.perf_counter() - began)

    def _steps(self) -> Iterator[tuple[Step, Tensor]]:
        state = self.network.zero_state(min(self.config.batch_size, self._schedule.n_sessions))
        for step in self._preparation.steps(self.epoch):
            if len(step.columns.items) < 2 and not self._sampler.every_item:
                return  # one lane and no additional samples from here on: nothing to compare the target with
            if step.survivors is not None:
                state = [hidden.index_select(0, step.survivors) for hidden in state]
            loss, state = self._run_step(step, [hidden * step.carry for hidden in state])
            yield step, loss

    def _run_step(self, step: Step, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Train on one step; gives its loss and the next state, both detached."""
        network, config = self.network, self.config
        inputs = network.input_table.index_select(0, step.inputs.items).requires_grad_()  # [B, E]
        dense = network.dense.detach().requires_grad_()
        if self._sampler.every_item:
            columns, bias = network.output_table.detach(), network.output_bias.detach()  # [N, H], [N]
            positive = step.targets
        else:
            columns = network.output_table.index_select(0, step.columns.items)  # [C, H]
            bias = network.output_bias.index_select(0, step.columns.items)  # [C]
            positive = self._diagonal[: len(step.targets)]
        columns.requires_grad_()
        bias.requires_grad_()

        output = self._dropped(inputs, config.dropout_p_embed)
        following = []
        for layer, hidden in zip(network.layers_from(dense), state, strict=True):
            output = self._dropped(layer(output, hidden), config.dropout_p_hidden)
            following.append(output.detach())
        scores = torch.addmm(self._corrected(bias, step), output, columns.T)  # [B, C]
        per_row = self._loss.function(scores, positive, None, **self._loss_options)
        loss = per_row.sum() / config.batch_size

        gradients = torch.autograd.grad(loss, [inputs, columns, bias, dense])
        self._update(step, *gradients)
        return loss.detach(), following

    def _corrected(self, bias: Tensor, step: Step) -> Tensor:
        """The bias less the sampling correction: the same for all rows, so it costs no pass over the scores."""
        if not self.config.logq:
            return bias
        n_targets = len(step.targets)
        frequency = [
            self._log_support.index_select(0, step.targets),
            self._log_weight.index_select(0, step.columns.items[n_targets:]),
        ]
        return correct_for_sampling(bias, torch.cat(frequency), self.config.logq)

    def _dropped(self, values: Tensor, share: float) -> Tensor:
        if share == 0:
            return values
        kept = torch.rand(values.shape, generator=self._dropout, device=values.device).ge_(share)
        return values * kept.div_(1 - share)

    def _update(self, step: Step, inputs: Tensor, columns: Tensor, bias: Tensor, dense: Tensor) -> None:
        """Apply the gradients of one step's inputs [B, E], columns [C, H], bias [C] and GRU weights."""
        optimiser = self.optimiser
        optimiser.update_all("dense", dense)
        if self._sampler.every_item:
            if step.both is not None:
                columns.index_add_(0, step.inputs.items, inputs)
            else:
                optimiser.update_rows("input_table", step.inputs, inputs)
            optimiser.update_all("output_table", columns)
            optimiser.update_all("output_bias", bias)
            return
        optimiser.update_rows("output_bias", step.columns, bias)
        if step.both is not None:
            optimiser.update_rows("output_table", step.both, torch.cat([columns, inputs]))
        else:
            optimiser.update_rows("output_table", step.columns, columns)
            optimiser.update_rows("input_table", step.inputs, inputs)
