"""Whole-session batching: nothing skipped, one gradient through the session, scores a few rows at a time."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gru4rec.config.train_config import TrainConfig
from gru4rec.data.sessions import NO_ITEM, Sessions
from gru4rec.model.gru import GRULayer
from gru4rec.model.losses import LOSSES
from gru4rec.training.samplers import PopularitySampler
from gru4rec.training.trainer import Trainer
from gru4rec.training.whole_session import batches as session_batches
from gru4rec.training.whole_session.batches import SessionBatches
from gru4rec.training.whole_session.batching import _hits, _hits_and_recent
from gru4rec.training.whole_session.chunked_loss import Hits, Recent, score_loss
from inference.shared.errors import UserError
from tests.support.small_logs import BUILT_IN_LOSSES, log_of

session_lists = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=40)


@pytest.mark.slow
@given(session_lists, st.integers(1, 30), st.integers(1, 10), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_every_pair_is_trained_once_and_states_are_carried_over_windows(sessions, batch_size, window, seed):
    """Every session stays on one row; where a window cuts it, its row continues in the next step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_batches, "WINDOW", window)
        batches = SessionBatches(Sessions.from_lists(sessions), batch_size)
        steps = list(batches.steps(np.random.default_rng(seed)))
    assert [step.number for step in steps] == list(range(batches.n_steps))
    trained: list[list[int]] = []
    rows: list[list[int]] = []
    for step in steps:
        assert step.sizes == sorted(step.sizes, reverse=True)
        assert len(step.sizes) <= window
        assert len(step.inputs) == len(step.targets) == sum(step.sizes)
        if not step.continues:
            trained += rows
            rows = [[] for _ in range(step.sizes[0])]
        place = 0
        for size in step.sizes:
            for row in range(size):
                clicked, following = int(step.inputs[place]), int(step.targets[place])
                assert not rows[row] or rows[row][-1] == clicked
                rows[row] += [clicked, following] if not rows[row] else [following]
                place += 1
    assert sorted(trained + rows) == sorted(session for session in sessions if len(session) > 1)


def test_batches_have_about_the_targets_asked_for_and_differ_between_epochs():
    generator = np.random.default_rng(0)
    sessions = [generator.integers(0, 50, size=size).tolist() for size in generator.integers(2, 12, size=500)]
    batches = SessionBatches(Sessions.from_lists(sessions), 100)
    first, other = (list(batches.steps(np.random.default_rng(seed))) for seed in (0, 1))
    targets = [len(step.targets) for step in first]
    assert max(targets) <= 100
    assert np.mean(targets) > 85
    assert len(first) == len(other) == batches.n_steps
    assert any(not np.array_equal(a.inputs, b.inputs) for a, b in zip(first, other, strict=True))


def test_unrolling_sessions_together_equals_stepping_click_by_click():
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    layer = GRULayer(leaf(12, 5), leaf(12, 4), leaf(12), leaf(12))
    inputs, hidden = leaf(6, 5), leaf(3, 4)
    outputs, last = layer.unroll(inputs, hidden, [3, 2, 1])  # sessions of 3, 2 and 1 clicks
    expected, states = {}, []
    for session, rows in enumerate([[0, 3, 5], [1, 4], [2]]):
        state = hidden[session : session + 1]
        for row in rows:
            state = expected[row] = layer(inputs[row : row + 1], state)
        states.append(state)
    torch.testing.assert_close(outputs, torch.cat([expected[row] for row in range(6)]))
    torch.testing.assert_close(last, torch.cat(states))
    upstream = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    weights = [inputs, hidden, layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh]
    together = torch.autograd.grad(outputs, weights, upstream)
    one_by_one = torch.autograd.grad(torch.cat([expected[row] for row in range(6)]), weights, upstream)
    for left, right in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", BUILT_IN_LOSSES)
