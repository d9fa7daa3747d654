#!/usr/bin/env bash
# Everything that has to pass: lint, import rules, types, tests. Makes its own environment in .venv if there is none.
#   tests/run.sh                    everything
#   tests/run.sh fast               in a minute: lint, import rules, and tests without Ray, fuzz, documents or types
#   tests/run.sh tests/training     arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
wanted=$(cat pyproject.toml tests/constraints.txt | sha256sum)
if [ "$wanted" != "$(cat .venv/installed-for 2>/dev/null)" ]; then
    .venv/bin/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[dev]'
    echo "$wanted" > .venv/installed-for
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/lint-imports --no-cache --no-logo
if [ "${1-}" = fast ]; then
    shift
    ignored=(--ignore=tests/robustness --ignore=tests/documents --ignore=tests/examples)
    set -- -m "not slow and not ray and not gpu" "${ignored[@]}" "$@"
else
    .venv/bin/mypy
fi
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
