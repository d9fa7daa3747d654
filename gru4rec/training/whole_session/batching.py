"""Training on whole sessions: back-propagation through the session, one set of negatives for all targets of a step.

A step has about a thousand targets: all clicks of sessions of similar length. The GRU reads the sessions from their
first click, and the gradient flows back through all clicks. All targets share one set of additional negatives, and
their scores are one large product. Compared with session-parallel mini-batches, an epoch has a tenth of the steps, with
larger, faster products, and the GRU also learns what to remember.

Two things differ from the session-parallel step. The columns of a row are its target and the shared negatives (not the
other targets of the step), and a negative that is the row's own target is excluded. The sampling correction is the
textbook one: a negative's score is lowered by logq · log(n q), the logarithm of how often it is expected among the n
draws; the target's own score is not.

Dropout acts on the input embeddings and on the output of each layer on its way to the next layer and to the scores. The
state that a layer carries to its next click is not dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.config.train_config import TrainConfig
from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import EncodedLog
from gru4rec.evaluation.rankings import Targets
from gru4rec.training.dropout import apply_dropout
from gru4rec.training.learner import Learner
from gru4rec.training.prefetch import prefetch, to_device
from gru4rec.training.samplers import Sampler, draw
from gru4rec.training.sparse_rows import RowPacking, StepRows
from gru4rec.training.whole_session.batches import SessionBatches, SessionStep
from gru4rec.training.whole_session.chunked_loss import Hits, Recent, score_loss
from inference.shared.errors import UserError

STEPS_PER_BLOCK = 16


@dataclass(frozen=True)
class _StepTensors:
    """A step's tensors.

    Attributes:
        layout: the clicks of the step.
        rows: those of the tables; the columns are the R targets, then the C negatives.
        hits: where a negative is the row's own target.
        recent: where a column's item is among the row's last clicks.
    """

    layout: SessionStep
    rows: StepRows
    hits: Hits
    recent: Recent


class WholeSession:
    """Trains on whole-session mini-batches.

    Args:
        config: the run's choices.
        log: the training sessions and their items.
        sampler: source of the negatives; if it draws none, the step's own targets are the negatives.
        device: where the tensors are needed.

    Attributes:
        n_steps: steps of an epoch.

    Raises:
        UserError: logq is set but nothing is sampled, or no step has anything to compare a target with.
    """

    def __init__(self, config: TrainConfig, log: EncodedLog, sampler: Sampler, device: torch.device):
        if config.logq and not sampler.n_sample:
            raise UserError("logq: expected additional samples to correct for, got none; set logq to 0")
        self._config = config
        self._sampler = sampler
        self._device = device
        self._n_items = len(log.vocabulary)
        self._batches = SessionBatches(log.sessions, config.batch_size, config.n_recent)
        self.n_steps = self._batches.n_steps
        if not sampler.n_sample and not sampler.every_item:
            targets = Targets.of(log.sessions).item
            if self.n_steps == len(targets) or (targets == targets[0]).all():
                raise UserError(
                    "expected negatives to learn from, got no additional samples and steps with a single target; "
                    "raise batch_size or n_sample, or give more sessions"
                )
        constrained = config.embedding_mode == "constrained"
        self._packing = RowPacking(self._n_items, constrained=constrained, fixed=not kernels.runs_on(device))
        log_weight = torch.from_numpy(sampler.log_weight).double()
        self._log_weight = torch.log_softmax(log_weight, dim=0).to(device, torch.float32)

    def run(self, learner: Learner, epoch: int) -> Iterator[tuple[int, Tensor]]:
        """Train on every session once; yields each step's number of targets and loss.

        Args:
            learner: what is trained.
            epoch: numbered from 0.
        """
        state: list[Tensor] = []
        for step in self._prepared(epoch):
            learner.optimiser.begin_step(epoch * self.n_steps + step.layout.number)
            if not step.layout.continues:
                state = learner.network.zero_state(step.layout.sizes[0])
            with learner.precision.apply():
                loss, state = self._run_step(learner, step, state)
            yield len(step.rows.inputs.items), loss

    def _prepared(self, epoch: int) -> Iterator[_StepTensors]:
        # To numpy this seed equals that of the first block, below: the order of the batches and the first negatives
        # come from the same numbers, used differently. Another seed would change every trained model and improve none.
        steps = self._batches.steps(np.random.default_rng([self._config.seed, epoch]))
        parts = iter(lambda: list(islice(steps, STEPS_PER_BLOCK)), [])
        blocks = (partial(self._block, part, epoch, number) for number, part in enumerate(parts))
        return chain.from_iterable(prefetch(blocks, self._device))

    def _block(self, steps: list[SessionStep], epoch: int, number: int) -> list[_StepTensors]:
        generator = np.random.default_rng([self._config.seed, epoch, number])
        drawn = draw(self._sampler, len(steps), generator, self._n_items)
        arrays = [self._arrays(step, drawn[place]) for place, step in enumerate(steps)]
        tensors = to_device([array for of_step in arrays for array in of_step], self._device)
        return [self._step(step, of_step, tensors) for step, of_step in zip(steps, arrays, strict=True)]

    def _arrays(self, step: SessionStep, drawn: np.ndarray) -> list[np.ndarray]:
        """What `_step` needs on the device: hits, recent clicks, and rows."""
        if self._sampler.every_item:
            negatives = np.arange(self._n_items, dtype=np.int32)
        else:
            negatives = drawn if len(drawn) else step.targets
        columns = np.concatenate([step.targets, negatives])
        return [*_hits_and_recent(step, negatives), *self._packing.pack(columns, step.inputs)]

    def _step(self, step: SessionStep, arrays: list[np.ndarray], tensors: Iterator[Tensor]) -> _StepTensors:
        hits = Hits(next(tensors), next(tensors), arrays[0])
        recent = Recent(next(tensors), next(tensors), next(tensors), arrays[2])
        return _StepTensors(step, self._packing.unpack(tensors, len(step.inputs)), hits, recent)

    def _run_step(self, learner: Learner, step: _StepTensors, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        network, config = learner.network, self._config
        n_targets = len(step.rows.inputs.items)
        inputs = network.input_table.index_select(0, step.rows.inputs.items).requires_grad_()  # [R, E]
        columns = network.output_table.index_select(0, step.rows.columns.items).requires_grad_()  # [R + C, H]
        bias = network.output_bias.index_select(0, step.rows.columns.items)
        bias[n_targets:] -= self._correction(learner, step.rows.columns.items[n_targets:])
        dense = network.dense.detach().requires_grad_()

        numbers, *of_layers = learner.drop_numbers(n_targets)
        output = apply_dropout(network.embed(inputs), numbers, config.dropout_p_embed)
        following = []
        for number, layer in enumerate(network.layers_from(dense)):
            output, last = layer.unroll(output, state[number], step.layout.sizes)
            following.append(last.detach())
            output = apply_dropout(output, of_layers[number], config.dropout_p_hidden)
        query, scoring, bonus = network.query(output), network.scoring(columns), network.bonus(output, dense)
        loss, to = score_loss(
            partial(learner.loss.gradient, learner.loss_options),
            query.detach(),
            scoring.detach(),
            bias,
            step.hits,
            1 / config.batch_size,
            recent=step.recent,
            bonus=bonus.detach(),
            lowered_is_excluded=learner.loss.lowered_is_excluded,
            product_type=learner.precision.product_type,
        )
        to_inputs, to_columns, to_dense = torch.autograd.grad(
            [query, scoring, bonus], [inputs, columns, dense], [to.query, to.scoring, to.bonus]
        )
        optimiser = learner.optimiser
        optimiser.update_all("dense", to_dense)
        if network.temperature is None:
            optimiser.update_rows("output_bias", step.rows.columns, to.bias)
        to_rows = to_columns if step.rows.both is None else torch.cat([to_columns, to_inputs])
        optimiser.update_tables(step.rows, to_rows, to_inputs)
        return loss, following

    def _correction(self, learner: Learner, negatives: Tensor) -> Tensor:
        """logq · log(n q) of the negatives, [C]; 0 if nothing is drawn."""
        logq = learner.loss.logq(self._config)
        if not logq or not self._sampler.n_sample:
            return torch.zeros(len(negatives), device=self._device)
        expected = self._log_weight.index_select(0, negatives) + float(np.log(self._sampler.n_sample))
        return logq * expected


def _hits(targets: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a row and a negative that is its target: rows int64 [X], ascending, and negatives int64 [X]."""
    order = np.argsort(negatives, kind="stable")
    ranked = negatives[order]
    first = np.searchsorted(ranked, targets, side="left")
    count = np.searchsorted(ranked, targets, side="right") - first
    rows = np.repeat(np.arange(len(targets)), count)
    return rows, order[expand_ranges(first, count)].astype(np.int64)


def _hits_and_recent(step: SessionStep, negatives: np.ndarray) -> list[np.ndarray]:
    """The arrays of `Hits` and `Recent` of a step, int64.

    Returns:
        Rows and negatives of the hits; then, for every pair of a row and a column whose item is among the row's recent
        clicks, its row, ascending, its column (0 the target, 1 + c negative c), and which click it was.
    """
    looked_for = np.column_stack([step.targets, step.recent])  # [R, 1 + K]
    found, negative = _hits(looked_for.ravel(), negatives)
    row, place = np.divmod(found, looked_for.shape[1])
    is_hit = place == 0
    row_of_target, place_of_target = np.nonzero(step.recent == step.targets[:, None])
    rows = np.concatenate([row_of_target, row[~is_hit]])
    columns = np.concatenate([np.zeros_like(row_of_target), negative[~is_hit] + 1])
    places = np.concatenate([place_of_target, place[~is_hit] - 1])
    order = np.argsort(rows, kind="stable")
    return [row[is_hit], negative[is_hit], rows[order], columns[order], places[order]]