@pytest.mark.parametrize("scores_per_chunk", [1, 1 << 20])
def test_loss_and_gradients_in_chunks_equal_the_whole_matrix(name, scores_per_chunk, monkeypatch):
    monkeypatch.setattr("gru4rec.training.whole_session.chunked_loss.SCORES_PER_CHUNK", scores_per_chunk)
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    query, scoring, bias = leaf(20, 6), leaf(29, 6), leaf(29)  # 20 targets, 9 negatives
    hits = Hits(torch.tensor([0, 0, 7, 19]), torch.tensor([1, 4, 8, 0]), np.array([0, 0, 7, 19]))
    bonus = leaf(20, 3)
    rows, columns, places = np.array([0, 0, 0, 7, 7, 18]), [0, 0, 3, 9, 0, 5], [0, 2, 1, 1, 0, 2]  # some are hits, too
    recent = Recent(torch.from_numpy(rows), torch.tensor(columns), torch.tensor(places), rows)
    loss = LOSSES[name]
    total, gradients = score_loss(
        partial(loss.gradient, {}),
        *(tensor.detach() for tensor in (query, scoring, bias)),
        hits,
        0.5,
        recent=recent,
        bonus=bonus.detach(),
        lowered_is_excluded=loss.lowered_is_excluded,
        product_type=torch.float32,
    )
    own = (query * scoring[:20]).sum(dim=1, keepdim=True) + bias[:20].unsqueeze(1)
    scores = torch.cat([own, query @ scoring[20:].T + bias[20:]], dim=1)
    scores = scores.index_put((recent.rows, recent.columns), bonus[recent.rows, recent.places], accumulate=True)
    excluded = torch.zeros(20, 10, dtype=torch.bool)
    excluded[hits.rows, hits.negatives + 1] = True
    expected = 0.5 * loss.function(scores, torch.zeros(20, dtype=torch.int64), excluded).sum()
    torch.testing.assert_close(total, expected.detach())
    ours = [gradients.query, gradients.scoring, gradients.bias, gradients.bonus]
    for left, right in zip(ours, torch.autograd.grad(expected, [query, scoring, bias, bonus]), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


@given(st.lists(st.integers(0, 8), max_size=12), st.lists(st.integers(0, 8), max_size=12))
def test_hits_are_all_pairs_of_a_row_and_its_own_target_among_the_negatives(targets, negatives):
    rows, places = _hits(np.array(targets, dtype=np.int32), np.array(negatives, dtype=np.int32))
    expected = [
        (r, n) for r, target in enumerate(targets) for n, negative in enumerate(negatives) if negative == target
    ]
    assert sorted(zip(rows.tolist(), places.tolist(), strict=True)) == expected
    assert rows.tolist() == sorted(rows.tolist())


@given(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=9), min_size=1, max_size=5), st.integers(1, 4))
@example([[0, 1]], 4)  # fewer clicks in the whole log than are looked back on
def test_recent_clicks_are_found_among_targets_and_negatives(sessions, n_recent):
    negatives = np.array([0, 3, 3, 5], dtype=np.int32)
    clicks = sum(len(session) - 1 for session in sessions)
    (step,) = SessionBatches(log_of(sessions).sessions, clicks, n_recent).steps(np.random.default_rng(0))
    hit_rows, hit_negatives, *recent = _hits_and_recent(step, negatives)
    for left, right in zip((hit_rows, hit_negatives), _hits(step.targets, negatives), strict=True):
        np.testing.assert_array_equal(left, right)
    found = sorted(zip(*(values.tolist() for values in recent), strict=True))
    expected = []
    before = sorted(([*session[:end]], session[end]) for session in sessions for end in range(1, len(session)))
    assert sorted((step.inputs[row], step.targets[row]) for row in range(clicks)) == sorted(
        (past[-1], target) for past, target in before
    )
    for row in range(clicks):
        past = [item for item in step.recent[row] if item != NO_ITEM]
        assert past[0] == step.inputs[row]
        assert ([*reversed(past)], step.targets[row]) in [(whole[-n_recent:], target) for whole, target in before]
        for column, item in enumerate([step.targets[row], *negatives]):
            expected += [(row, column, place) for place, clicked in enumerate(past) if clicked == item]
    assert found == sorted(expected)


