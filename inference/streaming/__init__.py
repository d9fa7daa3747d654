"""Clicks as they happen, each answered at once.

Enters: lines of JSON, a click each. Leaves: a line of recommendations for each. Read `clicks`, then `states` (the
hidden states of the current sessions).
"""
