#!/usr/bin/env bash
# From a click log to recommendations. Needs nothing but Python 3.11 or newer.
#
#   bash examples/quickstart.sh                                 a synthetic log
#   bash examples/quickstart.sh clicks.csv                      your own: columns SessionId, ItemId, Time
#   bash examples/quickstart.sh clicks.csv visit product at     … or columns of these names
#
# All output goes to quickstart-output/; that of your own log goes to a folder named after the log. QUICKSTART_OUTPUT
# names another folder.
set -euo pipefail
log=${1:-}
columns=(--session-column "${2:-SessionId}" --item-column "${3:-ItemId}" --time-column "${4:-Time}")
[ -z "$log" ] || log=$(realpath "$log")
[ -z "${QUICKSTART_OUTPUT:-}" ] || output=$(realpath -m "$QUICKSTART_OUTPUT")
cd "$(dirname "$0")/.."
name=${log##*/}
output=${output:-quickstart-output${name:+/${name%%.*}}}
mkdir -p "$output"

if [ ! -x .venv/bin/gru4rec ] || ! .venv/bin/python -c "import torch, ray, optuna" 2>/dev/null; then
    echo "== installing into .venv (first time only)"
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[tune]'
fi
PATH="$PWD/.venv/bin:$PATH"

if [ -z "$log" ]; then
    echo "== making a click log"
    log=$output/clicks.tsv
    [ -f "$log" ] || gru4rec synth --out "$log" --events 40000 --items 1000
fi

echo "== a small search over loss, number of negatives, learning rate, …"
python -m tune.search --train "$log" --out "$output/search" "${columns[@]}" \
    --trials 6 --epochs 3 --layers 64,96 --n-sample 128,512 --batch-size 32,64 ||
    [ $? -eq 3 ] # some trials failed; the best of the others was exported

echo "== recommendations for the last five sessions of the log, with onnxruntime only"
python - "$log" "${columns[@]:1:1}" "${columns[@]:3:1}" "${columns[@]:5:1}" > "$output/sessions.jsonl" <<'PYTHON'
import json, sys
from gru4rec import read_events
from inference.shared.columns import Columns

log, *names = sys.argv[1:]
clicks = read_events(log, Columns(*names)).sort("time", maintain_order=True)
for session in clicks["session"].unique(maintain_order=True)[-5:]:
    items = clicks.filter(clicks["session"] == session)["item"].to_list()
    print(json.dumps({"session": session, "items": items}))
PYTHON
gru4rec-infer --model "$output/search/model.onnx" --session "$output/sessions.jsonl" --top-k 5

echo "The model is one file: $output/search/model.onnx. The trials: $output/search/results.csv"
