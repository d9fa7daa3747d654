"""One trial: a model trained and validated epoch by epoch, reporting to Ray Tune.

After every epoch the trial reports its best quality so far and that of the epoch, and leaves a checkpoint, from which
it resumes anywhere with the same parameters, bit for bit. A fault of the model itself (it diverged, it does not fit
into memory, its loss or plug-in fails) is reported as its result, because another attempt would end the same way. Any
other exception is raised: Ray then starts the trial again from its checkpoint.

The data come from Ray's object store, where all trials of a machine share them read-only.
"""

import ctypes
import gc
import json
import resource
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune as ray_tune

from gru4rec.config.train_config import from_mapping
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.training.checkpoint import load_training_state, save_training_state
from gru4rec.training.memory import is_out_of_memory
from gru4rec.training.plugins import import_plugins
from gru4rec.training.trainer import Diverged, Trainer
from inference.shared.errors import UserError, one_line
from tune.cluster.cluster import TrialResources
from tune.space.search_space import MODEL

MOST_RISE = 100.0
"""How many times its first value the loss may rise to in the first epoch. BPR-max with too high a learning rate rises
by three to five orders of magnitude within a few hundred steps, and never recovers."""
NUMBER = "number"
"""Key of a trial's number, from 1, in its configuration."""
METRIC = "mrr@20"
"""What a search maximises: the best validation MRR@20 so far."""
EPOCH_METRIC = "epoch_mrr@20"
HISTORY = "history"
"""Key of all epochs so far, as JSON text."""
HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class TrialData:
    """What every trial of a search reads.

    Attributes:
        train: log to train on.
        valid: sessions to validate on, in the item numbers of the log.
    """

    train: EncodedLog
    valid: Sessions


def run_trial(
    config: dict[str, Any], *, data: TrialData, resources: TrialResources, over: Mapping[str, dict[str, Any]]
) -> None:
    """Train and validate one model, reporting after every epoch.

    Args:
        config: the trial's configuration; the model's is under MODEL.
        data, resources: of the search.
        over: the last report of finished trials, by their serialized model; such a trial only reports it again.

    Raises:
        Exception: what is worth another attempt.
    """
    report = over.get(serialize_model(config[MODEL]))
    if report is not None:
        ray_tune.report(report)
        return
    torch.set_num_threads(resources.cpus)
    history: list[dict[str, Any]] = []
    began = time.perf_counter()
    try:
        _release_memory()
        _reset_peak_memory(resources.device)
        settings = from_mapping(config[MODEL]).replace(device=resources.device)
        import_plugins(settings.plugins)
        trainer = Trainer(settings, data.train)
        checkpoint = ray_tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                history = json.loads((Path(folder) / HISTORY_FILE).read_text(encoding="utf-8"))
                load_training_state(Path(folder), trainer)
        while trainer.epoch < settings.n_epochs:
            began = time.perf_counter()
            history.append(_run_epoch(trainer, data.valid, resources.device))
            with tempfile.TemporaryDirectory() as folder:
                save_training_state(Path(folder), trainer)
                (Path(folder) / HISTORY_FILE).write_text(json.dumps(history), encoding="utf-8")
                ray_tune.report(summary(history), checkpoint=ray_tune.Checkpoint.from_directory(folder))
    except Diverged as error:
        where = {"diverged_epoch": error.epoch, "diverged_step": error.step}
        ray_tune.report(_final_report(history, began, "diverged", str(error)) | where)
    except UserError as error:
        trace = {"traceback": traceback.format_exc()} if error.__cause__ else {}  # of a plug-in
        ray_tune.report(_final_report(history, began, "failed", str(error)) | trace)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        ray_tune.report(_final_report(history, began, "failed", f"out of memory: {one_line(error)}"))


def serialize_model(model: Mapping[str, Any]) -> str:
    """Text that is equal for equal models, seed and number of epochs included."""
    return json.dumps(model, sort_keys=True)


def trial_folder(trial: Any) -> str:
    """The name of a trial's folder."""
    return f"trial-{trial.config[NUMBER]:04d}-{trial.trial_id}"


def error_file(location: str | Path, trial: Any) -> str:
    """Where the traceback of a failed trial is: Ray's name for it.

    Args:
        location: of the experiment.
        trial: Ray's.
    """
    return f"{location}/{trial_folder(trial)}/error.txt"


def summary(history: list[dict[str, Any]]) -> dict[str, Any]:
    """A trial's report: the quality of the best epoch and of the last one.

    Args:
        history: an entry per finished epoch, from `_run_epoch`.
    """
    best = max(history, key=lambda epoch: (epoch[EPOCH_METRIC], -epoch["epoch"])) if history else None
    last = history[-1] if history else {"epoch": 0}
    return {
        METRIC: best[EPOCH_METRIC] if best else 0.0,
        "recall@20": best["epoch_recall@20"] if best else 0.0,
        "best_epoch": best["epoch"] if best else 0,
        "seconds": sum(epoch["epoch_seconds"] for epoch in history),
        "peak_memory_mib": max((epoch["memory_mib"] for epoch in history), default=0.0),
        "outcome": "",
        "error": "",
        HISTORY: json.dumps(history),
        **last,
    }


def without_additions(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial reported last, without what Ray adds to it."""
    names = (*summary(json.loads(result.get(HISTORY, "[]"))), "traceback", "diverged_epoch", "diverged_step")
    return {name: result[name] for name in names if name in result}


def _final_report(history: list[dict[str, Any]], began: float, outcome: str, error: str) -> dict[str, Any]:
    """The report of a trial that ended within an epoch, whose time counts, too."""
    report = summary(history)
    seconds = report["seconds"] + time.perf_counter() - began
    return report | {"seconds": seconds, "outcome": outcome, "error": error}


def _run_epoch(trainer: Trainer, valid: Sessions, device: str) -> dict[str, Any]:
    began = time.perf_counter()
    report = trainer.run_epoch(max_rise=MOST_RISE)
    quality = evaluate(trainer.network, valid, cutoffs=[20])
    _release_memory()
    return {
        "epoch": trainer.epoch,
        EPOCH_METRIC: quality.mrr[20],
        "epoch_recall@20": quality.recall[20],
        "loss": report.loss,
        "events_per_second": report.n_pairs / max(report.seconds, 1e-9),
        "epoch_seconds": time.perf_counter() - began,
        "memory_mib": _peak_memory(device),
    }


def _release_memory() -> None:
    """Return free memory to the system: glibc would keep more of it with every trial of a process."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # not glibc


def _reset_peak_memory(device: str) -> None:
    """Start a new measurement: the process may have run another trial before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # not Linux, or not allowed: the peak includes earlier trials


def _peak_memory(device: str) -> float:
    """MiB of the GPU or else of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
