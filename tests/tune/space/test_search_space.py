"""The search space: what it holds, what it never holds twice, and how it is narrowed."""

from pathlib import Path

import optuna
import pytest

from gru4rec.commands.config_flags import read_flags
from gru4rec.config.files import parse_config
from gru4rec.config.train_config import TrainConfig, from_mapping, merge
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from tests.support.small_logs import log_of, markov_sessions
from tune.settings import SearchSettings
from tune.space.builder import build_space
from tune.space.dimensions import choice, ladder, read_dimension, span
from tune.space.flags import SpaceFlags
from tune.space.published import PUBLISHED, select_starting_points
from tune.space.search_space import MODEL, model_key
from tune.studies.study import create_study
from tune.trials.searchers import NUMBER, DistinctSuggestions

pytestmark = pytest.mark.usefixtures("plugged_in")

BUILT_IN = ["cross-entropy", "top1", "bpr", "top1-max", "bpr-max"]


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def space_of(**narrowed):
    narrowed.setdefault("loss", BUILT_IN)
    narrowed.setdefault("sampler", "popularity")
    return build_space(narrowed, n_epochs=3, seed=7)


def random_models(space, count):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(study.ask())[MODEL] for _ in range(count)]


def test_every_suggestion_is_a_valid_configuration_with_only_the_options_of_its_loss():
    models = random_models(space_of(), 150)
    for model in models:
        config = from_mapping(model)
        assert (config.n_epochs, config.seed) == (3, 7)
        assert ("bpreg" in model) == ("elu_param" in model) == (config.loss == "bpr-max")
        assert ("logq" in model) == (config.loss == "cross-entropy")
    assert {model["loss"] for model in models} == set(BUILT_IN)


def test_whole_sessions_without_additional_samples_have_no_sampling_to_correct():
    space = space_of(batching="whole-session", loss="cross-entropy", n_sample="0,16", layers="8", logq="1")
    log = log_of(markov_sessions(20, 10, seed=1))
    for model in random_models(space, 12):
        assert model.get("logq") == (1.0 if model["n_sample"] else None)
        Trainer(from_mapping(model), log)  # takes it


def test_the_ranges_are_the_official_ones():
    models = random_models(space_of(), 400)

    def values(name):
        return {value if not isinstance(value, list) else value[0] for value in (model[name] for model in models)}

    assert values("layers") == {100, *range(64, 513, 32)}
    assert values("batch_size") == set(range(32, 257, 16))
    assert values("n_sample") == {0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}
    assert min(values("learning_rate")) == 0.01
    assert max(values("learning_rate")) == 0.25
    assert values("dropout_p_embed") == {round(0.05 * step, 2) for step in range(11)}
    assert values("dropout_p_hidden") == {round(0.05 * step, 2) for step in range(15)}
    assert values("momentum") == {round(0.05 * step, 2) for step in range(19)}
    assert all(0 <= model["bpreg"] <= 2 for model in models if "bpreg" in model)


def test_sample_alpha_is_not_searched_where_nothing_is_sampled():
    study = optuna.create_study()
    space = space_of(n_sample="0")
    trial = study.ask()
    space(trial)
    assert not any("sample_alpha" in name or "n_sample" in name for name in trial.params)


def test_a_loss_has_no_sampling_correction_where_every_item_is_scored():
    models = random_models(space_of(loss="cross-entropy", sampler="full"), 5)
    assert all("logq" not in model for model in models)


@pytest.mark.parametrize("samplers", ["popularity,uniform", "popularity,in-batch,uniform", "uniform,in-batch"])
def test_no_two_points_are_the_same_model_though_samplers_overlap(samplers):
    alphas = {"sample_alpha": "0,1"} if "popularity" in samplers else {}
    drawn = set()
    for model in random_models(space_of(loss="top1", sampler=samplers, n_sample="0,8", **alphas), 60):
        n_sample = 0 if model["sampler"] == "in-batch" else model["n_sample"]
        alpha = 0 if model["sampler"] == "uniform" else model["sample_alpha"]
        drawn.add(((n_sample, alpha if n_sample else None), model["sampler"]))
    assert len({negatives for negatives, _ in drawn}) == len(drawn)


