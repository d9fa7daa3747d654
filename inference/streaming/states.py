"""The states of the current sessions; when there are too many, the least recently clicked one is forgotten.

They are saved in one file: a line of JSON (the format, the model's digests and the names of the sessions), then arrays,
little-endian: hidden states float32 [sessions, layers, hidden size], known clicks int64 [sessions], the number of items
that each session has seen int64 [sessions], and the numbers of those items int64. States are only valid for the model
that made them, so a file of another model is refused.
"""

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from inference.model.artifact import Artifact
from inference.model.recommender import SessionState
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError

FORMAT = "gru4rec session states"
VERSION = 2
"""Version 1 held the items that a session has seen only with --exclude-seen."""


class SessionStates:
    """States by the names of their sessions.

    Args:
        capacity: how many sessions are kept; beyond that, the least recently clicked one is forgotten.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise UserError(f"expected to keep at least one session, got {capacity}")
        self.capacity = capacity
        self.n_forgotten = 0
        self._states: OrderedDict[str, SessionState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def take(self, name: str, new: SessionState) -> SessionState:
        """The state of a session that has just clicked, or `new`; may forget another session."""
        state = self._states.setdefault(name, new)
        self._states.move_to_end(name)
        if len(self._states) > self.capacity:
            self._states.popitem(last=False)
            self.n_forgotten += 1
        return state

    def put(self, name: str, state: SessionState) -> None:
        """Replace the state of a session, unless it has been forgotten."""
        if name in self._states:
            self._states[name] = state

    def save(self, path: Path, artifact: Artifact) -> None:
        """Write all states, the least recently clicked session first; the file appears when it is complete.

        The caller holds the file's `output_lock`.

        Raises:
            UserError: the file cannot be written.
        """
        states = list(self._states.values())
        shape = (0, *artifact.state_shape)
        arrays = (
            np.stack([state.hidden[:, 0] for state in states]) if states else np.empty(shape, np.float32),
            np.array([state.n_known for state in states], np.int64),
            np.array([len(state.seen) for state in states], np.int64),
            np.array([number for state in states for number in state.seen], np.int64),
        )
        content = b"".join(values.tobytes() for values in arrays)
        header = {
            "format": FORMAT,
            "version": VERSION,
            **_identity(artifact),
            "sessions": list(self._states),
            "n_seen": len(arrays[-1]),
            "content_sha256": hashlib.sha256(content).hexdigest(),
        }
        with atomic_file(path, locked=True) as temporary, open(temporary, "wb") as file:
            file.write(json.dumps(header).encode() + b"\n" + content)

    @classmethod
    def load(cls, path: Path, artifact: Artifact, capacity: int) -> "SessionStates":
        """Read what `save` wrote; beyond `capacity`, only the most recently clicked sessions are kept.

        Raises:
            UserError: the file cannot be read, is of another kind or model, or is damaged.
        """
        states = cls(capacity)
        try:
            line, _, content = path.read_bytes().partition(b"\n")
        except OSError as error:
            raise UserError(f"cannot read the states in {path}: {error.strerror or error}") from error
        header = _read_header(line, path)
        for key, value in _identity(artifact).items():
            if header.get(key) != value:
                raise UserError(
                    f"the states in {path} belong to another model than {artifact.path}; name another --state file, "
                    "or delete this one to start again"
                )
        layers, width = artifact.state_shape
        try:
            names: list[str] = header["sessions"]
            end = 4 * len(names) * layers * width
            is_whole = len(content) == end + 16 * len(names) + 8 * header["n_seen"]
            is_whole &= hashlib.sha256(content).hexdigest() == header["content_sha256"]
        except (KeyError, TypeError):
            is_whole = False
        if not is_whole:
            raise UserError(f"the states in {path} are damaged; restore the file, or delete it to start again")
        hidden = np.frombuffer(content[:end], "<f4").reshape(len(names), layers, 1, width)
        integers = np.frombuffer(content[end:], "<i8")
        n_known, seen_counts, seen = np.split(integers, [len(names), 2 * len(names)])
        pieces = np.split(seen, np.cumsum(seen_counts)[:-1]) if names else []
        for name, state, known, piece in zip(names, hidden, n_known.tolist(), pieces, strict=True):
            new = SessionState(state.copy(), known, tuple(piece.tolist()))
            states.take(name, new)
        return states


def _identity(artifact: Artifact) -> dict[str, str]:
    return {key: value for key, value in artifact.digests().items() if key != "graph_sha256"}


def _read_header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path} does not hold session states; expected a file that --state wrote")
    if header.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {header.get('version')!r}, this program reads version {VERSION}; name another "
            "--state file, or delete this one to start again"
        )
    return header
