"""`make load-sim`: adapters of one transformers on another one, as real PEFT loads them, beside our prediction.

    load_sim.py collect OUT.json    run by the transformers that saved: module names and sizes of every class, on meta
    load_sim.py simulate SEEN.json SAVED.json… BASES.json
                                    run by the libraries that load: what real PEFT does, for pairs of our own
    load_sim.py score [--seen SEEN.json]… SAVED.json… BASES.json…
    load_sim.py trees SAVED.json…   the Linear modules that we say each of these releases builds, beside those that it built

The shared `adapter_load_sim.json` says what real PEFT did with a LoRA (r = 4) on every Linear (or on attention's alone) of
the default config with two layers. The adapters themselves are not in it: `collect` makes their names and sizes again from
the library that had them. A class whose number of modules then differs from the recorded one is counted as *not rebuilt*.
`simulate` writes the same for other pairs of versions, but for classes whose modules are the same in both; bases are what
`collect` finds with the libraries that load.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a default config may name a backbone to look up

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "transformers"
TRUTH = SHARED / "adapter_load_sim.json"
#: The classes that ever had other names, and those that we know: they are collected from any release.
CHANGES = SHARED / "transformers_runtime_renames.json"
FACTS = Path(__file__).resolve().parents[1] / "src" / "adapterfit" / "expect" / "architectures"
TARGETS = ("all", "attn")
RANK = 4
#: Fields of a config that count layers; the simulation set each to two.
_LAYERS = re.compile(
    "num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|num_encoder_layers|num_decoder_layers|depth|"
    "num_hidden_layers_.*|text_layers|n_layer"
)
#: Lists of the kind of each layer, of which the simulation kept one of each.
_KINDS = frozenset(("layer_types",))
#: Modules of a head, which `targets=all` left out.
_HEADS = (
    "lm_head|cls|classifier|score|qa_outputs|embed_out|predictions|generator_predictions|classification_head|"
    "output_projection"
)
_HEAD = re.compile(rf"^(?:{_HEADS})\.|(?:^|\.)(?:{_HEADS})$")
#: The last names of attention's projections, by which `targets=attn` chose.
_ATTENTION = frozenset(
    (
        "q_proj",
        "k_proj",
        "v_proj",
        "query",
        "key",
        "value",
        "q",
        "k",
        "v",
        "query_key_value",
        "qkv",
        "qkv_proj",
        "c_attn",
        "in_proj",
        "q_a_proj",
        "kv_a_proj_with_mqa",
    )
)
#: What the simulation saw → what a check must say.
_DUE = {
    "OK": ("loads",),
    "MISMATCH": ("loads-partly", "loads-without-effect"),
    "INJECT_EXC": ("raises",),
    "LOAD_EXC": ("raises",),
    "RAISES": ("raises",),
}


class Row(NamedTuple):
    """One class on one pair of versions: the recorded outcome, and the adapter that was loaded."""

    pair: str
    name: str
    truth: dict[str, Any]
    modules: dict[str, list[int]] | None


# ------------------------------------------------------------------------------------------------ collect


def collect(out: Path) -> None:
    """Write module names and sizes (`[out, in]`) of every class that this transformers can build on meta."""
    import transformers

    transformers.logging.set_verbosity_error()
    here = transformers.__version__
    wanted = {name for found in recorded().values() for name in found}
    wanted |= {f"{entry['model_type']}|{name}" for name, entry in json.loads(CHANGES.read_text())["classes"].items()}
    known = (json.loads(path.read_text()) for path in FACTS.glob("[!_]*.json"))
    wanted |= {f"{facts['model_type']}|{name}" for facts in known for name in facts["classes"]}
    found = {name: made for name in sorted(wanted) if (made := built(name))}
    out.write_text(json.dumps({"transformers": here, "classes": found}))


def built(name: str) -> dict[str, Any] | None:
    """Config and Linear modules (`[out, in]`) of a class with two layers, on meta; None where it cannot be built."""
    import torch

    model = _model(name)
    if model is None:
        return None
    linear = {n: [m.out_features, m.in_features] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    config = json.loads(model.config.to_json_string(use_diff=False))
    _cut(config)
    return {"config": config, "modules": linear}


def _cut(config: dict[str, Any]) -> None:
    """Without what the config says of layers that there are no more, from which no model could be built."""
    for part in (value for value in config.values() if isinstance(value, dict)):
        _cut(part)
    layers, depth = config.get("per_layer_config"), config.get("num_hidden_layers")
    if isinstance(layers, dict) and isinstance(depth, int):
        config["per_layer_config"] = {at: own for at, own in layers.items() if int(at) < depth} or None
    stages, handed = config.get("stage_names"), config.get("out_features")
    if isinstance(stages, list) and isinstance(depth, int) and isinstance(handed, list) and len(stages) > depth + 1:
        config["stage_names"] = stages[: depth + 1]  # one for each layer and one before, as in a vision transformer
        kept = [name for name in handed if name in config["stage_names"]] or None
        config.update(out_features=kept, out_indices=kept and [stages.index(name) for name in kept])


def _model(name: str) -> Any:
    import torch
    import transformers

    for shallow in (True, False):  # some cannot be built with fewer layers than their lists of them say
        try:  # a name that this release has not, or that needs a library which is not there
            model_class = getattr(transformers, name.partition("|")[2])
            config = model_class.config_class()
            if shallow:
                _shrink(config, set())
            with torch.device("meta"):
                return model_class(config).eval()
        except Exception:
            continue
    return None


def _shrink(config: Any, seen: set[int]) -> None:
    if id(config) in seen:
        return
    seen.add(id(config))
    for key, value in list(vars(config).items()):
        if hasattr(value, "to_diff_dict"):
            _shrink(value, seen)
        elif type(value) is int and value > 2 and _LAYERS.fullmatch(key.lstrip("_")):
            setattr(config, key, 2)
        elif key in _KINDS and isinstance(value, list) and len(set(value)) == 2:
            setattr(config, key, list(dict.fromkeys(value)))
    for key, found in ((k, v) for c in type(config).__mro__ for k, v in vars(c).items() if _LAYERS.fullmatch(k)):
        if isinstance(found, property) and found.fset is not None:
            setattr(config, key, 2)
    for alias, key in type(config).attribute_map.items():
        if type(getattr(config, key, None)) is int and getattr(config, key) > 2 and _LAYERS.fullmatch(alias):
            setattr(config, key, 2)


# ------------------------------------------------------------------------------------------------ simulate


def simulate(out: Path, paths: list[str]) -> None:
    """Load what these releases saved, class by class, and write what PEFT did; what is the same is loaded once."""
    import peft
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    pairs: dict[str, dict[str, Any]] = {}
    releases = [json.loads(Path(path).read_text()) for path in paths]
    own = next(made["classes"] for made in releases if made["transformers"] == transformers.__version__)
    for made in (one for one in releases if one["classes"] is not own):
        for targets in TARGETS:
            pair = f"{made['transformers']} -> {transformers.__version__} peft {peft.__version__} targets={targets}"
            found = pairs.setdefault(pair, {})
            for name, entry in made["classes"].items():
                modules = _chosen(entry["modules"], targets)
                if modules and entry["modules"] != own.get(name, {}).get("modules"):
                    key = (name, json.dumps(modules))
                    seen[key] = found[name] = seen.get(key) or _loaded(name, modules)
            print(f"{pair}: {len(found)} classes", flush=True)
            out.write_text(json.dumps(pairs, indent=0))


def _loaded(name: str, modules: dict[str, list[int]]) -> dict[str, Any]:
    import peft
    import torch

    from adapterfit.exact.judge import asked

    base = _model(name)
    if base is None:
        return {"st": "CLASS_GONE"}
    question = {"adapter_config": _config(modules), "pickled": False, "tensors": list(_tensors(modules))}
    answer = asked(base, question, peft, torch)
    if "cannot" in answer:
        return {"st": "CANNOT", "e": answer["cannot"][:300]}
    if answer["raised"]:
        return {"st": "RAISES", "e": answer["raised"][:300], "nold": len(modules)}
    dropped, missing = answer["unexpected"], answer["missing"]
    counts = {"unexp": len(dropped), "miss": len(missing), "nold": len(modules), "exu": dropped[:8], "exm": missing[:8]}
    return {"st": "MISMATCH" if dropped or missing else "OK", **counts}


def _config(modules: dict[str, list[int]]) -> dict[str, Any]:
    targets = sorted({_target(name) for name in modules})
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": targets}


def _tensors(modules: dict[str, list[int]]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for name, (rows_out, columns) in modules.items():
        for letter, shape in (("A", (RANK, columns)), ("B", (rows_out, RANK))):
            yield f"base_model.model.{name}.lora_{letter}.weight", "F32", shape


# ------------------------------------------------------------------------------------------------ score


def recorded(*seen: str) -> dict[str, Any]:
    """Pair of versions → class → what was seen: of the shared simulation, or of these."""
    found = {pair: entry for path in seen or (TRUTH,) for pair, entry in json.loads(Path(path).read_text()).items()}
    return {pair: entry for pair, entry in found.items() if pair != "_meta"}


def rows(saved: dict[str, Any], *seen: str) -> Iterator[Row]:
    """The recorded outcomes that can be predicted; modules are None where the adapter could not be rebuilt."""
    for pair, found in recorded(*seen).items():
        version = pair.partition(" ")[0]
        if version not in saved:
            continue
        for name, truth in found.items():
            if truth["st"] in _DUE:
                made = saved[version].get(name)
                yield Row(pair, name, truth, _targeted(made, truth, pair) if made else None)


def _targeted(made: dict[str, Any], truth: dict[str, Any], pair: str) -> dict[str, list[int]] | None:
    modules = _chosen(made["modules"], pair.rpartition("=")[2])
    return modules if len(modules) == truth["nold"] else None


def _chosen(modules: dict[str, list[int]], targets: str) -> dict[str, list[int]]:
    return {
        name: size
        for name, size in modules.items()
        if not _HEAD.search(name) and (targets == "all" or name.rpartition(".")[2] in _ATTENTION)
    }


def predict(row: Row, config: dict[str, Any]) -> Any:
    """Our report on the row's adapter, and the base as the transformers that loads has it by default."""
    from adapterfit import pipeline
    from adapterfit.read.base import read_base
    from adapterfit.read.config import parse_config
    from adapterfit.read.sources.memory import MemorySource
    from adapterfit.records import Adapter, TensorInfo, Weights

    class_name = row.name.partition("|")[2]
    base = read_base(MemorySource({"config.json": json.dumps({**config, "architectures": [class_name]}).encode()}))
    modules = row.modules or {}
    loader, peft = row.pair.partition(" -> ")[2].split(" targets")[0].split(" peft ")
    raw = {**_config(modules), "peft_version": peft}
    tensors = tuple(TensorInfo(*each, "adapter_model.safetensors") for each in _tensors(modules))
    weights = Weights("adapter_model.safetensors", "safetensors", 0, tensors)
    adapter = Adapter("simulated", config=parse_config(json.dumps(raw).encode()), weights=weights)
    return pipeline.check(adapter, base, f"peft=={peft},transformers=={loader}", base_class=class_name)


