"""Whole training runs: they learn, repeat, resume, and keep what they should."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig, from_mapping
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.losses import LOSSES, register_loss
from gru4rec.training import checkpoint
from gru4rec.training.run import Callback, train
from gru4rec.training.trainer import CHECKS_PER_EPOCH, Diverged, Trainer
from inference.shared.errors import UserError
from tests.support.small_logs import BUILT_IN_LOSSES, frame_of, log_of, markov_sessions

CONFIGS = {
    "bpr-max, dropout, momentum": TrainConfig(
        loss="bpr-max",
        layers=(16,),
        batch_size=16,
        n_sample=32,
        momentum=0.3,
        dropout_p_embed=0.2,
        dropout_p_hidden=0.1,
        n_epochs=4,
    ),
    "separate, two layers": TrainConfig(
        layers=(12, 16), batch_size=16, n_sample=32, constrained_embedding=False, embedding=8, n_epochs=4, logq=1.0
    ),
    "one-hot, in-batch": TrainConfig(
        loss="top1-max", layers=(16,), batch_size=16, sampler="in-batch", constrained_embedding=False, n_epochs=4
    ),
    "full": TrainConfig(layers=(16,), batch_size=16, sampler="full", n_epochs=4, momentum=0.1),
    "whole-session": TrainConfig(batching="whole-session", layers=(16,), batch_size=100, n_sample=32, n_epochs=4),
    "whole-session, bpr-max, separate, two layers": TrainConfig(
        batching="whole-session",
        loss="bpr-max",
        layers=(12, 16),
        batch_size=100,
        n_sample=32,
        n_epochs=4,
        constrained_embedding=False,
        embedding=8,
        optimizer="adagrad",
        learning_rate=0.05,
        score="dot",
    ),
    "session-parallel, cosine, adamw, bf16": TrainConfig(
        layers=(16,), batch_size=16, n_sample=32, n_epochs=4, score="cosine", optimizer="adamw", precision="bf16"
    ),
    "full, separate": TrainConfig(
        layers=(16,), batch_size=16, sampler="full", n_epochs=4, constrained_embedding=False, embedding=8
    ),
}


def arrays_of(network):
    return {name: tensor.numpy().copy() for name, tensor in network.tensors().items()}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def recall_of(network, sessions):
    return evaluate(network, Sessions.from_lists(sessions)).recall[20]


@pytest.mark.slow
@pytest.mark.parametrize("loss", BUILT_IN_LOSSES)
def test_it_learns_order_where_there_is_order(loss, markov_log):
    config = TrainConfig(loss=loss, layers=(32,), batch_size=32, n_sample=128, learning_rate=0.1, n_epochs=6)
    network = train(markov_log, config).network
    test = markov_sessions(100, 200, seed=7)
    popular = np.argsort(-markov_log.support)[:20]
    popularity = np.mean([item in popular for session in test for item in session[1:]])
    assert recall_of(network, test) > 0.6 > 3 * popularity


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["popularity", "in-batch", "full"])
@pytest.mark.parametrize("loss", BUILT_IN_LOSSES)
def test_it_learns_from_whole_sessions_with_every_loss_and_sampler(loss, sampler, markov_log):
    config = TrainConfig(
        batching="whole-session",
        loss=loss,
        sampler=sampler,
        layers=(32,),
        batch_size=100,
        n_sample=128,
        learning_rate=0.02,
        n_epochs=10,
    )
    network = train(markov_log, config).network
    assert recall_of(network, markov_sessions(100, 200, seed=7)) > 0.6


def test_more_epochs_of_adamw_are_another_run(markov_log, tmp_path):
    config = CONFIGS["whole-session"].replace(n_epochs=1)
    train(markov_log, config, directory=tmp_path / "model")
    with pytest.raises(UserError, match="cannot resume: n_epochs was 1 and is now 2"):
        train(markov_log, config.replace(n_epochs=2), directory=tmp_path / "model", resume=True)


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_it_learns_nothing_from_shuffled_clicks(batching):
    generator = np.random.default_rng(0)
    shuffled = [generator.integers(0, 200, size=8).tolist() for _ in range(400)]
    config = TrainConfig(batching=batching, layers=(32,), n_sample=128, n_epochs=6)
    network = train(log_of(shuffled), config).network
    assert recall_of(network, generator.integers(0, 200, size=(100, 8)).tolist()) < 0.2  # chance: 20 of 200


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(config, markov_log, tmp_path):
    class StopsAfterTwoEpochs(Callback):
        def on_epoch_end(self, result):
            if result.epoch == 2:
                raise KeyboardInterrupt

    whole = train(markov_log, config, directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(markov_log, config, directory=tmp_path / "parts", callback=StopsAfterTwoEpochs())
    resumed = train(markov_log, config, directory=tmp_path / "parts", resume=True)
    assert_same_bits(arrays_of(resumed.network), arrays_of(whole.network))
    losses = [[epoch["loss"] for epoch in model.metrics["history"]] for model in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_run_without_a_folder_equals_one_with_it(markov_log, tmp_path):
    config = CONFIGS["bpr-max, dropout, momentum"]
    assert_same_bits(
        arrays_of(train(markov_log, config).network),
        arrays_of(train(markov_log, config, directory=tmp_path / "model").network),
    )


def test_other_seed_other_model(markov_log):
    config = CONFIGS["full"].replace(n_epochs=1)
    first, other = train(markov_log, config).network, train(markov_log, config.replace(seed=1)).network
    assert not torch.equal(first.output_table, other.output_table)


@pytest.mark.slow
def test_killed_run_resumes_and_ends_with_the_same_model(tmp_path):
    """A real process, killed with SIGKILL once its second epoch is on disk."""
    log_file, config = tmp_path / "clicks.parquet", CONFIGS["bpr-max, dropout, momentum"].replace(n_epochs=6)
    frame_of(markov_sessions(1500, 200, seed=3)).write_parquet(log_file)
    (tmp_path / "run.toml").write_text(
        "\n".join(f"{key} = {json.dumps(value)}" for key, value in _toml(config).items())
    )
    command = [sys.executable, "-c", "import sys; from gru4rec.cli import main; sys.exit(main())", "train"]
    command += ["--train", log_file, "--config", tmp_path / "run.toml", "--threads", "1"]

    process = subprocess.Popen([*command, "--out", tmp_path / "killed"], stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.json"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and json.loads(metrics.read_text())["last_epoch"] >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads(metrics.read_text())["last_epoch"] < 6

    subprocess.run([*command, "--out", tmp_path / "killed", "--resume"], check=True, capture_output=True)
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, capture_output=True)
    killed, whole = (checkpoint.load_model(tmp_path / name) for name in ("killed", "whole"))
    assert_same_bits(arrays_of(killed.network), arrays_of(whole.network))
    assert not list((tmp_path / "killed").glob(".*.partial"))


def _toml(config):
    from gru4rec.config.train_config import to_mapping

    return {key: value for key, value in to_mapping(config).items() if not isinstance(value, dict)}


@pytest.mark.slow
def test_best_epoch_on_validation_is_kept(markov_log, tmp_path):
    config = TrainConfig(layers=(32,), batch_size=32, n_sample=64, learning_rate=0.3, n_epochs=12, seed=2)
    valid = Sessions.from_lists(markov_sessions(50, 200, seed=8))
    quality = [epoch["mrr@20"] for epoch in train(markov_log, config, valid=valid).metrics["history"]]
    n_epochs = next(n for n in range(2, 12) if quality[n - 1] < max(quality[: n - 1]))  # which processors differ in
    first = train(markov_log, config.replace(n_epochs=n_epochs), valid=valid, directory=tmp_path / "model")
    assert first.metrics["best_epoch"] < n_epochs
    longer = config.replace(n_epochs=n_epochs + 1)
    resumed = train(markov_log, longer, valid=valid, directory=tmp_path / "model", resume=True)
    whole = train(markov_log, longer, valid=valid)
    assert_same_bits(arrays_of(resumed.network), arrays_of(whole.network))
    losses = [[epoch["loss"] for epoch in model.metrics["history"]] for model in (whole, resumed)]
    assert losses[0] == losses[1]
    assert {folder.name for folder in (tmp_path / "model").glob("epoch-*")} >= {f"epoch-{n_epochs + 1:04d}"}


@pytest.mark.slow
def test_a_finished_run_that_cannot_resume_keeps_only_its_best_epoch(markov_log, tmp_path):
    valid = Sessions.from_lists(markov_sessions(50, 200, seed=8))
    model = train(markov_log, CONFIGS["whole-session"].replace(learning_rate=0.3), valid=valid, directory=tmp_path)
    assert [folder.name for folder in tmp_path.glob("epoch-*")] == [f"epoch-{model.metrics['best_epoch']:04d}"]


def test_resume_refuses_another_configuration_or_other_data(markov_log, tmp_path):
    config = CONFIGS["full"].replace(n_epochs=1)
    train(markov_log, config, directory=tmp_path / "model")
    with pytest.raises(UserError, match="holds a model already; resume it"):
        train(markov_log, config, directory=tmp_path / "model")
    with pytest.raises(UserError, match=r"cannot resume: learning_rate was 0\.05 and is now 0\.1"):
        train(markov_log, config.replace(learning_rate=0.1), directory=tmp_path / "model", resume=True)
    with pytest.raises(UserError, match="cannot resume: the training or validation data are not those it started with"):
        train(log_of(markov_sessions(400, 200, seed=5)), config, directory=tmp_path / "model", resume=True)


def test_fewer_epochs_than_are_done_are_refused_and_nothing_is_lost(markov_log, tmp_path):
    config = CONFIGS["full"].replace(n_epochs=2)
    train(markov_log, config, directory=tmp_path / "model")
    with pytest.raises(UserError, match="n_epochs: 2 epochs are done already"):
        train(markov_log, config.replace(n_epochs=1), directory=tmp_path / "model", resume=True)
    train(markov_log, config.replace(n_epochs=3), directory=tmp_path / "model", resume=True)


@pytest.mark.parametrize("name", ["config.toml", "vocabulary.txt", "epoch-notes", "epoch-0001", "thesis.txt"])
def test_folder_of_something_else_is_left_as_it_is(name, markov_log, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"expected a new or empty folder for the model, found '{name}'"):
        train(markov_log, CONFIGS["full"], directory=tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("settings", ["[editor]\ntabs = 4\n", 'loss = "bpr-max"\n'])
def test_folder_of_ones_own_vocabulary_and_configuration_is_left_as_it_is(settings, markov_log, tmp_path):
    (tmp_path / "vocabulary.txt").write_text("aardvark\nzebra\n")
    (tmp_path / "config.toml").write_text(settings)
    (tmp_path / "epoch-0001").mkdir()
    (tmp_path / ".vocabulary.txt.12.partial").write_text("theirs")
    before = {path: path.is_dir() or path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"expected a new or empty folder for the model, found 'config\.toml'"):
        train(markov_log, CONFIGS["full"], directory=tmp_path)
    assert {path: path.is_dir() or path.read_text() for path in tmp_path.iterdir() if path.name != ".lock"} == before


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_folder_of_a_run_that_was_killed_in_its_first_epoch_is_used_again(written, markov_log, tmp_path):
    config = CONFIGS["full"].replace(n_epochs=1)
    checkpoint.write_description(tmp_path, config, markov_log.vocabulary)
    (tmp_path / "epoch-0001").mkdir()
    for name in ("config.toml", "vocabulary.txt", "epoch-0001")[written:]:  # in the order of their making
        path = tmp_path / name
        path.rmdir() if path.is_dir() else path.unlink()
    checkpoint.check_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == written


def test_the_configuration_is_written_before_the_vocabulary(markov_log, tmp_path):
    (tmp_path / "vocabulary.txt").mkdir()  # nothing can be written there
    with pytest.raises(UserError, match="cannot write"):
        checkpoint.write_description(tmp_path, CONFIGS["full"], markov_log.vocabulary)
    assert (tmp_path / "config.toml").is_file()


def test_leftovers_of_a_killed_save_are_cleared_away(markov_log, tmp_path):
    train(markov_log, CONFIGS["full"].replace(n_epochs=1), directory=tmp_path / "model")
    leftover = tmp_path / "model" / ".epoch-0002.12345.partial"
    leftover.mkdir()
    (leftover / "dense.npy").write_bytes(b"half")
    train(markov_log, CONFIGS["full"].replace(n_epochs=2), directory=tmp_path / "model", resume=True)
    assert not list((tmp_path / "model").glob(".*.partial"))


def test_finished_run_resumes_to_itself(markov_log, tmp_path):
    config = CONFIGS["full"].replace(n_epochs=1)
    first = train(markov_log, config, directory=tmp_path / "model")
    again = train(markov_log, config, directory=tmp_path / "model", resume=True)
    assert_same_bits(arrays_of(first.network), arrays_of(again.network))


def test_folder_in_use_is_refused(markov_log, tmp_path):
    config = CONFIGS["full"].replace(n_epochs=1)

    class TriesToJoin(Callback):
        def on_step_end(self, epoch, done, total):
            if done == 1:
                with pytest.raises(UserError, match="is in use by another run"):
                    train(markov_log, config, directory=tmp_path / "model")
                self.tried = True

    callback = TriesToJoin()
    train(markov_log, config, directory=tmp_path / "model", callback=callback)
    assert callback.tried


def test_divergence_names_epoch_and_step(markov_log):
    @register_loss("exponential")
    def exponential(scores, positive, excluded=None):
        return (scores - scores.gather(1, positive.unsqueeze(1))).exp().sum(dim=1)

    try:
        with pytest.raises(Diverged, match="not finite in epoch 1, step ") as error:
            train(markov_log, TrainConfig(loss="exponential", learning_rate=100, layers=(16,), n_sample=32))
        assert error.value.epoch == 1
        assert error.value.step > 0
    finally:
        del LOSSES["exponential"]


def test_a_loss_that_rises_a_hundredfold_ends_the_epoch_where_that_is_asked_for(markov_log):
    config = TrainConfig(loss="bpr-max", learning_rate=0.5, momentum=0.5, layers=(16,), n_sample=64, batch_size=8)
    goes_on = Trainer(config, markov_log)
    losses = goes_on.run_epoch().step_losses
    assert len(losses) == goes_on.n_steps
    ended = Trainer(config, markov_log)
    with pytest.raises(Diverged, match=r"the loss rose from 0\.69\d to .* in epoch 1, step \d+; lower") as error:
        ended.run_epoch(max_rise=100)
    assert 0 < error.value.step < ended.n_steps // 2
    window = losses[error.value.step - ended.n_steps // CHECKS_PER_EPOCH + 1 : error.value.step + 1]
    assert window.mean() > 100 * losses[0]


@pytest.mark.slow
def test_a_step_that_was_easy_by_chance_ends_no_later_epoch(markov_log):
    config = TrainConfig(layers=(16,), n_sample=8, batch_size=1, learning_rate=0.1)
    trainer = Trainer(config, log_of([[0, 1] * 30, *markov_sessions(40, 50, seed=1)]))
    check_interval = trainer.n_steps // CHECKS_PER_EPOCH
    for _ in range(4):
        losses = trainer.run_epoch(max_rise=3).step_losses
    means = losses[: len(losses) // check_interval * check_interval].reshape(-1, check_interval).mean(axis=1)
    assert means.max() > 3 * losses[0]  # and still the training went on


def test_a_loss_that_is_not_finite_ends_the_epoch_soon(markov_log):
    done = []
    trainer = Trainer(TrainConfig(layers=(4,), n_sample=8, batch_size=4), markov_log)
    next(iter(trainer.network.tensors().values())).fill_(float("nan"))
    with pytest.raises(Diverged, match="not finite in epoch 1, step 0"):
        trainer.run_epoch(done.append)
    assert len(done) <= trainer.n_steps // CHECKS_PER_EPOCH


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_in_batch_negatives_train_until_one_slot_is_left(slots):
    log = log_of([[0, 1, 2, 3], [3, 2], [1, 0], [0, 2, 3, 1, 0, 2]])
    config = TrainConfig(sampler="in-batch", batch_size=slots, layers=(4,), n_epochs=1)
    if slots == 1:
        with pytest.raises(UserError, match="expected negatives to learn from"):
            Trainer(config, log)
        return
    report = Trainer(config, log).run_epoch()
    # The last session, of 5 pairs, is alone once the first one's 3 pairs are done: it started one step after that one
    # with 3 slots, together with it with 64.
    assert report.n_pairs == {3: 3 + 1 + 1 + 2, 64: 3 + 1 + 1 + 3}[slots]
    assert np.isfinite(report.step_losses).all()


def test_with_additional_samples_nothing_is_skipped():
    log = log_of([[0, 1, 2, 3], [3, 2], [1, 0], [0, 2, 3, 1, 0, 2]])
    report = Trainer(TrainConfig(n_sample=2, batch_size=3, layers=(4,)), log).run_epoch()
    assert report.n_pairs == log.sessions.n_pairs == 10


def test_single_clicks_only_is_one_clear_line():
    with pytest.raises(UserError, match="expected sessions of at least two clicks to train on, got none"):
        Trainer(TrainConfig(), log_of([[0], [1], [2]]))


def test_device_that_is_not_there_is_refused(markov_log):
    with pytest.raises(UserError, match="device: cannot use 'quantum'"):
        Trainer(TrainConfig(device="quantum"), markov_log)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device: cannot use 'cuda'"):
            Trainer(TrainConfig(device="cuda"), markov_log)


def test_plugin_module_registers_a_loss(markov_log, tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(
        "from gru4rec.model.losses import register_loss\n"
        "@register_loss('hinge')\n"
        "def hinge(scores, positive, excluded=None, *, margin=1.0):\n"
        "    target = scores.gather(1, positive.unsqueeze(1))\n"
        "    return (margin + scores - target).clamp_min(0).mean(dim=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = from_mapping(
        {"loss": "hinge", "plugins": ["my_losses"], "loss_options": {"margin": 0.5}, "layers": 8, "n_epochs": 1}
    )
    try:
        assert train(markov_log, config).metrics["history"][0]["loss"] > 0
    finally:
        LOSSES.pop("hinge", None)
    (tmp_path / "broken.py").write_text("def :")
    with pytest.raises(UserError, match="plugins: cannot import 'broken': SyntaxError"):
        train(markov_log, TrainConfig(plugins=("broken",)))
    with pytest.raises(UserError, match=r"plugins: cannot import 'no_such_module': .*; is its folder on PYTHONPATH\?"):
        train(markov_log, TrainConfig(plugins=("no_such_module",)))


def test_another_vocabulary_is_refused_and_older_models_without_its_digest_are_read(markov_log, tmp_path):
    train(markov_log, CONFIGS["full"].replace(n_epochs=1), directory=tmp_path)
    items, metrics = tmp_path / "vocabulary.txt", tmp_path / "metrics.json"
    items.write_text(items.read_text().replace("item-000007", "item-000006b"))
    with pytest.raises(UserError, match=r"vocabulary\.txt: expected the item ids that the model was trained with"):
        checkpoint.load_model(tmp_path)
    metrics.write_text(metrics.read_text().replace("vocabulary_sha256", "unknown_key"))
    assert len(checkpoint.load_model(tmp_path).vocabulary) == len(markov_log.vocabulary)


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickled", "metrics", "epoch", "schema"])
def test_damaged_model_folder_is_one_clear_line(damage, markov_log, tmp_path):
    directory = tmp_path / "model"
    train(markov_log, CONFIGS["full"].replace(n_epochs=1), directory=directory)
    array = directory / "epoch-0001" / "output_table.npy"
    if damage == "missing":
        array.unlink()
    elif damage == "truncated":
        array.write_bytes(array.read_bytes()[:200])
    elif damage == "pickled":
        np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "metrics":
        (directory / "metrics.json").write_text("{")
    elif damage == "epoch":
        text = (directory / "metrics.json").read_text()
        (directory / "metrics.json").write_text(text.replace('"best_epoch": 1', '"best_epoch": "1"'))
    else:
        (directory / "metrics.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError) as error:
        checkpoint.load_model(directory)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="expected a model directory"):
        checkpoint.load_model(tmp_path / "absent")
