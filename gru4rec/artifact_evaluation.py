"""Recall@N and MRR@N of an exported model, counted from what it answers.

The model file is asked as a user asks it: click by click, the best items for every prefix of a session. A target's rank
is its place in the answer; how many items tie with it is read off the scores. Only where scores tie at the very end of
the answer does the answer not tell the rank, and the whole catalogue is asked for.
"""

from collections.abc import Sequence

import numpy as np

from gru4rec.evaluation import Evaluation, Ties, metrics_of
from gru4rec.sessions import Sessions
from inference.recommender import Recommendation, Recommender

SESSIONS_PER_BATCH = 256


def evaluate_artifact(
    recommender: Recommender, sessions: Sessions, *, cutoffs: Sequence[int], ties: Ties = "standard"
) -> Evaluation:
    """Rank every next item of the sessions with an exported model.

    Args:
        recommender: the model.
        sessions: in the item numbers of its vocabulary.
        cutoffs: the N of Recall@N and MRR@N; ranks beyond the largest are not looked at.
        ties: how to rank the target among items of the same score.

    Raises:
        UserError: there is no pair to rank, or a cutoff is not positive.
    """
    n_items = len(recommender.vocabulary)
    k = min(max(cutoffs, default=1) + 1, n_items)
    terms = recommender.vocabulary.terms()
    lengths = sessions.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 1]
    ranks: list[float] = []
    for begin in range(0, len(order), SESSIONS_PER_BATCH):
        batch = order[begin : begin + SESSIONS_PER_BATCH]
        states = {session: recommender.new_state() for session in batch}
        for click in range(int(lengths[batch].max()) - 1):
            live = batch[lengths[batch] - 1 > click]
            clicked = [terms[sessions.items[sessions.offsets[session] + click]] for session in live]
            before = [states[session] for session in live]
            answers = recommender.steps(before, clicked, k)
            for row, session in enumerate(live):
                states[session], answer = answers[row]
                target = terms[sessions.items[sessions.offsets[session] + click + 1]]
                rank = _rank(answer, target, ties, complete=k == n_items)
                if rank is None:
                    _, everything = recommender.step(before[row], clicked[row], n_items)
                    rank = _rank(everything, target, ties, complete=True)
                    assert rank is not None
                ranks.append(rank)
    return metrics_of(np.array(ranks), cutoffs=cutoffs, ties=ties)


def _rank(answer: Recommendation, target: str, ties: Ties, *, complete: bool) -> float | None:
    """The target's rank, infinity where it is beyond the answer, None where the answer does not tell."""
    scores = np.array(answer.scores)
    if target not in answer.items:
        # It scores at most as much as the last item. Where that one ties with those before it, so may the target.
        beyond = len(scores) < 2 or scores[-2] > scores[-1]
        return np.inf if beyond else None
    score = scores[answer.items.index(target)]
    if score == scores[-1] and not complete and ties != "standard":
        return None
    above, tied = int((scores > score).sum()), int((scores == score).sum())
    if ties == "standard":
        return above + 1
    if ties == "conservative":
        return above + tied
    return above + 0.5 * (tied - 1) + 1
