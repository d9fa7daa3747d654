"""What a search needs to survive a kill or a full disk, beyond what Ray Tune does itself.

Ray saves the state of a round about once a second as several files, copies them to the storage one by one, and resumes
from the newest. A search uses that as it is and adds three things:

* A manifest of every state. A kill between two copies leaves files of two moments, each of them whole; resumed from
  these, Ray would run a trial twice, or never, or end with an error. `CheckedSearchGenerator` writes the digests of
  the files next to them. A state that does not match its manifest is not resumed: the round starts again with the
  models of the finished trials.
* A note of every finished trial, which `FinishedTrials` writes when the trial ends, for Ray's state is older than
  that. A trial with a note is never trained again; it only reports its last result again.
* Checkpoints that are deleted late enough. A checkpoint is three times the size of a model, and a search may run
  hundreds of trials. Ray's own `CheckpointConfig` deletes a trial's previous checkpoint at once, although the saved
  state still resumes from it, and keeps those of finished trials. `CheckpointSweeper` deletes a checkpoint only after
  a state has been saved that no longer needs it, and keeps one of a finished trial only if the trial is the best.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ray import tune as ray_tune
from ray.tune.search import SearchGenerator

from inference.shared.errors import UserError, one_line
from tune.cluster.storage import list_files, read_files, write_file
from tune.space.search_space import MODEL
from tune.trials.trial import EPOCH_METRIC, METRIC, NUMBER, error_file, serialize_model, without_additions

STATE = "experiment_state-"
"""How the name of a state begins; the start time of the process that wrote it follows."""
MANIFEST = "seal-"
LAYOUT = 2
"""Of our classes that a searcher's state holds: a state of another layout is read, but not resumed."""
CALLBACKS = "callback-states-"
FINISHED_FOLDER = "finished"
Condition = Literal["resumable", "readable", "damaged"]
"""Of a state: `damaged` if a file is cut off, or of another moment; `readable` if only Ray cannot resume from it."""


class CheckedSearchGenerator(SearchGenerator):  # type: ignore[misc]  # Ray is untyped
    """Ray's search generator, which also writes a manifest of each state."""

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Write the searcher's state and the manifest; Ray has just written the trials' state."""
        super().save_to_dir(dirpath, session_str)
        write_manifest(Path(dirpath), session_str)


def write_manifest(folder: Path, session: str) -> None:
    """Write the digests of a state's files, except for the callbacks', which Ray writes afterwards.

    Args:
        folder: of the files.
        session: with which their names end.
    """
    files = [file for file in folder.glob(f"*-{session}.*") if not file.name.startswith((MANIFEST, CALLBACKS, "."))]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    manifest = json.dumps({"layout": LAYOUT, "sha256": digests})
    (folder / f"{MANIFEST}{session}.json").write_text(manifest, encoding="utf-8")


def newest_state(location: str | Path) -> str | None:
    """The location of the newest whole state of an experiment; None without one."""
    return next((state for state, condition in _read_states(location) if condition != "damaged"), None)


def is_resumable(location: str | Path) -> bool:
    """Whether Ray can resume from the newest state, which is the one that it takes."""
    return _newest_condition(location) == "resumable"


def _newest_condition(location: str | Path) -> Condition | None:
    return next((condition for _, condition in _read_states(location)), None)


def _read_states(location: str | Path) -> Iterator[tuple[str, Condition]]:
    """The locations of an experiment's states, the newest first, and what each is good for."""
    names = sorted((name for name in list_files(location) if name.startswith(STATE)), reverse=True)
    for name in names:
        session = PurePosixPath(name).stem.removeprefix(STATE)
        yield f"{location}/{name}", _judge(name, session, read_files(location, f"*-{session}.*"))


def _judge(name: str, session: str, files: Mapping[str, bytes]) -> Condition:
    """What a state is good for.

    Args:
        name: of its main file.
        session: with which the names of its files end.
        files: the contents of all its files by name.
    """
    try:
        manifest = json.loads(files[f"{MANIFEST}{session}.json"])
        trials = json.loads(files[name])["trial_data"]  # manifests of earlier versions do not name this file
        of_one_moment = all(hashlib.sha256(files[part]).hexdigest() == sha for part, sha in manifest["sha256"].items())
    except (ValueError, KeyError):
        return "damaged"
    callbacks = files.get(f"{CALLBACKS}{session}.pkl", b".")
    if not (of_one_moment and callbacks.endswith(b".")):  # the last byte of pickled objects
        return "damaged"
    return "resumable" if trials and manifest.get("layout") == LAYOUT else "readable"


