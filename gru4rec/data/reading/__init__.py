"""Click logs as people have them: any layout, packing and notation of time.

Enters: paths, patterns, folders, or "-" for standard input. Leaves: clicks as numbers, with the ids behind them. Read
`sources` (what is named, unpacked) → `log_file` (opens one, with `delimited`, `json_objects` and `lines`) → `columns`
and `roles` (which column is which) → `rows` (a row per click, nested values unrolled) → `time_columns` (how times are
written) → `log_rows` (all files in one form) → `log` (numbers). `layouts` is the table of public logs that are
recognised by their shape.
"""
