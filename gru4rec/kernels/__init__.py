"""Compiled loops for CPUs: what a training step does besides its matrix products.

What enters: float32 and bfloat16 tensors on a CPU. What leaves: the results of the torch code that a loop replaces, to
within rounding. Read `api` (the functions) → `losses`, `gru`, `optimizers` (the loops) → `loop` and `arguments` (how a
loop gets its threads and its arguments) → `arithmetic`.
"""

from gru4rec.kernels.api import (
    AVAILABLE,
    accepts,
    accepts_gradient,
    bpr_max,
    chain,
    column_sums,
    cross_entropy,
    drop,
    drop_limit,
    gates,
    gates_gradient,
    gather,
    runs_on,
    splitmix64,
    update_all,
    update_rows,
)
