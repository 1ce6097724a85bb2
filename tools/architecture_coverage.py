"""Every model type of transformers: does it build without weights, and is its whole module tree known from its config?

python tools/architecture_coverage.py                 all types; writes architectures/compared.json and docs/architectures.md
python tools/architecture_coverage.py bert swin …     these, printed only
python tools/architecture_coverage.py --page bert …   these; what was found about others is kept, and the page written
python tools/architecture_coverage.py --known         those with facts, likewise

Each class is built from random config.json files (all fields, half of them, few), from the default config and, by another
sources, from defaults with one field at an edge (`--edges N`), or as the source compares it (`--branches`), and from files as they
are saved (`--saved N`), on the meta device, and compared with the tree from facts: names, order, kinds, classes, shapes, ties, embeddings.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

FACTS = ROOT / "src" / "adapterfit" / "expect" / "architectures"
PAGE = ROOT / "docs" / "architectures.md"
#: What the last comparison of each type found; the page is written from it.
ANSWERS = ROOT / "tools" / "architectures" / "compared.json"
WORDS = {
    "exact": "exactly",
    "part": "in part",
    "not": "not",
    "unbuilt": "does not build",
    "open": "not examined",
}


def examine(model_type: str, seeds: int, edges: int = 0, saved: int = 0, *, branches: bool = False) -> dict[str, Any]:
    """Each class of this type, and why.

    `exact` on all configs; `partly`: on some, the others said not to be known; `doubts`: said for all; `wrong` without
    saying so; `unknown`: it builds, and there are no facts; `unbuilt`.
    """
    from adapterfit.expect import modules
    from architectures.heads import heads

    known = modules.facts(model_type)
    found = {}
    for name in heads(model_type):
        if known is None or name not in known["classes"]:
            built, why = _builds(model_type, name)
            found[name] = ("unknown", "no facts") if built else ("unbuilt", why)
        else:
            found[name] = _compared(model_type, name, seeds, edges, saved, branches=branches)
    return found


def _compared(
    model_type: str, name: str, seeds: int, edges: int = 0, saved: int = 0, *, branches: bool = False
) -> tuple[str, str]:
    from architectures.proof import SHARES, as_saved, at_branches, at_edges, default, drawn, verdict

    answers = []
    for share in SHARES:
        for seed in range(100, 100 + seeds):
            case = drawn(model_type, name, seed, share, 60, 10)
            answers += [verdict(model_type, name, *case)] if case else []
    try:
        model = default(model_type, name)
    except Exception:
        model = None
    answers += [verdict(model_type, name, {}, model)] if model is not None else []
    answers += [verdict(model_type, name, *case) for case in at_edges(model_type, name, 0, edges)]
    answers += [verdict(model_type, name, *case) for case in as_saved(model_type, name, 0, saved)]
    answers += [verdict(model_type, name, *case) for case in at_branches(model_type, name)] if branches else []
    if not answers:
        return "unbuilt", "no config was found that it builds from, though it has facts"
    worst = max(answers, key=lambda answer: ("exact", "doubts", "wrong").index(answer[0]))
    several = f"{sum(a[0] != 'exact' for a in answers)} of {len(answers)} configs: " if worst[1] else ""
    if worst[0] == "doubts" and any(state == "exact" for state, _ in answers):
        return "partly", several + worst[1]
    return worst[0], several + worst[1]


def _builds(model_type: str, name: str) -> tuple[bool, str]:
    """Whether the class builds from a small random or from the default config; the default's reason where neither."""
    from architectures.proof import default, drawn

    for share in (0.15, 1):
        if drawn(model_type, name, 0, share, 20, 10):
            return True, ""
    try:
        default(model_type, name)
    except Exception as problem:
        return False, f"{type(problem).__name__}: {problem}".splitlines()[0][:160]
    return True, ""


