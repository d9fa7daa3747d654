"""Without a GPU: what is made in a step is made on the run's device, nothing waits for it, and a step is one graph.

The device is torch's `meta`, which has shapes and no numbers: what needs a number on the host, or mixes devices, shows
there as it would on a GPU.
"""

import dataclasses
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gru4rec.config.train_config import TrainConfig
from gru4rec.training.sparse_rows import FixedRows
from gru4rec.training.trainer import Trainer
from tests.support.small_logs import BUILT_IN_LOSSES, log_of, markov_sessions
from tests.training.test_run import CONFIGS

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
"""Parts of the names of operations whose result has to be known on the host, or whose shape depends on numbers."""


class OnlyOn(TorchDispatchMode):
    """Every operation, also of a backward pass, takes and gives tensors of one device, and none makes the host wait."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        assert not any(name in func.name() for name in WAITING), f"{func} waits for the device"
        if func.name().startswith(("aten::index", "aten::_index_put")):
            by = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
            assert not any(tensor.dtype in (torch.bool, torch.uint8) for tensor in by), f"{func} by a mask waits"
        made = func(*args, **(kwargs or {}))
        for tensor in [*given, *tree_leaves(made)]:
            if isinstance(tensor, torch.Tensor):
                assert tensor.device == self.device, f"{func} takes or gives a tensor on {tensor.device}"
        return made


@pytest.fixture(scope="module")
def short_log():
    """Enough for a dozen steps, the last ones narrower."""
    return log_of(markov_sessions(40, 60, seed=1))


@pytest.fixture
def on_meta(monkeypatch):
    """A function that makes a trainer whose device is `meta`."""
    device = torch.device("meta")

    class OnTheHost(torch.Generator):  # there is none for meta; a class still, as torch imports parts of itself late
        def __new__(cls, device=None):
            return super().__new__(cls)

    def trainer(config, log):
        with monkeypatch.context() as patched:
            patched.setattr("gru4rec.training.trainer.choose_device", lambda name: device)
            patched.setattr(torch, "Generator", OnTheHost)
            return Trainer(config, log)

    return trainer


def run_epoch(trainer):
    """Every step of an epoch under the eyes of `OnlyOn`; gives the number of operations seen."""
    with OnlyOn(trainer.device) as seen:
        for _, loss in trainer.batching.run(trainer.learner, 0):
            assert loss.shape == ()
    return seen.count


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_steps_stay_on_their_device_and_do_not_wait(config, short_log, on_meta):
    trainer = on_meta(config, short_log)
    assert run_epoch(trainer) > 20 * trainer.n_steps


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
@pytest.mark.parametrize("loss", BUILT_IN_LOSSES)
def test_no_loss_makes_them_wait(loss, batching, short_log, on_meta):
    size = {"session-parallel": 16, "whole-session": 100}[batching]
    run_epoch(on_meta(TrainConfig(loss=loss, batching=batching, layers=(8,), n_sample=16, batch_size=size), short_log))


@pytest.mark.parametrize(
    "does",
    [
        lambda scores: scores.new_zeros(()).item(),
        lambda scores: scores[scores > 0],
        lambda scores: scores + torch.zeros(1),
        lambda scores: scores.cpu(),
        lambda scores: scores.index_select(0, torch.tensor([0])),
    ],
)
def test_the_watch_notices_what_it_should(does, short_log, on_meta):
    trainer = on_meta(CONFIGS["bpr-max, dropout, momentum"], short_log)
    loss = dataclasses.replace(trainer.learner.loss, function=lambda scores, *rest, **options: does(scores))
    trainer.learner.loss = loss
    with pytest.raises((AssertionError, NotImplementedError), match=r"waits|a tensor on cpu|out of meta tensor"):
        run_epoch(trainer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch, while compiling
@pytest.mark.parametrize("kind", ["bpr-max, dropout, momentum", "separate, two layers", "one-hot, in-batch", "full"])
def test_full_steps_are_one_graph_that_is_made_once(kind, short_log, monkeypatch):
    monkeypatch.setattr("gru4rec.kernels.api.AVAILABLE", False)  # as on a GPU
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def trained(compiled):
        trainer = Trainer(CONFIGS[kind], short_log)
        if compiled:
            step = torch.compile(trainer.batching._run_step, backend=count, fullgraph=True, dynamic=False)
            trainer.batching._run_step = step
        steps = list(islice(trainer.batching.run(trainer.learner, 0), 8))
        assert {n_rows for n_rows, _ in steps} == {CONFIGS[kind].batch_size}
        return [loss.item() for _, loss in steps], trainer.network.tensors() | trainer.optimiser.tensors()

    torch.compiler.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        losses, state = trained(compiled=True)
    expected_losses, expected_state = trained(compiled=False)
    assert len(graphs) == 1
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name, expected in expected_state.items():
        torch.testing.assert_close(state[name], expected, rtol=1e-5, atol=1e-6, msg=name)


def test_rows_of_steps_have_fixed_shapes_where_the_loops_do_not_run(short_log, on_meta):
    trainer = on_meta(CONFIGS["bpr-max, dropout, momentum"], short_log)
    steps = list(islice(trainer.batching._preparation.steps(0), 12))
    assert all(isinstance(step.rows.both, FixedRows) for step in steps)
    assert len({step.rows.both.first.shape for step in steps}) == 1
