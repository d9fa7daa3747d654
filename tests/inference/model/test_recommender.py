import dataclasses
import subprocess
import sys
import types

import numpy as np
import pytest

import inference.model.recommender
import inference.model.scorer
from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from gru4rec.onnx_export.exporter import export
from inference import Recommender, SessionState, UserError, Vocabulary
from inference.model.candidates import Candidates
from tests.support.tiny_models import TERMS, plain_scores, random_weights, save_model

N = len(TERMS)
ORDERED = sorted(TERMS)


@pytest.fixture(scope="module", params=[0, 3], ids=["", "recent clicks"])
def weights(request):
    return random_weights(widths=(8, 5), n_recent=request.param)


@pytest.fixture(scope="module")
def recommender(tmp_path_factory, weights):
    return Recommender.load(save_model(tmp_path_factory.mktemp("model") / "model.onnx", weights))


def random_sessions(count, longest=12, seed=0):
    generator = np.random.default_rng(seed)
    return [
        [ORDERED[number] for number in generator.integers(0, N, generator.integers(0, longest + 1))]
        for _ in range(count)
    ]


def test_items_are_ranked_as_by_the_gru_written_in_numpy(recommender, weights):
    for session in random_sessions(20):
        scores, _ = plain_scores(weights, [ORDERED.index(item) for item in session])
        best = np.argsort(-scores)[:4]
        (got,) = recommender.recommend([session], k=4)
        assert got.items == tuple(ORDERED[number] for number in best)
        np.testing.assert_allclose(got.scores, scores[best], atol=1e-5)
        assert (got.n_known, got.unknown) == (len(session), ())


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, None])
def test_a_batch_of_mixed_lengths_equals_its_rows_one_by_one(recommender, batch_size):
    sessions = random_sessions(50)
    together = recommender.recommend(sessions, k=N, batch_size=batch_size)
    for session, got in zip(sessions, together, strict=True):
        (alone,) = recommender.recommend([session], k=N)
        np.testing.assert_allclose(got.scores, alone.scores, atol=1e-6)
        assert got.items == alone.items


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_side_by_side_give_what_one_gives(recommender, tmp_path, weights, workers):
    several = Recommender.load(save_model(tmp_path / "model.onnx", weights), threads=1, workers=workers)
    sessions = random_sessions(200)
    assert several.recommend(sessions, k=4, batch_size=7) == recommender.recommend(sessions, k=4, batch_size=7)
    assert several.recommend([], k=4) == []
    with pytest.raises(UserError, match="model knows"):
        several.recommend([*sessions, ["??"]], k=4, batch_size=7, unknown="error")


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_clicks_one_by_one_equal_the_whole_session_bit_for_bit(recommender, exclude_seen):
    for session in random_sessions(10):
        state = recommender.new_state()
        for place, item in enumerate(session):
            state, stepwise = recommender.step(state, item, k=5, exclude_seen=exclude_seen)
            (whole,) = recommender.recommend([session[: place + 1]], k=5, exclude_seen=exclude_seen)
            assert stepwise == whole


def test_the_model_recommends_as_the_network_it_came_from(tmp_path):
    network = Network(N, TrainConfig(layers=(16,), seed=5))
    export(network, Vocabulary(TERMS), tmp_path / "model.onnx", config={}, metrics={})
    recommender = Recommender.load(tmp_path / "model.onnx")
    import torch

    for session in random_sessions(10, seed=1):
        numbers = torch.tensor([[ORDERED.index(item) for item in session] or [N]])
        scores, _ = network.score(numbers, torch.tensor([len(session)]), torch.zeros(1, 1, 16))
        (got,) = recommender.recommend([session], k=N)
        own = [float(scores[0, ORDERED.index(item)]) for item in got.items]
        np.testing.assert_allclose(got.scores, own, atol=1e-6)


