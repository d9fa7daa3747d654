"""What `gru4rec-infer` is made of besides scoring: its `arguments`, its `output`, its `progress`."""