@pytest.mark.parametrize(("logq", "strength"), [(None, 1.0), (0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_negatives_are_lowered_by_how_often_they_are_expected_and_targets_are_not(logq, strength, score, monkeypatch):
    drawn = np.array([5, 6, 7, 7, 1], dtype=np.int32)
    monkeypatch.setattr(PopularitySampler, "draw", lambda _, steps, __: np.tile(drawn, (steps, 1)))
    log = log_of([[0, 1], [2, 3], [4, 5, 6, 7], [7, 7, 7, 1]])
    config = TrainConfig(
        batching="whole-session", n_sample=5, sample_alpha=1.0, batch_size=50, layers=(4,), n_recent=0, logq=logq,
        score=score, precision="fp32", dropout_p_embed=0.0, dropout_p_hidden=0.0, n_epochs=1,
    )  # fmt: skip
    trainer = Trainer(config, log)
    for tensor in trainer.network.tensors().values():
        tensor.zero_()  # every score is 0 but for the correction
    (loss,) = trainer.run_epoch().step_losses
    expected = len(drawn) * log.support / log.support.sum()  # [N], of each item among the drawn
    rows = [
        np.log(1 + sum(expected[item] ** -strength for item in drawn if item != target))
        for target in [1, 3, 5, 6, 7, 7, 7, 1]
    ]
    assert loss * config.batch_size == pytest.approx(sum(rows), rel=1e-5)


def test_a_bonus_for_recent_clicks_is_learnt():
    generator = np.random.default_rng(0)
    log = log_of([[*pair, *pair] for pair in generator.integers(0, 50, size=(300, 2)).tolist()])
    config = TrainConfig(batching="whole-session", layers=(8,), n_sample=40, batch_size=60, n_recent=3, n_epochs=4)
    trainer = Trainer(config, log)
    losses = [trainer.run_epoch().loss for _ in range(4)]
    assert losses[-1] < 0.9 * losses[0]
    present, before, _ = trainer.network.tensors()["recent.bias"].tolist()
    assert before > present  # these visitors always return to the click before the last


def test_bf16_products_stay_close_to_fp32():
    log = log_of([[0, 1, 2, 3, 4], [4, 3, 2], [1, 0, 2]] * 20)
    losses = {
        precision: Trainer(
            TrainConfig(batching="whole-session", layers=(16,), n_sample=8, batch_size=50, precision=precision), log
        )
        .run_epoch()
        .loss
        for precision in ("fp32", "bf16")
    }
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=5e-3)


@pytest.mark.parametrize("name", BUILT_IN_LOSSES)
def test_a_step_all_of_whose_negatives_are_masked_changes_nothing_and_the_others_train(name):
    log = log_of([[0, 1], [2, 1], [3, 4, 5, 6]])  # in the step of the first two, the only negatives are the target
    config = TrainConfig(
        batching="whole-session", loss=name, n_sample=0, batch_size=2, layers=(4,), score="dot", optimizer="adagrad"
    )
    losses = Trainer(config, log).run_epoch().step_losses
    assert sorted(losses > 0) == [False, True]


@pytest.mark.parametrize(("sessions", "batch_size"), [([[0, 1], [2, 1]], 50), ([[0, 1], [2, 3], [4, 5]], 1)])
def test_training_without_any_negatives_is_refused(sessions, batch_size):
    config = TrainConfig(batching="whole-session", n_sample=0, batch_size=batch_size, layers=(4,))
    with pytest.raises(UserError, match="expected negatives to learn from, got no additional samples and steps with"):
        Trainer(config, log_of(sessions))
    Trainer(config.replace(n_sample=2), log_of(sessions)).run_epoch()
