"""Rank targets with an exported model, from the recommendations that it gives.

The model file is used as a user does: click by click, with the best items after every prefix of a session. A target's
rank is its place among them, and its ties are counted from the scores. Only where scores tie at the very end of the
list does it not tell the rank; then the whole catalogue is requested. Ties with items beyond the list are not counted,
since no figure depends on them.
"""

from collections.abc import Callable

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.rankings import Rankings
from inference.model.recommender import Recommendation, Recommender

SESSIONS_PER_BATCH = 256


def rank_with_artifact(
    recommender: Recommender, sessions: Sessions, *, n_best: int, progress: Callable[[int], None] | None = None
) -> Rankings:
    """Rank every target among all items.

    Args:
        recommender: the exported model.
        sessions: in the item numbers of its vocabulary.
        n_best: how many of the best items to keep for every target. A target beyond them counts as below all other
            items, tied with none.
        progress: called with the number of targets ranked so far.
    """
    n_items, terms = len(recommender.vocabulary), recommender.vocabulary.terms()
    number = {term: place for place, term in enumerate(terms)}
    k, n_best = min(n_best + 1, n_items), min(n_best, n_items)
    rankings = Rankings.empty(sessions.n_pairs, n_best)
    lengths = sessions.lengths
    first_target = np.concatenate([[0], np.cumsum(np.maximum(lengths - 1, 0))])
    done = 0
    for batch in sessions.batches_by_length(SESSIONS_PER_BATCH):
        states = {session: recommender.new_state() for session in batch}
        for click in range(int(lengths[batch].max()) - 1):
            live = batch[lengths[batch] - 1 > click]
            clicked = [terms[sessions.items[sessions.offsets[session] + click]] for session in live]
            before = [states[session] for session in live]
            for row, (session, answer) in enumerate(zip(live, recommender.steps(before, clicked, k), strict=True)):
                states[session], recommendation = answer
                target = terms[sessions.items[sessions.offsets[session] + click + 1]]
                counts = _count(recommendation, target, n_items)
                if counts is None:
                    _, catalogue = recommender.step(before[row], clicked[row], n_items)
                    counts = _count(catalogue, target, n_items)
                    assert counts is not None
                best = [number[item] for item in recommendation.items[:n_best]]
                rankings.fill(first_target[session] + click, *counts, best)
            done += len(live)
            if progress is not None:
                progress(done)
    return rankings


def _count(recommendation: Recommendation, target: str, n_items: int) -> tuple[int, int] | None:
    """Items above the target and items of its score; None if the recommendation does not tell."""
    items, scores = recommendation.items, np.array(recommendation.scores)
    score = scores[items.index(target)] if target in items else scores[-1]
    ends_in_tie = 1 < len(scores) < n_items and scores[-2] == scores[-1]
    if ends_in_tie and score == scores[-1]:
        return None  # listed or not, the target may tie with the last items and with others that are not listed
    if target not in items:
        return n_items - 1, 1
    return int((scores > score).sum()), int((scores == score).sum())
