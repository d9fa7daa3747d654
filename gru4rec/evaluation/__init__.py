"""How good a model is, with every item ranked.

Enters: a network or an exported model, and test sessions. Leaves: Recall@N, MRR@N, NDCG@N with intervals. Read
`rankings` (what a ranking holds) → `network_ranking` and `onnx_ranking` (making one) → `metrics` → `evaluator` (figures
in one pass) → `assessment` (intervals, groups, warnings); `baselines` are simple methods to compare with.
"""

from gru4rec.evaluation.assessment import assess
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.evaluation.onnx_ranking import evaluate_artifact

__all__ = ["assess", "evaluate", "evaluate_artifact"]
