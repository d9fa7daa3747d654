"""The network: item embedding → GRU layers → scores of items.

Items enter the GRU in one of three embedding modes:

* constrained: one matrix is both input embedding and output weights; its width is that of the last layer.
* separate: an input embedding of its own width.
* one-hot: the first layer's input weights are looked up directly, all three gates of an item in one row.

A dot score is the product of the last layer's output with an item's output row, plus the item's bias. A cosine score is
the temperature times the cosine of the two, without a bias; input embeddings are then normalised as well, except in
one-hot mode, where a row is not an embedding but three gates. Popular items have long rows: that is part of a dot
product, but not of a cosine. Scores are raw logits.

Visitors return to what they have just looked at. The rows of a GRU have to learn that for every item separately. With
`n_recent` = K the network instead adds a bonus for each of the session's last K clicks (the current one first):

    bonus_k = temperature · (w_k · h + c_k)        score(i) += bonus_k for every k whose click was on i

with the last layer's output h, learnt w_k and c_k, and temperature 1 for dot scores. The K clicks are one more part of
the state.

Sources: arXiv 1511.06939 and 1706.03847 (section 5 for the constrained embedding). The authors' PyTorch code uses
another cell in its one-hot mode; here the cell is the same in every mode.

The matrices over items get their gradients row by row, so the network is not a torch.nn.Module: no gradient has the
size of the catalogue.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gru4rec.config.train_config import TrainConfig
from gru4rec.model import hugepages
from gru4rec.model.gru import GRULayer
from inference.shared.vocabulary import Vocabulary


@dataclass(frozen=True)
class LayerWeights:
    """One GRU layer as float32 arrays, gates in the order r, z, n.

    Attributes:
        weight_ih: [3H, in].
        weight_hh: [3H, H].
        bias_ih, bias_hh: [3H].
    """

    weight_ih: np.ndarray
    weight_hh: np.ndarray
    bias_ih: np.ndarray
    bias_hh: np.ndarray


@dataclass(frozen=True)
class ScoringWeights:
    """Everything scoring needs, as float32 arrays.

    Attributes:
        input_table: [N, E]; with a constrained embedding the same array as `output_table`.
        layers: the GRU layers. After a one-hot embedding, E = 3H and the first weight_ih is the identity.
        output_table: [N, H of the last layer].
        output_bias: [N].
        temperature: None for dot scores; for cosine scores, the factor of the state after it is normalised to length 1
            (the tables are normalised already).
        recent_weight, recent_bias: [K, H of the last layer] and [K], w and c of the bonus of the last K clicks, the
            current one first, temperature included; K may be 0.
    """

    input_table: np.ndarray
    layers: tuple[LayerWeights, ...]
    output_table: np.ndarray
    output_bias: np.ndarray
    temperature: float | None = None
    recent_weight: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    recent_bias: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def parameter_shapes(n_items: int, config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name, in the order of `Network.tensors`: first the tables, then `Network.dense`.

    Args:
        n_items: size of the catalogue, N.
        config: layers and embedding mode.
    """
    first, last = config.layers[0], config.layers[-1]
    shapes: dict[str, tuple[int, ...]] = {"output_table": (n_items, last), "output_bias": (n_items,)}
    width_in = last
    if config.embedding_mode != "constrained":
        width_in = config.embedding if config.embedding_mode == "separate" else 3 * first
        shapes["input_table"] = n_items, width_in
    for number, width in enumerate(config.layers):
        if number or config.embedding_mode != "one-hot":
            shapes[f"gru.{number}.weight_ih"] = 3 * width, width_in
        shapes[f"gru.{number}.weight_hh"] = 3 * width, width
        shapes[f"gru.{number}.bias_ih"] = shapes[f"gru.{number}.bias_hh"] = (3 * width,)
        width_in = width
    if config.n_recent:
        shapes["recent.weight"], shapes["recent.bias"] = (config.n_recent, last), (config.n_recent,)
    return shapes


