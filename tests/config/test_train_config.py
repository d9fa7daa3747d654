"""The configuration: one set of checks for flags, files and searches."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru4rec.commands.config_flags import ConfigFlags, read_flags, resolve_config
from gru4rec.config.files import read_config, to_toml
from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from inference.shared.errors import UserError
from tests.support.paths import ROOT

RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.toml"))

OFFICIAL = """from collections import OrderedDict
gru4rec_params = OrderedDict([
('loss', 'bpr-max'),
('constrained_embedding', True),
('layers', [224]),
('batch_size', 80),
('bpreg', 1.95),
('logq', 0.0)
])
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout_p_embed", 1.5),
        ("dropout_p_hidden", 1.0),
        ("dropout_p_hidden", -0.1),
        ("sample_alpha", -1),
        ("learning_rate", 0),
        ("momentum", 1),
        ("batch_size", 0),
        ("n_sample", -1),
        ("n_epochs", 0),
        ("n_epochs", 2.5),
        ("batch_size", "many"),
        ("learning_rate", float("nan")),
        ("learning_rate", True),
        ("layers", []),
        ("layers", [100, 0]),
        ("layers", "a/b"),
        ("constrained_embedding", "maybe"),
        ("loss", 3),
        ("plugins", [1]),
        ("loss_options", 1),
        ("bpreg", -0.5),
        ("seed", -1),
    ],
)
def test_impossible_value_is_refused_with_the_name_of_its_key(name, value):
    with pytest.raises(UserError, match=f"^configuration: {name}: expected "):
        from_mapping({name: value})


def test_unknown_key_names_the_known_ones():
    with pytest.raises(UserError, match="unknown key 'dropout'; available: loss, batching, layers"):
        from_mapping({"dropout": 0.5})


def test_embedding_width_contradicts_a_constrained_embedding():
    with pytest.raises(UserError, match="set constrained_embedding to false or embedding to 0"):
        TrainConfig(embedding=64)
    assert TrainConfig(embedding=64, constrained_embedding=False).embedding_mode == "separate"
    assert TrainConfig(constrained_embedding=False).embedding_mode == "one-hot"


def test_whole_session_batching_has_defaults_of_its_own_and_what_is_set_stays():
    whole, paper = TrainConfig(batching="whole-session", layers=(64,)), TrainConfig()
    assert (whole.layers, whole.score, whole.temperature, whole.optimizer) == ((64,), "cosine", 16.0, "adamw")
    assert (paper.layers, paper.score, paper.temperature, paper.optimizer) == ((100,), "dot", None, "adagrad")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batching": "sessions"}, "unknown batching 'sessions'; available: session-parallel, whole-session"),
        ({"score": "dott"}, "unknown score 'dott'; available: cosine, dot"),
        ({"temperature": 3}, "temperature: it scales cosine scores"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum: adamw has its own"),
        ({"precision": "int8"}, "unknown precision 'int8'; available: auto, bf16, fp32, tf32"),
    ],
)
def test_contradictions_are_refused_with_the_reason(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(values)


@pytest.mark.parametrize("layers", [[100, 50], (100, 50), "100/50", "100,50", "[100, 50]"])
def test_layers_may_be_written_in_several_ways(layers):
    assert TrainConfig(layers=layers).layers == (100, 50)


config_values = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.sampled_from(["cross-entropy", "bpr-max"]),
        "layers": st.lists(st.integers(1, 600), min_size=1, max_size=3),
        "learning_rate": st.floats(1e-6, 10),
        "dropout_p_embed": st.floats(0, 0.99),
        "bpreg": st.floats(0, 5),
        "loss_options": st.dictionaries(
            st.text("abc", min_size=1), st.integers() | st.text("xyz\"\\'\n") | st.booleans()
        ),
        "seed": st.integers(0, 2**63 - 1),
        "constrained_embedding": st.booleans(),
    },
)


@given(config_values)
def test_written_configuration_reads_back_equal(values):
    config = from_mapping(values)
    assert from_mapping(tomllib.loads(to_toml(config))) == config
    assert from_mapping(to_mapping(config)) == config


