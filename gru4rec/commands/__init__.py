"""One module per subcommand of `gru4rec`.

Enters: command-line arguments. Leaves: files, and lines on the terminal. Shared: `terminal` (exit codes, messages),
`column_flags` (column names), `config_flags` (the fields of `TrainConfig`), `training_progress`. Nothing is imported
here, so that help appears at once.
"""
