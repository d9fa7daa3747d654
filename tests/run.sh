#!/usr/bin/env bash
# Everything that has to pass: lint, types, tests. Makes its own environment in .venv where there is none.
#   tests/run.sh                    everything
#   tests/run.sh fast               in a minute: no Ray, no random bytes, no documents, nothing slow
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
.venv/bin/lint-imports --no-cache > /dev/null || .venv/bin/lint-imports --no-cache
.venv/bin/mypy
if [ "${1-}" = fast ]; then
    shift
    set -- -m "not slow and not ray and not fuzz and not documents" "$@"
fi
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
