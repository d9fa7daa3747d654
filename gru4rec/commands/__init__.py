"""One module per subcommand of `gru4rec`.

Enters: command-line arguments. Leaves: files, and lines on the terminal. `terminal` holds what the commands share,
`config_flags` turns the fields of `TrainConfig` into flags. Nothing is imported here: help has to appear at once.
"""
