"""Click logs as people have them: any layout, packing and notation of time.

Enters: paths, patterns, folders, or "-" for standard input. Leaves: clicks as numbers, with the ids behind them. Read
`sources` (what is named, unpacked) → `log_file` (opens one: text, JSON, parquet) → `rows` (a row per click, nested
values unrolled) → `columns` (which column is which) → `times` → `clicks` (numbers). `layouts` is the table of public
logs that are recognised by their shape.
"""
