"""Recall@N and MRR@N of an exported model, counted from what it answers.

The model file is asked as a user asks it: click by click, the best items for every prefix of a session. A target's rank
is its place in the answer; how many items tie with it is read off the scores. Only where scores tie at the very end of
the answer does the answer not tell the rank, and the whole catalogue is asked for. With what a target ties beyond the
answer is not looked at: no figure depends on it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.evaluator import Evaluation, metrics_of
from gru4rec.evaluation.metrics import check_cutoffs
from gru4rec.evaluation.rankings import Rankings, Ties, check_ties
from inference.model.recommender import Recommendation, Recommender

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
        UserError: there is no pair to rank, a cutoff is not positive, or `ties` is none of the three.
    """
    check_cutoffs(cutoffs)
    check_ties(ties)
    ranked = rank_with_artifact(recommender, sessions, max(cutoffs)).ranks(ties)
    return metrics_of(ranked, cutoffs=cutoffs, ties=ties)


def rank_with_artifact(
    recommender: Recommender, sessions: Sessions, cutoff: int, progress: Callable[[int], None] | None = None
) -> Rankings:
    """How the next items rank in the answers of an exported model.

    Args:
        recommender: the model.
        sessions: in the item numbers of its vocabulary.
        cutoff: ranks beyond it are not looked at: such a target counts as below all other items, tied with none.
        progress: called with the number of events ranked so far.
    """
    vocabulary = recommender.vocabulary
    n_items, terms = len(vocabulary), vocabulary.terms()
    number = {term: place for place, term in enumerate(terms)}
    k, n_best = min(cutoff + 1, n_items), min(cutoff, n_items)
    n_events = sessions.n_pairs
    above, tied = np.empty(n_events, dtype=np.int64), np.empty(n_events, dtype=np.int64)
    best = np.empty((n_events, n_best), dtype=np.int32)
    lengths = sessions.lengths
    first_event = np.concatenate([[0], np.cumsum(np.maximum(lengths - 1, 0))])
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 1]
    done = 0
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
                counts = _counts(answer, target, n_items)
                if counts is None:
                    _, everything = recommender.step(before[row], clicked[row], n_items)
                    counts = _counts(everything, target, n_items)
                    assert counts is not None
                event = first_event[session] + click
                above[event], tied[event] = counts
                best[event] = [number[item] for item in answer.items[:n_best]]
            done += len(live)
            if progress is not None:
                progress(done)
    return Rankings(above, tied, best)


def _counts(answer: Recommendation, target: str, n_items: int) -> tuple[int, int] | None:
    """Items above the target and items of its score; None where the answer does not tell."""
    scores = np.array(answer.scores)
    is_complete = len(scores) == n_items
    ends_in_tie = not is_complete and len(scores) > 1 and scores[-2] == scores[-1]
    score = scores[answer.items.index(target)] if target in answer.items else scores[-1]
    if score == scores[-1] and ends_in_tie:
        return None  # in the answer or not, it may tie with the last items and with others that are not in it
    if target not in answer.items:
        return n_items - 1, 1
    return int((scores > score).sum()), int((scores == score).sum())
