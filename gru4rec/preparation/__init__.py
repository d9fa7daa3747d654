"""From a raw log to training, validation and test clicks, and a check of what comes out.

Enters: event files in any known layout. Leaves: a prepared folder, or the findings of an audit. Read `columns` →
`raw_log` → `filters` → `splits` → `pipeline` → `output`. `presets` holds the rules of public logs; `audit` and
`order_test` find what makes an evaluation invalid.
"""

from gru4rec.preparation.pipeline import Rules, prepare
from gru4rec.preparation.presets import PRESETS
from gru4rec.preparation.raw_log import Reading, read_raw
from gru4rec.preparation.splits import Boundary
