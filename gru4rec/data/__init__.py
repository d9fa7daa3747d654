"""Clicks and sessions: what everything else reads.

Enters: click logs in any layout. Leaves: `EncodedLog`, sessions of item numbers with their vocabulary. Read
`reading` (files to clicks) → `times` (what times mean) → `clicks` (a log as arrays) → `events` (clicks to sessions) →
`sessions`. `encoded_log` and `npy` keep encoded logs on disk, `synthetic` generates logs.
"""

from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.events import encode, hold_out_last, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.data.synthetic import synthesize
