"""The folder of a search: its files, what the search was started with, and its lock.

    DIR/
      search.json                   what the search was started with, its rounds, its outcome
      trials/round-1/ …             Ray Tune's state, a folder per trial (TensorBoard reads them)
      results.parquet, results.csv  a row per trial
      best.toml                     the best configuration, for `gru4rec train --config`
      model/, model.onnx            the best model

The same command resumes a search. The data, the space and the versions of the libraries must be the same, or it would
mix results that cannot be compared.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

from gru4rec.training.run import folder_lock
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError
from tune.cluster.storage import absolute
from tune.outcome.overhead import Overhead

SCHEMA_VERSION = 1
STATE_FILE = "search.json"
TRIALS_FOLDER = "trials"
MODEL_FOLDER = "model"
MODEL_FILE = "model.onnx"
BEST_FILE = "best.toml"
WINNER_FILES = (MODEL_FOLDER, MODEL_FILE, BEST_FILE)


def versions() -> dict[str, str]:
    """Of the libraries that compute."""
    return {name: version(name) for name in ("gru4rec", "torch", "ray", "optuna")}


@dataclass(frozen=True)
class Identity:
    """What must be the same when a search is resumed.

    Attributes:
        data_sha256: digest of the training and validation data.
        space: the search space as plain values.
        manner: the search algorithm and the scheduler.
        versions: of the libraries that compute.
    """

    data_sha256: str
    space: Mapping[str, Any]
    manner: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=versions)


@dataclass(frozen=True)
class Round:
    """Some trials of a search.

    Attributes:
        n_trials: how many.
        complete: whether all of them are finished.
    """

    n_trials: int
    complete: bool = False


@dataclass(frozen=True)
class SearchState:
    """The content of search.json.

    Attributes:
        identity: what the search was started with.
        rounds: the first trials, and those added later.
        threads: CPU threads of a trial.
        finals: the folders of complete finals.
        outcome: of the winner's model; empty until it is trained.
        storage: of the trials, if not the search's folder.
        effort: the overhead so far.
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


def read_state(out: Path) -> SearchState | None:
    """The state of the search in a folder; None if there is none.

    Raises:
        UserError: it is damaged, of another release, or the folder contains results of something else.
    """
    file = out / STATE_FILE
    if not file.exists():
        for name in (TRIALS_FOLDER, *WINNER_FILES, "results.parquet", "results.csv"):
            if (out / name).exists():
                raise UserError(f"{out} contains {name!r}, but no search; choose another folder")
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("schema_version") != SCHEMA_VERSION:
            raise KeyError("schema_version")
        content["identity"], content["effort"] = Identity(**content["identity"]), Overhead(**content["effort"])
        content["rounds"] = tuple(Round(**part) for part in content["rounds"])
        return SearchState(**content | {"finals": tuple(content["finals"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file}: expected the state of a search, schema {SCHEMA_VERSION}, got an error: {error!r}"
        ) from None


def write_state(out: Path, state: SearchState) -> None:
    """Replace the state of the search in a folder."""
    content = {"schema_version": SCHEMA_VERSION, **asdict(state)}
    with atomic_file(out / STATE_FILE) as file:
        file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def check_same(out: Path, before: SearchState, now: Identity, storage: str | None) -> None:
    """Refuse to resume another search, or with another storage than that of the trials.

    Args:
        out: folder of the search.
        before: its state.
        now: the identity of the search that is to resume it.
        storage: of that search, as the user gave it.

    Raises:
        UserError: names the first difference.
    """
    if before.identity.data_sha256 != now.data_sha256:
        raise UserError(
            f"{out}: cannot resume: the training or validation data are not those it started with; "
            "give the same data or choose another folder"
        )
    for what, old, new in (
        ("space", before.identity.space, now.space),
        ("settings", before.identity.manner, now.manner),
        ("version", before.identity.versions, now.versions),
    ):
        difference = _first_difference(what, old, new)
        if difference:
            raise UserError(f"{out}: cannot resume: {difference}; give the same or choose another folder")
    first = before.storage.rpartition("/")[0]
    if (absolute(storage) if storage else "") != first:
        flag = f"--storage {first}" if first else "no --storage"
        raise UserError(f"storage: the search in {out} was started with {flag}; resume it with the same")


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
    old, new = (shorten(json.dumps(value), 80, placeholder=" …") for value in (before, now))
    return "" if before == now else f"{path} was {old} and is now {new}"


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Create and lock the folder of a search, so that no other uses it; the lock goes with the process.

    Raises:
        UserError: another search uses it, or it cannot be written to.
    """
    is_new = not path.exists()
    try:
        with folder_lock(path, user="search"):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                path.rmdir()  # the input was refused
