"""Why averaging losses fade with many negatives: their gradients during training.

At several moments of a training, the states of held-out sessions are scored against their targets and new negatives, as
in a training step, and the loss is differentiated with respect to these scores. Two numbers summarise the gradient of a
row: that on the target's score, which alone pulls the target up, and the share of the negatives that still carry
gradient: at least a hundredth of the largest gradient on a negative of the row.
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
CARRYING = 0.01
"""A negative carries gradient from this share of the row's largest gradient on a negative on."""


@dataclass(frozen=True)
class Probe:
    """The gradient at one moment of a training.

    Attributes:
        loss, n_sample: of the model.
        epochs: trained so far, including fractions.
        on_target: mean absolute gradient on a target's score.
        carrying: mean share of the negatives that carry gradient.
    """

    loss: str
    n_sample: int
    epochs: float
    on_target: float
    carrying: float


def train_with_probes(config: TrainConfig, log: EncodedLog, held_out: Sessions, file: Path) -> list[Probe]:
    """Train a model and probe its gradients on the way; the file keeps them for the next call."""
    mapping = to_mapping(config)
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["config"] == json.loads(json.dumps(mapping)) and kept["pairs"] == log.sessions.n_pairs:
            return [Probe(**probe) for probe in kept["probes"]]
    trainer = Trainer(config, log)
    n_steps = config.n_epochs * trainer.n_steps
    moments = {round(n_steps * part / PROBES) for part in range(PROBES + 1)}
    probes = [probe(trainer, held_out, 0.0)]
    for epoch in range(config.n_epochs):

        def on_step_end(done: int, before: int = epoch * trainer.n_steps) -> None:
            if before + done in moments:
                probes.append(probe(trainer, held_out, (before + done) / trainer.n_steps))

        trainer.run_epoch(on_step_end)
    with atomic_file(file) as temporary:
        content = {"config": mapping, "pairs": log.sessions.n_pairs, "probes": [asdict(each) for each in probes]}
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
        gradient = differentiate(loss.function, options, scores)
        rows = torch.arange(len(targets))
        size = gradient.abs()
        on_target.append(size[rows, rows])
        size[rows, rows] = 0.0  # the target is not its own negative
        largest = size.max(dim=1, keepdim=True).values
        carrying.append((size >= CARRYING * largest).sum(dim=1) / (size.shape[1] - 1))
    mean = [float(torch.cat(values).double().mean()) for values in (on_target, carrying)]
    return Probe(config.loss, config.n_sample, epochs, *mean)


def count_states(lengths: np.ndarray) -> int:
    """The number of states and targets of held-out sessions of these lengths."""
    longer = lengths[lengths > 1][:HELD_OUT_SESSIONS]
    return int((np.minimum(longer, CLICKS_PER_SESSION + 1) - 1).sum())


def differentiate(function, options: dict, scores: Tensor) -> Tensor:
    """The gradient [B, C] of every row's loss on its scores [B, C]; the target of row i is column i."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        losses = function(scores, torch.arange(len(scores)), None, **options)
        (gradient,) = torch.autograd.grad(losses.sum(), scores)
    return gradient


def _steps(trainer: Trainer, held_out: Sessions) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of states and targets of the first held-out sessions, each as large as a training step."""
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
