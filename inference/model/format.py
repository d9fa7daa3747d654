"""The names and constants of a model file, format version 1 (see FORMAT.md)."""

FORMAT_VERSION = 1
INPUTS = ("items", "lengths", "h0", "exclude", "k")
OUTPUTS = ("ids", "scores", "hidden")

OUTPUT_WEIGHT = "output_weight"
"""The tensor [N + 1, last width] of output weights; under constrained embeddings the input embeddings as well."""
OUTPUT_BIAS = "output_bias"
"""The tensor [N + 1] of output biases, the sentinel's being minus infinity."""
RECENT_WEIGHT, RECENT_BIAS = "recent_weight", "recent_bias"
"""The tensors [K, last width] and [K] that give the items of the last K clicks a bonus, if the model has one."""
SCAN_WEIGHT = "scan_weight"
"""If the catalogue is scanned first: the output weights (and biases) in 8 bits, a column for each item."""
SCAN_SCALE = "scan_scale"
"""The tensor [blocks] of the value of an integer step in each block of items of `SCAN_WEIGHT`."""
SCAN_BLOCK = 64
"""Items per block."""
MINUS_INFINITY = "minus_infinity"
"""The only constant other than the sentinel's bias that is not finite."""
SHORTEST_STATE = 1e-12
"""Cosine scores divide states by their length, but by no less than this: the zero state stays zero."""
