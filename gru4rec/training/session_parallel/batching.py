"""Training on session-parallel mini-batches, as in the papers: one click of every slot per step.

    gather the rows of the inputs and of the scored columns → GRU → scores [B, C] → loss → gradients with respect to the
    gathered rows and the GRU weights → update those rows and weights.

The columns are the step's own targets and the additional negatives. The state is detached: there is no back-propagation
through time. The dropped-out output of a layer is both the next layer's input and the state carried to the next step.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig
from gru4rec.data.sessions import EncodedLog
from gru4rec.model.losses import correct_for_sampling
from gru4rec.training.dropout import apply_dropout
from gru4rec.training.learner import Learner
from gru4rec.training.samplers import Sampler
from gru4rec.training.session_parallel import compiled_step
from gru4rec.training.session_parallel.compiled_step import StepGradients
from gru4rec.training.session_parallel.schedule import SessionParallelSchedule
from gru4rec.training.session_parallel.steps import Step, StepPreparation
from inference.shared.errors import UserError


class SessionParallel:
    """Trains on session-parallel mini-batches of `batch_size` slots.

    Args:
        config: the run's choices.
        log: the training sessions and their items.
        sampler: source of the additional negatives.
        device: where the tensors are needed.

    Attributes:
        n_steps: steps of an epoch.

    Raises:
        UserError: there is only ever one slot and no additional negative, so nothing to compare a target with.
    """

    def __init__(self, config: TrainConfig, log: EncodedLog, sampler: Sampler, device: torch.device):
        self._config = config
        self._sampler = sampler
        schedule = SessionParallelSchedule(log.sessions, config.batch_size)
        self.n_steps = schedule.n_steps
        self._n_slots = min(config.batch_size, schedule.n_sessions)
        if self._n_slots == 1 and not sampler.n_sample and not sampler.every_item:
            raise UserError(
                "expected negatives to learn from, got a single slot and no additional samples; "
                "raise batch_size or n_sample, or give more sessions"
            )
        self._preparation = StepPreparation(schedule, sampler, len(log.vocabulary), config, device)
        self._diagonal = torch.arange(config.batch_size, device=device)
        self._log_support = torch.from_numpy(np.log(np.maximum(log.support, 1))).to(device, torch.float32)
        self._log_weight = torch.from_numpy(sampler.log_weight).to(device, torch.float32)

    def run(self, learner: Learner, epoch: int) -> Iterator[tuple[int, Tensor]]:
        """Train on every session once; yields each step's number of rows and loss.

        Args:
            learner: what is trained.
            epoch: numbered from 0.
        """
        state = learner.network.zero_state(self._n_slots)
        weights = compiled_step.weights(learner)
        for step in self._preparation.steps(epoch):
            if len(step.rows.columns.items) < 2 and not self._sampler.every_item:
                return  # one slot and no additional samples from here on: nothing to compare the target with
            if step.survivors is not None:
                state = [hidden.index_select(0, step.survivors) for hidden in state]
            learner.optimiser.begin_step(epoch * self.n_steps + step.number)
            with learner.precision.apply():
                state = [hidden * step.carry for hidden in state]
                numbers = learner.drop_numbers(len(step.targets))
                loss, state = self._run_step(learner, step, state, numbers, weights)
            yield len(step.targets), loss

    def _run_step(
        self,
        learner: Learner,
        step: Step,
        state: list[Tensor],
        drops: list[Tensor | None],
        weights: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Train on one step; returns its loss and the next state, both detached.

        With `weights`, from `compiled_step.weights`, the step runs there, otherwise with autograd. It draws no random
        numbers and, on a GPU, has the same shapes in every step with the same number of slots, so that it can be
        compiled or captured as a whole.
        """
        network, config, items = learner.network, self._config, step.rows.columns.items
        if weights is not None:
            bias = self._corrected(learner, network.output_bias.index_select(0, items), step)
            positive = self._diagonal[: len(step.targets)]
            loss, following, gradients = compiled_step.run(learner, step, state, drops, bias, positive, weights)
            self._update(learner, step, gradients, weights)
            return loss, following
        inputs = network.input_table.index_select(0, step.rows.inputs.items).requires_grad_()  # [B, E]
        dense = network.dense.detach().requires_grad_()
        if self._sampler.every_item:
            columns, bias = network.output_table.detach(), network.output_bias.detach()  # [N, H], [N]
            positive = step.targets
        else:
            columns = network.output_table.index_select(0, items)  # [C, H]
            bias = network.output_bias.index_select(0, items)  # [C]
            positive = self._diagonal[: len(step.targets)]
        columns.requires_grad_()
        bias.requires_grad_()

        output = apply_dropout(network.embed(inputs), drops[0], config.dropout_p_embed)
        following = []
        for layer, hidden, numbers in zip(network.layers_from(dense), state, drops[1:], strict=True):
            output = apply_dropout(layer(output, hidden), numbers, config.dropout_p_hidden)
            following.append(output.detach())
        factors = network.query(output), network.scoring(columns), self._corrected(learner, bias, step)
        if learner.precision.product_type is torch.bfloat16:
            scores: Tensor = _ScoreProduct.apply(*factors)  # type: ignore[no-untyped-call]
        else:
            scores = torch.addmm(factors[2], factors[0], factors[1].T)
        loss = learner.loss.function(scores, positive, None, **learner.loss_options).sum() / config.batch_size

        to_inputs, to_columns, to_bias, to_dense = torch.autograd.grad(loss, [inputs, columns, bias, dense])
        if step.rows.both is not None and not self._sampler.every_item:
            to_columns = torch.cat([to_columns, to_inputs])
        self._update(learner, step, StepGradients(to_columns, to_inputs, to_bias, to_dense))
        return loss.detach(), following

    def _corrected(self, learner: Learner, bias: Tensor, step: Step) -> Tensor:
        """The bias less the sampling correction: the same for all rows, so it costs no pass over the scores."""
        logq = learner.loss.logq(self._config)
        if not logq:
            return bias
        n_targets = len(step.targets)
        frequency = [
            self._log_support.index_select(0, step.targets),
            self._log_weight.index_select(0, step.rows.columns.items[n_targets:]),
        ]
        return correct_for_sampling(bias, torch.cat(frequency), logq)

    def _update(self, learner: Learner, step: Step, to: StepGradients, weights: Tensor | None = None) -> None:
        """Apply the gradients of one step."""
        optimiser, biased = learner.optimiser, learner.network.temperature is None
        optimiser.update_all("dense", to.dense, weights if weights is not learner.network.dense else None)
        if self._sampler.every_item:
            if step.rows.both is not None:
                to.rows.index_add_(0, step.rows.inputs.items, to.inputs)
            else:
                optimiser.update_rows("input_table", step.rows.inputs, to.inputs)
            optimiser.update_all("output_table", to.rows)
            if biased:
                optimiser.update_all("output_bias", to.bias)
            return
        if biased:
            optimiser.update_rows("output_bias", step.rows.columns, to.bias)
        optimiser.update_tables(step.rows, to.rows, to.inputs)


class _ScoreProduct(torch.autograd.Function):
    """`apply(query [B, H], scoring [C, H], bias [C])`: bfloat16 products, forward and backward, of float32 tensors."""

    @staticmethod
    def forward(ctx, query: Tensor, scoring: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        left, right = query.bfloat16(), scoring.bfloat16()
        ctx.save_for_backward(left, right)
        return (left @ right.T).float().add_(bias)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
        left, right = ctx.saved_tensors
        gradient = upstream.bfloat16()
        return (gradient @ right).float(), (gradient.T @ left).float(), upstream.sum(dim=0)
