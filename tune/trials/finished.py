"""A note of every trial that is over, written the moment it is.

Ray writes its own state down once a second. A search that is killed in between would run the last part of a trial
again, or go on with one that was stopped. With this note such a trial only reports its last result again, even where
Ray's state is lost and the search is begun anew: what counts is the model that was tried. A note is written beside its
place, for a trial that reports again writes it again, and a kill must not take the first one away."""

import json
from pathlib import Path
from typing import Any

from ray import tune as ray_tune

from tune.cluster.storage import read_files
from tune.space.search_space import MODEL
from tune.trials.searchers import NUMBER
from tune.trials.trial import REPORTED, serialize_model

FINISHED_FOLDER = "finished"


class FinishedTrials(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Writes a note beside the trials' folders whenever a trial is over: its id, number, model and last report."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        model = trial.config[MODEL]
        report = {name: trial.last_result[name] for name in REPORTED if name in trial.last_result}
        filesystem = trial.storage.storage_filesystem
        folder = f"{trial.storage.experiment_fs_path}/{FINISHED_FOLDER}"
        filesystem.create_dir(folder)
        note = {"trial_id": trial.trial_id, "number": trial.config[NUMBER], "model": model, "report": report}
        temporary = f"{folder}/.{trial.trial_id}.partial"
        with filesystem.open_output_stream(temporary) as file:
            file.write(json.dumps(note).encode())
        filesystem.move(temporary, f"{folder}/{trial.trial_id}.json")


def read_finished(location: str | Path) -> list[dict[str, Any]]:
    """The notes of an experiment: "trial_id", "number", "model" and "report" of every trial that is over."""
    notes = []
    for text in read_files(f"{location}/{FINISHED_FOLDER}"):
        try:
            notes.append(json.loads(text))
        except ValueError:
            continue  # the note that was being written when the search was killed
    return notes


def read_last_reports(location: str | Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every model of an experiment whose trial is over, with its last report, in the order of the trials' numbers."""
    notes = sorted(read_finished(location), key=lambda note: note.get("number", 0))
    return [
        (note["model"], note["report"]) for note in {serialize_model(note["model"]): note for note in notes}.values()
    ]
