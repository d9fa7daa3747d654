"""Simple methods that a network has to beat, ranked in full like the network itself.

Enters: training sessions. Leaves: rankings of test sessions. Read `registry` → `popularity_backoff` (from the scores of
a few items to a ranking of all) → `item_transitions`, `vsknn`.
"""

from gru4rec.evaluation.baselines.registry import BASELINES, rank_with_baseline
