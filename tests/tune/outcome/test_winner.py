"""The model that a search keeps: the winner as it was validated, or trained again."""

from dataclasses import replace

import numpy as np
import pytest

from gru4rec.config.train_config import TrainConfig
from gru4rec.data.events import hold_out_last
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.training.checkpoint import load_model
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from tests.support.small_logs import log_of, markov_sessions
from tests.tune.outcome.test_report import trial_of
from tune.outcome.winner import refit, restore_trainer, save_model
from tune.trials.results import winning_config
from tune.trials.trial import TrialData


@pytest.fixture(scope="module")
def data():
    return TrialData(*hold_out_last(log_of(markov_sessions(200, 40, seed=6)), 0.2))


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(batching="whole-session", layers=(8,), n_sample=16, batch_size=64, n_epochs=3, learning_rate=0.05),
        TrainConfig(layers=(8,), n_sample=16, batch_size=16, n_epochs=3),
    ],
    ids=["adamw", "adagrad"],
)
def test_a_winner_without_checkpoint_is_kept_as_it_was_validated(config, data, tmp_path):
    validated = Trainer(config, data.train)
    quality = []
    for _ in range(2):
        validated.run_epoch()
        quality.append(evaluate(validated.network, data.valid, cutoffs=[20]).mrr[20])
    trial = replace(trial_of(1, config, lambda _: quality[-1]), best_epoch=2, checkpoints={})

    save_model(*restore_trainer(data, winning_config(trial, refit=False), trial), tmp_path / "model")

    model = load_model(tmp_path / "model")
    for name, tensor in validated.network.tensors().items():
        np.testing.assert_array_equal(model.network.tensors()[name].numpy(), tensor.numpy(), err_msg=name)
    assert [epoch["mrr@20"] for epoch in model.metrics["history"]] == quality
    again = Trainer(model.config, data.train)  # what the configuration that is kept with it gives
    for _ in range(2):
        again.run_epoch()
    for name, tensor in validated.network.tensors().items():
        np.testing.assert_array_equal(again.network.tensors()[name].numpy(), tensor.numpy(), err_msg=name)


def test_a_folder_that_a_winner_cannot_be_kept_in_is_one_line(data, tmp_path):
    trainer = Trainer(TrainConfig(layers=(8,), n_sample=16, batch_size=16), data.train)
    with pytest.raises(UserError, match=r"cannot write .*gone/\.model\.kept\.partial: No such file or directory$"):
        save_model(trainer, [], tmp_path / "gone" / "model")


def test_a_refit_that_was_whole_when_the_search_was_killed_is_not_run_again(data, tmp_path, monkeypatch):
    config = TrainConfig(layers=(8,), n_sample=16, batch_size=16, n_epochs=2)
    refit(data.train, config, tmp_path / "model")
    before = (tmp_path / "model" / "metrics.json").read_bytes()
    (tmp_path / ".model.before.partial").mkdir()  # of a process that was killed between its two renames
    (tmp_path / ".model.onnx.1.partial").touch()  # of an export that was killed
    with monkeypatch.context() as patch:
        patch.delattr("gru4rec.training.trainer.Trainer.run_epoch")
        refit(data.train, config, tmp_path / "model")
    assert (tmp_path / "model" / "metrics.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.onnx.1.partial"}
    (tmp_path / "model" / "vocabulary.txt").write_text("damaged")
    refit(data.train, config, tmp_path / "model")
    assert load_model(tmp_path / "model").vocabulary == data.train.vocabulary
    refit(data.train, config.replace(seed=7), tmp_path / "model")
    assert load_model(tmp_path / "model").config.seed == 7


def test_a_winner_that_is_kept_leaves_nothing_of_a_refit_that_diverged(data, tmp_path):
    (tmp_path / ".model.0123456789ab.partial").mkdir()
    save_model(Trainer(TrainConfig(layers=(8,), n_sample=16, batch_size=16), data.train), [], tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