def test_official_parameter_file_is_read(tmp_path):
    path = tmp_path / "official.py"
    path.write_text(OFFICIAL)
    config = from_mapping(read_config(path))
    assert (config.loss, config.layers, config.batch_size, config.bpreg) == ("bpr-max", (224,), 80, 1.95)


@pytest.mark.parametrize(
    "text",
    [
        "gru4rec_params = OrderedDict([('loss', __import__('os').system('touch EXECUTED'))])",
        "import os; os.system('touch EXECUTED')",
        "gru4rec_params = OrderedDict([('loss', 'bpr-max'",
        "gru4rec_params = 3",
        "",
    ],
)
def test_official_parameter_file_is_never_executed(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "official.py"
    path.write_text(text)
    with pytest.raises(UserError, match=r"official\.py: expected gru4rec_params = OrderedDict"):
        read_config(path)
    assert not (tmp_path / "EXECUTED").exists()


def test_broken_or_missing_file_is_one_clear_line(tmp_path):
    (tmp_path / "broken.toml").write_text("loss = ")
    with pytest.raises(UserError, match=r"broken\.toml: expected TOML"):
        read_config(tmp_path / "broken.toml")
    with pytest.raises(UserError, match="cannot read the configuration"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "unknown.toml").write_text("lr = 1")
    with pytest.raises(UserError, match=r"unknown\.toml: unknown key 'lr'"):
        read_config(tmp_path / "unknown.toml")


def test_flag_wins_over_file_and_file_over_default(tmp_path):
    (tmp_path / "run.toml").write_text("batch_size = 32\nlearning_rate = 0.2\n[loss_options]\ngamma = 2\n")
    config = resolve_config(ConfigFlags(batch_size=16), tmp_path / "run.toml")
    assert (config.batch_size, config.learning_rate, config.momentum) == (16, 0.2, 0.0)
    assert config.loss_options == {"gamma": 2}


def test_a_file_may_need_what_the_flags_say(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("temperature = 20.0\n")
    assert resolve_config(ConfigFlags(score="cosine"), path).temperature == 20.0
    path.write_text("n_recent = 5\n")
    assert resolve_config(ConfigFlags(batching="whole-session"), path).n_recent == 5
    assert resolve_config(ConfigFlags(), path, TrainConfig(batching="whole-session")).n_recent == 5
    with pytest.raises(UserError, match=r"run\.toml: n_recent: expected 0 with session-parallel batching"):
        resolve_config(ConfigFlags(batch_size=8), path)


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path):
    (tmp_path / "run.toml").write_text("batch_size = 32\n")
    with pytest.raises(UserError, match=r"^configuration: batch_size: expected a value of at least 1"):
        resolve_config(ConfigFlags(batch_size=0), tmp_path / "run.toml")


def test_with_another_batching_what_was_a_default_is_the_default_of_that():
    parallel, whole = TrainConfig(n_sample=7, seed=3), TrainConfig(batching="whole-session", n_sample=7, seed=3)
    assert parallel.replace(batching="whole-session") == whole
    assert whole.replace(batching="session-parallel") == parallel
    assert parallel.replace(batching="whole-session", batch_size=64).batch_size == 64
    cosine = TrainConfig(score="cosine", temperature=8.0).replace(batching="whole-session")
    assert (cosine.temperature, cosine.n_sample) == (8.0, 4096)
    with pytest.raises(UserError, match="momentum: adamw has its own"):
        TrainConfig(momentum=0.2).replace(batching="whole-session")
    with pytest.raises(UserError, match="unknown batching 'lanes'"):
        parallel.replace(batching="lanes")


def test_plugin_options_on_the_command_line_keep_their_type():
    values = read_flags(ConfigFlags(loss_options={"gamma": "0.5", "name": "soft", "on": "true"}))
    assert values == {"loss_options": {"gamma": 0.5, "name": "soft", "on": True}}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipes_name_every_choice_that_matters_and_are_valid(recipe):
    values = read_config(recipe)
    config = from_mapping(values)
    assert config.batching == "whole-session"
    assert {"layers", "n_epochs", "n_recent", "learning_rate", "n_sample", "score", "logq"} <= set(values)


def test_there_is_a_recipe_for_every_log_of_the_comparison():
    assert [recipe.stem for recipe in RECIPES] == ["30music", "diginetica", "retailrocket"]
