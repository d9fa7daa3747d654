"""Session-parallel mini-batches, as in the papers: each slot of a mini-batch follows one session, one click per step.

Enters: sessions. Leaves: steps, and their gradients. Read `schedule` (which session is in which slot) → `steps` (the
tensors of a step) → `batching` (training on them) → `compiled_step` (the same on a CPU, differentiated by hand).
"""
