"""Whole training runs of the authors' PyTorch code, replayed through our training path.

`golden/README.md` describes the files. GRU4REC_GOLDEN_DIR names another folder of the same format to replay instead.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from gru4rec.config.train_config import from_mapping
from gru4rec.data.events import encode
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.losses import LOSSES, correct_for_sampling
from gru4rec.training.samplers import SAMPLERS, register_sampler
from gru4rec.training.trainer import Trainer

GOLDEN = Path(os.environ.get("GRU4REC_GOLDEN_DIR", Path(__file__).parent / "golden"))
RUNS = sorted(GOLDEN.glob("*.npz"))
LOSS_CASES = json.loads((GOLDEN / "losses.json").read_text()) if (GOLDEN / "losses.json").exists() else []


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(case, name, id=f"{n}-{name}") for n, case in enumerate(LOSS_CASES) for name in case["losses"]],
)
def test_loss_and_gradient_equal_the_reference(case, name):
    scores = torch.tensor(case["scores"], dtype=torch.float64, requires_grad=True)
    options = {key: value for key, value in case.get("options", {}).items() if key in LOSSES[name].options}
    corrected = scores
    if "logq" in case:
        support, n_in_batch = torch.tensor(case["support"], dtype=torch.float64), case["n_in_batch"]
        weights = [support[:n_in_batch].log(), case["sample_alpha"] * support[n_in_batch:].log()]
        corrected = correct_for_sampling(scores, torch.cat(weights), case["logq"])
    value = LOSSES[name].function(corrected, torch.tensor(case["target"]), None, **options).mean()
    value.backward()
    assert value.item() == pytest.approx(case["losses"][name]["value"], abs=1e-9)
    np.testing.assert_allclose(scores.grad.numpy(), case["losses"][name]["grad"], rtol=0, atol=1e-9)


def test_there_is_something_to_replay():
    assert RUNS, f"no recorded runs (*.npz) in {GOLDEN}"


class GoldenRun:
    """A recorded run, its items renumbered to our vocabulary's order."""

    def __init__(self, path: Path):
        self.spec = json.loads(path.with_suffix(".json").read_text())
        self.arrays = np.load(path, allow_pickle=False)
        self.log = encode(_events(self.arrays["train"]))
        self.number = self.log.vocabulary.numbers([str(item) for item in self.arrays["item_order"]])
        self.test = encode(_events(self.arrays["test"]), self.log.vocabulary).sessions

    def parameters(self, moment: str) -> dict[str, np.ndarray]:
        """The parameters at "init" or "final", under our names."""
        named = {}
        for key in self.arrays.files:
            if not key.startswith(moment + "."):
                continue
            name, array = key.removeprefix(moment + "."), self.arrays[key]
            table = {"Wy.weight": "output_table", "By.weight": "output_bias", "E.weight": "input_table"}.get(name)
            if table is None:
                named["gru." + name.removeprefix("G.")] = array
                continue
            renumbered = np.empty_like(array)
            renumbered[self.number] = array
            named[table] = renumbered[:, 0] if table == "output_bias" else renumbered
        return named

    def sampler(self) -> type:
        """A sampler that hands out the recorded negatives, step after step."""
        recorded = self.number[self.arrays["samples"].astype(np.int64)].astype(np.int32)

        class Replay:
            every_item = False

            def __init__(self, support: np.ndarray, *, n_sample: int, sample_alpha: float):
                self.n_sample = n_sample
                self.log_weight = (sample_alpha * np.log(support)).astype(np.float32)
                self._steps_drawn = 0

            def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
                begin, self._steps_drawn = self._steps_drawn, self._steps_drawn + steps
                drawn = recorded[begin : self._steps_drawn]
                # A step that is laid out but not run (no negative) is not in the record.
                return np.concatenate([drawn, np.zeros((steps - len(drawn), self.n_sample), dtype=np.int32)])

        return Replay


def _events(rows: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"session": rows[:, 0].astype(str), "item": rows[:, 1].astype(str), "time": rows[:, 2]})


@pytest.fixture(params=RUNS, ids=lambda path: path.stem)
def golden(request) -> Iterator[GoldenRun]:
    run = GoldenRun(request.param)
    register_sampler("replay")(run.sampler())
    yield run
    del SAMPLERS["replay"]


def _trainer(golden: GoldenRun) -> Trainer:
    config = from_mapping(golden.spec["config"] | {"sampler": "replay", "device": "cpu"})
    trainer = Trainer(config, golden.log)
    trainer.network.load(golden.parameters("init"))
    return trainer


def test_training_run_equals_the_reference(golden):
    trainer = _trainer(golden)
    losses = np.concatenate([trainer.run_epoch().step_losses for _ in range(trainer.config.n_epochs)])
    recorded = golden.arrays["losses"]
    assert len(losses) == len(recorded) == golden.spec["steps"]
    assert abs(losses[0] - recorded[0]) < 1e-5
    np.testing.assert_allclose(losses, recorded, rtol=1e-3, atol=1e-5)
    final = golden.parameters("final")
    for name, tensor in trainer.network.tensors().items():
        np.testing.assert_allclose(tensor.numpy(), final[name], rtol=1e-3, atol=1e-5, err_msg=name)
    for ties, recorded_metrics in golden.spec["metrics"].items():
        ours = evaluate(trainer.network, golden.test, ties=ties).as_dict()
        for name, value in recorded_metrics.items():
            assert ours[name] == pytest.approx(value, abs=2e-3), (ties, name)


def test_rows_of_every_step_equal_the_reference(golden):
    trainer = _trainer(golden)
    rows = [
        n_rows for epoch in range(trainer.config.n_epochs) for n_rows, _ in trainer.batching.run(trainer.learner, epoch)
    ]
    np.testing.assert_array_equal(rows, golden.arrays["batch_rows"])


def test_evaluation_of_the_reference_model_equals_its_own(golden):
    trainer = _trainer(golden)
    trainer.network.load(golden.parameters("final"))
    for ties, recorded in golden.spec["metrics"].items():
        ours = evaluate(trainer.network, golden.test, ties=ties)
        assert ours.events == golden.spec["test_events"]
        for name, value in recorded.items():
            assert ours.as_dict()[name] == pytest.approx(value, abs=1 / golden.spec["test_events"]), (ties, name)