def test_a_step_leaves_the_earlier_state_as_it_was(recommender):
    first, _ = recommender.step(recommender.new_state(), "7", k=1)
    before = first.hidden.copy()
    recommender.step(first, "a b", k=1)
    np.testing.assert_array_equal(first.hidden, before)


@pytest.mark.parametrize("clicks_per_run", [1, 3, 4])
def test_a_long_session_cut_in_time_is_the_same_session(recommender, monkeypatch, clicks_per_run):
    sessions = random_sessions(8, longest=30)
    whole = recommender.recommend(sessions, k=N, exclude_seen=True)
    monkeypatch.setattr(inference.model.scorer, "CLICKS_PER_RUN", clicks_per_run * len(sessions))
    assert recommender.recommend(sessions, k=N, exclude_seen=True) == whole


def test_unknown_items_are_skipped_and_reported(recommender):
    with_unknown, without = recommender.recommend([["7", "??", "a b", "??", "!"], ["7", "a b"]], k=3)
    assert with_unknown.unknown == ("??", "??", "!")
    assert (with_unknown.items, with_unknown.n_known) == (without.items, 2)


def test_a_session_may_be_a_pandas_series_of_any_labels(recommender):
    pandas = pytest.importorskip("pandas")
    session = pandas.Series(["7", "??", "a b"], index=[30, 10, 20])
    (expected,) = recommender.recommend([["7", "??", "a b"]], k=3)
    assert recommender.recommend([session], k=3) == [expected]
    with pytest.raises(UserError, match=r"'\?\?'"):
        recommender.recommend([session], k=3, unknown="error")


def test_an_unknown_click_repeats_the_ranking_of_the_state(recommender):
    state, known = recommender.step(recommender.new_state(), "7", k=3)
    after, unknown = recommender.step(state, "??", k=3)
    np.testing.assert_array_equal(after.hidden, state.hidden)
    assert unknown == dataclasses.replace(known, unknown=("??",))


@pytest.mark.parametrize("session", [[], ["??"], ["??", "!"]])
def test_a_session_without_a_known_item_is_ranked_from_the_zero_state_and_marked(recommender, weights, session):
    (got,) = recommender.recommend([session], k=2)
    assert got.items == tuple(ORDERED[number] for number in np.argsort(-weights.output_bias)[:2])
    assert got.n_known == 0


def test_unknown_items_are_an_error_where_asked_for(recommender):
    with pytest.raises(UserError, match=r"'\?\?'"):
        recommender.recommend([["7", "??"]], k=2, unknown="error")
    with pytest.raises(UserError, match=r"'\?\?'"):
        recommender.step(recommender.new_state(), "??", k=2, unknown="error")


def test_seen_and_excluded_items_are_never_recommended_and_the_others_keep_their_scores(recommender):
    session = ["7", "007", "7"]
    (everything,) = recommender.recommend([session], k=N)
    (got,) = recommender.recommend([session], k=N, exclude_seen=True, exclude=["🛒", "??", "🛒"])
    expected = [
        pair for pair in zip(everything.items, everything.scores, strict=True) if pair[0] not in ("7", "007", "🛒")
    ]
    assert list(zip(got.items, got.scores, strict=True)) == expected


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("k", [1, 3, N])
def test_allowed_items_are_ranked_as_among_all_items(recommender, k, exclude_seen):
    allow = ("7", "日本", "zürich", "??", "7", "a b", "🛒")
    options = {"exclude": ("🛒",), "exclude_seen": exclude_seen}
    for session in random_sessions(20):
        (everything,) = recommender.recommend([session], k=N, **options)
        (got,) = recommender.recommend([session], k=k, allow=allow, **options)
        expected = [pair for pair in zip(everything.items, everything.scores, strict=True) if pair[0] in allow][:k]
        assert got.items == tuple(item for item, _ in expected)
        np.testing.assert_allclose(got.scores, [score for _, score in expected], atol=1e-6)


