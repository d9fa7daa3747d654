"""Compiled loops for processors: what a training step does beside its matrix products.

What enters: float32 and bfloat16 tensors on a processor. What leaves: what the torch code that a loop stands for gives,
to within rounding. Read in the order `api` (the functions) → `losses`, `gru`, `optimizers` (the loops) → `calling` and
`parallel` (how a loop gets its arguments and its threads) → `arithmetic`.
"""

from gru4rec.kernels.api import (
    AVAILABLE,
    adagrad,
    adagrad_all,
    adamw,
    adamw_all,
    bpr_max,
    chained,
    column_sums,
    cross_entropy,
    drop,
    drop_limit,
    fit,
    gates,
    gates_gradient,
    gathered,
    random_words,
    serve,
    take,
)

__all__ = [
    "AVAILABLE",
    "adagrad",
    "adagrad_all",
    "adamw",
    "adamw_all",
    "bpr_max",
    "chained",
    "column_sums",
    "cross_entropy",
    "drop",
    "drop_limit",
    "fit",
    "gates",
    "gates_gradient",
    "gathered",
    "random_words",
    "serve",
    "take",
]
