"""Properties of every registered loss; values derived by hand."""

import math

import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.losses import LOSSES, correct_for_sampling, get_loss
from inference.shared.errors import UserError
from tests.support.small_logs import BUILT_IN_LOSSES

ALL = BUILT_IN_LOSSES


def call(name, scores, positive=None, excluded=None, **options):
    scores = torch.tensor(scores, dtype=torch.float64) if not torch.is_tensor(scores) else scores
    positive = torch.arange(len(scores)) if positive is None else torch.tensor(positive)
    excluded = None if excluded is None else torch.tensor(excluded)
    return LOSSES[name].function(scores, positive, excluded, **options)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_hand(name, target, negatives, bpreg=1.0, elu_param=0.5):
    if name == "cross-entropy":
        return -target + math.log(sum(math.exp(score) for score in [target, *negatives]))
    if name == "top1":
        return sum(sigmoid(score - target) + sigmoid(score**2) for score in negatives) / len(negatives)
    if name == "bpr":
        return -sum(math.log(sigmoid(target - score)) for score in negatives) / len(negatives)
    if name == "bpr-max":
        target, *negatives = [s if s > 0 else elu_param * (math.exp(s) - 1) for s in [target, *negatives]]
    total = sum(math.exp(score) for score in negatives)
    weights = [math.exp(score) / total for score in negatives]
    if name == "top1-max":
        return sum(w * (sigmoid(s - target) + sigmoid(s**2)) for w, s in zip(weights, negatives, strict=True))
    wins = sum(w * sigmoid(target - s) for w, s in zip(weights, negatives, strict=True))
    return -math.log(wins) + bpreg * sum(w * s**2 for w, s in zip(weights, negatives, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_value_equals_the_formula(name):
    scores = [[0.3, -1.2, 2.0, 0.7], [1.1, 0.4, -0.6, -2.0]]
    expected = [by_hand(name, 2.0, [0.3, -1.2, 0.7]), by_hand(name, 1.1, [0.4, -0.6, -2.0])]
    assert call(name, scores, [2, 0]).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_excluded_columns_are_as_if_they_were_not_there(name):
    with_hit = call(name, [[0.3, -1.2, 2.0, 0.7]], [2], [[False, True, False, False]])
    without = call(name, [[0.3, 2.0, 0.7]], [1])
    assert with_hit.item() == pytest.approx(without.item(), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_excluding_the_target_itself_changes_nothing(name):
    marked = call(name, [[0.3, -1.2, 2.0]], [2], [[False, False, True]])
    assert marked.item() == pytest.approx(call(name, [[0.3, -1.2, 2.0]], [2]).item(), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_excluded_columns_get_no_gradient(name):
    scores = torch.tensor([[0.3, -1.2, 2.0]], requires_grad=True)
    call(name, scores, [2], [[True, False, False]]).sum().backward()
    assert scores.grad[0, 0] == 0
    assert (scores.grad[0, 1:] != 0).all()


@pytest.mark.parametrize("name", ALL)
def test_row_without_negatives_loses_nothing(name):
    scores = torch.tensor([[0.3, 2.0], [0.3, 2.0]], requires_grad=True)
    losses = call(name, scores, [0, 0], [[False, True], [False, False]])
    losses.sum().backward()
    assert losses[0].item() == pytest.approx(0.0, abs=1e-6)
    assert losses[1].item() != 0
    assert scores.grad[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [20.0, 500.0, 1e4])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_scores_stay_finite(name, size, sign):
    scores = (sign * size * torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 1.0]])).requires_grad_()
    losses = call(name, scores)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", ALL)
def test_one_row_and_one_negative_suffice(name):
    loss = call(name, [[1.0, 0.2]])
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(by_hand(name, 1.0, [0.2]), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_raising_the_target_never_raises_the_loss(name):
    values = [call(name, [[target, 0.4, -0.2, 1.3]]).item() for target in (-2.0, 0.0, 1.0, 3.0)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ALL)
def test_gradient_equals_finite_differences(name):
    scores = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name].function(s, torch.tensor([0, 1, 2]), None), (scores,))


def test_average_based_gradient_vanishes_among_easy_negatives_and_max_based_does_not():
    """The paper's argument: one hard negative among many easy ones."""
    gradient = {}
    for name in ("top1", "bpr", "top1-max", "bpr-max"):
        scores = torch.full((1, 1001), -8.0)
        scores[0, 0], scores[0, 1] = 0.0, 1.0  # the target and its one hard negative
        scores.requires_grad_()
        linear = {"elu_param": 0.0} if name == "bpr-max" else {}  # ELU would lift the easy negatives to -0.5
        call(name, scores, **linear).sum().backward()
        gradient[name] = abs(scores.grad[0, 1].item())
    assert gradient["top1"] < 1e-3
    assert gradient["bpr"] < 1e-3
    assert gradient["top1-max"] > 0.1
    assert gradient["bpr-max"] > 0.1


