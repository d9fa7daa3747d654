"""A note of every trial that is over, written the moment it is.

Ray writes its own state down once a second. A search that is killed in between would run the last part of a trial
again, or go on with one that was stopped. With this note such a trial only reports its last result again, even where
Ray's state is lost and the search is begun anew: what counts is the model that was tried."""

import json
from pathlib import Path
from typing import Any

from ray import tune as ray_tune

from tune.space import MODEL
from tune.storage import read_files
from tune.trial import REPORTED, as_text

FINISHED_FOLDER = "finished"


class FinishedTrials(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Writes a note beside the trials' folders whenever a trial is over: its id, its model and its last report."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        model = trial.config[MODEL]
        report = {name: trial.last_result[name] for name in REPORTED if name in trial.last_result}
        filesystem = trial.storage.storage_filesystem
        folder = f"{trial.storage.experiment_fs_path}/{FINISHED_FOLDER}"
        filesystem.create_dir(folder)
        with filesystem.open_output_stream(f"{folder}/{trial.trial_id}.json") as file:
            file.write(json.dumps({"trial_id": trial.trial_id, "model": model, "report": report}).encode())


def read_finished(location: str | Path) -> list[dict[str, Any]]:
    """The notes of an experiment: "trial_id", "model" and "report" of every trial that is over."""
    notes = []
    for text in read_files(f"{location}/{FINISHED_FOLDER}"):
        try:
            notes.append(json.loads(text))
        except ValueError:
            continue  # the note that was being written when the search was killed
    return notes


def last_reports(location: str | Path) -> dict[str, dict[str, Any]]:
    """The last report of every trial of an experiment that is over, by its model as `tune.trial.as_text` has it."""
    return {as_text(note["model"]): note["report"] for note in read_finished(location)}