def _target(name: str) -> str:
    """A module's last name; with the one before where that is a number, which alone would meet every layer of its number."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]


def verdict(row: Row, report: Any) -> str:
    """`agrees`, `cannot tell`, or what differs."""
    if report.predicted == "cannot-tell":
        return "cannot tell"
    truth = row.truth
    if report.predicted not in _DUE[truth["st"]]:
        return f"{truth['st']} but {report.predicted}"
    if "e" in truth and report.raised is not None:
        kind = truth["e"].partition(":")[0]
        return "agrees" if report.raised.kind.rpartition(".")[2] == kind else f"{kind} but {report.raised.kind}"
    fused = any(
        ".experts.base_layer.lora_" in name for name in truth.get("exu", ())
    )  # PEFT names them after fusing, we before
    if truth["st"] == "MISMATCH" and report.counts.extra != truth["unexp"] and not fused:
        return f"{truth['unexp']} dropped but {report.counts.extra}"
    return "agrees"


def _title(row: Row) -> str:
    return f"{row.pair.partition(' peft')[0]} {row.pair.rpartition('=')[2]} {row.name}"


def score(paths: list[str], seen: list[str], *, verbose: bool) -> int:
    """Print one line per pair of versions, and every row that differs; returns the exit code."""
    saved = {made["transformers"]: made["classes"] for made in (json.loads(Path(path).read_text()) for path in paths)}
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows(saved, *seen):
        made = saved[row.pair.partition(" -> ")[2].split(" ")[0]].get(row.name)
        if row.modules is None or made is None:
            table[row.pair]["not rebuilt"] += 1
            continue
        report = predict(row, made["config"])
        said = verdict(row, report)
        table[row.pair][said if said in ("agrees", "cannot tell") else "differs"] += 1
        if said == "cannot tell":
            if verbose:
                why = next((each.why for each in report.not_checked), "")
                print(f"  ?  {_title(row)}: {why[:150]}", flush=True)
        elif said != "agrees":
            print(f"  !! {_title(row)}: {said}", flush=True)
    for pair, counts in table.items():
        print(f"{pair}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if any(counts["differs"] for counts in table.values()) else 0


def trees(paths: list[str]) -> int:
    """Print one line per release, and every class whose tree we are wrong about without a doubt; returns the exit code."""
    wrong = 0
    for path in paths:
        made = json.loads(Path(path).read_text())
        counts: collections.Counter[str] = collections.Counter()
        for name, built in made["classes"].items():
            said, why = _tree(name.partition("|")[2], built, made["transformers"])
            counts[said] += 1
            if said == "wrong":
                print(f"  !! {made['transformers']} {name}: {why}", flush=True)
        wrong += counts["wrong"]
        print(f"{made['transformers']}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if wrong else 0


def _tree(class_name: str, built: dict[str, Any], transformers: str) -> tuple[str, str]:
    """`right`, `doubted`, `no facts` or `wrong`, and for the last the first modules that differ."""
    from adapterfit.errors import BadInput
    from adapterfit.expect import history, modules
    from adapterfit.read.base import read_base
    from adapterfit.read.sources.memory import MemorySource

    config = built["config"]
    if not built["modules"] or class_name not in modules.class_names(config.get("model_type", "")):
        return "no facts", ""
    try:
        text = json.dumps({**config, "architectures": [class_name]}).encode()
        now = modules.tree(read_base(MemorySource({"config.json": text})), class_name)
    except BadInput:
        return "doubted", ""
    then = history.as_built(now, {"transformers": transformers, "peft": "0.21.2"})
    if then.doubts:
        return "doubted", ""
    ours = {each.name: list(each.params["weight"]) for each in then.modules if each.kind == "Linear"}
    theirs = built["modules"]
    extra = [name for name in ours if name not in theirs and name not in then.aliases]
    lacking = [name for name in theirs if name not in ours]
    sizes = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if not (extra or lacking or sizes):
        return "right", ""
    return "wrong", f"{extra[:2]} too much, {lacking[:2]} missing, {sizes[:2]} of other sizes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("collect", "simulate", "score", "trees"))
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--seen", action="append", default=[], help="pairs of `simulate`, in place of the shared ones")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if options.what == "collect":
        collect(Path(options.paths[0]))
    elif options.what == "simulate":
        simulate(Path(options.paths[0]), options.paths[1:])
    elif options.what == "trees":
        return trees(options.paths)
    else:
        return score(options.paths, options.seen, verbose=options.verbose)
    return 0


if __name__ == "__main__":
    sys.exit(main())
