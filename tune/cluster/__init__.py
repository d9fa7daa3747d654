"""Where trials run.

Enters: an address, or nothing for this machine. Leaves: nodes that were checked, and the resources of a trial. Read
`cluster` → `node_check` → `memory_fit` → `storage` (where trials are kept).
"""