def test_allowed_items_are_ranked_alike_in_batches_and_steps(recommender):
    allow = ("7", "日本", "zürich", "a b")
    sessions = random_sessions(30)
    together = recommender.recommend(sessions, k=3, allow=allow)
    for session, got in zip(sessions, together, strict=True):
        state, stepwise = recommender.new_state(), None
        for item in session:
            state, stepwise = recommender.step(state, item, k=3, allow=allow)
        if stepwise:
            assert stepwise.items == got.items
            np.testing.assert_allclose(stepwise.scores, got.scores, atol=1e-6)


def test_of_equal_scores_the_smaller_number_comes_first_on_both_paths(tmp_path, weights):
    even = dataclasses.replace(
        weights, output_bias=np.zeros(N, np.float32), output_table=np.repeat(weights.output_table[:5], 2, axis=0)
    )
    recommender = Recommender.load(save_model(tmp_path / "model.onnx", even))
    for k in range(1, N + 1):
        (among_all,) = recommender.recommend([["7"]], k=k)
        (among_allowed,) = recommender.recommend([["7"]], k=k, allow=TERMS)
        assert among_all.items == among_allowed.items


def test_lists_that_another_thread_gives_meanwhile_are_not_taken_for_ones_own(recommender, monkeypatch):
    own, other = ("7",), ("a b",)
    kept = [(lists, None, Candidates.of(recommender.artifact, lists, None)) for lists in (own, other)]
    reads = iter([kept[0], kept[0], kept[0], kept[1]])  # the other thread comes as late as it can
    late = property(lambda _: next(reads), lambda *_: None)
    monkeypatch.setattr(Recommender, "_prepared", late, raising=False)
    (got,) = recommender.recommend([[]], k=N, exclude=own)
    assert set(got.items) == set(TERMS) - set(own)


def test_nothing_is_left_where_the_allowed_items_are_excluded(recommender):
    (got,) = recommender.recommend([["7"]], k=3, allow=["7"], exclude=["7"])
    assert got.items == ()
    (got,) = recommender.recommend([["7"]], k=3, allow=["7"], exclude_seen=True)
    assert got.items == ()


def test_allowed_items_of_which_none_is_known_are_an_error(recommender):
    with pytest.raises(UserError, match="allowed items"):
        recommender.recommend([["7"]], k=3, allow=["??"])


@pytest.mark.parametrize("argument", ["exclude", "allow"])
def test_a_text_in_place_of_a_list_of_items_is_refused(recommender, argument):
    with pytest.raises(UserError, match="list of item ids"):
        recommender.recommend([["7"]], k=3, **{argument: "7"})


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_hold_every_session_once_and_little_padding(batch_size):
    lengths = np.random.default_rng(0).zipf(1.6, 500).clip(0, 10_000).tolist()
    batches = list(inference.model.recommender._split_batches(lengths, batch_size))
    assert sorted(place for batch in batches for place in batch) == list(range(500))
    for batch in batches:
        assert len(batch) <= batch_size
        assert max(lengths[place] for place in batch) <= 2 * min(lengths[place] for place in batch) + 8


def test_a_session_of_many_clicks_is_one_among_others(recommender):
    long, short = ["7", "a b"] * 50_000, ["7"]
    alone = recommender.recommend([long], k=3)
    assert recommender.recommend([short, long, short], k=3)[1:2] == alone


def test_clicks_of_several_sessions_at_once_equal_those_of_each(recommender):
    states = [recommender.new_state()] * 3
    items = ["7", "??", "a b"]
    together = recommender.steps(states, items, k=4, exclude_seen=True)
    for item, (state, got) in zip(items, together, strict=True):
        alone_state, alone = recommender.step(recommender.new_state(), item, k=4, exclude_seen=True)
        assert got == alone
        assert state.seen == alone_state.seen
        np.testing.assert_array_equal(state.hidden, alone_state.hidden)
    assert recommender.steps([], [], k=4) == []


