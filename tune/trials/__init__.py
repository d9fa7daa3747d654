"""One trial, and which one comes next.

Enters: a `SearchSpace`. Leaves: results of trials. Read `trial` (runs on a worker) → `searchers` (what to try next) →
`schedulers` (what to stop early) → `recovery` (what a killed search needs to resume) → `results`.
"""
