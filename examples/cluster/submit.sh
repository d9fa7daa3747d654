#!/usr/bin/env bash
# The search as a job of a Ray cluster that is running already.
#
#   bash examples/cluster/submit.sh http://HEAD:8265 --train /shared/clicks.parquet --out /shared/search [flags of the search]
#
# The job goes on when this terminal is closed; `ray job logs` and `ray job stop` take the id that is printed first. The
# paths are those of the cluster. Needs `pip install '.[cluster]'` here, and RAY_AUTH_MODE=token with RAY_AUTH_TOKEN set
# where the cluster asks for a token. RUNTIME_ENV names another runtime environment than the one beside this file.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
address=$1
shift
cd "$(dirname "$0")/../.."
exec ray job submit --address "$address" --runtime-env "${RUNTIME_ENV:-examples/cluster/runtime-env.yaml}" \
    -- python -m tune.search "$@"