def judged(classes: dict[str, Any] | None, why: str) -> tuple[str, str]:
    """One word for the type, and the reason where it is not `exact`."""
    if classes is None:
        return "open", why
    if not classes:
        return "unbuilt", "transformers has a config class for it but no model class"
    states = {state for state, _ in classes.values()}
    if states == {"unbuilt"}:
        return "unbuilt", next(iter(classes.values()))[1]
    if states <= {"exact", "unbuilt"}:
        return "exact", ""
    reasons = [f"{name}: {reason}" for name, (state, reason) in classes.items() if state not in {"exact", "unbuilt"}]
    return ("not" if states <= {"unknown", "unbuilt"} else "part"), "; ".join(reasons[:2])


def adoptable(classes: dict[str, Any] | None) -> bool:
    """Whether something is reproduced exactly."""
    return bool({state for state, _ in (classes or {}).values()} & {"exact", "partly"})


def adopt(source: Path, classes: dict[str, Any]) -> None:
    """Take the facts into the package; a class that they were wrong about is doubted whole, and says why."""
    facts = json.loads(source.read_text())
    wrong = {name: why for name, (state, why) in classes.items() if state == "wrong"}
    for name, why in wrong.items():
        facts["classes"][name]["doubts"] = [f"the whole tree: refuted on {why.partition(':')[0]}"]
        classes[name] = ("doubts", f"refuted on {why}")
    if wrong:
        from architectures.emit import text

        (FACTS / source.name).write_text(text(facts))
    else:
        shutil.copy(source, FACTS)


def _rows(details: dict[str, Any], names: Iterable[str]) -> dict[str, tuple[str, str, int]]:
    """Each type with its state, the reason, and how many of its classes were compared."""
    rows = {}
    for name in sorted(names):
        entry = details.get(name, {"state": "open", "why": "", "classes": {}})
        compared = sum(state not in {"unknown", "unbuilt"} for state, _ in entry["classes"].values())
        rows[name] = (entry["state"], entry["why"], compared)
    return rows


def _as_lines(details: dict[str, Any]) -> str:
    """JSON with a line for each type."""
    lines = (f"{json.dumps(name)}: {json.dumps(details[name])}" for name in sorted(details))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _open(rows: dict[str, tuple[str, str, int]]) -> list[str]:
    return [name for name, (state, _, _) in rows.items() if state == "open"]


def _listed(names: Iterable[str]) -> str:
    return (", ".join(f"`{name}`" for name in names) or "none") + "."


def page(rows: dict[str, tuple[str, str, int]], version: str, known: Collection[str]) -> str:
    """docs/architectures.md."""
    out = [
        "# Architectures",
        "",
        "<!-- written by `make coverage-architectures`; do not edit -->",
        "",
        f"What adapterfit knows about the model types of transformers {version} from a config.json alone, without PyTorch:",
        "every module's name, kind and shape. Each was compared, whole, with the model that transformers builds on the",
        "meta device from random configs. Where something is not known the verdict is *cannot tell*, never *fits*.",
        "",
        *summary(rows),
        "",
        "## In part, or not",
        "",
        "| model type | known | why not more |",
        "|---|---|---|",
        *(
            f"| `{name}` | {WORDS[state]} | {_cell(why)} |"
            for name, (state, why, _) in rows.items()
            if state in {"part", "not"}
        ),
        "",
        "## Exactly",
        "",
        ", ".join(f"`{name}`" for name, (state, _, _) in rows.items() if state == "exact") + ".",
        "",
        "## Not examined",
        "",
        "No answer of this comparison is at hand about them. Those with facts are held by the differential tests; about the",
        "others the answer is *cannot tell*.",
        "",
        "With facts: " + _listed(name for name in _open(rows) if name in known),
        "",
        "Without: " + _listed(name for name in _open(rows) if name not in known),
        "",
        "## Not buildable from a config",
        "",
        "| model type | what transformers says |",
        "|---|---|",
        *(f"| `{name}` | {_cell(why)} |" for name, (state, why, _) in rows.items() if state == "unbuilt"),
        "",
    ]
    return "\n".join(out)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())[:300]


