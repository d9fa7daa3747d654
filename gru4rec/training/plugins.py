"""The user's own modules: importing them, trying their losses, and saying in one line where one of them fails.

A plug-in may fail in any way and at any time: when it is imported, when its sampler is built, when its loss sees the
first scores or a thousand steps later. To the user it is one and the same mistake, which lies in the plug-in and not in
the trainer, so it ends as any other: with a line that says where to look. The exception itself is its cause.
"""

import importlib
import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.losses import Loss
from inference.shared.errors import UserError, one_line


def import_plugins(config: TrainConfig) -> None:
    """Import the modules that register the user's own losses and samplers.

    Raises:
        UserError: a module cannot be imported.
    """
    for module in config.plugins:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a user's module may fail in any way, or be a script that exits
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"plugins: cannot import {module!r}: {reason}; is its folder on PYTHONPATH?") from error


@contextmanager
def plugin_failures(modules: Sequence[str]) -> Iterator[None]:
    """Turn what is raised in the code of these modules, or below it, into a `UserError` with the module and the line.

    What is raised elsewhere stays as it is, and so do running out of memory and the failure of a device, which a module
    only happens to be the first to notice.

    Args:
        modules: their names; modules within them count, too.
    """
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        where = ""
        for frame, line in traceback.walk_tb(error.__traceback__):  # from here inwards
            name = frame.f_globals.get("__name__", "")
            if any(name == module or name.startswith(f"{module}.") for module in modules):
                where = f"{name}, line {line}"
        if not where:
            raise
        raise UserError(f"plugins: {where}: {type(error).__name__}: {one_line(error)}") from error


def check_loss(loss: Loss, options: Mapping[str, Any], device: torch.device) -> None:
    """Look at what a loss makes of a few scores, so that a wrong one is noticed before the training.

    Args:
        loss: its function is called.
        options: chosen for it.
        device: of the scores.

    Raises:
        UserError: it cannot be called as a loss is, or gives something else than a differentiable loss per row.
    """
    scores = torch.arange(6.0, device=device).view(2, 3).requires_grad_()
    positive = torch.tensor([0, 2], device=device)
    try:
        inspect.signature(loss.function).bind(scores, positive, None, **options)
    except TypeError as error:
        raise UserError(
            f"loss: expected {loss.name!r} to be a function of (scores, positive, excluded, *, options…): {error}"
        ) from None
    for excluded in (None, torch.tensor([[False, True, False]] * 2, device=device)):
        losses: Any = loss.function(scores, positive, excluded, **options)
        if not isinstance(losses, Tensor):
            found = type(losses).__name__
        elif losses.shape != (2,) or not losses.is_floating_point():
            found = f"{losses.dtype} of shape {tuple(losses.shape)}"
        elif not losses.requires_grad:
            found = "values through which no gradient flows back to the scores"
        else:
            continue
        raise UserError(
            f"loss: expected {loss.name!r} to give one loss per row, a tensor [B] computed from scores [B, C]; "
            f"got {found} for 2 rows"
        )