@pytest.mark.parametrize("kept_as", [list, np.array])
def test_a_state_goes_on_whatever_sequence_its_seen_items_were_kept_as(recommender, kept_as):
    before, _ = recommender.step(recommender.new_state(), "7", k=1)
    expected, expected_answer = recommender.step(before, "007", k=N, exclude_seen=True)
    kept = SessionState(before.hidden, before.n_known, kept_as(before.seen))
    after, answer = recommender.step(kept, "007", k=N, exclude_seen=True)
    assert answer == expected_answer
    assert after.seen == expected.seen


def test_seen_items_may_be_excluded_from_any_step_on(recommender):
    session = ["7", "007", "7", "a b"]
    state = recommender.new_state()
    for place, item in enumerate(session):
        state, got = recommender.step(state, item, k=N, exclude_seen=place % 2 == 1)
        (whole,) = recommender.recommend([session[: place + 1]], k=N, exclude_seen=place % 2 == 1)
        assert got == whole
    assert [ORDERED[number] for number in state.seen] == ["7", "007", "a b"]


def test_nothing_is_recommended_where_everything_is_excluded(recommender):
    (got,) = recommender.recommend([["7"]], k=3, exclude=TERMS)
    assert (got.items, got.scores) == ((), ())


def test_no_sessions_give_no_recommendations(recommender):
    assert recommender.recommend([], k=3) == []


def test_sessions_may_be_any_iterable(recommender):
    assert recommender.recommend((session for session in [("7",), ["7"]]), k=1)[0].n_known == 1


def test_integers_are_accepted_wherever_ids_are(recommender):
    assert recommender.recommend([[7]], k=2) == recommender.recommend([["7"]], k=2)
    state = recommender.new_state()
    assert recommender.step(state, 7, k=2)[1] == recommender.step(state, "7", k=2)[1]
    for filters in ("exclude", "allow"):
        as_text = recommender.recommend([["7"]], k=1, **{filters: ["7"]})
        assert recommender.recommend([["7"]], k=1, **{filters: [7]}) == as_text
    assert recommender.recommend([[214821371]], k=1)[0].unknown == ("214821371",)
    with pytest.raises(UserError, match=r"ids as text or integers, got 1\.5"):
        recommender.recommend([[1.5]], k=1)


@pytest.mark.parametrize("items", [[], ["7"], ["7", "7", "7"]])
def test_a_step_takes_one_item_for_each_state(recommender, items):
    with pytest.raises(UserError, match=f"expected one item for each state, got {len(items)} items for 2 states"):
        recommender.steps([recommender.new_state()] * 2, items, k=1)


@pytest.mark.parametrize("k", [0, -1, N + 1, "3", 2.5, None])
def test_an_impossible_k_is_refused(recommender, k):
    with pytest.raises(UserError, match=f"between 1 and the {N} items"):
        recommender.recommend([["7"]], k=k)
    with pytest.raises(UserError, match=f"between 1 and the {N} items"):
        recommender.step(recommender.new_state(), "7", k=k)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"unknown": "maybe"}])
def test_impossible_arguments_are_refused(recommender, arguments):
    with pytest.raises(UserError):
        recommender.recommend([["7"]], k=1, **arguments)


def test_a_text_in_place_of_a_session_is_refused(recommender):
    with pytest.raises(UserError, match="sequence of item ids"):
        recommender.recommend(["7"], k=1)


def test_a_state_of_another_shape_is_refused(recommender):
    state = SessionState(np.zeros((1, 1, 8), np.float32))
    with pytest.raises(UserError, match="belongs to the model"):
        recommender.step(state, "7", k=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["output bias", "output weights", "GRU", "input embedding"])
