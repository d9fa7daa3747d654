"""What a search leaves behind.

Enters: the results of its trials. Leaves: a folder with the winner's model.onnx, tables and a report. Read `folder` →
`winner` → `tables` → `plots` → `report`; `overhead` says what the search cost besides training.
"""
