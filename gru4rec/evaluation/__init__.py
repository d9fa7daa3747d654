"""How good a model is, with every item ranked.

Enters: a network or an exported model, and test sessions. Leaves: Recall@N, MRR@N, NDCG@N with intervals. Read
`rankings` (what a ranking holds) → `network_ranking` and `onnx_ranking` (making one) → `metrics` → `assessment` (all
figures of a ranking) → `evaluator` (model to figures in one call); `baselines` are simple methods to compare with.
Nothing is imported here: the help of `gru4rec evaluate` has to appear before torch is loaded.
"""
