"""A training log on disk, encoded once and then mapped into memory.

    DIR/encoded/
      items.npy         int32 [E], the item numbers of all clicks, session after session
      offsets.npy       int64 [S + 1], where each session begins
      vocabulary.txt    item ids, one per line, in the order of their numbers
      encoded.json      schema_version, SHA-256 of the train.parquet it was made from and of vocabulary.txt, sizes

Training on it gives the same bits as training on the parquet, but it starts sooner, processes on one machine share its
pages, and it need not fit into memory. Every start checks the digest of the parquet, so the two cannot drift apart; of
the large arrays it checks the sizes and that every number is in range.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from gru4rec.data.events import encode, read_events
from gru4rec.data.npy import map_array, save_array
from gru4rec.data.sessions import EncodedLog, Sessions
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

SCHEMA_VERSION = 1
ENCODED_FOLDER = "encoded"
ITEMS_FILE = "items.npy"
OFFSETS_FILE = "offsets.npy"
VOCABULARY_FILE = "vocabulary.txt"
DESCRIPTION_FILE = "encoded.json"
USUAL_COLUMNS = Columns()


def write_encoded(folder: Path, log: EncodedLog, parquet_digest: str) -> None:
    """Write an encoded log into a new folder, with the SHA-256 of the train.parquet that has the same clicks."""
    folder.mkdir()
    save_array(folder / ITEMS_FILE, log.sessions.items)
    save_array(folder / OFFSETS_FILE, log.sessions.offsets)
    (folder / VOCABULARY_FILE).write_text(log.vocabulary.to_text(), encoding="utf-8", newline="\n")
    description = {
        "schema_version": SCHEMA_VERSION,
        "train_sha256": parquet_digest,
        "vocabulary_sha256": log.vocabulary.sha256(),
        "n_clicks": log.sessions.n_clicks,
        "n_sessions": log.sessions.n_sessions,
        "n_items": len(log.vocabulary),
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def read_training_log(path: str | Path, columns: Columns = USUAL_COLUMNS) -> EncodedLog:
    """The log to train on: the encoded log of a prepared folder if it has one, else what `read_events` reads.

    Args:
        path: an event file or a prepared folder.
        columns: the names of its columns; if they differ from those of a prepared folder, its parquet is read.

    Raises:
        UserError: as `read_events`, or the encoded log is damaged or belongs to another train.parquet.
    """
    path = Path(path)
    folder, parquet = path / ENCODED_FOLDER, path / "train.parquet"
    if columns != USUAL_COLUMNS or not (folder / DESCRIPTION_FILE).is_file() or not parquet.is_file():
        return encode(read_events(path, columns))
    return _load(folder, file_digest(parquet))


def _load(folder: Path, parquet_digest: str) -> EncodedLog:
    remedy = f"remove {folder} to train on the parquet file itself, or prepare the log again"
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        if description.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"expected schema_version {SCHEMA_VERSION}, got {description.get('schema_version')!r}")
        # Copy-on-write: nobody writes, so pages are shared; torch warns of read-only arrays.
        items = map_array(folder / ITEMS_FILE, "c")
        offsets = map_array(folder / OFFSETS_FILE, "c")
        vocabulary = Vocabulary.from_text((folder / VOCABULARY_FILE).read_bytes().decode())
        if vocabulary.sha256() != description.get("vocabulary_sha256"):
            raise ValueError(f"{VOCABULARY_FILE} was changed")
        shapes = ((description.get("n_clicks"),), (int(description.get("n_sessions", -1)) + 1,))
        if (items.shape, offsets.shape) != shapes or [str(items.dtype), str(offsets.dtype)] != ["int32", "int64"]:
            raise ValueError(f"the sizes of the arrays differ from those in {DESCRIPTION_FILE}")
        if offsets[0] != 0 or offsets[-1] != len(items):
            raise ValueError("the offsets do not end at the last click")
        if len(items) and ((np.diff(offsets) < 0).any() or items.min() < 0 or items.max() >= len(vocabulary)):
            raise ValueError("the arrays hold numbers that are out of range")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{folder}: expected an encoded log, got an error: {error}; {remedy}") from None
    if description.get("train_sha256") != parquet_digest:
        raise UserError(
            f"{folder}: expected the encoded form of the train.parquet next to it, which has changed; {remedy}"
        )
    return EncodedLog(Sessions(items, offsets, vocabulary), vocabulary)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
