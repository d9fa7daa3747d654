"""Whole-session mini-batches: back-propagation through the session, one set of negatives for all targets of a step.

Enters: sessions. Leaves: steps, and their gradients. Read `batches` (which sessions are in a step) → `batching`
(training on them) → `chunked_loss` (scores and losses, a few rows at a time).
"""
