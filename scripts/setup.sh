#!/usr/bin/env bash
# Make .venv with the locked packages. Nothing is compiled from source; a Python of your choice: PYTHON=... make setup
set -euo pipefail
cd "$(dirname "$0")/.."

suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if suitable "$name"; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 found (looked for: ${PYTHON:-python3 python3.13 python3.12 python3.11})." >&2
    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13)," >&2
    echo "or name yours: PYTHON=/path/to/python3.12 make setup" >&2
    return 1
}

if ! suitable .venv/bin/python; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python has no venv module. Debian, Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi
echo "installing the packages of requirements.txt into .venv"
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
# Compiled once here, every command starts twice as fast.
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --only-binary :all: --compile-bytecode \
    -r requirements.txt
