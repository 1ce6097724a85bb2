"""`make load-sim`: adapters of older transformers on the newest one, as simulated for the shared data, beside our prediction.

    load_sim.py collect OUT.json    run by the transformers that saved: module names and sizes of every class, on meta
    load_sim.py score SAVED.json… BASES.json

The shared `adapter_load_sim.json` says what real PEFT did with a LoRA (r = 4) on every Linear (or on attention's alone) of
the default config with two layers. The adapters themselves are not in it: `collect` makes their names and sizes again from
the library that had them. A class whose number of modules then differs from the recorded one is counted as *not rebuilt*.
"""

from __future__ import annotations

import collections
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TRUTH = Path(__file__).resolve().parents[2] / "shared" / "data" / "transformers" / "adapter_load_sim.json"
RANK = 4
#: Fields of a config that count layers; the simulation set each to two.
_LAYERS = re.compile(
    "num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|num_encoder_layers|num_decoder_layers|depth|"
    "num_hidden_layers_.*|text_layers|n_layer"
)
#: Modules of a head, which `targets=all` left out.
_HEAD = re.compile(
    r"(?:^|\.)(?:lm_head|cls|classifier|score|qa_outputs|embed_out|predictions|generator_predictions|classification_head|"
    r"output_projection)(?:\.|$)"
)
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
    )
)
#: What the simulation saw → what a check must say.
_DUE = {
    "OK": ("loads",),
    "MISMATCH": ("loads-partly", "loads-without-effect"),
    "INJECT_EXC": ("raises",),
    "LOAD_EXC": ("raises",),
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
    wanted = {
        name for pair, found in recorded().items() if here in pair.split(" peft")[0].split(" -> ") for name in found
    }
    found = {name: made for name in sorted(wanted) if (made := built(name))}
    out.write_text(json.dumps({"transformers": here, "classes": found}))


def built(name: str) -> dict[str, Any] | None:
    """Config and Linear modules (`[out, in]`) of a class with two layers, on meta; None where it cannot be built."""
    import torch
    import transformers

    model_class = getattr(transformers, name.partition("|")[2], None)
    if model_class is None:
        return None
    try:
        config = model_class.config_class()
        _shrink(config, set())
        with torch.device("meta"):
            model = model_class(config)
    except Exception:
        return None
    linear = {n: [m.out_features, m.in_features] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return {"config": json.loads(config.to_json_string(use_diff=False)), "modules": linear}


def _shrink(config: Any, seen: set[int]) -> None:
    if id(config) in seen:
        return
    seen.add(id(config))
    for key, value in list(vars(config).items()):
        if hasattr(value, "to_diff_dict"):
            _shrink(value, seen)
        elif type(value) is int and value > 2 and _LAYERS.fullmatch(key.lstrip("_")):
            setattr(config, key, 2)
    for alias, key in type(config).attribute_map.items():
        if type(getattr(config, key, None)) is int and getattr(config, key) > 2 and _LAYERS.fullmatch(alias):
            setattr(config, key, 2)


# ------------------------------------------------------------------------------------------------ score


def recorded() -> dict[str, Any]:
    """Pair of versions → class → what was seen."""
    return {pair: found for pair, found in json.loads(TRUTH.read_text()).items() if pair != "_meta"}


def rows(saved: dict[str, Any]) -> Iterator[Row]:
    """The recorded outcomes that can be predicted; modules are None where the adapter could not be rebuilt."""
    for pair, found in recorded().items():
        version = pair.partition(" ")[0]
        if version not in saved:
            continue
        for name, truth in found.items():
            if truth["st"] in _DUE:
                made = saved[version].get(name)
                yield Row(pair, name, truth, _targeted(made, truth, pair) if made else None)


def _targeted(made: dict[str, Any], truth: dict[str, Any], pair: str) -> dict[str, list[int]] | None:
    modules = {name: size for name, size in made["modules"].items() if not _HEAD.search(name)}
    if pair.endswith("attn"):
        modules = {name: size for name, size in modules.items() if name.rpartition(".")[2] in _ATTENTION}
    return modules if len(modules) == truth["nold"] else None


def predict(row: Row, config: dict[str, Any]) -> Any:
    """Our report on the row's adapter and the base of the newest transformers."""
    from adapterfit import pipeline
    from adapterfit.read.base import read_base
    from adapterfit.read.config import parse_config
    from adapterfit.read.sources.memory import MemorySource
    from adapterfit.records import Adapter, TensorInfo, Weights

    class_name = row.name.partition("|")[2]
    base = read_base(MemorySource({"config.json": json.dumps({**config, "architectures": [class_name]}).encode()}))
    targets = sorted({_target(name) for name in row.modules or ()})
    raw = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": targets, "peft_version": "0.21.2"}
    tensors = [
        TensorInfo(f"base_model.model.{name}.lora_{letter}.weight", "F32", shape, "adapter_model.safetensors")
        for name, (rows_out, columns) in (row.modules or {}).items()
        for letter, shape in (("A", (RANK, columns)), ("B", (rows_out, RANK)))
    ]
    weights = Weights("adapter_model.safetensors", "safetensors", 0, tuple(tensors))
    adapter = Adapter("simulated", config=parse_config(json.dumps(raw).encode()), weights=weights)
    return pipeline.check(adapter, base=base, base_class=class_name)


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


def score(paths: list[str], *, verbose: bool) -> int:
    """Print one line per pair of versions, and every row that differs; returns the exit code."""
    saved = {made["transformers"]: made["classes"] for made in (json.loads(Path(path).read_text()) for path in paths)}
    bases = saved["5.23.0"]
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows(saved):
        made = bases.get(row.name)
        if row.modules is None or made is None:
            table[row.pair]["not rebuilt"] += 1
            continue
        report = predict(row, made["config"])
        said = verdict(row, report)
        table[row.pair][said if said in ("agrees", "cannot tell") else "differs"] += 1
        if said == "cannot tell":
            if verbose:
                why = next((each.why for each in report.not_checked), "")
                print(f"  ?  {_title(row)}: {why[:150]}")
        elif said != "agrees":
            print(f"  !! {_title(row)}: {said}")
    for pair, counts in table.items():
        print(f"{pair}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if any(counts["differs"] for counts in table.values()) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["collect"]:
        collect(Path(sys.argv[2]))
    else:
        asked = [each for each in sys.argv[2:] if not each.startswith("-")]
        sys.exit(score(asked, verbose="--verbose" in sys.argv))
