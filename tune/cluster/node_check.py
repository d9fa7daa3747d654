"""Check that every node of a cluster can run trials, before the first trial.

Two mistakes would show late. If nodes do not share the search's storage, trials fail at their first checkpoint; if a
node lacks a package or a plug-in, every trial on it fails. So a task on each node reads a marker file in the storage
and imports what a trial imports.
"""

import importlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gru4rec.commands.terminal import print_status
from inference.shared.errors import UserError, one_line
from tune.cluster.storage import filesystem_of

MARKER = ".marker"
"""Always the same name, so the marker of a killed search is replaced; its content differs."""

SECONDS_TO_ANSWER = 900
"""Long enough to install the packages of a job's runtime environment."""

SECONDS_BEFORE_NOTICE = 20
"""Until the user reads what the search waits for."""


@dataclass(frozen=True)
class NodeAnswer:
    """What a node found.

    Attributes:
        node: its address.
        sees_storage: whether it can read the marker in the search's storage.
        missing: why a module could not be imported; empty if all could.
    """

    node: str
    sees_storage: bool
    missing: str


@contextmanager
def place_marker(storage: str) -> Iterator[tuple[str, str]]:
    """Write a file to a storage until the end of the block; yields its location and its content.

    Args:
        storage: path or URI of the folder for the trials.

    Raises:
        UserError: it cannot be written to, or does not return what was written.
    """
    filesystem, path = filesystem_of(storage)
    token = secrets.token_hex(8)
    marker = f"{path}/{MARKER}"
    try:
        filesystem.create_dir(path)
        with filesystem.open_output_stream(marker) as file:
            file.write(token.encode())
        with filesystem.open_input_stream(marker) as file:
            same = file.readall() == token.encode()
    except (OSError, ValueError) as error:
        raise UserError(f"storage: cannot write to {storage}: {one_line(error)}") from None
    if not same:
        raise UserError(f"storage: {storage} does not return what is written to it; choose another one")
    try:
        yield f"{storage}/{MARKER}", token
    finally:
        filesystem.delete_file(marker)


def check_nodes(marker: str, token: str, plugins: Sequence[str]) -> None:
    """Check on every node of the connected Ray whether it can run trials.

    Args:
        marker: location of a file in the search's storage.
        token: its content.
        plugins: modules that trials import.

    Raises:
        UserError: a node cannot, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    probe = ray.remote(num_cpus=0, max_retries=0)(_make_probe(marker, token, ("tune.trials.trial", *plugins)))
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    tasks = [probe.options(scheduling_strategy=strategy).remote() for strategy in strategies]
    names = [node["NodeManagerAddress"] for node in nodes]
    try:
        late = ray.wait(tasks, num_returns=len(tasks), timeout=SECONDS_BEFORE_NOTICE)[1]
        if late:
            print_status(
                f"waiting for {_describe_late(late, tasks, names)}; "
                "the packages of a job's runtime environment are installed there first"
            )
            late = ray.wait(tasks, num_returns=len(tasks), timeout=SECONDS_TO_ANSWER - SECONDS_BEFORE_NOTICE)[1]
        if late:
            raise UserError(
                f"address: {_describe_late(late, tasks, names)} did not answer within {SECONDS_TO_ANSWER} s; "
                "`ray status` shows nodes that hang"
            )
        answers = ray.get(tasks)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"address: a node of the cluster could not be checked: {one_line(error)}; see `ray status`"
        ) from None
    storage = marker.rpartition("/")[0]
    check_answers([NodeAnswer(name, *answer) for name, answer in zip(names, answers, strict=True)], storage)


def check_answers(answers: Sequence[NodeAnswer], storage: str) -> None:
    """Fail if a node cannot run trials.

    Raises:
        UserError: names the node, and what to do.
    """
    for answer in answers:
        if answer.missing:
            raise UserError(
                f"node {answer.node} cannot run trials: {answer.missing}; install it there, or add it to the job's "
                "runtime environment"
            )
    blind = [answer.node for answer in answers if not answer.sees_storage]
    if blind:
        raise UserError(
            f"storage: {len(blind)} of {len(answers)} nodes (first {blind[0]}) do not see {storage}, where trials save "
            "checkpoints; choose an --out or a --storage that all nodes share"
        )


def _describe_late(late: Sequence[Any], tasks: Sequence[Any], names: Sequence[str]) -> str:
    return f"{len(late)} of {len(tasks)} nodes (first {names[tasks.index(late[0])]})"


def _make_probe(marker: str, token: str, modules: tuple[str, ...]) -> Any:
    """The function that runs on the nodes; a nested one travels by value, also to nodes without our packages."""

    def probe() -> tuple[bool, str]:
        try:
            from pyarrow.fs import FileSystem

            filesystem, path = FileSystem.from_uri(marker)
            with filesystem.open_input_stream(path) as file:
                sees_storage = file.readall() == token.encode()
        except (OSError, ValueError, ImportError):
            sees_storage = False
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:  # a user's module may fail in any way
                return sees_storage, f"cannot import {module!r} ({type(error).__name__}: {error})"
        return sees_storage, ""

    return probe