def test_a_model_file_with_weights_that_are_not_finite_is_refused(tmp_path, value, place):
    weights = random_weights(embedding=5)
    path = save_model(tmp_path / "model.onnx", weights)
    content = path.read_bytes()
    known = {  # the bytes of some weights, found again in the file
        "output bias": weights.output_bias,
        "output weights": weights.output_table,
        "GRU": weights.layers[0].weight_ih[8:],
        "input embedding": weights.input_table,
    }[place].tobytes()[:16]
    assert content.count(known) == 1
    path.write_bytes(content.replace(known, np.full(4, value, np.float32).tobytes()))
    with pytest.raises(UserError, match="NaN or infinite"):
        Recommender.load(path)


def test_scores_that_overflow_are_an_error(tmp_path, weights):
    huge = dataclasses.replace(
        weights, output_bias=np.full(N, 3e38, np.float32), output_table=weights.output_table * 1e38
    )
    recommender = Recommender.load(save_model(tmp_path / "model.onnx", huge))
    with pytest.raises(UserError, match="not finite"):
        recommender.recommend([["7", "007"]], k=N)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (None, "onnxruntime is missing or incomplete"),
        (types.ModuleType("onnxruntime"), "uninstall onnxruntime and onnxruntime-gpu, then install one of them"),
    ],
    ids=["missing", "in part"],
)
def test_an_onnxruntime_that_is_not_there_as_a_whole_is_one_line_that_says_what_to_do(
    tmp_path, monkeypatch, there, message
):
    path = save_model(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", there)
    with pytest.raises(UserError, match=message) as caught:
        Recommender.load(path)
    assert "\n" not in str(caught.value)


def test_more_threads_than_any_machine_has_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected between 1 and 4,096 threads, got 99999999999"):
        Recommender.load(save_model(tmp_path / "model.onnx"), threads=99_999_999_999)


@pytest.mark.parametrize("count", [0, -2])
@pytest.mark.parametrize("what", ["thread", "worker"])
def test_an_impossible_number_of_threads_or_workers_is_refused(tmp_path, what, count):
    with pytest.raises(UserError, match=what):
        Recommender.load(save_model(tmp_path / "model.onnx"), **{f"{what}s": count})


def test_an_unknown_provider_is_refused(tmp_path):
    with pytest.raises(UserError, match="available: auto, cpu, cuda"):
        Recommender.load(save_model(tmp_path / "model.onnx"), provider="abacus")


def cuda_runs(path):
    try:
        return Recommender.load(path, provider="cuda").provider == "cuda"
    except UserError:
        return False


def test_cuda_is_either_used_or_an_error_and_auto_chooses(tmp_path):
    path = save_model(tmp_path / "model.onnx")
    assert Recommender.load(path, provider="auto").provider == ("cuda" if cuda_runs(path) else "cpu")
    assert Recommender.load(path, provider="cpu").provider == "cpu"


def test_cuda_that_quietly_became_the_cpu_is_an_error(tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr("inference.model.providers._find_cuda_obstacle", lambda _: None)
    created = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *given, **_: created(*given, providers=["CPUExecutionProvider"])
    )
    path = save_model(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="CUDA cannot run here"):
        Recommender.load(path, provider="cuda")
    assert Recommender.load(path, provider="auto").provider == "cpu"


def test_cuda_recommends_as_the_cpu_does(tmp_path):
    path = save_model(tmp_path / "model.onnx", random_weights(widths=(8, 5)))
    if not cuda_runs(path):
        pytest.skip("CUDA cannot run here")
    sessions = random_sessions(40)
    on_cpu, on_cuda = (Recommender.load(path, provider=p).recommend(sessions, k=N) for p in ("cpu", "cuda"))
    for expected, got in zip(on_cpu, on_cuda, strict=True):
        assert got.items == expected.items
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)


def test_importing_inference_loads_neither_torch_nor_onnxruntime():
    program = "import sys; from inference import *; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "polars", "ray", "onnx", "onnxruntime", "rich", "gru4rec", "tune"} & set(loaded)


def test_what_is_not_loaded_yet_is_listed_too():
    program = "import inference; print(*dir(inference))"
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"Recommendation", "Recommender", "SessionState", "UserError", "Vocabulary"} <= set(names)
