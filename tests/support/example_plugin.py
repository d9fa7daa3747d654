"""A loss and a sampler as a user would plug them in (`--plugin tests.support.example_plugin`)."""

from gru4rec.model.losses import register_loss
from gru4rec.training.samplers import PopularitySampler, register_sampler


@register_loss("test-margin", search_ranges={"margin": (0.1, 0.9), "power": [1, 2]})
def margin_loss(scores, positive, excluded=None, *, margin=0.5, power=1):
    """Hinge on the difference to the target."""
    target = scores.gather(1, positive.unsqueeze(1))
    return (margin + scores - target).clamp_min(0).pow(power).mean(dim=1)


@register_loss("test-nan")
def nan_loss(scores, positive, excluded=None):
    """Finite at first, then not: the negatives' scores grow beyond all bounds."""
    return (scores.sum(dim=1) * 1e30) ** 3


@register_loss("test-bug")
def buggy_loss(scores, positive, excluded=None):
    """A defect of the user's."""
    raise RuntimeError("this loss is broken\nin two lines")


@register_sampler("test-mixed", search_ranges={"share": (0.0, 1.0)})
def mixed(support, *, n_sample, sample_alpha=0.5, share=0.5):
    """Between uniform and popularity in another way."""
    return PopularitySampler(support, n_sample=n_sample, sample_alpha=sample_alpha * share)
