"""From a model and test sessions to Recall@N, MRR@N and NDCG@N in one call.

Every item of the catalogue is ranked for every target: no sampled negatives, no leave-one-out. `assessment` computes
what else can be said of a model.

Source: Hidasi & Czapp, Widespread Flaws in Offline Evaluation of Recommender Systems, arXiv 2307.14951.
"""

from collections.abc import Sequence

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.assessment import Evaluation, summarize
from gru4rec.evaluation.metrics import check_cutoffs
from gru4rec.evaluation.network_ranking import rank_with_network
from gru4rec.evaluation.onnx_ranking import rank_with_artifact
from gru4rec.evaluation.rankings import Ties, check_ties
from gru4rec.model.network import Network
from inference.model.recommender import Recommender
from inference.shared.errors import UserError

DEFAULT_CUTOFFS = (1, 5, 10, 20)


def evaluate(
    model: Network | Recommender,
    sessions: Sessions,
    *,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    ties: Ties = "standard",
) -> Evaluation:
    """Rank every next item of the sessions.

    Args:
        model: a network, which runs without dropout, or an exported model.
        sessions: in the item numbers of the model's vocabulary.
        cutoffs: the N of Recall@N, MRR@N and NDCG@N.
        ties: how to rank a target among items of the same score.

    Raises:
        UserError: the sessions are numbered by another vocabulary, there is nothing to rank, a cutoff is not positive,
            `ties` is none of the three, or a network has weights that are not finite.
    """
    check_cutoffs(cutoffs)
    check_ties(ties)
    if None not in (model.vocabulary, sessions.vocabulary) and model.vocabulary != sessions.vocabulary:
        raise UserError(
            "expected sessions in the item numbers of the model, got those of another vocabulary; number them with "
            "encode(events, model.vocabulary)"
        )
    if isinstance(model, Network):
        rankings = rank_with_network(model, sessions)
    else:
        rankings = rank_with_artifact(model, sessions, n_best=max(cutoffs))
    return summarize(rankings, cutoffs, ties)
