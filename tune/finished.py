"""A note of every trial that is over, written the moment it is.

Ray writes its own state down once a second. A search that is killed in between would run the last part of a trial
again, or go on with one that was stopped. With this note such a trial only reports its last result again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune as ray_tune

from tune.trial import REPORTED

FINISHED_FILE = "finished.jsonl"


class FinishedTrials(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Adds a line to the note whenever a trial is over: its id and its last report."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        report = {name: trial.last_result[name] for name in REPORTED if name in trial.last_result}
        with open(Path(trial.path).parent / FINISHED_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps({"trial_id": trial.trial_id, "report": report}) + "\n")


def read_finished(folder: Path) -> Mapping[str, dict[str, Any]]:
    """The last report of every trial of an experiment that is over, by its id."""
    try:
        lines = (folder / FINISHED_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    notes = []
    for line in lines:
        try:
            notes.append(json.loads(line))
        except ValueError:
            continue  # the line that was being written when the search was killed
    return {note["trial_id"]: note["report"] for note in notes}
