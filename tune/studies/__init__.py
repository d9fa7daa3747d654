"""Running many trials.

Enters: a space. Leaves: every trial's result. Read `study` (a search) → `grid` (every combination) → `finals` (the best
once more, with other seeds) → `live_view` (what the user sees meanwhile).
"""
