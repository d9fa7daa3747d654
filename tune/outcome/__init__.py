"""What a search writes.

Enters: the results of its trials. Leaves: a folder with the winner's model.onnx, all results and a report. Read
`folder` → `winner` → `leaderboard` → `plots` → `report`; `overhead` measures what a search costs besides training.
"""
