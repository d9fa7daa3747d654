"""Session files in, recommendations out.

Enters: JSON lines, text, TSV, CSV, parquet. Leaves: a stream of sessions; on the way back, recommendations as a table,
JSON lines or CSV. Read `text` → `table`, `parquet` → `sessions` → `recommendations`.
"""
