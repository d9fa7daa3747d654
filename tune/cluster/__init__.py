"""Where trials run.

Enters: an address, or nothing for this machine. Leaves: checked nodes, and the resources of a trial. Read `cluster` →
`node_check` → `memory_fit` → `storage` (where trials are saved).
"""
