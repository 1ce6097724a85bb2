"""Write `src/adapterfit/expect/architectures/<model_type>.json` from the installed transformers, without weights.

python tools/gen_architectures.py llama gpt2 …      the named types
python tools/gen_architectures.py --all             every type that has a file already
python tools/gen_architectures.py --check llama     only say whether the file would change
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

HERE = Path(__file__).resolve().parent.parent / "src" / "adapterfit" / "expect" / "architectures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    from architectures import rules
    from architectures.emit import text
    from architectures.facts import Job
    from architectures.grow import activation_classes

    types = options.types or [path.stem for path in sorted(options.out.glob("[a-z]*.json"))]
    changed = 0
    if not options.check:
        common = {"activations": activation_classes(), "rules": rules.legacy()}
        (options.out / "_common.json").write_text(json.dumps(common, indent=1) + "\n")
    for model_type in types:
        start = time.time()
        facts = Job(model_type, options.samples).facts()
        new = text(facts)
        json.loads(new)
        target = options.out / f"{model_type}.json"
        differs = not target.exists() or target.read_text() != new
        changed += differs
        if not options.check:
            target.write_text(new)
        doubts = [
            *facts["doubts"],
            *(f"{name}: could not be built" for name in facts["unbuilt"]),
            *(f"{n}: {d}" for n, c in facts["classes"].items() for d in c["doubts"]),
        ]
        print(
            f"{model_type}: {len(facts['classes'])} classes, {len(new)} bytes, {time.time() - start:.1f} s, {len(doubts)} doubts"
        )
        for doubt in doubts:
            print("   ", doubt)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
