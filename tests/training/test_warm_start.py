"""A warm start: what it keeps, where new items start, and that it pays."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gru4rec.cli import main
from gru4rec.commands.config_flags import ConfigFlags, resolve_config
from gru4rec.config.train_config import TrainConfig
from gru4rec.data.events import encode
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.network import Network
from gru4rec.training import checkpoint
from gru4rec.training.run import Callback, train
from gru4rec.training.samplers import PopularitySampler
from gru4rec.training.trainer import Trainer
from gru4rec.training.warm_start import WarmStart, init_new_items
from inference.cli import main as infer
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tests.support.small_logs import frame_of, markov_sessions

OLD_ITEMS, NEW_ITEMS = 100, 20
CONFIGS = {
    "constrained": TrainConfig(layers=(16,), batch_size=16, n_sample=32, n_epochs=3, momentum=0.2),
    "separate": TrainConfig(
        layers=(12, 16), batch_size=16, n_sample=32, n_epochs=3, constrained_embedding=False, embedding=8
    ),
    "one-hot": TrainConfig(layers=(16,), batch_size=16, n_sample=32, n_epochs=3, constrained_embedding=False),
    "whole-session, adamw": TrainConfig(
        batching="whole-session", layers=(16,), batch_size=100, n_sample=32, n_epochs=3, logq=1.0
    ),
    "whole-session, separate": TrainConfig(
        batching="whole-session",
        layers=(16,),
        batch_size=100,
        n_sample=32,
        n_epochs=3,
        constrained_embedding=False,
        embedding=8,
        optimizer="adagrad",
        learning_rate=0.05,
    ),
    "full": TrainConfig(layers=(16,), batch_size=16, sampler="full", n_epochs=3),
}


def named(number: int) -> str:
    """Ids whose order is not that of the numbers, so that old and new items are mixed in a vocabulary."""
    return f"item-{number * 37 % 1000:03d}"


def log_of_named(sessions: list[list[int]]) -> EncodedLog:
    """A log with the items that occur in it and no others."""
    vocabulary = Vocabulary({named(item) for session in sessions for item in session})
    numbers = [vocabulary.numbers([named(item) for item in session]).tolist() for session in sessions]
    return EncodedLog(Sessions.from_lists(numbers), vocabulary)


def old_sessions() -> list[list[int]]:
    """Clicks on the items 0 … 99."""
    return markov_sessions(300, OLD_ITEMS, seed=1)


def new_sessions() -> list[list[int]]:
    """Clicks on 10 … 119: the first ten items are missing, and 100 + i replaces 10 + i every other time."""
    generator = np.random.default_rng(3)
    kept = [[item for item in session if item >= 10] for session in markov_sessions(200, OLD_ITEMS, seed=2)]
    return [[item + 90 if item < 30 and generator.random() < 0.5 else item for item in session] for session in kept]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A model per configuration, trained on the old clicks."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        train(log_of_named(old_sessions()), config, directory=folder / name)
    return {name: folder / name for name in CONFIGS}


def start_from(directory: Path, *, drop_gone: bool = False, **changes) -> Trainer:
    """A trainer on the new clicks that starts from a model."""
    start = WarmStart.read(directory)
    trainer = Trainer(
        start.config.replace(**changes), start.extend_vocabulary(log_of_named(new_sessions()), drop_gone=drop_gone)
    )
    start.init_trainer(trainer)
    return trainer


@pytest.mark.parametrize("drop_gone", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_known_items_keep_rows_and_optimiser_state_bit_for_bit(name, drop_gone, models):
    trainer = start_from(models[name], drop_gone=drop_gone)
    vocabulary, old = trainer.log.vocabulary, WarmStart.read(models[name])
    assert len(vocabulary) == OLD_ITEMS + NEW_ITEMS - (10 if drop_gone else 0)
    assert (named(3) in vocabulary) != drop_gone
    shared = [term for term in vocabulary.terms() if term in old.vocabulary]
    here, there = vocabulary.numbers(shared), old.vocabulary.numbers(shared)
    tensors = trainer.network.tensors() | trainer.optimiser.tensors()
    for key, array in checkpoint.load_arrays(old.folder, list(tensors)).items():
        tensor = tensors[key].numpy()
        is_table = len(tensor) == len(vocabulary)
        np.testing.assert_array_equal(tensor[here] if is_table else tensor, array[there] if is_table else array)
        unused = "bias" in key and trainer.network.temperature is not None
        assert tensor.any() or unused


@pytest.mark.parametrize("name", CONFIGS)
def test_new_items_start_at_the_mean_of_their_neighbours(name, models):
    trainer = start_from(models[name])
    vocabulary = trainer.log.vocabulary
    fresh = Network(len(vocabulary), trainer.config)
    adjacent: dict[int, list[int]] = {}
    for session in new_sessions():
        for left, right in pairwise(session):
            adjacent.setdefault(left, []).append(right)
            adjacent.setdefault(right, []).append(left)
    tables = trainer.network.tensors()
    for item in range(OLD_ITEMS, OLD_ITEMS + NEW_ITEMS):
        neighbours = vocabulary.numbers([named(other) for other in adjacent[item] if other < OLD_ITEMS])
        number = vocabulary.number(named(item))
        for table in {"output_table", "output_bias", "input_table"} & tables.keys():
            expected = tables[table][neighbours].mean(dim=0) + fresh.tensors()[table][number]
            torch.testing.assert_close(tables[table][number], expected, rtol=1e-4, atol=1e-5)


def test_a_chain_of_new_items_is_placed_link_by_link_and_one_that_nothing_joins_stays_random():
    table = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.5, 0.0], [0.0, 0.25], [7.0, 7.0]])
    sessions = Sessions.from_lists([[0, 2, 1], [2, 2, 3], [4, 4]])  # 0 and 1 are known
    known = np.array([True, True, False, False, False])
    init_new_items([table], sessions, known)
    expected = [
        [1, 2],
        [3, 6],
        [0.5 + 2, 0.0 + 4],
        [0 + 2.5, 0.25 + 4],
        [7, 7],
    ]  # 2: mean of 0 and 1; 3: next to 2 only
    assert table.tolist() == expected
    assert known.tolist() == [True, True, False, False, False]  # the caller's array


@pytest.mark.parametrize("name", CONFIGS)
def test_training_starts_at_a_better_loss_than_from_scratch_and_keeps_what_is_not_clicked_any_more(name, models):
    warm = start_from(models[name], n_epochs=1)
    scratch = Trainer(warm.config, warm.log)
    assert warm.run_epoch().loss < scratch.run_epoch().loss
    test = encode(_events(markov_sessions(100, OLD_ITEMS, seed=9)), warm.log.vocabulary).sessions
    assert evaluate(warm.network, test).recall[20] > evaluate(scratch.network, test).recall[20]


def _events(sessions: list[list[int]]):
    import polars as pl

    frame = frame_of(sessions)
    items = [named(item) for session in sessions for item in session]
    return frame.select(pl.col("SessionId").alias("session"), pl.Series("item", items), pl.col("Time").alias("time"))


def test_adamw_counts_the_steps_that_its_moments_hold(models):
    trainer = start_from(models["whole-session, adamw"])
    before = 3 * Trainer(CONFIGS["whole-session, adamw"], log_of_named(old_sessions())).n_steps
    assert trainer.optimiser.steps_before == before
    trainer.optimiser.begin_step(0)
    assert trainer.optimiser._arguments["root_correction"] == pytest.approx((1 - 0.999 ** (before + 1)) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layers": (32,)}, "layers: expected 16 as the model in .* has, got 32; leave layers out"),
        ({"layers": (16, 16)}, "layers: expected 16 as the model in .* has, got 16/16"),
        ({"constrained_embedding": False}, "constrained_embedding: expected True as the model"),
        ({"constrained_embedding": False, "embedding": 16}, "embedding: expected 0 as the model in .* has, got 16"),
        ({"optimizer": "adamw", "momentum": 0}, "optimizer: expected adagrad as the model in .* has, got adamw"),
        ({"score": "cosine"}, "score: expected dot as the model in .* has, got cosine"),
    ],
)
def test_another_shape_is_refused(changes, line, models):
    with pytest.raises(UserError, match=line):
        start_from(models["constrained"], **changes)


def test_choices_without_a_shape_may_change(models):
    start = WarmStart.read(models["constrained"])
    flags = ConfigFlags(loss="bpr-max", batching="whole-session", momentum=0.0, seed=7, bpreg=1.0)
    config = resolve_config(flags, None, start.config)
    trainer = Trainer(config, start.extend_vocabulary(log_of_named(new_sessions())))
    start.init_trainer(trainer)
    assert trainer.run_epoch().loss > 0
    trainer = start_from(models["full"], momentum=0.3)  # velocities start at zero
    assert not trainer.optimiser.tensors()["velocity.output_table"].any()


def test_defaults_are_the_models_but_for_the_options_of_another_loss(models):
    base = CONFIGS["constrained"].replace(loss="bpr-max", bpreg=0.7)
    config = resolve_config(ConfigFlags(n_epochs=1), None, base)
    assert config == base.replace(n_epochs=1)
    other = resolve_config(ConfigFlags(loss="cross-entropy"), None, base)
    assert (other.bpreg, other.layers, other.n_sample) == (None, (16,), 32)


def test_with_another_batching_what_the_model_does_not_decide_has_the_defaults_of_that():
    config = resolve_config(ConfigFlags(batching="whole-session"), None, CONFIGS["constrained"].replace(batch_size=64))
    assert (config.batch_size, config.dropout_p_embed, config.precision) == (1024, 0.3, "auto")  # were defaults
    assert (config.layers, config.n_sample, config.n_epochs, config.momentum) == ((16,), 32, 3, 0.2)  # were set
    assert (config.score, config.optimizer, config.learning_rate, config.n_recent) == ("dot", "adagrad", 0.05, 0)


def test_a_bonus_for_recent_clicks_keeps_a_model_from_another_batching():
    base = TrainConfig(batching="whole-session", n_recent=3)
    for flags in (ConfigFlags(batching="session-parallel"), ConfigFlags(batching="session-parallel", n_recent=0)):
        with pytest.raises(UserError, match=r"batching: .* \(n_recent = 3\), which is learnt with whole-session only"):
            resolve_config(flags, None, base)
    without = TrainConfig(batching="whole-session", n_recent=0)
    assert resolve_config(ConfigFlags(batching="session-parallel"), None, without).n_recent == 0


def test_items_without_clicks_are_drawn_by_uniform_sampling_only():
    support = np.array([0, 3, 0, 1, 0])
    generator = np.random.default_rng(0)
    by_popularity = PopularitySampler(support, n_sample=2000, sample_alpha=0.5)
    assert set(by_popularity.draw(1, generator)[0]) == {1, 3}
    np.testing.assert_allclose(by_popularity.log_weight, [-np.inf, 0.5 * np.log(3), -np.inf, 0, -np.inf], rtol=1e-6)
    assert set(PopularitySampler(support, n_sample=2000, sample_alpha=0.0).draw(1, generator)[0]) == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_interrupted_warm_start_resumes_to_the_same_weights_and_with_the_same_init_only(models, tmp_path):
    class StopsAfterOneEpoch(Callback):
        def on_epoch_end(self, result):
            raise KeyboardInterrupt

    start = WarmStart.read(models["whole-session, adamw"])
    log, parts = start.extend_vocabulary(log_of_named(new_sessions())), tmp_path / "parts"
    whole = train(log, start.config, directory=tmp_path / "whole", init=start)
    with pytest.raises(KeyboardInterrupt):
        train(log, start.config, directory=parts, init=start, callback=StopsAfterOneEpoch())
    with pytest.raises(UserError, match="cannot resume: it started from another model, or none; give the same --init"):
        train(log, start.config, directory=parts, resume=True)
    resumed = train(log, start.config, directory=parts, init=start, resume=True)
    for name, tensor in whole.network.tensors().items():
        assert torch.equal(tensor, resumed.network.tensors()[name]), name


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """The two logs as files."""
    paths = {}
    for name, sessions in (("old", old_sessions()), ("new", new_sessions())):
        paths[name] = tmp_path / f"{name}.parquet"
        _events(sessions).rename({"session": "SessionId", "item": "ItemId", "time": "Time"}).write_parquet(paths[name])
    return paths


@pytest.mark.slow
def test_command_starts_from_a_model_and_writes_an_ordinary_one(files, tmp_path, capsys):
    flags = ["--layers", "8", "--n-sample", "16", "--batch-size", "16", "--n-epochs", "2"]
    assert main(["train", "--train", str(files["old"]), "--out", str(tmp_path / "old"), *flags]) == 0
    command = ["train", "--init", str(tmp_path / "old"), "--train", str(files["new"]), "--n-epochs", "1"]
    assert main([*command, "--out", str(tmp_path / "new")]) == 0
    assert f"{tmp_path / 'old'}: 100 items kept, 20 new, 0 dropped" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "fewer"), "--drop-gone-items"]) == 0
    assert f"{tmp_path / 'old'}: 90 items kept, 20 new, 10 dropped" in capsys.readouterr().err
    model = checkpoint.load_model(tmp_path / "new")
    assert (model.config.layers, model.config.n_sample, model.config.n_epochs) == ((8,), 16, 1)
    assert main([*command[:-1], "2", "--out", str(tmp_path / "new"), "--resume"]) == 0
    assert checkpoint.load_model(tmp_path / "new").metrics["last_epoch"] == 2
    # the third generation
    assert (
        main(["train", "--init", str(tmp_path / "new"), "--train", str(files["old"]), "--out", str(tmp_path / "3")])
        == 0
    )
    assert main(["export", str(tmp_path / "3"), "--out", str(tmp_path / "model.onnx")]) == 0
    (tmp_path / "session.jsonl").write_text(json.dumps({"session": "a", "items": [named(3), named(110)]}) + "\n")
    assert infer(["--model", str(tmp_path / "model.onnx"), "--session", str(tmp_path / "session.jsonl")]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--init", "absent"], "expected a model directory with metrics.json and config.toml, found none at absent"),
        (["--drop-gone-items"], "drop_gone_items: expected --init with it"),
        (["--init", "old", "--layers", "9"], "layers: expected 8 as the model in old has, got 9"),
        (["--init", "damaged"], "epoch.json: expected 'steps' as int; the file is damaged"),
    ],
)
def test_wrong_use_of_the_command_is_one_line_and_leaves_nothing(arguments, line, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("old", "damaged"):
        train(log_of_named(old_sessions()), TrainConfig(layers=(8,), n_sample=8, n_epochs=1), directory=tmp_path / name)
    progress = tmp_path / "damaged" / "epoch-0001" / "epoch.json"
    progress.write_text(progress.read_text().replace("steps", "stops"))
    assert main(["train", "--train", str(files["new"]), "--out", "out", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert line in error
    assert not (tmp_path / "out").exists()
