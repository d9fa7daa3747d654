"""A note of every trial that is over, written the moment it is.

Ray writes its own state down once a second. A search that is killed in between would run the last part of a trial
again, or go on with one that was stopped. With this note such a trial only reports its last result again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune as ray_tune

from tune.storage import read_files
from tune.trial import REPORTED

FINISHED_FOLDER = "finished"


class FinishedTrials(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Writes a note beside the trials' folders whenever a trial is over: its id and its last report."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        report = {name: trial.last_result[name] for name in REPORTED if name in trial.last_result}
        filesystem = trial.storage.storage_filesystem
        folder = f"{trial.storage.experiment_fs_path}/{FINISHED_FOLDER}"
        filesystem.create_dir(folder)
        with filesystem.open_output_stream(f"{folder}/{trial.trial_id}.json") as file:
            file.write(json.dumps({"trial_id": trial.trial_id, "report": report}).encode())


def read_finished(location: str | Path) -> Mapping[str, dict[str, Any]]:
    """The last report of every trial of an experiment that is over, by its id."""
    notes = []
    for text in read_files(f"{location}/{FINISHED_FOLDER}"):
        try:
            notes.append(json.loads(text))
        except ValueError:
            continue  # the note that was being written when the search was killed
    return {note["trial_id"]: note["report"] for note in notes}
