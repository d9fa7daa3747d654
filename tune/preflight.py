"""Looking before leaping: whether every node of a cluster can run trials.

Two mistakes show late and badly. Where nodes do not share the search's folder, the trials on the others fail at their
first checkpoint; where a node lacks a package or a plug-in, every trial on it fails. Both take a second to find out: a
task pinned to each node looks for a marker file in the folder and imports what a trial imports.
"""

import importlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import UserError

SECONDS_TO_ANSWER = 120
"""A node that is given packages, or imports torch from a slow disk, takes its time."""


@dataclass(frozen=True)
class NodeAnswer:
    """What a node found.

    Attributes:
        node: its address.
        sees_folder: whether the search's folder is the same there.
        missing: why something could not be imported; empty if all could.
    """

    node: str
    sees_folder: bool
    missing: str


def check_nodes(folder: Path, plugins: Sequence[str]) -> None:
    """Ask every node of the connected Ray whether it can run trials.

    Args:
        folder: of the search, existing.
        plugins: modules that trials import.

    Raises:
        UserError: a node cannot, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    token = secrets.token_hex(8)
    marker = folder.absolute() / f".marker-{token}"
    marker.write_text(token, encoding="ascii")
    look = ray.remote(num_cpus=0, max_retries=0)(_looking(str(marker), token, ("tune.trial", *plugins)))
    try:
        pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        asked = [look.options(scheduling_strategy=strategy).remote() for strategy in pinned]
        names = [node["NodeManagerAddress"] for node in nodes]
        try:
            answers = ray.get(asked, timeout=SECONDS_TO_ANSWER)
        except ray.exceptions.GetTimeoutError:
            raise UserError(
                f"address: a node of the cluster did not answer within {SECONDS_TO_ANSWER} s; "
                "see `ray status` for nodes that hang"
            ) from None
        judge([NodeAnswer(name, *answer) for name, answer in zip(names, answers, strict=True)], folder)
    finally:
        marker.unlink(missing_ok=True)


def judge(answers: Sequence[NodeAnswer], folder: Path) -> None:
    """Fail if a node cannot run trials.

    Raises:
        UserError: naming the node, and what to do.
    """
    for answer in answers:
        if answer.missing:
            raise UserError(
                f"node {answer.node} cannot run trials: {answer.missing}; install it there, or ship it with the job's "
                "runtime environment"
            )
    blind = [answer.node for answer in answers if not answer.sees_folder]
    if blind:
        raise UserError(
            f"out: {len(blind)} of {len(answers)} nodes (first {blind[0]}) do not see {folder}; trials there could not "
            "leave checkpoints: choose a folder on storage that all nodes share"
        )


def _looking(marker: str, token: str, modules: tuple[str, ...]) -> Any:
    """The function that runs on the nodes; made here, it travels by value, also to nodes without our packages."""

    def look() -> tuple[bool, str]:
        try:
            with open(marker, encoding="ascii") as file:
                sees_folder = file.read() == token
        except OSError:
            sees_folder = False
        for module in modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return sees_folder, f"cannot import {module!r} ({error})"
        return sees_folder, ""

    return look
