"""The parts of `gru4rec-infer` other than scoring: its `arguments`, its `output`, its `progress`."""
