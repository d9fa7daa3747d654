"""GRU4Rec: the trainer.

Read in the order of the data: events → sessions → schedule → samplers → steps → model → losses → optim → trainer →
evaluation → checkpoint → training (a whole run) → export. What training and scoring share is in `inference`, which
knows nothing of this package.
"""
