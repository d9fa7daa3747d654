"""The model file, and recommendations from it.

Enters: model.onnx and sessions of item ids. Leaves: the top items of each. Read `format` (names and constants) →
`onnx_reader` → `artifact` (the checked file) → `providers` (onnxruntime sessions) → `scorer` → `recommender`;
`candidates` limits what is recommended, `similar` finds similar items, `describe` serves --info.
"""