def summary(rows: dict[str, tuple[str, str, int]]) -> list[str]:
    """The table of counts."""
    counts = Counter(state for state, _, _ in rows.values())
    builds = len(rows) - counts["unbuilt"] - counts["open"]
    share = {key: f"{100 * counts[key] / max(1, builds):.1f} %" for key in WORDS}
    return [
        "| model types | number | of those examined that build |",
        "|---|--:|--:|",
        f"| in transformers | {len(rows)} | |",
        f"| not examined yet | {counts['open']} | |",
        f"| no model class, or none that a config alone builds | {counts['unbuilt']} | |",
        f"| build on the meta device | {builds} | |",
        *(f"| whole tree known {WORDS[key]} | {counts[key]} | {share[key]} |" for key in ("exact", "part", "not")),
        f"| classes compared | {sum(number for _, _, number in rows.values())} | |",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--facts", type=Path, help="another folder of facts than the package's")
    parser.add_argument("--adopt", action="store_true", help="copy from there into the package what proves right")
    parser.add_argument("--seeds", type=int, default=1, help="random configs per class and share of fields")
    parser.add_argument("--edges", type=int, default=0, help="defaults with one field at an edge, per class")
    parser.add_argument(
        "--saved", type=int, default=0, help="files as they are saved, and those with one change, per class"
    )
    parser.add_argument(
        "--branches",
        action="store_true",
        help="defaults with one field as the source compares it, kinds of layers mixed",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=240, help="CPU time for one type")
    parser.add_argument(
        "--json", type=Path, help=f"keep the answers there and not in {ANSWERS.name}, added to those that it has"
    )
    parser.add_argument("--known", action="store_true", help="only types that have facts")
    parser.add_argument("--refused", type=Path, help="JSON: why a type's facts were not adopted, for those without")
    parser.add_argument(
        "--page", action="store_true", help="keep the answers and write the page even if only some types were named"
    )
    options = parser.parse_args()
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from adapterfit.expect import modules
    from architectures import heads, proof  # noqa: F401 - with the libraries, so that no fork imports them again
    from architectures.farm import farm

    torch.set_num_threads(1)
    if options.facts:
        modules._FACTS = options.facts  # noqa: SLF001 - facts that are not adopted yet
    details: dict[str, Any] = {}
    whole = options.page or not options.types
    kept = options.json or (ANSWERS if whole else None)
    if kept and kept.exists():
        details = json.loads(kept.read_text())
    refused = json.loads(options.refused.read_text()) if options.refused else {}
    names = options.types or sorted(CONFIG_MAPPING_NAMES)
    if options.known:
        names = [name for name in names if name in modules.known_types()]
    for name, classes, why, seconds in farm(
        lambda name: examine(name, options.seeds, options.edges, options.saved, branches=options.branches),
        names,
        options.workers,
        options.seconds,
    ):
        if options.adopt and adoptable(classes):
            adopt(options.facts / f"{name}.json", classes)
        state, reason = judged(classes, why)
        if state == "part" and options.adopt and not adoptable(classes):
            state, reason = "not", f"its facts are not kept: {reason}"
        reason = refused.get(name, reason) if state == "not" else reason
        details[name] = {"state": state, "why": reason, "classes": {} if state == "not" else classes or {}}
        print(f"{name}: {WORDS[state]}, {seconds:.1f} s{': ' + reason if reason else ''}", flush=True)
        if kept:
            kept.write_text(_as_lines(details))
    rows = _rows(details, CONFIG_MAPPING_NAMES if kept else details)
    print("\n".join(summary(rows)))
    if whole:
        PAGE.write_text(page(rows, transformers.__version__, modules.known_types()))
    wrong = [
        name for name, entry in details.items() for told in (entry["classes"] or {}).values() if told[0] == "wrong"
    ]
    if wrong:
        print("wrong, without saying so:", ", ".join(sorted(set(wrong))))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
