"""From a raw log to training, validation and test clicks, and a check of what comes out.

Enters: a log as `data.reading` read it. Leaves: a prepared folder, or the findings of an audit. Read `filters` →
`splits` → `pipeline` → `output`. `presets` holds the rules of public logs; `audit` and
`order_test` find what makes an evaluation invalid.
"""

from gru4rec.preparation.pipeline import Rules, prepare
from gru4rec.preparation.presets import PRESETS
from gru4rec.preparation.splits import Boundary
