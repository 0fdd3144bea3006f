"""What a local epoch costs in the sandboxed worker beside a bare PyTorch loop; prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json

from archipel.lab.bench_training import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--subjects", type=int, default=40)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.pairs, given.subjects)), indent=1))
