"""The network and its losses.

Enters: item numbers of sessions. Leaves: hidden states, scores and losses. Read `network` → `gru` → `losses` →
`bpr_max`; `precision` and `device` say how and where matrix products run, `hugepages` where large matrices lie.
"""

from gru4rec.model.device import choose_device
from gru4rec.model.losses import LOSSES, register_loss
from gru4rec.model.network import Network
