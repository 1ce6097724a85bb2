"""Module trees of older transformers: what was called otherwise, and whether our steps back reproduce it.

    older_trees.py cases CASES.json             random configs of the classes that were ever renamed, by the newest release
    older_trees.py collect CASES.json OUT.json  run by an older release: the trees and renamings that it has for them
    older_trees.py derive CASES.json OUT.json…  write `expect/architectures/_older.json`: steps that are proven on all cases
    older_trees.py score CASES.json OUT.json…   our tree as of each release beside the one that was built

Which classes: those that the shared `transformers_runtime_renames.json` found changed between 49 releases, and the other
classes of their model types. A change that no step reproduces is written down as not known: then the answer is a doubt.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapterfit.expect import history
from adapterfit.records import Module, ModuleTree

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "src" / "adapterfit" / "expect" / "architectures" / "_older.json"
CHANGES = ROOT.parent / "shared" / "data" / "transformers" / "transformers_runtime_renames.json"


def cases(out: Path, seeds: int) -> None:
    """Random configs, shallow, from which the newest release builds each class."""
    from adapterfit.expect import modules
    from architectures.farm import farm
    from architectures.heads import heads

    changed = json.loads(CHANGES.read_text())["classes"].values()
    types = sorted({entry["model_type"] for entry in changed} & set(modules.known_types()))

    def work(model_type: str) -> dict[str, Any]:
        known = modules.facts(model_type)["classes"]
        return {name: _drawn(model_type, name, seeds) for name in heads(model_type) if name in known}

    made = {}
    for model_type, found, why, _ in farm(work, types, 1, 120):
        print(f"{model_type}: {sum(map(len, (found or {}).values()))} {why}", flush=True)
        if found:
            made[model_type] = found
    out.write_text(json.dumps(made))


def _drawn(model_type: str, name: str, seeds: int) -> list[dict[str, Any]]:
    import random

    from architectures.proof import on_meta, thinned
    from architectures.sample import Sampler

    rng = random.Random(f"{model_type}{name}older")
    sampler = Sampler(model_type, rng)
    _shallow(sampler)
    found: list[dict[str, Any]] = []
    for attempt in range(40):
        raw = sampler.raw() if attempt % 2 else thinned(sampler.raw(), rng, 0.3)
        try:
            on_meta(name, sampler.config(raw))
        except Exception:
            continue
        found.append(raw)
        if len(found) == seeds:
            break
    return found


def _shallow(sampler: Any) -> None:
    sampler.deep = (0.0, 5)
    for part in sampler.parts.values():
        _shallow(part)


# ------------------------------------------------------------------------------------------------ collect


def collect(wanted: Path, out: Path) -> None:
    """What this release builds for each case, and how it would rename an adapter's names."""
    import torch
    import transformers

    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    for model_type, classes in json.loads(wanted.read_text()).items():
        for name, configs in classes.items():
            rows = [_built(model_type, name, raw) for raw in configs]
            if any(rows):
                made.setdefault(model_type, {})[name] = rows
    out.write_text(json.dumps({"transformers": transformers.__version__, "types": made}))


def _built(model_type: str, name: str, raw: dict[str, Any]) -> dict[str, Any] | None:
    import torch
    import transformers
    from transformers import AutoConfig

    from adapterfit.read.live import base_from_module

    try:
        config = AutoConfig.for_model(model_type, **raw)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = getattr(transformers, name)(config)
        model.tie_weights()
        tree = base_from_module(model).tree
    except Exception as problem:
        return {"failed": f"{type(problem).__name__}: {problem}".splitlines()[0][:200]}
    if tree is None:
        raise AssertionError(name)
    return {
        "modules": [[m.name, m.kind, m.class_name, dict(m.params), m.groups] for m in tree.modules],
        "aliases": dict(tree.aliases),
        "tied": tree.tied,
        "embeddings": [tree.input_embeddings, tree.output_embeddings],
        "prefix": tree.prefix,
        "renames": _renames(model, model_type),
        "key_mapping": getattr(model, "_checkpoint_conversion_mapping", None) or {},
    }


def _renames(model: Any, model_type: str) -> list[Any] | None:
    """The renamings that PEFT takes from this release for an adapter; None where it converts none of this type."""
    try:
        from transformers import conversion_mapping
    except ImportError:
        return None
    from transformers.core_model_loading import WeightConverter

    from adapterfit.expect.checkpoint import adapter_renames

    if conversion_mapping.get_checkpoint_conversion_mapping(model_type) is None:
        return None
    rules = []
    for rule in conversion_mapping.get_model_conversion_mapping(model):
        sources = rule.source_patterns
        entry: dict[str, Any] = {"from": [_pattern(one) for one in sorted(sources, key=lambda item: -len(item))]}
        entry["to"] = list(rule.target_patterns)
        if getattr(rule, "scope_prefix", None) is not None:
            entry["scope"] = rule.scope_prefix
        if isinstance(rule, WeightConverter):
            entry["ops"] = []
        rules.append(entry)
    return [[rename.pattern, rename.replacement] for rename in adapter_renames(rules, model.base_model_prefix)]