@contextmanager
def storage_errors(location: str | Path) -> Iterator[None]:
    """Run trials of an experiment, and report in one line that its files cannot be read or written.

    Raises:
        UserError: with the location and the system's own text.
    """
    try:
        yield
        if _newest_condition(location) == "damaged":
            raise EOFError("Ray's last state of the search is incomplete")
    except (OSError, EOFError) as error:  # Ray raises the latter where it reads a file that is cut off
        raise UserError(
            f"cannot save the trials in {location}: {one_line(error)}; the same command resumes when this is mended"
        ) from error


class FinishedTrials(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Writes a note of every finished trial: its id, number, model and last report.

    Args:
        location: of the experiment.
    """

    def __init__(self, location: str | Path):
        self._location = str(location)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Write the note, and the traceback of a plug-in to where Ray writes those of other errors."""
        report = without_additions(trial.last_result)
        if report.get("traceback"):
            write_file(error_file(self._location, trial), report["traceback"])
        note = {"trial_id": trial.trial_id, "number": trial.config[NUMBER], "model": trial.config[MODEL]}
        write_file(f"{self._location}/{FINISHED_FOLDER}/{trial.trial_id}.json", json.dumps(note | {"report": report}))


def read_finished(location: str | Path) -> list[dict[str, Any]]:
    """The notes of an experiment: "trial_id", "number", "model" and "report" of every finished trial."""
    return [json.loads(text) for text in read_files(f"{location}/{FINISHED_FOLDER}", "*.json").values()]


def read_last_reports(location: str | Path) -> dict[str, dict[str, Any]]:
    """The last report of every finished trial of an experiment, by its serialized model, in the order of the trials."""
    notes = sorted(read_finished(location), key=lambda note: note.get("number", 0))
    return {serialize_model(note["model"]): note["report"] for note in notes}


class CheckpointSweeper(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Deletes checkpoints that no saved state resumes from and no model is made of.

    A running trial keeps its latest and its best checkpoint, the best of the finished trials likewise; the others keep
    none. Ray calls every trial of an interrupted search terminated, so only `on_trial_complete` tells which are over.
    """

    def __init__(self) -> None:
        self._checkpoints: dict[str, list[Any]] = {}
        self._quality: dict[str, dict[str, float]] = {}  # of a trial's epochs, by the names of their checkpoints
        self._over: set[str] = set()
        self._best = ""
        self._needless_when_saved: list[tuple[str, Any]] = []

    def get_state(self) -> dict[str, Any]:
        """What another process resumes with; Ray asks for it when it begins to save a state."""
        self._sweep()  # the state before this one has been saved by now
        self._needless_when_saved = list(self._needless())
        return {"kept": self._checkpoints, "quality": self._quality, "over": self._over, "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume where another process stopped."""
        self._checkpoints, self._quality = state["kept"], state["quality"]
        self._over, self._best = state["over"], state["best"]

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **_: Any) -> None:
        """A trial left a checkpoint; after a kill it may be one that was left before."""
        others = [other for other in self._checkpoints.get(trial.trial_id, []) if other.path != checkpoint.path]
        self._checkpoints[trial.trial_id] = [*others, checkpoint]

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial finished an epoch."""
        if "checkpoint_dir_name" in result and EPOCH_METRIC in result:
            qualities = self._quality.setdefault(trial.trial_id, {})
            qualities[result["checkpoint_dir_name"]] = result[EPOCH_METRIC]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is finished."""
        self._over.add(trial.trial_id)
        self._best = max(trials, key=lambda trial: trial.last_result.get(METRIC, 0.0)).trial_id

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """All trials are finished, or the search was interrupted."""
        self._sweep()

    def _needless(self) -> Iterator[tuple[str, Any]]:
        """Checkpoints that a state saved now does not need, with the trials that left them."""
        for trial, checkpoints in self._checkpoints.items():
            needed = checkpoints[-1:]
            quality = self._quality.get(trial, {})
            needed += sorted(checkpoints, key=lambda one: -quality.get(PurePosixPath(one.path).name, -1.0))[:1]
            if trial in self._over and trial != self._best:
                needed = []
            yield from ((trial, checkpoint) for checkpoint in checkpoints if checkpoint not in needed)

    def _sweep(self) -> None:
        for trial, checkpoint in self._needless_when_saved:
            with suppress(FileNotFoundError):  # deleted by a process that was killed before it saved that
                checkpoint.filesystem.delete_dir(checkpoint.path)
            self._checkpoints[trial] = [other for other in self._checkpoints[trial] if other.path != checkpoint.path]
        self._needless_when_saved = []
