"""The folder of a search: what lies where, what it was begun with, and who is working in it.

    DIR/
      search.json                   what the search was begun with, its rounds, what came of it
      trials/round-1/ …             Ray Tune's state, a folder per trial (TensorBoard reads them)
      results.parquet, results.csv  a row per trial
      best.toml                     the best configuration, for `gru4rec train --config`
      model/, model.onnx            the best model

A search goes on by the same command: the data, the space and the versions of what computes must be those it was begun
with, or it would mix results that cannot be compared.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gru4rec.training.run import LOCK_FILE, folder_lock
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError
from tune.cluster.storage import absolute
from tune.outcome.overhead import Overhead
from tune.space.search_space import SearchSpace

SCHEMA_VERSION = 1
STATE_FILE = "search.json"
TRIALS_FOLDER = "trials"
MODEL_FOLDER = "model"
MODEL_FILE = "model.onnx"
BEST_FILE = "best.toml"
RESULT_FILES = ("results.parquet", "results.csv")


@dataclass(frozen=True)
class Identity:
    """What must not change while a search goes on.

    Attributes:
        data_sha256: digest of the training and validation data.
        space: the search space as plain values.
        manner: how models are chosen from it and stopped.
        versions: of the packages that compute.
    """

    data_sha256: str
    space: Mapping[str, Any]
    manner: Mapping[str, Any]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, space: SearchSpace, manner: Mapping[str, Any], data_sha256: str) -> "Identity":
        """The identity of a search that begins now."""
        return cls(data_sha256, space.as_plain(), dict(manner), versions())


@dataclass(frozen=True)
class Round:
    """Some trials of a search.

    Attributes:
        n_trials: how many.
        complete: whether all of them were run.
    """

    n_trials: int
    complete: bool = False


@dataclass(frozen=True)
class SearchState:
    """The content of search.json.

    Attributes:
        identity: what the search was begun with.
        rounds: the first trials, and those added later.
        threads: CPU threads of a trial.
        finals: the folders of finals that are complete.
        outcome: what was made of the winner; empty until then.
        storage: where the trials are kept, if not in the search's folder.
        effort: where the time went.
    """

    identity: Identity
    rounds: tuple[Round, ...] = ()
    threads: int = 1
    finals: tuple[str, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    storage: str = ""
    effort: Overhead = field(default_factory=Overhead)

    @property
    def n_trials(self) -> int:
        """Of all rounds."""
        return sum(part.n_trials for part in self.rounds)

    @property
    def trials_complete(self) -> bool:
        """Whether all trials were run."""
        return all(part.complete for part in self.rounds)

    def with_round_complete(self, number: int) -> "SearchState":
        """The state after all trials of a round (from 1) were run."""
        rounds = list(self.rounds)
        rounds[number - 1] = replace(rounds[number - 1], complete=True)
        return replace(self, rounds=tuple(rounds))


class SearchFolder:
    """A search on disk.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def location(self, state: SearchState, experiment: str) -> str:
        """Where Ray keeps an experiment: the trials of a round, or the runs of finals."""
        return f"{state.storage or (self.path / TRIALS_FOLDER).absolute()}/{experiment}"

    def read(self) -> SearchState | None:
        """The state of the search in this folder, None where there is none.

        Raises:
            UserError: it is damaged, of another release, or the folder holds results of something else.
        """
        file = self.path / STATE_FILE
        if not file.exists():
            for name in (TRIALS_FOLDER, MODEL_FOLDER, MODEL_FILE, BEST_FILE, *RESULT_FILES):
                if (self.path / name).exists():
                    raise UserError(f"{self.path} holds {name!r} of something else; choose another folder")
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema_version"] != SCHEMA_VERSION:
                raise KeyError("schema_version")
            rounds = tuple(Round(**part) for part in content["rounds"])
            identity, finals = Identity(**content["identity"]), tuple(content["finals"])
            return SearchState(
                identity,
                rounds,
                content["threads"],
                finals,
                content["outcome"],
                content["storage"],
                Overhead(**content["effort"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{file}: expected the state of a search, schema {SCHEMA_VERSION}, got an error: {error!r}"
            ) from None

    def write(self, state: SearchState) -> None:
        """Replace the state."""
        content = {"schema_version": SCHEMA_VERSION, **asdict(state)}
        with atomic_file(self.path / STATE_FILE) as file:
            file.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def check_same(self, before: Identity, now: Identity) -> None:
        """Fail if a search cannot go on because something is not as it was.

        Raises:
            UserError: naming the first difference.
        """
        if before.data_sha256 != now.data_sha256:
            raise UserError(
                f"{self.path}: cannot go on: the training or validation data are not those it began with; "
                "give the same data or choose another folder"
            )
        for what, old, new in (
            ("space", before.space, now.space),
            ("manner", before.manner, now.manner),
            ("version", before.versions, now.versions),
        ):
            difference = _first_difference(what, old, new)
            if difference:
                raise UserError(f"{self.path}: cannot go on: {difference}; give the same or choose another folder")

    def check_same_storage(self, state: SearchState, storage: str | None) -> None:
        """Fail if the trials are kept elsewhere than asked for.

        Raises:
            UserError: naming where they are.
        """
        kept = state.storage.rpartition("/")[0]
        if (absolute(storage) if storage else "") != kept:
            there = f"--storage {kept}" if kept else "no --storage"
            raise UserError(f"storage: the search in {self.path} was begun with {there}; go on with that")


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {name: version(name) for name in ("gru4rec", "torch", "ray", "optuna")}


def round_name(number: int) -> str:
    """The experiment of a round, numbered from 1."""
    return f"round-{number}"


def _first_difference(path: str, before: Any, now: Any) -> str:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            difference = _first_difference(f"{path}.{key}", before.get(key), now.get(key))
            if difference:
                return difference
        return ""
    return "" if before == now else f"{path} was {_short(before)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


@contextmanager
def lock_folder(path: Path) -> Iterator[SearchFolder]:
    """Hold the folder of a search, so that no other works in it; the lock goes with the process, however it ends.

    Raises:
        UserError: another search holds it, or it cannot be written to.
    """
    is_new = not path.exists()
    with folder_lock(path, user="search"):
        try:
            yield SearchFolder(path)
        finally:
            if is_new and path.exists() and {file.name for file in path.iterdir()} <= {LOCK_FILE}:
                shutil.rmtree(path)  # nothing came of it: the input was refused
