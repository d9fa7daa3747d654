"""Running many trials.

Enters: a space or a grid. Leaves: every trial's result. Read `study` (a search) → `grid` (every combination) →
`finals` (the best once more, with other seeds) → `progress` (what is shown meanwhile).
"""