def copy_arrays(arrays: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy float32 arrays into the tensors of the same names.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; `what` they are is named in the message.
    """
    if set(arrays) != set(tensors):
        raise ValueError(f"expected the {what} {sorted(tensors)}, got {sorted(arrays)}")
    for name, tensor in tensors.items():
        if tuple(arrays[name].shape) != tuple(tensor.shape):
            raise ValueError(f"{name}: expected shape {tuple(tensor.shape)}, got {tuple(arrays[name].shape)}")
        tensor.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)))


class Network:
    """The parameters of a model and its forward pass.

    Args:
        n_items: size of the catalogue, N.
        config: layers, embedding mode and seed; initial weights are drawn on the CPU, so every device gets the same.
        device: where the parameters live.

    Attributes:
        output_table: [N, H of the last layer].
        output_bias: [N].
        input_table: [N, E]; the same tensor as `output_table` when constrained; [N, 3H] of the first layer when
            one-hot.
        dense: one flat tensor with the weights of all GRU layers, which the optimiser updates at once; `layers` are
            views of it.
        layers: the GRU layers.
        temperature: factor of cosine scores, None for dot scores.
        n_recent: how many of the last clicks get a bonus, K.
        vocabulary: that numbers the items, if it is known.
    """

    def __init__(self, n_items: int, config: TrainConfig, device: torch.device | str = "cpu"):
        self.n_items = n_items
        self.vocabulary: Vocabulary | None = None
        self.widths = config.layers
        self.constrained = config.embedding_mode == "constrained"
        self.temperature = config.temperature
        self.n_recent = config.n_recent
        self._normalises_inputs = config.score == "cosine" and config.embedding_mode != "one-hot"
        generator = torch.Generator().manual_seed(config.seed)

        def uniform(shape: tuple[int, ...], gates: int = 1) -> Tensor:
            bound = math.sqrt(6.0 / (shape[0] // gates + shape[1]))  # of each gate's own matrix
            return hugepages.zeros(*shape).uniform_(-bound, bound, generator=generator)

        shapes = parameter_shapes(n_items, config)
        self.output_table = uniform(shapes.pop("output_table")).to(device)
        self.output_bias = torch.zeros(shapes.pop("output_bias"), device=device)
        self.input_table = self.output_table
        if config.embedding_mode == "separate":
            self.input_table = uniform(shapes.pop("input_table")).to(device)
        elif config.embedding_mode == "one-hot":
            self.input_table = hugepages.zeros(*shapes.pop("input_table"))
            for gate in torch.split(self.input_table, config.layers[0], dim=1):
                gate.copy_(uniform(tuple(gate.shape)))
            self.input_table = self.input_table.to(device)

        self._shapes = shapes
        drawn = [uniform(shape, gates=3) if "weight_" in name else torch.zeros(shape) for name, shape in shapes.items()]
        self.dense = torch.cat([tensor.flatten() for tensor in drawn]).to(device)
        self.layers = self.layers_from(self.dense)

    def layers_from(self, dense: Tensor) -> list[GRULayer]:
        """The GRU layers as views into a flat tensor of the layout of `dense`."""
        views = self._views(dense)
        return [
            GRULayer(
                views.get(f"gru.{number}.weight_ih"),
                views[f"gru.{number}.weight_hh"],
                views[f"gru.{number}.bias_ih"],
                views[f"gru.{number}.bias_hh"],
            )
            for number in range(len(self.widths))
        ]

    def _views(self, dense: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(dense, [math.prod(shape) for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter by name; writing into these changes the network."""
        tensors = {"output_table": self.output_table, "output_bias": self.output_bias}
        if not self.constrained:
            tensors["input_table"] = self.input_table
        return tensors | self._views(self.dense)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy parameters in.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs.
        """
        copy_arrays(arrays, self.tensors(), "parameters")

    def is_finite(self) -> bool:
        """Whether no parameter is NaN or infinite."""
        pieces = (piece for tensor in self.tensors().values() for piece in torch.split(tensor, 1 << 16))
        return all(bool(torch.isfinite(piece).all()) for piece in pieces)  # a mask of the whole table would be large

    def embed(self, rows: Tensor) -> Tensor:
        """The inputs of the first layer, from rows [B, E] of the input table."""
        return F.normalize(rows, dim=1) if self._normalises_inputs else rows

    def scoring(self, rows: Tensor) -> Tensor:
        """The items' side of the scores, from rows [C, H] of the output table."""
        return rows if self.temperature is None else F.normalize(rows, dim=1)

    def query(self, output: Tensor) -> Tensor:
        """The states' side of the scores, from the last layer's output [B, H]."""
        return output if self.temperature is None else F.normalize(output, dim=1) * self.temperature

    def bonus(self, output: Tensor, dense: Tensor | None = None) -> Tensor:
        """The bonus of the items of the last K clicks, the current click first: [B, K].

        Args:
            output: [B, H], of the last layer.
            dense: the weights, laid out as `dense`; by default those of the network.
        """
        if not self.n_recent:
            return output[:, :0]
        views = self._views(self.dense if dense is None else dense)
        return F.linear(output, views["recent.weight"], views["recent.bias"]) * (self.temperature or 1.0)

    def zero_state(self, batch: int) -> list[Tensor]:
        """A state of zeros: per layer [batch, H]."""
        return [torch.zeros(batch, width, device=self.dense.device) for width in self.widths]

    @property
    def state_shape(self) -> tuple[int, int]:
        """Number of parts of the state, one per layer and one for recent clicks, and the width of the widest."""
        return len(self.widths) + bool(self.n_recent), max(*self.widths, self.n_recent)

    def advance(self, items: Tensor, state: list[Tensor]) -> list[Tensor]:
        """The state per layer [B, H] after one click of every session, without dropout.

        Args:
            items: int64 [B], the items clicked.
            state: per layer [B, H], before the click.
        """
        following: list[Tensor] = []
        output = self.embed(self.input_table[items])
        for layer, hidden in zip(self.layers, state, strict=True):
            output = layer(output, hidden)
            following.append(output)
        return following

    @torch.no_grad()
    def score(self, items: Tensor, lengths: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of all items after each session's last click.

        Args:
            items: int64 [B, T], padded with N.
            lengths: int64 [B]; 0 scores from the given state.
            hidden: float32, `state_shape` with B in between, the initial state; layer l uses the first H_l columns.
                With recent clicks, the last part has the K of them in its first columns, the current one last: the
                number of the item plus 1, or 0 for no click.

        Returns:
            scores [B, N] and the state after the last click, shaped like `hidden`, zero in unused columns.
        """
        state = [hidden[number, :, :width] for number, width in enumerate(self.widths)]
        for click in range(items.shape[1]):
            following = self.advance(items[:, click].clamp(0, self.n_items - 1), state)
            live = (lengths > click).unsqueeze(1)  # sessions that have ended keep their state
            state = [torch.where(live, after, before) for after, before in zip(following, state, strict=True)]
        scores = self.query(state[-1]) @ self.scoring(self.output_table).T + self.output_bias
        if self.n_recent:
            clicks = torch.cat([hidden[-1, :, : self.n_recent].long(), (items + 1) % (self.n_items + 1)], dim=1)
            last = lengths.unsqueeze(1) + torch.arange(self.n_recent, device=lengths.device)
            recent = clicks.gather(1, last)  # [B, K], the current click last
            bonus = self.bonus(state[-1]).flip(1)
            scores = F.pad(scores, (1, 0)).scatter_add_(1, recent, bonus)[:, 1:]
            state.append(recent.float())
        width = self.state_shape[1]
        return scores, torch.stack([F.pad(part, (0, width - part.shape[1])) for part in state])

    def scoring_weights(self) -> ScoringWeights:
        """The parameters as arrays for an export."""
        output_table = self.scoring(self.output_table).cpu().numpy()
        identity = np.eye(3 * self.widths[0], dtype=np.float32)
        layers = tuple(
            LayerWeights(
                identity if layer.weight_ih is None else layer.weight_ih.cpu().numpy(),
                layer.weight_hh.cpu().numpy(),
                layer.bias_ih.cpu().numpy(),
                layer.bias_hh.cpu().numpy(),
            )
            for layer in self.layers
        )
        input_table = output_table if self.constrained else self.embed(self.input_table).cpu().numpy()
        views = self._views(self.dense)
        recent = {
            f"recent_{name}": (views[f"recent.{name}"] * (self.temperature or 1.0)).cpu().numpy()
            for name in ("weight", "bias")
            if self.n_recent
        }
        return ScoringWeights(
            input_table, layers, output_table, self.output_bias.cpu().numpy(), self.temperature, **recent
        )
