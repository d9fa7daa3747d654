"""The compiled loops compute what the torch code that they stand for computes."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gru4rec import kernels
from gru4rec.config.train_config import TrainConfig
from gru4rec.model.gru import _Gates
from gru4rec.model.losses import LOSSES, bpr_max, cross_entropy
from gru4rec.model.network import Network
from gru4rec.training.dropout import apply_dropout
from gru4rec.training.optimizers import RowAdagrad, RowAdamW
from gru4rec.training.sparse_rows import DistinctRows
from gru4rec.training.trainer import Diverged, Trainer

pytestmark = pytest.mark.skipif(not kernels.AVAILABLE, reason="numba is not installed")
COMPILED = {
    "cross-entropy": (cross_entropy, {}),
    "bpr-max": (bpr_max, {"bpreg": 0.7, "elu_param": 0.5}),
}


@pytest.fixture
def without_kernels(monkeypatch):
    """A function that makes the torch code run from then on."""
    return lambda: monkeypatch.setattr("gru4rec.kernels.api.AVAILABLE", False)


def tensor(*shape, seed=0, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def reference(name, options, scores, positive):
    """Losses and gradients by autograd, in float64."""
    scores = scores.double().requires_grad_()
    losses = COMPILED[name][0](scores, positive, None, **options)
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    return losses.detach(), gradient


def test_every_compiled_loss_is_tested():
    assert {name for name, loss in LOSSES.items() if loss.compiled is not None} == set(COMPILED)


@pytest.mark.parametrize("elu_param", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", list(COMPILED))
def test_losses_and_their_gradients(name, scale, elu_param):
    options = {"bpreg": 0.7, "elu_param": elu_param} if name == "bpr-max" else {}
    scores, bias = tensor(7, 300, scale=scale), tensor(300, seed=1)
    positive = torch.tensor([0, 299, 5, 17, 150, 3, 3])
    losses, gradient = LOSSES[name].compiled(scores, bias, positive, 0.25, **options)
    expected_losses, expected_gradient = reference(name, options, scores + bias, positive)
    torch.testing.assert_close(losses.double(), 0.25 * expected_losses, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(gradient.double(), 0.25 * expected_gradient, rtol=2e-4, atol=2e-6 * max(1, scale))


@pytest.mark.parametrize("far", [-200.0, 200.0])
@pytest.mark.parametrize("name", list(COMPILED))
def test_losses_stay_finite_where_the_target_is_far_from_the_negatives(name, far):
    scores = torch.tensor([[far, 0.0, 1.0]])
    losses, gradient = LOSSES[name].compiled(scores, torch.zeros(3), torch.tensor([0]), 1.0, **COMPILED[name][1])
    expected, _ = reference(name, COMPILED[name][1], scores, torch.tensor([0]))
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(losses.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("column", [0, 3])
@pytest.mark.parametrize("name", list(COMPILED))
def test_a_score_that_is_no_number_makes_the_loss_none(name, column):
    scores = tensor(2, 40)
    scores[1, column] = torch.nan
    losses, _ = LOSSES[name].compiled(scores, torch.zeros(40), torch.tensor([0, 0]), 1.0, **COMPILED[name][1])
    assert torch.isfinite(losses).tolist() == [True, False]


@pytest.mark.parametrize("name", list(COMPILED))
def test_bfloat16_scores_give_the_rounded_gradients_of_the_same_scores(name):
    scores, bias, positive = tensor(5, 77).bfloat16(), tensor(77, seed=1), torch.arange(5)
    losses, gradient = LOSSES[name].compiled(scores, bias, positive, 0.5, **COMPILED[name][1])
    exact = LOSSES[name].compiled(scores.float(), bias, positive, 0.5, **COMPILED[name][1])
    assert torch.equal(losses, exact[0])
    assert gradient.dtype is torch.bfloat16
    assert torch.equal(gradient, exact[1].bfloat16())


@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
def test_gathered_rows_and_column_sums(product_type):
    table, items = tensor(50, 33), torch.tensor([3, 49, 0, 3])
    rows = kernels.gather(table, items, product_type)
    assert torch.equal(rows, table[items].to(product_type))
    wide = tensor(9, 1000).to(product_type)
    torch.testing.assert_close(kernels.column_sums(wide), wide.float().sum(dim=0))


@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
def test_dropout_of_gathered_rows_and_of_values_in_place(product_type):
    table, items, share = tensor(50, 33), torch.tensor([3, 49, 0, 3]), 0.3
    numbers = torch.randint(-(2**15), 2**15, (4, 33)).to(torch.int16)
    expected = apply_dropout(table[items], numbers, share)
    assert torch.equal(kernels.gather(table, items, product_type, numbers, share), expected.to(product_type))
    values = table[items].to(product_type)
    kernels.drop(values, numbers, share)
    torch.testing.assert_close(values, expected.to(product_type))


@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_gates_and_their_gradient(product_type, biased):
    from_input, from_hidden = (tensor(6, 63, seed=seed, scale=3).to(product_type) for seed in (0, 1))
    hidden, upstream, share = tensor(6, 21, seed=2), tensor(6, 21, seed=3).to(product_type), 0.3
    biases = (tensor(63, seed=4), tensor(63, seed=5)) if biased else None
    numbers = torch.randint(-(2**15), 2**15, (6, 21)).to(torch.int16)
    following, product, activations = kernels.gates(from_input, from_hidden, biases, hidden, numbers, share)
    given = [part.double().requires_grad_() for part in (from_input, from_hidden, hidden)]
    added = biases or (torch.zeros(63), torch.zeros(63))
    expected = apply_dropout(_Gates.apply(given[0] + added[0], given[1] + added[1], given[2]), numbers, share)
    torch.testing.assert_close(following.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(product, following.to(product_type))
    got = kernels.gates_gradient(upstream, numbers, share, activations, hidden)
    close = {"rtol": 1e-4, "atol": 1e-5} if product_type is torch.float32 else {"rtol": 2**-8, "atol": 1e-5}
    for ours, theirs in zip(got, torch.autograd.grad(expected, given, upstream.double()), strict=True):
        torch.testing.assert_close(ours.double(), theirs, **close)


def test_repeats_are_chained_in_order():
    places = kernels.chain(6, repeats=torch.tensor([2, 4, 5]), into=torch.tensor([0, 1, 0]))
    assert places.tolist() == [2, 4, 5, -1, -1, -1]


@pytest.mark.parametrize("type_of_gradient", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [(RowAdagrad, 0.1, 0.0), (RowAdagrad, 0.1, 0.4), (RowAdamW, 0.1, 10)])
def test_update_rules(rule, type_of_gradient, without_kernels):
    rows = DistinctRows(
        torch.tensor([4, 2, 4, 9, 4]),
        kept=torch.tensor([0, 1, 3]),
        repeats=torch.tensor([2, 4]),
        into=torch.tensor([0, 0]),
    )

    def gradient(*shape, seed):
        return tensor(*shape, seed=seed).to(type_of_gradient).to(taken)

    def updated():
        network = Network(12, TrainConfig(layers=(48,), seed=1))  # more dense weights than a block of the loops
        optimiser = rule[0](network, *rule[1:])
        rounded = network.dense.bfloat16()
        for step in range(3):
            optimiser.begin_step(step)
            optimiser.update_rows("output_table", rows, gradient(5, 48, seed=step))
            optimiser.update_rows("output_bias", rows, gradient(5, seed=step))
            optimiser.update_all("dense", gradient(*network.dense.shape, seed=step), rounded)
        assert torch.equal(rounded, network.dense.bfloat16())
        return network.tensors() | optimiser.tensors()

    taken = type_of_gradient
    compiled = updated()
    taken = torch.float32
    without_kernels()
    for name, expected in updated().items():
        torch.testing.assert_close(compiled[name], expected, rtol=1e-5, atol=1e-6, msg=name)


RUNS = {
    "constrained": {"loss": "bpr-max", "momentum": 0.3, "dropout_p_embed": 0.3, "dropout_p_hidden": 0.2},
    "two layers, separate, logq": {"layers": (24, 16), "constrained_embedding": False, "embedding": 20, "logq": 1.0},
    "one-hot, not compiled loss": {"loss": "top1-max", "constrained_embedding": False, "dropout_p_embed": 0.3},
    "two layers, no samples": {"layers": (24, 24), "n_sample": 0, "dropout_p_hidden": 0.3},
    "whole sessions": {"batching": "whole-session", "batch_size": 200, "precision": "fp32"},
}


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_training_is_the_same_with_and_without_them(run, markov_log, without_kernels):
    config = TrainConfig(**({"layers": (24,), "batch_size": 16, "n_sample": 40, "n_epochs": 1} | RUNS[run]))

    def trained():
        trainer = Trainer(config, markov_log)
        return trainer.run_epoch().step_losses, trainer.network.tensors()

    losses, parameters = trained()
    without_kernels()
    expected_losses, expected_parameters = trained()
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-4)
    for name, expected in expected_parameters.items():
        torch.testing.assert_close(parameters[name], expected, rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.slow
def test_bfloat16_products_train_alike(markov_log):
    def final_loss(precision):
        config = TrainConfig(loss="bpr-max", layers=(32,), batch_size=16, n_sample=64, n_epochs=3, precision=precision)
        trainer = Trainer(config, markov_log)
        return [trainer.run_epoch().loss for _ in range(3)][-1]

    assert final_loss("bf16") == pytest.approx(final_loss("fp32"), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("run", list(RUNS))
def test_steps_with_bfloat16_products_lose_what_those_in_float32_lose(run, markov_log):
    def step_losses(precision):
        options = {"layers": (24,), "batch_size": 16, "n_sample": 40, "n_epochs": 1} | RUNS[run]
        return Trainer(TrainConfig(**(options | {"precision": precision})), markov_log).run_epoch().step_losses

    np.testing.assert_allclose(step_losses("bf16"), step_losses("fp32"), rtol=0.02)


@pytest.mark.parametrize("name", list(COMPILED))
@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_the_number_of_threads(name, product_type):
    scores, bias, positive = tensor(33, 500).to(product_type), tensor(500, seed=1), torch.arange(33)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = LOSSES[name].compiled(scores, bias, positive, 1.0, **COMPILED[name][1])
        torch.set_num_threads(3)
        together = LOSSES[name].compiled(scores, bias, positive, 1.0, **COMPILED[name][1])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, three) for one, three in zip(alone, together, strict=True))


def test_divergence_is_noticed(markov_log):
    trainer = Trainer(TrainConfig(loss="bpr-max", n_sample=16, n_epochs=1), markov_log)
    trainer.network.dense.fill_(torch.nan)
    with pytest.raises(Diverged, match="epoch 1, step 0"):
        trainer.run_epoch()


@pytest.mark.slow
def test_training_works_without_numba(tmp_path):
    """Where numba cannot be imported, everything runs on torch alone."""
    (tmp_path / "numba.py").write_text("raise ImportError('not here')")
    program = "from gru4rec import kernels; import gru4rec.training.trainer; print(kernels.AVAILABLE)"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert ended.stdout.strip() == "False", ended.stderr


def test_loops_are_compiled_in_every_process_if_no_folder_can_hold_them(monkeypatch):
    """As in an image with read-only packages, for a user without a home folder."""
    from numba import cfunc, int32
    from numba.core import caching

    from gru4rec.kernels.loop import compile_cached

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        cfunc(int32(int32), cache=True)(twice)
    assert compile_cached(twice, int32(int32)).ctypes(21) == 42


def test_loops_are_compiled_in_every_process_if_the_disk_is_full(tmp_path, monkeypatch):
    import numba
    from numba.core import caching

    from gru4rec.kernels.loop import compile_cached

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert compile_cached(twice, numba.int32(numba.int32)).ctypes(21) == 42


def twice(number):
    return number * 2


def test_loops_are_compiled_again_when_the_code_they_inline_has_changed(tmp_path, monkeypatch):
    import numba

    from gru4rec.kernels import loop

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    signature, helper = numba.int32(numba.int32), tmp_path / "arithmetic.py"
    helper.write_text("one")
    monkeypatch.setattr(loop, "INLINED", loop.digest_of(helper))
    assert [loop.compile_cached(twice, signature).cache_hits for _ in range(2)] == [0, 1]
    helper.write_text("two")
    monkeypatch.setattr(loop, "INLINED", loop.digest_of(helper))
    assert loop.compile_cached(twice, signature).cache_hits == 0


OLD_PROCESSOR = """
import importlib.util
import sys
import numpy as np
from numba import njit

# alone, without the loops, which take long to compile
alone = importlib.util.spec_from_file_location("arithmetic", sys.argv[1])
arithmetic = importlib.util.module_from_spec(alone)
sys.modules["arithmetic"] = arithmetic
alone.loader.exec_module(arithmetic)
read, write = arithmetic.read, arithmetic.write

@njit
def there_and_back(values, bits, back):
    for place in range(len(values)):
        write(bits, place, values[place])
        back[place] = read(bits[place])

values, bits = np.array([1.0, 1e-40, -3.14159, np.inf, np.nan], np.float32), np.empty(5, np.uint16)
there_and_back(values, bits, back := np.empty(5, np.float32))
print(back[0], back[2], back[3], back[4], bits[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for another x86 processor")
def test_bfloat16_is_rounded_on_processors_without_it(tmp_path):
    """An x86 without the instruction, whatever this one has: what its code calls must be there."""
    older = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", OLD_PROCESSOR, str(Path(kernels.__file__).with_name("arithmetic.py"))],
        capture_output=True,
        text=True,
        env={**os.environ, **older},
    )
    assert ended.stdout.split() == ["1.0", "-3.140625", "inf", "nan", "1"], ended.stderr
