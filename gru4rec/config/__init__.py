"""One description of a training run, for flags, files and searches.

Enters: flags, TOML files, the authors' parameter files. Leaves: a checked `TrainConfig`. Read `train_config`, then
`files`.
"""

from gru4rec.config.files import read_config, to_toml
from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