def test_whole_session_mini_batches_have_their_own_ranges():
    models = random_models(space_of(batching="whole-session"), 200)
    assert len({model["n_recent"] for model in models}) > 2
    configs = [from_mapping(model) for model in models]
    assert {(config.batching, config.score, config.optimizer) for config in configs} == {
        ("whole-session", "cosine", "adamw")
    }
    assert {config.temperature for config in configs} == set(range(8, 33, 2))
    assert all(5e-4 <= config.learning_rate <= 1e-2 for config in configs)
    assert {config.n_sample for config in configs} == {512, 1024, 2048, 4096, 8192}
    assert {config.momentum for config in configs} == {0.0}
    assert all("bpreg" not in model and "elu_param" not in model for model in models)  # not for cosine scores


def test_both_batchings_can_be_searched_at_once():
    models = random_models(space_of(batching="session-parallel,whole-session"), 60)
    for model in models:
        assert ("temperature" in model) == (model["batching"] == "whole-session")
        assert model["batching"] == "whole-session" or model["n_recent"] == 0
        assert model["batching"] == "session-parallel" or model["momentum"] == 0
        assert ("bpreg" in model) == (model["loss"] == "bpr-max" and model["batching"] == "session-parallel")
    assert {model["batching"] for model in models} == {"session-parallel", "whole-session"}
    assert len({model_key(model) for model in models}) == 60


def test_where_both_batchings_are_searched_the_number_of_samples_suits_both():
    for names in ("session-parallel,whole-session", "whole-session,session-parallel"):
        space = build_space({"batching": names, "sampler": "popularity"}, n_epochs=1, seed=1)
        assert space.samplers[0].options["n_sample"] == choice([512, 1024, 2048, 4096, 8192])


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session", "session-parallel,whole-session"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("n_recent", 7),
            ("layers", 70),
            ("batch_size", 70),
            ("n_sample", 700),
            ("temperature", 7.0),
            ("momentum", 0.33),
        ),
        *(("learning_rate", 0.33), ("dropout_p_embed", 0.33), ("dropout_p_hidden", 0.33), ("sample_alpha", 0.33)),
        ("precision", "bf16"),
    ],
)
def test_a_dimension_can_be_fixed_at_a_value_of_the_users_own(name, value, batching):
    if (name, batching) in [
        ("n_recent", "session-parallel"),
        ("temperature", "session-parallel"),
        ("momentum", "whole-session"),
    ]:
        return  # it does not exist there
    models = random_models(space_of(batching=batching, **{"n_sample": "512", name: str(value)}), 20)
    batching = {"n_recent": "whole-session", "temperature": "whole-session", "momentum": "session-parallel"}.get(name)
    found = [getattr(from_mapping(model), name) for model in models if batching in (None, model["batching"])]
    assert set(found) == {(value,) if name == "layers" else value}


def test_a_score_brings_its_temperature_and_an_optimizer_its_momentum():
    models = random_models(space_of(score="dot,cosine", optimizer="adagrad,adamw", bpreg="0.5"), 100)
    for model in models:
        assert ("temperature" in model) == (model["score"] == "cosine")
        assert model["optimizer"] == "adagrad" or model["momentum"] == 0
        assert ("bpreg" in model) == (model["loss"] == "bpr-max")  # given, so it is meant
        assert ("elu_param" in model) == (model["loss"] == "bpr-max" and model["score"] == "dot")


def test_a_search_over_whole_sessions_begins_with_what_they_were_developed_with():
    space = space_of(batching="whole-session")
    study = optuna.create_study()
    (point,) = select_starting_points(space, 99)
    study.enqueue_trial(point)
    recipe = TrainConfig(batching="whole-session", n_epochs=3, seed=7)
    assert from_mapping(space(study.ask())[MODEL]).replace(logq=None) == recipe


def test_plugged_in_losses_and_samplers_bring_their_own_ranges():
    models = random_models(space_of(loss="test-margin", sampler="test-mixed"), 40)
    assert all(0.1 <= model["loss_options"]["margin"] <= 0.9 for model in models)
    assert {model["loss_options"]["power"] for model in models} == {1, 2}
    assert all(0.0 <= model["sampler_options"]["share"] <= 1.0 for model in models)
    assert all("bpreg" not in model and "logq" not in model for model in models)


def test_options_of_a_plugged_in_loss_can_be_narrowed():
    models = random_models(space_of(loss="test-margin", loss_options={"margin": "0.25"}), 10)
    assert {model["loss_options"]["margin"] for model in models} == {0.25}


