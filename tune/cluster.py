"""Where trials run: a Ray of our own on this machine, or a cluster that is there already.

Whatever would hang or fail long after the start is looked at before it: whether there are the processors and GPUs that
a trial asks for. Ray is kept quiet: it logs nothing to the terminal, and no usage statistics leave the machine."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from inference.errors import UserError
from tune.trial import TrialPlace

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
MOST_THREADS = 4
"""More threads than that hardly make the steps of a trial faster; more trials side by side do."""
SMALLEST_STORE = 80 << 20


@dataclass(frozen=True)
class Cluster:
    """The machines that trials run on.

    Attributes:
        cpus, gpus: of all nodes together.
        address: of the cluster; None for a Ray of our own.
    """

    cpus: int
    gpus: float
    address: str | None


@dataclass(frozen=True)
class TrialResources:
    """What Ray sets aside for a trial.

    Attributes:
        cpus: processors, and so threads.
        gpus: share of a GPU, or several.
    """

    cpus: int
    gpus: float

    @property
    def place(self) -> TrialPlace:
        """Where such a trial runs."""
        return TrialPlace(self.cpus, "cuda" if self.gpus else "cpu")


@contextmanager
def connected(address: str | None, n_bytes: int) -> Iterator[Cluster]:
    """A Ray to run trials on, for as long as the block lasts.

    Args:
        address: of a running cluster; None takes the cluster that this process is a job of, or else starts a Ray here.
        n_bytes: of the data that all trials share.

    Raises:
        UserError: the cluster cannot be reached.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray

    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    address = address or os.environ.get("RAY_ADDRESS")
    started = not ray.is_initialized()
    if started and address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"address: cannot reach a Ray cluster at {address!r} ({_one_line(error)}); is it running, and is "
                "RAY_AUTH_MODE=token set if it asks for a token?"
            ) from None
    elif started:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=max(SMALLEST_STORE, 2 * n_bytes),
        )
    try:
        resources = ray.cluster_resources()
        yield Cluster(int(resources.get("CPU", 0)), float(resources.get("GPU", 0)), address)
    finally:
        if started:
            ray.shutdown()


def trial_resources(cluster: Cluster, *, gpus: str, cpus: int | None, n_trials: int) -> TrialResources:
    """What each trial gets.

    Args:
        cluster: where they run.
        gpus: "auto" (one where there are any), or a number: 0, a share such as 0.25, or a whole number.
        cpus: None shares them evenly among the trials that can run at once, up to `MOST_THREADS` each.
        n_trials: of the search.

    Raises:
        UserError: the cluster does not have that.
    """
    share = float(cluster.gpus > 0) if gpus == "auto" else _gpus(gpus)
    if share > cluster.gpus:
        found = f"{cluster.gpus:g}" if cluster.gpus else "none"
        where = f"the cluster at {cluster.address}" if cluster.address else "this machine"
        raise UserError(
            f"gpus-per-trial: asked for {share:g}, but {where} has {found}; give --gpus-per-trial 0 to train on the CPU"
        )
    if cpus is not None and not 1 <= cpus <= cluster.cpus:
        raise UserError(f"cpus-per-trial: expected 1 to {cluster.cpus}, which is all there are, got {cpus}")
    at_once = min(n_trials, math.floor(cluster.gpus / share)) if share else n_trials
    return TrialResources(cpus or max(1, min(MOST_THREADS, cluster.cpus // max(at_once, 1))), share)


def check_gpus(gpus: str, address: str | None) -> None:
    """Fail before anything is read or started if GPUs are asked for that this machine cannot have.

    Raises:
        UserError: the flag is no number, or asks for a GPU where there is none.
    """
    share = 0.0 if gpus == "auto" else _gpus(gpus)
    if share and not (address or os.environ.get("RAY_ADDRESS")):
        import torch

        trial_resources(Cluster(1, torch.cuda.device_count(), None), gpus=gpus, cpus=1, n_trials=1)


def _gpus(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not (math.isfinite(share) and share >= 0 and (share <= 1 or share == math.floor(share))):
        raise UserError(f"gpus-per-trial: expected auto, 0, a share such as 0.25, or a whole number, got {text!r}")
    return share


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
