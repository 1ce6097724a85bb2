"""The tree from facts and config beside the model that transformers builds on the meta device: whole, and in order.

What is compared with is read by `adapterfit.read.live`; of the generator only its way to draw configs is used here.
"""

from __future__ import annotations

import copy
import json
import random
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.read.live import base_from_module
from adapterfit.records import Base, ModuleTree
from architectures.sample import Sampler

PROMPT = (
    "num_hidden_layers", "num_layers", "n_layer", "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head",
    "num_heads", "encoder_attention_heads", "num_key_value_heads", "head_dim",
)  # fmt: skip
#: How many of the fields config.json has: all, as a new library writes it; few, as old ones do.
SHARES = (1, 0.5, 0.15)


def thinned(raw: dict[str, Any], rng: random.Random, share: float) -> dict[str, Any]:
    """A config.json that leaves fields out, as files of older libraries do."""
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, dict) and key.endswith("_config"):
            kept[key] = {k: v for k, v in value.items() if k == "model_type" or rng.random() < share}
        elif rng.random() < share:
            kept[key] = value
    return kept


def on_meta(class_name: str, config: Any) -> Any:
    """The model of this class without weights; ValueError where none with such sizes could run."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    from architectures import observe

    cls = getattr(transformers, class_name)
    with torch.device("meta"), no_init_weights(), warnings.catch_warnings(), observe.without_tables(cls):
        warnings.simplefilter("ignore")
        model = cls(config)
    model.tie_weights()
    observe.sound(model)
    return model


def default(model_type: str, class_name: str) -> Any:
    """The model that the config class's own defaults make."""
    from transformers import AutoConfig

    return on_meta(class_name, AutoConfig.for_model(model_type))


def drawn(
    model_type: str, class_name: str, seed: int, share: float, tries: int = 200, seconds: float = 60
) -> tuple[dict[str, Any], Any] | None:
    """A random config.json from which transformers builds the class, and the model; None where none was found."""
    rng = random.Random(f"{model_type}{class_name}{seed}")
    sampler = Sampler(model_type, rng)
    until = time.process_time() + seconds
    for _ in range(tries):
        raw = sampler.raw()
        if share < 1:
            raw = thinned(raw, rng, share)
        try:
            return raw, on_meta(class_name, sampler.config(raw))
        except Exception:
            if time.process_time() > until:
                break
    return None


def at_edges(
    model_type: str, class_name: str, seed: int, count: int, seconds: float = 60
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Default configs with one field at an edge, of those that build, and the models."""
    from architectures import edges

    yield from _built(model_type, class_name, edges.drawn(model_type, seed, count) if count else (), seconds)


def at_branches(model_type: str, class_name: str, seconds: float = 60) -> Iterator[tuple[dict[str, Any], Any]]:
    """Default configs with one field as the source compares it, of those that build, and the models."""
    from architectures import branches

    yield from _built(model_type, class_name, branches.drawn(model_type), seconds)


def _built(
    model_type: str, class_name: str, raws: Iterable[dict[str, Any]], seconds: float
) -> Iterator[tuple[dict[str, Any], Any]]:
    from transformers import AutoConfig

    until = time.process_time() + seconds
    for raw in raws:
        if time.process_time() > until:
            return
        try:
            model = on_meta(class_name, AutoConfig.for_model(model_type, **copy.deepcopy(raw)))
        except Exception:
            continue
        yield raw, model


def as_saved(
    model_type: str, class_name: str, seed: int, count: int, seconds: float = 60
) -> Iterator[tuple[dict[str, Any], Any]]:
    """The default config as it is saved, so many random ones so, and so many changes of the first; of those that build."""
    from architectures import saved

    until = time.process_time() + seconds
    start = saved.default(model_type)
    changes = saved.changes(model_type, start)
    chosen = sorted(random.Random(f"{model_type}{seed}").sample(range(len(changes)), min(count, len(changes))))
    raws = [start, *saved.drawn(model_type, seed, count), *(saved.changed(start, changes[at]) for at in chosen)]
    for raw in raws if count else ():
        if time.process_time() > until:
            return
        try:
            model = on_meta(class_name, saved.read(model_type, raw))
        except Exception:
            continue
        yield {key: value for key, value in raw.items() if key != "model_type"}, model


def everything(tree: ModuleTree) -> dict[str, Any]:
    """All that must be equal, in order."""
    return {
        "modules": [
            (m.name, m.kind, m.class_name, tuple(m.params.items()), m.groups, m.transposed_experts and bool(m.params))
            for m in tree.modules
        ],
        "prefix": tree.prefix,
        "aliases": dict(tree.aliases),
        "tied": sorted(tuple(sorted(group)) for group in tree.tied),
        "embeddings": (tree.input_embeddings, tree.output_embeddings),
        "unembedded": tree.unembedded,
        "prompt": prompt_fields(tree.config),
    }


def prompt_fields(config: Any) -> dict[str, Any]:
    """What PEFT's prompt learning reads from a config, as JSON has it."""
    config = json.loads(json.dumps(config, default=str))
    found = {key: config[key] for key in PROMPT if key in config}
    if isinstance(config.get("text_config"), dict):
        found["text_config"] = {key: config["text_config"][key] for key in PROMPT if key in config["text_config"]}
    return found


def ours(model_type: str, class_name: str, raw: dict[str, Any]) -> ModuleTree:
    """The tree from facts."""
    return modules.tree(Base("x", config={**copy.deepcopy(raw), "model_type": model_type}), class_name)


def differences(found: ModuleTree, model: Any) -> list[str]:
    """What the tree has wrong about the model, in words; empty where they are equal."""
    left, right = everything(found), everything(base_from_module(model).tree)
    told = []
    for key, wanted in right.items():
        if left[key] == wanted:
            continue
        if key != "modules":
            told.append(f"{key}: {left[key]!r} instead of {wanted!r}"[:400])
            continue
        extra = [m for m in left[key] if m not in wanted]
        lost = [m for m in wanted if m not in left[key]]
        told += [f"{len(extra)} modules that transformers does not build: {extra[:3]}"] if extra else []
        told += [f"{len(lost)} modules that the facts do not know: {lost[:3]}"] if lost else []
        told += ["the order of modules"] if not extra and not lost else []
    return told


def verdict(model_type: str, class_name: str, raw: dict[str, Any], model: Any) -> tuple[str, str]:
    """`exact`, `doubts` (said not to know) or `wrong`, and why."""
    try:
        found = ours(model_type, class_name, raw)
    except BadInput as problem:
        return "wrong", f"refused: {problem.flaw.message if hasattr(problem, 'flaw') else problem}"[:400]
    if found.known != "facts" or found.doubts:
        return "doubts", (found.doubts or ("no facts",))[0]
    wrong = differences(found, model)
    return ("wrong", "; ".join(wrong)[:600]) if wrong else ("exact", "")