def test_the_default_space_holds_all_published_parameters():
    space = space_of()
    study = optuna.create_study()
    points = select_starting_points(space, 99)
    assert len(points) == len(PUBLISHED) == 6
    for point, published in zip(points, PUBLISHED.values(), strict=True):
        study.enqueue_trial(point)
        suggested = space(study.ask())[MODEL]
        config = from_mapping(suggested)
        for name, value in from_mapping(published).__dict__.items():
            if name not in ("n_epochs", "seed"):
                assert getattr(config, name) == value, name


def test_published_parameters_that_do_not_fit_a_fixed_flag_are_left_out():
    losses = {"loss": "bpr-max"}
    assert len(select_starting_points(space_of(**losses), 99)) == 3
    assert len(select_starting_points(space_of(**losses, layers="512"), 99)) == 2
    assert select_starting_points(space_of(**losses, n_sample="512"), 99) == []
    assert len(select_starting_points(space_of(), 2)) == 2


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("0.1", choice([0.1])),
        ("512,0,32", choice([0, 32, 512])),
        ("1e-4..0.1:log", span(1e-4, 0.1, log=True)),
        ("64..512", span(64, 512)),
        ("0.1..0.3:0.1", choice([0.1, 0.2, 0.3])),
        ("100/50,200", choice(["100/50", 200])),
        (["a", "b,c"], choice(["a", "b", "c"])),
        ([0.5, 0.1], choice([0.1, 0.5])),
        ({"low": 32, "high": 8192, "log": True}, span(32, 8192, log=True)),
        ({"low": 0, "high": 1, "step": 0.5}, choice([0, 0.5, 1.0])),
        (True, choice([True])),
        ("3..3", choice([3])),
    ],
)
def test_a_dimension_is_read_from_flags_and_files(text, dimension):
    assert read_dimension("x", text) == dimension