def _pattern(source: str) -> str:
    pattern = source.replace("*.", r".*\.")
    return pattern + r"(?!\w)" if re.search(r"[a-zA-Z0-9]$", pattern) else pattern


# ------------------------------------------------------------------------------------------------ derive

#: How experts that are one stack of parameters now were called one by one.
_LEAVES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
#: What a projection is for, by its name; equal shapes alone do not tell query from key.
_ROLES = {
    **dict.fromkeys(("q", "q_proj", "query", "q_lin"), "q"),
    **dict.fromkeys(("k", "k_proj", "key", "k_lin"), "k"),
    **dict.fromkeys(("v", "v_proj", "value", "v_lin"), "v"),
}
Pairs = list[tuple[str, str]]


def released(paths: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """(release, its types), the newest first."""
    found = [json.loads(path.read_text()) for path in paths]
    return sorted(
        ((one["transformers"], one["types"]) for one in found), key=lambda one: _numbers(one[0]), reverse=True
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _before(version: str) -> str:
    return ".".join(version.split(".")[:2])


def tree_of(row: dict[str, Any], model_type: str, name: str) -> ModuleTree:
    """The recorded tree."""
    return ModuleTree(
        class_name=name,
        model_type=model_type,
        modules=tuple(Module(m[0], m[1], {k: tuple(v) for k, v in m[3].items()}, m[2], m[4]) for m in row["modules"]),
        known="live",
        prefix=row["prefix"],
        aliases=row["aliases"],
        tied=tuple(map(tuple, row["tied"])),
        input_embeddings=row["embeddings"][0],
        output_embeddings=row["embeddings"][1],
    )


def weighty(tree: ModuleTree) -> dict[str, tuple[Any, ...]]:
    """What must be right: each module that has parameters, its kind, its sizes."""
    return {
        m.name: (m.kind if m.kind in _TARGETS else "", tuple(sorted(m.params.items())))
        for m in tree.modules
        if m.params
    }


_TARGETS = ("Linear", "Conv1D", "Embedding", "Conv1d", "Conv2d", "Conv3d", "MultiheadAttention")


def derived(rows: list[tuple[ModuleTree, ModuleTree]]) -> dict[str, Any] | None:
    """The step that turns newer trees into the older ones; empty where they are equal, None where none was found.

    A config whose fields the older release does not know has another tree there, and proves nothing: the step notes
    which modules it was proven for.
    """
    if all(weighty(new) == weighty(old) for new, old in rows):
        return {}
    for each in (None, *_LEAVES):
        start: dict[str, Any] = {"unfuse": list(each)} if each else {}
        if each and all(weighty(history.stepped(new, start)) == weighty(new) for new, _ in rows):
            continue
        step = _tried(rows, start)
        if step is not None:
            return step
    return None


def _tried(rows: list[tuple[ModuleTree, ModuleTree]], start: dict[str, Any]) -> dict[str, Any] | None:
    told = [_paired(weighty(history.stepped(new, start)), weighty(old)) for new, old in rows]
    pairs = sorted({pair for one in told if one for pair in one[0]})
    rules = _rules(pairs) if pairs else None
    if rules is None:
        return None
    linear = {f"^{_generic(name)}$" for one in told if one for name in one[1]}
    step = {**start, **({"rename": rules} if rules else {}), **({"linear": sorted(linear)} if linear else {})}
    proven = [(new, old) for (new, old), one in zip(rows, told) if one]
    if any(weighty(history.stepped(new, step)) != weighty(old) for new, old in proven):
        return None
    known = {leaf for new, _ in proven for leaf in history.leaves(new)}
    for (new, old), one in zip(
        rows, told
    ):  # of those that differ in size the names must be right, or nothing is claimed
        if not one and history.leaves(new) <= known and {*weighty(history.stepped(new, step))} != {*weighty(old)}:
            return None
    return {**step, "leaves": sorted(known)} if step else {}


def _paired(new: dict[str, Any], old: dict[str, Any]) -> tuple[Pairs, set[str]] | None:
    """(newer name, older name) of all modules; and the older names of those that were plain Linear layers."""
    rest_new = [name for name in new if new[name][1:] != old.get(name, (0, 0))[1:]]
    rest_old = [name for name in old if old[name][1:] != new.get(name, (0, 0))[1:]]
    if len(rest_new) != len(rest_old):
        return None
    pairs = [(name, name) for name in new if name not in set(rest_new)]
    left = list(rest_old)
    for name in rest_new:
        alike = [one for one in left if old[one][1:] == new[name][1:] and _role(one) == _role(name)]
        if not alike:
            return None
        match = max(alike, key=lambda one: _likeness(one, name))
        left.remove(match)
        pairs.append((name, match))
    linear = set()
    for name, older in pairs:
        if new[name][0] != old[older][0]:
            if old[older][0] != "Linear":
                return None
            linear.add(older)
    return pairs, linear


def _likeness(one: str, other: str) -> tuple[bool, int]:
    """How likely two names are one module's: the same layer; as many equal words, from the end, then anywhere."""
    first, second = one.split("."), other.split(".")
    numbers = [[part for part in parts if part.isdigit()] for parts in (first, second)]
    ends = next((at for at, (a, b) in enumerate(zip(reversed(first), reversed(second))) if a != b), len(first))
    return numbers[0] == numbers[1], 10 * ends + len(set(first) & set(second))


def _role(name: str) -> str:
    return _ROLES.get(name.rpartition(".")[2], "")


def _generic(name: str) -> str:
    return r"\.".join(r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))


def _rules(pairs: Pairs) -> list[list[str]] | None:
    """Few renamings, in turn, that lead from every newer name to the older one; None where none were found."""
    now = [new for new, _ in pairs]
    due = [old for _, old in pairs]
    rules: list[list[str]] = []
    while now != due:
        right = sum(map(str.__eq__, now, due))
        for at in [at for at, name in enumerate(now) if name != due[at]]:
            best = _one(now, due, at, right)
            if best is not None:
                break
        else:
            return None
        rules.append(best)
        pattern = re.compile(best[0])
        now = [pattern.sub(best[1], name, count=1) for name in now]
        if len(rules) > 60:
            return None
    return rules


def _one(now: list[str], due: list[str], at: int, right: int) -> list[str] | None:
    """The most general renaming that puts this name right, more than before, and none wrong that was right."""
    for rule in _windows(now[at].split("."), due[at].split(".")):
        pattern = re.compile(rule[0])
        then = [pattern.sub(rule[1], name, count=1) for name in now]
        spoilt = any(before == wanted != after for before, after, wanted in zip(now, then, due))
        if not spoilt and sum(map(str.__eq__, then, due)) > right:
            return rule
    return None


def _windows(new: list[str], old: list[str]) -> Iterator[list[str]]:
    """Renamings of the part that differs, with more and more of what stands around it."""
    start = next((at for at, (a, b) in enumerate(zip(new, old)) if a != b), min(len(new), len(old)))
    room = min(len(new), len(old)) - start
    end = next((at for at in range(room) if new[-1 - at] != old[-1 - at]), room)
    wide = max(len(new), len(old))
    for extra in range(wide + 1):
        for left in range(extra + 1):
            first, last = start - left, end - (extra - left)
            if first < 0 or last < 0:
                continue
            inner = new[first : len(new) - last]
            if inner:
                yield _rule(inner, old[first : len(old) - last], whole=first == 0 and extra == wide)
                if first == 0:
                    yield _rule(inner, old[first : len(old) - last], whole=True)


def _rule(new: list[str], old: list[str], *, whole: bool) -> list[str]:
    numbers = [part for part in new if part.isdigit()]
    left = "^" if whole else r"(^|\.)"
    shift = 1 if whole else 2
    pattern = left + r"\.".join(r"(\d+)" if part.isdigit() else re.escape(part) for part in new) + r"(?=\.|$)"
    places, out = list(range(len(numbers))), []
    for part in old:
        at = next((at for at in places if numbers[at] == part), None) if part.isdigit() else None
        if at is not None:
            places.remove(at)
        out.append(part if at is None else f"\\g<{at + shift}>")
    return [pattern, ("" if whole else r"\g<1>") + ".".join(out)]


def derive(wanted: Path, paths: list[Path]) -> dict[str, Any]:
    """All steps back, boundary by boundary; and the renamings of releases where they differ from the newest's."""
    releases = [newest(json.loads(wanted.read_text())), *released(paths)]
    changed = json.loads(CHANGES.read_text())["classes"]
    steps: list[dict[str, Any]] = []
    compared: set[tuple[str, str]] = set()
    known = set(_classes(releases[0][1]))
    for (newer, after), (older, then) in zip(releases, releases[1:]):
        found: dict[str, dict[str, Any]] = {}
        for model_type, name in sorted(known & set(_classes(after))):
            points = _points(changed, model_type, name, older, newer)
            if _both(after[model_type][name], then.get(model_type, {}).get(name, ()), model_type, name):
                compared |= {(name, point) for point in points}
            step = _step(after[model_type][name], then.get(model_type, {}).get(name, ()), model_type, name)
            if not step:
                continue
            first, last = points
            latest = next(row for row in releases[0][1][model_type][name] if "modules" in row)
            inside = sorted(history.models(tree_of(latest, model_type, name)))
            rows = [{"before": first, "types": [], "classes": [], **step}]
            if "unknown" in step:
                rows[0]["unknown"] = f"how the modules of {name} were laid out before transformers {first} is not known"
            if last != first:
                gap = f"since when the modules of {name} have their names is known between {first} and {last} only"
                rows.insert(0, {"before": last, "since": first, "types": [], "classes": [], "unknown": gap})
            for row in rows:
                proven = row.pop("leaves", ())
                key = json.dumps(row)
                _add(found, key, row, model_type, name)
                if "unknown" not in row:
                    found[key]["models"] = sorted({*found[key].get("models", ()), *inside})
                    found[key]["leaves"] = sorted({*found[key].get("leaves", ()), *proven})
        steps += found.values()
        print(f"{older} -> {newer}: {len(found)} steps, {sum('unknown' in one for one in found.values())} not known")
    steps += recorded(changed, compared)
    return {
        "steps": steps,
        "adapter_renames": ranges(releases, steps, "renames"),
        "key_mapping": ranges(releases, steps, "key_mapping"),
    }


def newest(configs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The newest release's rows, from our facts."""
    from adapterfit.expect import modules
    from architectures.proof import ours

    types: dict[str, Any] = {}
    version = ""
    for model_type, classes in configs.items():
        known = modules.facts(model_type)
        version = (
            max(version, known["made"]["transformers"], key=_numbers) if version else known["made"]["transformers"]
        )
        for name, raws in classes.items():
            trees = [ours(model_type, name, raw) for raw in raws]
            types.setdefault(model_type, {})[name] = [
                _row(tree) if tree.known == "facts" and not tree.doubts else {"failed": "no facts"} for tree in trees
            ]
    return version, types


def _row(tree: ModuleTree) -> dict[str, Any]:
    return {
        "modules": [[m.name, m.kind, m.class_name, dict(m.params), m.groups] for m in tree.modules],
        "aliases": dict(tree.aliases),
        "tied": tree.tied,
        "embeddings": [tree.input_embeddings, tree.output_embeddings],
        "prefix": tree.prefix,
        "renames": [[one.pattern, one.replacement] for one in tree.adapter_renames],
        "key_mapping": {},
    }


def _classes(types: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for model_type, classes in sorted(types.items()):
        if model_type not in history.hand_written():
            yield from ((model_type, name) for name, rows in classes.items() if any("modules" in row for row in rows))


def _both(
    after: Sequence[dict[str, Any]], then: Sequence[dict[str, Any]], model_type: str, name: str
) -> list[tuple[ModuleTree, ModuleTree]]:
    return [
        (tree_of(new, model_type, name), tree_of(old, model_type, name))
        for new, old in zip(after, then)
        if "modules" in new and "modules" in old
    ]


def _step(
    after: Sequence[dict[str, Any]], then: Sequence[dict[str, Any]], model_type: str, name: str
) -> dict[str, Any]:
    both = _both(after, then, model_type, name)
    step = derived(both) if both else {}
    return {"unknown": name} if step is None else step


def recorded(changed: dict[str, Any], compared: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Doubts about changes that are on record and that none of these trees show, of types without facts too."""
    merged: dict[str, dict[str, Any]] = {}
    for name, entry in changed.items():
        for change in () if entry["model_type"] in history.hand_written() else entry["changes"]:
            point = _before(change["between"][1])
            if (name, point) not in compared:
                doubt = f"some modules had other names or another layout before transformers {point}"
                row = {"before": point, "types": [], "classes": [], "unknown": doubt}
                _add(merged, point, row, entry["model_type"], name)
    return sorted(merged.values(), key=lambda row: _numbers(row["before"]), reverse=True)


def _points(changed: dict[str, Any], model_type: str, name: str, older: str, newer: str) -> tuple[str, str]:
    """Between which releases a class changed: the first and the last of those on record, else all between the two."""
    of_type = [entry for entry in changed.values() if entry["model_type"] == model_type]
    for entries in ([changed[name]] if name in changed else [], of_type):
        found = {change["between"][1] for entry in entries for change in entry["changes"]}
        points = sorted((one for one in found if _numbers(older) < _numbers(one) <= _numbers(newer)), key=_numbers)
        if points:
            return _before(points[0]), _before(points[-1])
    major, minor = _numbers(older)[:2]
    return f"{major}.{minor + 1}", _before(newer)


def ranges(releases: list[tuple[str, dict[str, Any]]], steps: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """What a release has otherwise than the newest, with the releases for which it holds: until the modules changed."""
    merged: dict[str, dict[str, Any]] = {}
    for model_type, name in _classes(releases[0][1]):
        own = _said(releases[0][1][model_type][name], what)
        ends = [one["before"] for one in steps if name in one["classes"] and model_type in one["types"]]
        for version, types in releases[1:]:
            said = _said(types.get(model_type, {}).get(name, ()), what)
            if said is None or said == own or (version.startswith("4.") and what == "renames"):
                continue
            later = [end for end in ends if _numbers(end) > _numbers(version)[:2]]
            until = min(later, key=_numbers) if later else f"{_numbers(version)[0]}.{_numbers(version)[1] + 1}"
            held = {"versions": [_before(version), until], "types": [], "classes": [], "rename": said}
            _add(merged, json.dumps([version, until, said]), held, model_type, name)
    return list(merged.values())


def _add(merged: dict[str, Any], key: str, entry: dict[str, Any], model_type: str, name: str) -> None:
    """The same for one more class."""
    held = merged.setdefault(key, entry)
    held["types"] = sorted({*held["types"], model_type})
    held["classes"] = sorted({*held["classes"], name})


def _said(rows: Sequence[dict[str, Any]], what: str) -> list[list[str]] | None:
    row = next((row for row in rows if "modules" in row), None)
    if row is None:
        return None
    said = row[what] or []
    return [list(pair) for pair in (said.items() if isinstance(said, dict) else said)]


# ------------------------------------------------------------------------------------------------ score


def score(wanted: Path, paths: list[Path], *, verbose: bool) -> int:
    """Print, per release, how many trees are exact, not known, or wrong without saying so."""
    configs = json.loads(wanted.read_text())
    worst = 0
    for version, types in released(paths):
        counts: collections.Counter[str] = collections.Counter()
        for model_type, classes in types.items():
            for name, rows in classes.items():
                for raw, row in zip(configs[model_type][name], rows):
                    if "modules" in row:
                        said = judged(model_type, name, raw, row, version)
                        counts[said.partition(":")[0]] += 1
                        if said.startswith("wrong") or (verbose and said != "exact"):
                            print(f"  {version} {model_type} {name} {said}")
        worst += counts["wrong"]
        print(f"transformers {version}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())), flush=True)
    return 1 if worst else 0


def judged(model_type: str, name: str, raw: dict[str, Any], row: dict[str, Any], version: str) -> str:
    """`exact`, `doubts: …` or `wrong: …`."""
    from architectures.proof import ours

    tree = ours(model_type, name, raw)
    if tree.known != "facts" or tree.doubts:
        return "no facts"
    tree = history.as_built(tree, {"transformers": version, "peft": "0.21.2"})
    if tree.doubts:
        return f"doubts: {tree.doubts[0]}"
    left, right = weighty(tree), weighty(tree_of(row, model_type, name))
    if left != right and {n: m[0] for n, m in left.items()} == {n: m[0] for n, m in right.items()}:
        return "other sizes: that release does not know one of the config's fields"
    if left != right:
        extra = [each for each in left if left[each] != right.get(each)][:2]
        lost = [each for each in right if right[each] != left.get(each)][:2]
        return f"wrong: {extra} instead of {lost}"
    return "exact"


def _text(facts: dict[str, Any]) -> str:
    """One line for each entry."""
    parts = [
        f' "{what}": [\n' + ",\n".join("  " + json.dumps(entry) for entry in entries) + "\n ]"
        for what, entries in facts.items()
    ]
    about = "Derived by tools/older_trees.py from the trees that each release builds; do not edit."
    return "{\n" + f' "about": {json.dumps(about)},\n' + ",\n".join(parts) + "\n}\n"


def main() -> int:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cases", "collect", "derive", "score"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if options.what == "cases":
        cases(options.paths[0], options.seeds)
    elif options.what == "collect":
        collect(*options.paths)
    elif options.what == "derive":
        OUT.write_text(_text(derive(options.paths[0], options.paths[1:])))
    else:
        return score(options.paths[0], options.paths[1:], verbose=options.verbose)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
