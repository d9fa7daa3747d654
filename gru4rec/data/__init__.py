"""Clicks and sessions: what everything else reads.

Enters: click logs (TSV, CSV, JSON lines, parquet). Leaves: `EncodedLog`, sessions of item numbers with their
vocabulary. Read `event_files` (opens a file) → `times` → `clicks` (a log as arrays) → `events` (rows to sessions) →
`sessions`. `encoded_log` and `npy` keep encoded logs on disk, `synthetic` generates logs.
"""

from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.events import encode, hold_out_last, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.data.synthetic import synthesize
