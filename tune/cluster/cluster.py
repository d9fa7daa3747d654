"""Where trials run: a Ray that the search starts on this machine, or a running cluster.

Requests that no node can fulfil would wait forever, so they are refused before the first trial. Ray logs nothing to the
terminal and sends no usage statistics.
"""

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from inference.shared.errors import UserError, one_line
from inference.shared.system import count_cores

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
MAX_TRIAL_THREADS = 4
"""More threads hardly make a trial faster; more trials at once use them better."""
MIN_OBJECT_STORE = 80 << 20


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        cpus, gpus: that Ray may use there.
        memory: bytes that were available when Ray started; None if unknown.
    """

    cpus: int
    gpus: float
    memory: int | None = None


@dataclass(frozen=True)
class Cluster:
    """The machines that trials run on.

    Attributes:
        nodes: at least one.
        address: of the cluster; None for a Ray that the search started.
    """

    nodes: tuple[Node, ...]
    address: str | None

    @property
    def name(self) -> str:
        """For messages."""
        return f"the cluster at {self.address}" if self.address else "this machine"


@dataclass(frozen=True)
class TrialResources:
    """What Ray reserves for a trial.

    Attributes:
        cpus: processors, one thread each.
        gpus: a share of a GPU, or several.
        memory: bytes of the machine's memory.
    """

    cpus: int
    gpus: float
    memory: int = 0

    @property
    def device(self) -> str:
        """That the trial trains on."""
        return "cuda" if self.gpus else "cpu"


@contextmanager
def connect(address: str | None, n_bytes: int) -> Iterator[Cluster]:
    """Connect to Ray until the end of the block.

    Args:
        address: of a running cluster; None for the cluster that this process is a job of, or else a new Ray here.
        n_bytes: of the data that all trials share.

    Raises:
        UserError: the cluster cannot be reached, or Ray cannot start.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray

    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    is_new = not ray.is_initialized()
    where = address or os.environ.get("RAY_ADDRESS") or None  # the entry point of a Ray job has it
    if is_new:
        _init_ray(where, n_bytes, sends_packages=bool(address))
    try:
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = tuple(
            Node(int(node.get("CPU", 0)), float(node.get("GPU", 0)), int(node["memory"]) if "memory" in node else None)
            for node in resources
        )
        yield Cluster(nodes, where)
    finally:
        if is_new:
            ray.shutdown()


def count_cpus() -> int:
    """Processors for a new Ray, at least one: Ray knows the quota of a container, but not a process' affinity."""
    from ray._private.utils import get_num_cpus

    return max(1, min(int(get_num_cpus(override_docker_cpu_warning=True)), count_cores()))


def _init_ray(where: str | None, n_bytes: int, *, sends_packages: bool) -> None:
    """Start Ray on this machine, or connect to a running cluster.

    A job has its own runtime environment. From outside a job, our packages are sent to the nodes, which may have none,
    or other versions.
    """
    import ray

    if where is None:
        failure = "cannot start Ray on this machine"
        remedy = "RAY_TMPDIR names another folder for its temporary files, which needs a short path"
        store = max(MIN_OBJECT_STORE, 2 * n_bytes)
        options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": store, "num_cpus": count_cpus()}
    else:
        _check_address(where)
        failure = f"address: cannot connect to the Ray cluster at {where!r}"
        remedy = "a cluster with tokens needs RAY_AUTH_MODE=token"
        ours = [str(files(name)) for name in ("gru4rec", "inference", "tune")]
        options = {"runtime_env": {"py_modules": ours}} if sends_packages else {}
    try:
        ray.init(where or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{failure}: {one_line(error)}; {remedy}") from None


def _check_address(where: str) -> None:
    if where.startswith("ray://"):
        raise UserError("address: expected HOST:PORT or auto, got a Ray Client address; or submit the search as a job")
    host, colon, port = where.rpartition(":")
    if colon:  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UserError(f"address: cannot reach a Ray cluster at {where!r}: {one_line(error)}") from None


def trial_resources(cluster: Cluster, *, gpus: str, cpus: int | None, n_trials: int) -> TrialResources:
    """What each trial gets.

    Args:
        cluster: where they run.
        gpus: "auto" (one if there are any), 0, a share such as 0.25, or a whole number.
        cpus: None for an even share among the trials that can run at once, up to `MAX_TRIAL_THREADS` each.
        n_trials: of the search.

    Raises:
        UserError: the cluster does not have them.
    """
    most_gpus = max(node.gpus for node in cluster.nodes)
    share = float(most_gpus > 0) if gpus == "auto" else _gpus(gpus)
    if share > most_gpus:
        found = f"{most_gpus:g}" if most_gpus else "none"
        where = f"no node of {cluster.name} has more than {found}" if most_gpus else f"{cluster.name} has none"
        raise UserError(
            f"gpus-per-trial: asked for {share:g}, but {where}; give --gpus-per-trial 0 to train on the CPU"
        )
    usable = [node for node in cluster.nodes if node.gpus >= share and node.cpus >= 1]
    most_cpus = max((node.cpus for node in usable), default=0)
    if not most_cpus or (cpus is not None and not 1 <= cpus <= most_cpus):
        wanted = 1 if cpus is None else cpus
        raise UserError(f"cpus-per-trial: {cluster.name} has 1 to {most_cpus} for a trial, got {wanted}")
    all_cpus = sum(node.cpus for node in usable)
    places = sum(math.floor(node.gpus / share) for node in usable) if share else all_cpus
    even = all_cpus // max(min(n_trials, places), 1)
    return TrialResources(cpus or max(1, min(MAX_TRIAL_THREADS, even, most_cpus)), share)


def count_concurrent(cluster: Cluster, resources: TrialResources) -> int:
    """How many trials can run at the same time."""
    return sum(_count_on_node(node, resources) for node in cluster.nodes)


def _count_on_node(node: Node, resources: TrialResources) -> int:
    limits = [node.cpus // resources.cpus]
    if resources.gpus:
        limits.append(math.floor(node.gpus / resources.gpus))
    if resources.memory and node.memory is not None:
        limits.append(node.memory // resources.memory)
    return min(limits)


def check_gpus(gpus: str, address: str | None) -> None:
    """Check the GPUs of a trial before anything is read or started.

    Raises:
        UserError: the flag is no number, or this machine does not have the GPUs.
    """
    share = 0.0 if gpus == "auto" else _gpus(gpus)
    if share and not (address or os.environ.get("RAY_ADDRESS")):
        import torch

        trial_resources(Cluster((Node(1, torch.cuda.device_count()),), None), gpus=gpus, cpus=1, n_trials=1)


def _gpus(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not (math.isfinite(share) and share >= 0 and (share <= 1 or share == math.floor(share))):
        raise UserError(f"gpus-per-trial: expected auto, 0, a share such as 0.25, or a whole number, got {text!r}")
    return share
