"""The arithmetic floor: how long the matrix products of a session-parallel training step take on their own.

For B slots, C scored columns, and GRU layers of H units with inputs of width E, forward and backward:

    layer    x [B, E] · W_ih,  h [B, H] · W_hh;  back: xᵀ · g and hᵀ · g for the weights, g · W_ihᵀ for the input
    scores   q [B, H] · columnsᵀ;                back: g · columns, gᵀ · q

There is no product back to the previous state, which is detached. No step can be faster than its products, so their
share of a step's time shows how much can still be gained.
"""

import time

import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig

Product = tuple[Tensor, Tensor, Tensor]


def make_products(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> list[Product]:
    """Random operands of that type and a tensor for the result, for every product of a step."""
    B, C = config.batch_size, config.batch_size + config.n_sample
    shapes: list[tuple[int, int, int]] = []  # n, k, m of [n, k] · [k, m]
    transposed: list[tuple[int, int, int]] = []  # the same, with a left operand stored as [k, n]
    width = {"constrained": config.layers[-1], "separate": config.embedding, "one-hot": 0}[config.embedding_mode]
    for H in config.layers:
        shapes.append((B, H, 3 * H))
        transposed.append((H, B, 3 * H))
        if width:  # the first layer of a one-hot network looks its product up
            shapes += [(B, width, 3 * H), (B, 3 * H, width)]
            transposed.append((width, B, 3 * H))
        width = H
    shapes += [(B, width, C), (B, C, width)]
    transposed.append((C, B, width))

    def operands(n: int, k: int, m: int, is_transposed: bool) -> Product:
        left = torch.randn((k, n) if is_transposed else (n, k), device=device, dtype=dtype)
        right = torch.randn(k, m, device=device, dtype=dtype)
        return left.T if is_transposed else left, right, torch.empty(n, m, device=device, dtype=dtype)

    return [operands(*shape, False) for shape in shapes] + [operands(*shape, True) for shape in transposed]


def time_products(config: TrainConfig, dtype: torch.dtype, *, device: str = "cpu", at_least: float = 2.0) -> float:
    """Seconds that a step's products take: the median of repeated rounds, measured for at least so many seconds."""
    where = torch.device(device)
    products = make_products(config, where, dtype)
    per_round = 10

    def one_round() -> float:
        start = time.perf_counter()
        for _ in range(per_round):
            for left, right, out in products:
                torch.mm(left, right, out=out)
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        return (time.perf_counter() - start) / per_round

    for _ in range(3):
        one_round()
    rounds: list[float] = []
    while sum(rounds) * per_round < at_least:
        rounds.append(one_round())
    return sorted(rounds)[len(rounds) // 2]
