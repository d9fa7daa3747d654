"""Small models for tests, and the GRU written out in numpy to check them against."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from gru4rec.model.network import LayerWeights, ScoringWeights
from gru4rec.onnx_export.exporter import model_parts
from gru4rec.onnx_export.onnx_writer import assemble
from inference.shared.vocabulary import Vocabulary

TERMS = ("007", "7", "a b", 'qu"ote', "semi;colon", "tab\there", "with,comma", "zürich", "日本", "🛒")


def random_weights(
    n_items: int = len(TERMS),
    widths: tuple[int, ...] = (8,),
    embedding: int | None = None,
    seed: int = 0,
    n_recent: int = 0,
) -> ScoringWeights:
    """Random weights; `embedding` None is the constrained mode, 0 the one-hot mode, else a separate width."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(scale=0.7, size=shape).astype(np.float32)

    output_table = draw(n_items, widths[-1])
    input_table = output_table if embedding is None else draw(n_items, embedding or 3 * widths[0])
    layers = []
    width_in = input_table.shape[1]
    for number, width in enumerate(widths):
        one_hot = embedding == 0 and number == 0
        weight_ih = np.eye(3 * width, dtype=np.float32) if one_hot else draw(3 * width, width_in)
        layers.append(LayerWeights(weight_ih, draw(3 * width, width), draw(3 * width), draw(3 * width)))
        width_in = width
    bias = draw(n_items)
    return ScoringWeights(
        input_table,
        tuple(layers),
        output_table,
        bias,
        recent_weight=draw(n_recent, widths[-1]),
        recent_bias=draw(n_recent),
    )


def build_model(weights: ScoringWeights, terms: Iterable[str] = TERMS, **contents: dict) -> onnx.ModelProto:
    """A model as one message, without the comparison that `export` makes."""
    description = {"config": {}, "metrics": {}} | contents
    return assemble(*model_parts(weights, Vocabulary(terms), **description), data_file=None)


def save_model(
    path: Path, weights: ScoringWeights | None = None, terms: tuple[str, ...] | list[str] = TERMS, **contents: dict
) -> Path:
    """Write a model file without the comparison that `export` makes."""
    path.write_bytes(build_model(weights or random_weights(), terms, **contents).SerializeToString())
    return path


def plain_scores(
    weights: ScoringWeights, session: list[int], hidden: list[np.ndarray] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores [N] after a session and the states of the layers, in float64, one click and one layer after the other."""
    hidden = hidden or [np.zeros(layer.weight_hh.shape[1]) for layer in weights.layers]
    for item in session:
        output = weights.input_table[item].astype(np.float64)
        for number, layer in enumerate(weights.layers):
            hidden[number] = output = plain_cell(layer, output, hidden[number])
    scores = weights.output_table.astype(np.float64) @ hidden[-1] + weights.output_bias
    last_clicks = zip(reversed(session), weights.recent_weight, weights.recent_bias, strict=False)
    for item, weight, bias in last_clicks:
        scores[item] += weight @ hidden[-1] + bias
    return scores, hidden


def plain_cell(layer: LayerWeights, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """One step of a GRU cell: r and z from sigmoids, the candidate from tanh with r on the whole recurrent part."""
    width = len(h)
    reset_rows, update_rows, new_rows = (slice(gate * width, (gate + 1) * width) for gate in range(3))

    def from_input(rows: slice) -> np.ndarray:
        return layer.weight_ih[rows].astype(np.float64) @ x + layer.bias_ih[rows]

    def from_state(rows: slice) -> np.ndarray:
        return layer.weight_hh[rows].astype(np.float64) @ h + layer.bias_hh[rows]

    r = 1 / (1 + np.exp(-(from_input(reset_rows) + from_state(reset_rows))))
    z = 1 / (1 + np.exp(-(from_input(update_rows) + from_state(update_rows))))
    n = np.tanh(from_input(new_rows) + r * from_state(new_rows))
    return (1 - z) * n + z * h
