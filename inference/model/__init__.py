"""The model file, and recommendations from it.

Enters: model.onnx and sessions of item ids. Leaves: the top items of each. Read `format` (names and constants) →
`onnx_reader` → `artifact` (the checked file) → `providers` (what computes) → `scorer` → `recommender`; `candidates`
limits what may be recommended, `similar` finds similar items, `describe` is behind --info.
"""
