"""Whatever is wrong with a user's own loss or sampler is one line that says what and where."""

import sys

import pytest
import torch

from gru4rec.cli import main
from gru4rec.config.train_config import TrainConfig
from gru4rec.model.losses import LOSSES
from gru4rec.training.plugins import import_plugins, plugin_errors
from gru4rec.training.samplers import SAMPLERS
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError

MODULE = """
import numpy as np
from gru4rec.model.losses import cross_entropy, register_loss
from gru4rec.training.samplers import FullSampler, PopularitySampler, register_sampler

@register_loss("raises")
def raises(scores, positive, excluded=None, *, power=1):
    return (scores ** power).nosuch()

@register_loss("raises-later")
def raises_later(scores, positive, excluded=None):
    if len(scores) > 2:
        raise ValueError("too many rows\\nfor me")
    return cross_entropy(scores, positive, excluded)

@register_loss("needs-margin")
def needs_margin(scores, positive, excluded=None, *, margin):
    return margin + cross_entropy(scores, positive, excluded)

@register_loss("mean")
def mean(scores, positive, excluded=None):
    return cross_entropy(scores, positive, excluded).mean()

@register_loss("matrix")
def matrix(scores, positive, excluded=None):
    return scores

@register_loss("detached")
def detached(scores, positive, excluded=None):
    return cross_entropy(scores, positive, excluded).detach()

@register_loss("number")
def number(scores, positive, excluded=None):
    return 1.0

@register_loss("without-excluded")
def without_excluded(scores, positive):
    return cross_entropy(scores, positive)

class Mine(PopularitySampler):
    def __init__(self, support, *, kind="fine", n_sample=4):
        super().__init__(support, n_sample=n_sample, sample_alpha=0.0)
        self.kind = kind
        if kind == "raises":
            raise KeyError("cap")
        elif kind == "no n_sample":
            del self.n_sample
        elif kind == "n_sample":
            self.n_sample = "4"
        elif kind == "every item":
            self.every_item = True
        elif kind == "weights":
            self.log_weight = self.log_weight[1:]
        elif kind == "nan":
            self.log_weight = self.log_weight * np.nan

    def draw(self, steps, generator):
        drawn = super().draw(steps, generator)
        changes = {
            "draws raise": lambda: 1 // 0,
            "flat": lambda: drawn[0],
            "floats": lambda: drawn * 1.0,
            "outside": lambda: drawn + 10_000,
            "list": lambda: drawn.tolist(),
        }
        return changes.get(self.kind, lambda: drawn)()

register_sampler("mine")(Mine)

@register_sampler("nothing")
def nothing(support):
    return None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with faulty losses and samplers."""
    before = dict(LOSSES), dict(SAMPLERS)
    (tmp_path / "my_plugins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_plugins"
    for register, known in zip((LOSSES, SAMPLERS), before, strict=True):
        for name in set(register) - set(known):
            del register[name]
    sys.modules.pop("my_plugins", None)


LINE = MODULE.splitlines().index("    return (scores ** power).nosuch()") + 1
LOSS_FAULTS = {
    "raises": rf"(?m)^plugins: my_plugins, line {LINE}: AttributeError: 'Tensor' object has no attribute 'nosuch'$",
    "raises-later": r"(?m)^plugins: my_plugins, line \d+: ValueError: too many rows$",
    "needs-margin": "^loss_options.margin: the loss 'needs-margin' needs a value for it and has no default$",
    "mean": r"expected 'mean' to return one loss per row, .*; got torch.float32 of shape \(\) for 2 rows",
    "matrix": r"got torch.float32 of shape \(2, 3\) for 2 rows",
    "detached": "got values through which no gradient flows back to the scores",
    "number": "got float for 2 rows",
    "without-excluded": r"expected 'without-excluded' to be a function of \(scores, positive, excluded, \*, options…\)",
}
SAMPLER_FAULTS = {
    "raises": r"(?m)^plugins: my_plugins, line \d+: KeyError: 'cap'$",
    "no n_sample": "expected 'mine' to have n_sample, which it lacks",
    "n_sample": "expected the n_sample of 'mine' to be a whole number of at least 0, got '4'",
    "every item": "expected the n_sample of 'mine' to be 0, as it scores every item, got 4",
    "weights": r"expected the log_weight of 'mine' to be float32 of shape \(200,\), got float32 of shape \(199,\)",
    "nan": "expected the log_weight of 'mine' to be logarithms of chances, got NaN",
    "draws raise": r"^plugins: my_plugins, line \d+: ZeroDivisionError",
    "flat": r"expected draw to give int32 of shape \(\d+, 4\), got int32 of shape \(4,\)",
    "floats": r"got float64 of shape \(\d+, 4\)",
    "outside": r"expected draw to give item numbers from 0 to 199, got 10\d+ to 10\d+",
    "list": r"expected draw to give int32 of shape \(\d+, 4\), got list",
}


def run(module, log, **choices):
    import_plugins([module])
    Trainer(TrainConfig(plugins=(module,), layers=(4,), batch_size=16, **choices), log).run_epoch()


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_a_faulty_loss_is_one_line(module, markov_log, batching):
    for loss, message in LOSS_FAULTS.items():
        with pytest.raises(UserError, match=message):
            run(module, markov_log, loss=loss, batching=batching, n_sample=4)
    run(module, markov_log, loss="needs-margin", loss_options={"margin": 1.0}, batching=batching, n_sample=4)
    with pytest.raises(UserError, match=r"^plugins: my_plugins, line \d+: TypeError: "):
        run(module, markov_log, loss="needs-margin", loss_options={"margin": "wide"}, batching=batching, n_sample=4)


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_a_faulty_sampler_is_one_line(module, markov_log, batching):
    for kind, message in SAMPLER_FAULTS.items():
        with pytest.raises(UserError, match=message):
            run(module, markov_log, sampler="mine", sampler_options={"kind": kind}, n_sample=4, batching=batching)
    with pytest.raises(UserError, match="expected 'nothing' to have n_sample, which it lacks"):
        run(module, markov_log, sampler="nothing", batching=batching)
    run(module, markov_log, sampler="mine", n_sample=4, batching=batching)


def test_a_plugin_that_fails_ends_the_command_with_one_line_and_its_own_traceback(
    module, events_file, tmp_path, capsys
):
    command = ["train", "--train", str(events_file), "--out", str(tmp_path / "model"), "--layers", "4"]
    assert main([*command, "--plugin", module, "--loss", "raises"]) == 2
    *_, line, place, code = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: plugins: my_plugins, line {LINE}: AttributeError: 'Tensor' object has no")
    assert place == f'  File "{tmp_path / "my_plugins.py"}", line {LINE}, in raises'
    assert code == "    return (scores ** power).nosuch()"
    assert not (tmp_path / "model").exists()


def test_a_script_in_the_place_of_a_plugin_does_not_end_the_command(tmp_path, monkeypatch):
    (tmp_path / "a_script.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="plugins: cannot import 'a_script': SystemExit: 0"):
        import_plugins(["a_script"])


def test_a_plugin_that_fails_while_it_is_imported_names_the_line(tmp_path, monkeypatch):
    (tmp_path / "fails.py").write_text("import torch\ntorch.nosuch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^plugins: fails, line 2: AttributeError: ") as error:
        import_plugins(["fails"])
    assert error.value.__notes__ == [f'  File "{tmp_path / "fails.py"}", line 2, in <module>\n    torch.nosuch()']


def test_defects_elsewhere_and_errors_of_devices_are_not_blamed_on_the_plugin(module):
    with pytest.raises(ZeroDivisionError), plugin_errors([module, "tests.test"]):
        1 // 0  # noqa: B018
    for kind in (torch.OutOfMemoryError, torch.AcceleratorError):
        with pytest.raises(kind), plugin_errors([__name__]):
            raise kind("no room")
    empty, package = [], __name__.partition(".")[0]
    where = rf"(?m)^plugins: {__name__}, line \d+: IndexError: list index out of range$"
    with pytest.raises(UserError, match=where), plugin_errors([package]):
        empty[3]
