"""Write `src/adapterfit/expect/architectures/<model_type>.json` from the installed transformers, without weights.

python tools/gen_architectures.py llama gpt2 …      the named types
python tools/gen_architectures.py --all             every type that has a file already
python tools/gen_architectures.py --new             every type of transformers that has none
python tools/gen_architectures.py --check llama     only say whether the file would change
python tools/gen_architectures.py --lengths         note in files that are there which lists must not have another length
python tools/gen_architectures.py --names           note in files that are there when a field's other names, and lists without entries, are not heard
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

HERE = Path(__file__).resolve().parent.parent / "src" / "adapterfit" / "expect" / "architectures"


def doubts(facts: dict[str, Any]) -> list[str]:
    """All that the facts leave open."""
    return [
        *facts["doubts"],
        *(f"{name}: could not be built" for name in facts["unbuilt"]),
        *(f"{name}: {doubt}" for name, entry in facts["classes"].items() for doubt in entry["doubts"]),
    ]


def wanted(options: argparse.Namespace) -> list[str]:
    """The model types to work on."""
    known = {path.stem for path in options.out.glob("[a-z]*.json")}
    if options.new:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        return [name for name in CONFIG_MAPPING_NAMES if name not in known]
    return options.types or sorted(known)


def noted(options: argparse.Namespace) -> int:
    """Add to `fixed` the lengths of lists that a file is wrong about without saying so."""
    from architectures.emit import text
    from architectures.farm import farm
    from architectures.lengths import unproven

    for model_type, lengths, why, _ in farm(unproven, wanted(options), options.workers, options.seconds):
        if lengths:
            target = options.out / f"{model_type}.json"
            facts = json.loads(target.read_text())
            facts["fixed"].update(lengths)
            target.write_text(text(facts))
        if lengths or why:
            print(f"{model_type}: {lengths or why}", flush=True)
    return 0


def named(options: argparse.Namespace) -> int:
    """Note in files that are there when a field's other names, and lists without entries, are not heard."""
    from architectures import emptied, yielding
    from architectures.emit import text

    for model_type in wanted(options):
        target = options.out / f"{model_type}.json"
        old = json.loads(target.read_text())
        new = emptied.with_them(model_type, yielding.with_them(model_type, old))
        if new != old:
            target.write_text(text(new))
            print(model_type, flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lengths", action="store_true")
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--samples", type=int, default=28)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=180, help="CPU time for one type")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    import torch

    from architectures import rules
    from architectures.emit import text
    from architectures.facts import Job
    from architectures.farm import farm
    from architectures.grow import activation_classes

    torch.set_num_threads(1)
    if not options.check:
        common = {"activations": activation_classes(), "rules": rules.legacy()}
        (options.out / "_common.json").write_text(json.dumps(common, indent=1) + "\n")

    def work(model_type: str) -> dict[str, Any]:
        facts = Job(model_type, options.samples).facts()
        new = text(facts)
        json.loads(new)
        target = options.out / f"{model_type}.json"
        changed = not target.exists() or target.read_text() != new
        if not options.check and facts["classes"]:
            target.write_text(new)
        return {"classes": len(facts["classes"]), "bytes": len(new), "changed": changed, "doubts": doubts(facts)}

    if options.lengths:
        return noted(options)
    if options.names:
        return named(options)
    changed = 0
    for model_type, told, why, seconds in farm(work, wanted(options), options.workers, options.seconds):
        if told is None:
            print(f"{model_type}: {why}, {seconds:.1f} s", flush=True)
            continue
        changed += told["changed"]
        print(
            f"{model_type}: {told['classes']} classes, {told['bytes']} bytes, {seconds:.1f} s, {len(told['doubts'])} doubts"
        )
        for doubt in told["doubts"]:
            print("   ", doubt)
        sys.stdout.flush()
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