def test_bpr_max_without_elu_is_linear_in_the_scores():
    expected = -math.log(sigmoid(-1.0 + 3.0)) + 2.0 * 9.0
    assert call("bpr-max", [[-1.0, -3.0]], bpreg=2.0, elu_param=0.0).item() == pytest.approx(expected)


def test_correction_takes_the_logarithm_of_the_frequency_off():
    corrected = correct_for_sampling(torch.tensor([[1.0, 1.0]]), torch.tensor([0.0, 2.0]), 0.5)
    assert corrected.tolist() == [[1.0, 0.0]]


def test_unknown_loss_names_the_known_ones():
    with pytest.raises(UserError, match=r"unknown loss 'brp-max'; available: bpr, bpr-max"):
        get_loss("brp-max")


def test_option_of_another_loss_is_refused_but_zero_is_not():
    assert LOSSES["cross-entropy"].chosen_options(TrainConfig(bpreg=0.0, elu_param=0.0)) == {}
    with pytest.raises(UserError, match="bpreg: the loss 'cross-entropy' has no such option"):
        LOSSES["cross-entropy"].chosen_options(TrainConfig(bpreg=1.0))
    with pytest.raises(UserError, match="logq: the loss 'bpr-max' has no such option"):
        LOSSES["bpr-max"].chosen_options(TrainConfig(loss="bpr-max", logq=1.0))
    with pytest.raises(UserError, match="has no option 'gamma'"):
        LOSSES["bpr-max"].chosen_options(TrainConfig(loss="bpr-max", loss_options={"gamma": 1}))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bpreg": 1.0}, "bpreg has a key of its own"), ({"elu_param": -1}, "elu_param has a key of its own")],
)
def test_official_options_are_not_set_by_a_back_door(options, message):
    with pytest.raises(UserError, match=message):
        LOSSES["bpr-max"].chosen_options(TrainConfig(loss="bpr-max", loss_options=options))


def test_options_default_to_the_losses_own():
    assert LOSSES["bpr-max"].chosen_options(TrainConfig(loss="bpr-max", bpreg=0.3)) == {"bpreg": 0.3}
    assert LOSSES["bpr-max"].options == {"bpreg": 1.0, "elu_param": 0.5}


@pytest.mark.parametrize("elu_param", [0.0, 0.5, 1.0])
def test_closed_form_of_bpr_max_equals_its_formula_differentiated(elu_param):
    """With a mask that excludes nothing, the formula is differentiated operation by operation."""
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(6, 9, dtype=torch.float64, generator=generator)).requires_grad_()
    positive = torch.tensor([0, 4, 2, 8, 8, 1])
    closed = LOSSES["bpr-max"].function(scores, positive, None, bpreg=1.3, elu_param=elu_param)
    (closed_gradient,) = torch.autograd.grad(closed.sum(), scores)
    nothing = torch.zeros(6, 9, dtype=torch.bool)
    plain = LOSSES["bpr-max"].function(scores, positive, nothing, bpreg=1.3, elu_param=elu_param)
    (plain_gradient,) = torch.autograd.grad(plain.sum(), scores)
    torch.testing.assert_close(closed, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(closed_gradient, plain_gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("distance", [50.0, 100.0, 1e4])
def test_bpr_max_of_a_target_far_above_or_below_its_negatives(distance):
    above = torch.tensor([[distance, 0.5, -0.5]], requires_grad=True)
    call("bpr-max", above, [0], bpreg=0.0, elu_param=0.0).sum().backward()
    assert above.grad.abs().max() < 1e-5
    below = torch.tensor([[-distance, 0.5, -0.5]], requires_grad=True)
    loss = call("bpr-max", below, [0], bpreg=0.0, elu_param=0.0)
    loss.sum().backward()
    # σ(t − y) ≈ e^(t − y), so the loss is −log Σ s_j e^(t − y_j) = −t + logsumexp(y) − log 2
    assert loss.item() == pytest.approx(distance + math.log(math.exp(0.5) + math.exp(-0.5)) - math.log(2), rel=1e-5)
    assert below.grad[0, 0].item() == pytest.approx(-1.0)
