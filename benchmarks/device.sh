#!/bin/sh
# What a worker on a GPU of this machine sees, costs and may hold, as lines of JSON, in at most five minutes.
#   PYTHON=.venv/bin/python BWRAP=/usr/bin/bwrap benchmarks/device.sh [GPU]
# GPU is an index or a UUID; without it the first one is taken. No setting of the GPU is changed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
bwrap=${BWRAP:-$(command -v bwrap || true)}
mode=required
if [ -n "$bwrap" ]; then
    # The agent looks for a program of this name.
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    ln -s "$bwrap" "$tools/bwrap"
    PATH="$tools:$PATH"
else
    echo "no bubblewrap: the workers run without a sandbox, and nothing is said about one" >&2
    mode=none-i-accept-the-risk
fi
PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}"
export PATH PYTHONPATH
timeout --kill-after=10 290 "$python" "$here/device.py" "$mode" "$@"
