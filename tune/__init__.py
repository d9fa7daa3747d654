"""Hyper-parameter search with Ray Tune: from a click log to the best model, exported.

`python -m tune.search` is the command. Read `search` (flags) → `settings` → `pipeline` (from data to the exported
model) → the wings in the order of a search: `space` → `cluster` → `trials` → `studies` → `outcome`. Nothing is imported
here: Ray takes seconds to import.
"""