def test_a_ladder_has_no_rounding_errors():
    assert ladder(0.01, 0.25, 0.005).values[8:10] == (0.05, 0.055)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "brp-max"}, "unknown loss 'brp-max'; available: "),
        ({"sampler": "popular"}, "unknown sampler 'popular'; available: "),
        ({"dropout_p_embed": "1.5"}, "dropout_p_embed: expected a value of at least 0 and below 1, got 1.5"),
        ({"dropout_p_hidden": "0..1"}, "below 1"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'"),
        ({"layers": "64-128"}, "layers: expected values separated by commas, or a range such as 64..128, got '64-128'"),
        ({"learning_rate": "0.2..0.1"}, "expected a range, got 0.2..0.1: `low <= high` must hold"),
        ({"learning_rate": "0..0.1:log"}, "expected a range, got 0..0.1: `low > 0` must hold"),
        ({"learning_rate": "0.1.."}, "expected a range such as"),
        ({"learning_rate": "0.1..0.2:0"}, "expected a step that fits"),
        ({"batch_size": "1.5"}, "batch_size: expected a whole number"),
        ({"batch_size": "32..64.5"}, "batch_size: expected a whole number, got 64.5"),
        ({"n_recent": "10"}, "n_recent: no batching of this search has such an option"),
        ({"layers": "0"}, "layers: expected a value of at least 1 and at most 16384"),
        ({"n_sample": "0", "sample_alpha": "0.3"}, "sample_alpha: without additional samples it has no effect"),
        ({"loss": "top1", "bpreg": "1"}, "bpreg: no loss of this search has such an option"),
        ({"loss": "bpr-max", "logq": "1"}, "logq: no loss of this search has such an option"),
        ({"loss_options": {"margin": "1"}}, "loss_options.margin: no loss of this search"),
        ({"embedding": "64"}, "constrained_embedding = false"),
        ({"sampler": "popularity,in-batch", "n_sample": "0"}, "leave 'in-batch' out"),
        ({"temperature": "16"}, "temperature: no score of this search has such an option"),
        ({"batching": "whole-session", "momentum": "0.5"}, "momentum: no optimizer of this search has such an option"),
        ({"batching": "whole-sessions"}, "unknown batching 'whole-sessions'; available: "),
        ({"seed": 3}, "unknown key 'seed'"),
        ({"loss_options": 3}, "loss_options: expected a table of options, got 3"),
        ({"learningrate": 0.1}, "unknown key 'learningrate'; available: loss, batching"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(given, message):
    with pytest.raises(UserError) as refusal:
        space_of(**given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_narrows_the_space_and_flags_win_over_it(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(
        'loss = ["top1", "test-margin"]\nlearning_rate = {low = 0.1, high = 0.2}\nmomentum = 0.3\n'
        "[loss_options]\nmargin = 0.25\npower = 2\n"
    )
    flags = SpaceFlags(momentum=["0.1,0.2"], loss_options={"power": "1"})
    space = build_space(merge(parse_config(file), read_flags(flags)), n_epochs=1, seed=0)
    models = random_models(space, 40)
    assert {model["loss"] for model in models} == {"top1", "test-margin"}
    assert all(0.1 <= model["learning_rate"] <= 0.2 for model in models)
    assert {model["momentum"] for model in models} == {0.1, 0.2}
    margins = [model["loss_options"] for model in models if model["loss"] == "test-margin"]
    assert all(options == {"margin": 0.25, "power": 1} for options in margins)


@pytest.mark.parametrize("content", [None, "loss = ", b"\xff"])
def test_a_space_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "space.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"space\.toml"):
        parse_config(file)


def small_space():
    return space_of(
        loss="top1,bpr",
        layers="8",
        batch_size="8",
        n_sample="0,4",
        sample_alpha="0.5",
        learning_rate="0.1",
        dropout_p_embed="0",
        dropout_p_hidden="0",
        momentum="0",
    )


def test_no_model_is_suggested_twice_and_an_exhausted_space_ends_the_search():
    searcher = DistinctSuggestions(small_space(), starting_points=[], seed=1)
    suggested = [searcher.suggest(f"trial-{place}") for place in range(5)]
    assert suggested[4] == "FINISHED"
    assert len({model_key(trial[MODEL]) for trial in suggested[:4]}) == 4
    assert [trial[NUMBER] for trial in suggested[:4]] == [1, 2, 3, 4]


def study_of(n_trials, **settings):
    return create_study(
        SearchSettings(train=Path("log"), out=Path("out"), epochs=3, seed=1, **settings), space_of(), n_trials, []
    )


def test_a_round_that_starts_again_suggests_the_models_of_ended_trials_first():
    study = study_of(n_trials=3)
    searcher = study.searcher([])
    models = [searcher.suggest(f"trial-{place}")[MODEL] for place in range(15)]
    ended = [models[14], models[0], models[7]]
    again = study.searcher(ended)
    suggested = [again.suggest(f"trial-{place}") for place in range(5)]
    assert [trial[MODEL] for trial in suggested[:4]] == [*ended, models[1]]  # the second of the first points
    assert [trial[NUMBER] for trial in suggested] == [1, 2, 3, 4, 5]


def test_a_random_round_that_starts_again_does_not_draw_the_models_of_ended_trials():
    study = study_of(n_trials=250, seeds=False, search="random")
    searcher = study.searcher([])
    ended = [searcher.suggest(f"trial-{place}")[MODEL] for place in range(230)]  # more than it would try in vain
    again = study.searcher(ended)
    suggested = [again.suggest(f"trial-{place}") for place in range(250)]
    assert "FINISHED" not in suggested
    assert len({model_key(trial[MODEL]) for trial in suggested}) == 250


def test_a_seed_of_more_bits_than_optuna_takes_is_a_seed():
    searcher = DistinctSuggestions(small_space(), starting_points=[], seed=(1 << 63) - 1)
    assert searcher.suggest("trial-0")[NUMBER] == 1


def test_a_random_search_does_not_depend_on_what_came_of_its_trials():
    def suggested(search, quality):
        searcher = DistinctSuggestions(space_of(), starting_points=[], seed=1, search=search)
        models = []
        for place in range(25):
            models.append(searcher.suggest(f"trial-{place}")[MODEL])
            searcher.on_trial_complete(f"trial-{place}", {"mrr@20": quality(place)})
        return models

    assert suggested("random", lambda place: place) == suggested("random", lambda place: -place)
    assert suggested("optuna", lambda place: place) != suggested("optuna", lambda place: -place)


def test_published_parameters_are_suggested_first():
    space = space_of()
    searcher = DistinctSuggestions(space, starting_points=select_starting_points(space, 2), seed=1)
    layers = [searcher.suggest(f"trial-{place}")[MODEL]["layers"] for place in range(2)]
    assert layers == [[224], [100]]  # retailrocket, rsc15
