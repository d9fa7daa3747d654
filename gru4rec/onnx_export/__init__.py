"""The network as one self-contained ONNX file.

Enters: a trained network and its vocabulary. Leaves: model.onnx, checked against torch before it appears. Read
`exporter` → `graph` → `onnx_writer` → `parity`; `int8_scan` and `scan_report` are for large catalogues.
"""

from gru4rec.onnx_export.exporter import export, export_with_scan
