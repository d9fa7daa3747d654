"""Check that every node of a cluster can run trials, before the first trial.

Two mistakes would show late. If nodes do not share the search's storage, trials fail at their first checkpoint; if a
node lacks a package or a plug-in, every trial on it fails. So a task on each node reads a marker file in the storage
and imports what a trial imports.
"""

import importlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gru4rec.commands.terminal import print_status
from inference.shared.errors import UserError, one_line
from tune.cluster.storage import filesystem_of, write_file

MARKER = ".marker"
"""Always the same name, so the marker of a killed search is replaced; its content differs."""

SECONDS_TO_ANSWER = 900
"""Long enough to install the packages of a job's runtime environment."""

SECONDS_BEFORE_NOTICE = 20
"""Until the user reads what the search waits for."""


@contextmanager
def place_marker(storage: str) -> Iterator[tuple[str, str]]:
    """Write a file to a storage until the end of the block; yields its location and its content.

    Args:
        storage: path or URI of the folder for the trials.

    Raises:
        UserError: it cannot be written to.
    """
    token, marker = secrets.token_hex(8), f"{storage}/{MARKER}"
    filesystem, path = filesystem_of(storage)
    try:
        write_file(marker, token)
    except (OSError, ValueError) as error:
        raise UserError(f"storage: cannot write to {storage}: {one_line(error)}") from None
    try:
        yield marker, token
    finally:
        filesystem.delete_file(f"{path}/{MARKER}")


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
    check_answers([(name, *answer) for name, answer in zip(names, answers, strict=True)], storage)


def check_answers(answers: Sequence[tuple[str, bool, str]], storage: str) -> None:
    """Fail if a node cannot run trials.

    Args:
        answers: of every node: its address, whether it can read the marker in the search's storage, and why it could
            not import a module, empty if it could import all.
        storage: for the message.

    Raises:
        UserError: names the node, and what to do.
    """
    for node, _, missing in answers:
        if missing:
            raise UserError(
                f"node {node} cannot run trials: {missing}; install it there, or add it to the job's "
                "runtime environment"
            )
    blind = [node for node, sees_storage, _ in answers if not sees_storage]
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
