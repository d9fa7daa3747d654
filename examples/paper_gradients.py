"""Why averaging losses fade with many negatives: their gradients while a model learns.

During the training of a model, its states of held-out sessions are scored against their targets and new negatives, as
in a training step. The loss is differentiated with respect to these scores. The gradient of every row gives two
numbers: the gradient on the target's score, which is all that pulls the target up, and the share of the negatives that
still carry gradient. A negative carries gradient if it has at least a hundredth of the row's largest gradient on a
negative.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig, to_mapping
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.model.losses import get_loss
from gru4rec.training.samplers import build_sampler
from gru4rec.training.trainer import Trainer
from inference.shared.atomic import atomic_file

PROBES = 8
HELD_OUT_SESSIONS = 256
CLICKS_PER_SESSION = 10
CARRIES = 0.01
"""A negative carries gradient from this share of the row's largest gradient on a negative."""


@dataclass(frozen=True)
class Probe:
    """What the gradient looked like at one moment.

    Attributes:
        loss, n_sample: of the model.
        epochs: trained so far, with fractions.
        on_target: mean absolute gradient on a target's score.
        carrying: mean share of the negatives that carry gradient.
    """

    loss: str
    n_sample: int
    epochs: float
    on_target: float
    carrying: float


def probes_over_training(config: TrainConfig, log: EncodedLog, held_out: Sessions, file: Path) -> list[Probe]:
    """Train a model and probe its gradients on the way; the file keeps them, so that they are computed once."""
    described = to_mapping(config)
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["config"] == json.loads(json.dumps(described)) and kept["pairs"] == log.sessions.n_pairs:
            return [Probe(**probe) for probe in kept["probes"]]
    trainer = Trainer(config, log)
    n_steps = config.n_epochs * trainer.n_steps
    moments = {round(n_steps * part / PROBES) for part in range(PROBES + 1)}
    probes = [probe(trainer, held_out, 0.0)]
    for epoch in range(config.n_epochs):

        def look(done: int, before: int = epoch * trainer.n_steps) -> None:
            if before + done in moments:
                probes.append(probe(trainer, held_out, (before + done) / trainer.n_steps))

        trainer.run_epoch(look)
    with atomic_file(file) as temporary:
        content = {"config": described, "pairs": log.sessions.n_pairs, "probes": [asdict(each) for each in probes]}
        temporary.write_text(json.dumps(content))
    return probes


@torch.no_grad()
def probe(trainer: Trainer, held_out: Sessions, epochs: float) -> Probe:
    """Differentiate the loss of held-out steps with respect to their scores."""
    network, config = trainer.network, trainer.config
    loss = get_loss(config.loss)
    options = loss.chosen_options(config)
    sampler = build_sampler(trainer.log.support, config)
    generator = np.random.default_rng(config.seed)
    on_target, carrying = [], []
    for query, targets in _steps(trainer, held_out):
        drawn = torch.from_numpy(sampler.draw(1, generator)[0]).long()
        columns = torch.cat([targets, drawn])
        scores = query @ network.scoring(network.output_table[columns]).T + network.output_bias[columns]
        gradient = gradients(loss.function, options, scores)
        rows = torch.arange(len(targets))
        size = gradient.abs()
        on_target.append(size[rows, rows])
        size[rows, rows] = 0.0  # the target is not its own negative
        largest = size.max(dim=1, keepdim=True).values
        carrying.append((size >= CARRIES * largest).sum(dim=1) / (size.shape[1] - 1))
    mean = [float(torch.cat(values).double().mean()) for values in (on_target, carrying)]
    return Probe(config.loss, config.n_sample, epochs, *mean)


def n_states(lengths: np.ndarray) -> int:
    """Count the states and targets that held-out sessions of these lengths give."""
    longer = lengths[lengths > 1][:HELD_OUT_SESSIONS]
    return int((np.minimum(longer, CLICKS_PER_SESSION + 1) - 1).sum())


def gradients(function, options: dict, scores: Tensor) -> Tensor:
    """The gradient [B, C] of every row's loss on its scores [B, C], whose target is the column of its own number."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        losses = function(scores, torch.arange(len(scores)), None, **options)
        (gradient,) = torch.autograd.grad(losses.sum(), scores)
    return gradient


def _steps(trainer: Trainer, held_out: Sessions) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield states and targets of the first held-out sessions, as many at a time as a training step has."""
    longer = np.flatnonzero(held_out.lengths > 1)[:HELD_OUT_SESSIONS]
    lengths = np.minimum(held_out.lengths[longer], CLICKS_PER_SESSION + 1)
    clicks = torch.zeros(len(longer), int(lengths.max()), dtype=torch.int64)
    for row, (session, length) in enumerate(zip(longer, lengths, strict=True)):
        begin = held_out.offsets[session]
        clicks[row, :length] = torch.from_numpy(held_out.items[begin : begin + length].astype(np.int64))
    n_inputs = torch.from_numpy(lengths - 1)
    state = trainer.network.zero_state(len(longer))
    states, targets = [], []
    for step in range(clicks.shape[1] - 1):
        live = n_inputs > step
        state = trainer.network.advance(clicks[:, step], state)
        states.append(trainer.network.query(state[-1][live]))
        targets.append(clicks[live, step + 1])
    size = trainer.config.batch_size
    for query, target in zip(torch.cat(states).split(size), torch.cat(targets).split(size), strict=True):
        if len(target) == size:
            yield query, target
