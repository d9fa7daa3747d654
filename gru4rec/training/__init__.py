"""Training: from sessions to the weights of a network.

Enters: an `EncodedLog` and a `TrainConfig`. Leaves: a `Model`, and a model directory where one is named. Read `run` (a
whole training) → `trainer` (an epoch) → `session_parallel` and `whole_session` (the two kinds of mini-batches) →
`learner` (network, loss, negatives and update rule together) → `samplers`, `optimizers`, `sparse_rows`, `dropout`.
`checkpoint` is the model directory, `warm_start` starts from another model, `memory` forecasts what a run takes.
"""

from gru4rec.training.checkpoint import Model, load_model
from gru4rec.training.run import Callback, train
from gru4rec.training.samplers import SAMPLERS, register_sampler
from gru4rec.training.trainer import Diverged, Trainer
from gru4rec.training.warm_start import WarmStart
