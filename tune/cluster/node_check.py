"""Looking before leaping: whether every node of a cluster can run trials.

Two mistakes show late and badly. Where nodes do not share the search's storage, the trials on the others fail at their
first checkpoint; where a node lacks a package or a plug-in, every trial on it fails. Both take a second to find out: a
task pinned to each node looks for a marker file in the storage and imports what a trial imports.
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
"""Always of this name: what a killed search left is replaced, and told from ours by what it says."""

SECONDS_TO_ANSWER = 900
"""Installing the packages of a job's runtime environment, or importing torch from a slow disk, takes its time."""

SECONDS_BEFORE_NOTICE = 20
"""Until the user is told what the search is waiting for."""


@dataclass(frozen=True)
class NodeAnswer:
    """What a node found.

    Attributes:
        node: its address.
        sees_storage: whether what is written to the search's storage can be read there.
        missing: why something could not be imported; empty if all could.
    """

    node: str
    sees_storage: bool
    missing: str


@contextmanager
def place_marker(storage: str) -> Iterator[tuple[str, str]]:
    """A file in a storage that is there for as long as the block lasts: its location, and what it says.

    Args:
        storage: path or URI of the folder that the trials are to be kept in.

    Raises:
        UserError: it cannot be written to, or does not give back what was written.
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
        raise UserError(f"storage: cannot write to {storage} ({one_line(error)}); do you have access to it?") from None
    if not same:
        raise UserError(f"storage: {storage} does not give back what is written to it; choose another one")
    try:
        yield f"{storage}/{MARKER}", token
    finally:
        filesystem.delete_file(marker)


def check_nodes(marker: str, token: str, plugins: Sequence[str]) -> None:
    """Ask every node of the connected Ray whether it can run trials.

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
    look = ray.remote(num_cpus=0, max_retries=0)(_looking(marker, token, ("tune.trials.trial", *plugins)))
    pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asked = [look.options(scheduling_strategy=strategy).remote() for strategy in pinned]
    names = [node["NodeManagerAddress"] for node in nodes]
    try:
        late = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_BEFORE_NOTICE)[1]
        if late:
            print_status(
                f"waiting for {_late(late, asked, names)}; "
                "what a job's runtime environment names is installed there first"
            )
            late = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_ANSWER - SECONDS_BEFORE_NOTICE)[1]
        if late:
            raise UserError(
                f"address: {_late(late, asked, names)} did not answer within {SECONDS_TO_ANSWER} s; "
                "see `ray status` for nodes that hang"
            )
        answers = ray.get(asked)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"address: a node of the cluster could not be asked whether it can run trials ({one_line(error)}); "
            "see `ray status`"
        ) from None
    storage = marker.rpartition("/")[0]
    check_answers([NodeAnswer(name, *answer) for name, answer in zip(names, answers, strict=True)], storage)


def check_answers(answers: Sequence[NodeAnswer], storage: str) -> None:
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
    blind = [answer.node for answer in answers if not answer.sees_storage]
    if blind:
        raise UserError(
            f"storage: {len(blind)} of {len(answers)} nodes (first {blind[0]}) do not see {storage}; trials there "
            "could not leave checkpoints: choose --out, or --storage, on what all nodes share"
        )


def _late(late: Sequence[Any], asked: Sequence[Any], names: Sequence[str]) -> str:
    """The nodes that have not answered yet, in words."""
    return f"{len(late)} of {len(asked)} nodes (first {names[asked.index(late[0])]})"


def _looking(marker: str, token: str, modules: tuple[str, ...]) -> Any:
    """The function that runs on the nodes; made here, it travels by value, also to nodes without our packages."""

    def look() -> tuple[bool, str]:
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

    return look
