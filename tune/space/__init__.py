"""Which models a search may try.

Enters: what narrows a search. Leaves: a `SearchSpace`. Read `dimensions` (one parameter) → `search_space` → `builder`
(from flags to a space) → `published` (the authors' best parameters, tried first) → `flags`.
"""
