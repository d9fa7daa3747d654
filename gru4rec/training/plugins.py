"""The user's own modules: import them, try their losses, and report where one of them fails.

A plug-in may fail when it is imported, when its sampler is built, or when its loss sees scores. Each ends like any
other mistake of the user's, with a `UserError` of one line that names module and line. Its note is the traceback in the
plug-in's own code, and its cause the exception itself.
"""

import importlib
import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gru4rec.model.losses import Loss
from inference.shared.errors import UserError, one_line


def import_plugins(modules: Sequence[str]) -> None:
    """Import the modules that register the user's own losses and samplers.

    Raises:
        UserError: a module cannot be imported.
    """
    for module in modules:
        try:
            with plugin_errors([module]):
                importlib.import_module(module)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # not found, no Python, or a script that exits
            remedy = "; is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) else ""
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"plugins: cannot import {module!r}: {reason}{remedy}") from error


@contextmanager
def plugin_errors(modules: Sequence[str]) -> Iterator[None]:
    """Turn an exception that passes through the code of these modules into a `UserError` with the module and the line.

    Other exceptions stay as they are. So do errors of memory and of the device, which a plug-in may meet first.

    Args:
        modules: their names; modules within them count, too.
    """
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        frames = [
            (frame, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if any(f"{frame.f_globals.get('__name__')}.".startswith(f"{module}.") for module in modules)
        ]
        if not frames:
            raise
        frame, line = frames[-1]  # the innermost
        where = f"{frame.f_globals['__name__']}, line {line}"
        failure = UserError(f"plugins: {where}: {type(error).__name__}: {one_line(error)}")
        failure.add_note("".join(traceback.StackSummary.extract(iter(frames)).format()).rstrip())
        raise failure from error


def check_loss(loss: Loss, options: Mapping[str, Any], device: torch.device) -> None:
    """Compute a loss of a few scores, so that a wrong one is noticed before the training.

    Args:
        loss: its function is called.
        options: chosen for it.
        device: of the scores.

    Raises:
        UserError: it cannot be called as a loss, or does not return one differentiable loss per row.
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
            f"loss: expected {loss.name!r} to return one loss per row, a tensor [B] computed from scores [B, C]; "
            f"got {found} for 2 rows"
        )
