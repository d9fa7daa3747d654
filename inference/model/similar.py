"""Similar items: those whose output weights point in the same direction.

Two items with parallel output weights get similar scores after every session, up to their biases. Similarity is the
cosine of the two rows, −1 … 1.
"""

import numpy as np

from inference.model.artifact import Artifact
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING


def find_similar(artifact: Artifact, item: str, k: int = 20) -> list[tuple[str, float]]:
    """The items most similar to one item, and their cosines, best first.

    Args:
        artifact: the model.
        item: an id that the model knows; not part of the result.
        k: how many, 1 … the number of the other items.

    Raises:
        UserError: the model does not know the item, an impossible k, or weights that are not finite.
    """
    number = artifact.vocabulary.number(item)
    if number == MISSING:
        raise UserError(f"item {item!r} is not known to the model; ids must be as in the training log")
    if not 1 <= k < artifact.n_items:
        raise UserError(f"expected k between 1 and the {artifact.n_items - 1} other items of the model, got {k}")
    artifact.check_finite()
    weight = artifact.output_weight()
    lengths = np.sqrt(np.einsum("ij,ij->i", weight, weight))
    cosines = weight @ weight[number] / np.maximum(lengths * lengths[number], np.finfo(np.float32).tiny)
    cosines[number] = -np.inf
    best = np.argsort(-cosines, kind="stable")[:k]
    return list(zip(artifact.vocabulary.terms(best), cosines[best].tolist(), strict=True))
