"""Random cases for so many seconds: where our prediction is not what real PEFT does, and how often we cannot tell.

Usage: python tools/hunt.py [--seconds 60] [--seed 0] [--type llama ...] [--method LORA]
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Hunt, and print what was found; exits with 1 where something disagrees."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--type", nargs="*", default=())
    parser.add_argument("--method", default="")
    parser.add_argument("--one", default="", help="one case by its seed, as it was printed")
    asked = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.path.insert(0, str(ROOT / "tests" / "differential"))
    import hunting

    types = tuple(asked.type) or hunting.TYPES
    counts: collections.Counter[str] = collections.Counter()
    until, number = time.monotonic() + asked.seconds, 0
    while time.monotonic() < until:
        seed = asked.one or f"{asked.seed}.{number}"
        number += 1
        try:
            found = hunting.hunt(seed, types, asked.method)
        except hunting.NotDrawn as why:
            counts["not drawn"] += 1
            counts[f"  {str(why)[:110]}"] += 1
            continue
        what = "cannot tell" if found.ours == "cannot-tell" else "agrees" if found.agree else "DIFFERS"
        counts[what] += 1
        if what != "agrees" or asked.one:
            print(
                f"{what} --one {seed}\n   {found.story[:1500]}\n   ours   {found.ours[:400]}\n   theirs {found.theirs[:400]}\n   {found.why[:400]}",
                flush=True,
            )
        if asked.one:
            break
    for what, count in counts.most_common():
        print(f"{count:>6} {what}")
    return 1 if counts["DIFFERS"] else 0


if __name__ == "__main__":
    sys.exit(main())
