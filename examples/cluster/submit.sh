#!/usr/bin/env bash
# Run the search as a job of a running Ray cluster.
#
#   bash examples/cluster/submit.sh http://HEAD:8265 --train /shared/clicks.parquet --out /shared/search [flags of the search]
#
# The job continues when this terminal is closed; `ray job logs` and `ray job stop` take the id that is printed first.
# All paths are paths on the cluster. Needs `pip install '.[cluster]'` here. If the cluster asks for a token, set
# RAY_AUTH_MODE=token and RAY_AUTH_TOKEN. RUNTIME_ENV names another runtime environment than the one in this folder.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
address=$1
shift
cd "$(dirname "$0")/../.."
exec ray job submit --address "$address" --runtime-env "${RUNTIME_ENV:-examples/cluster/runtime-env.yaml}" \
    -- python -m tune.search "$@"
