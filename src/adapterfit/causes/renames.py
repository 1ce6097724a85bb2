"""How transformers renamed the modules of its models over the years: one small table, read in both directions.

PEFT saves the names that modules have at that moment, so an adapter carries the names of the transformers it was
trained with. Source: the module trees of transformers 4.28 to 5.23, built and compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from adapterfit.causes import anatomy, evidence
from adapterfit.records import Diff, TensorInfo


class Renaming(NamedTuple):
    """Path segments `old` became `new` in transformers `since`. `^`: at the start only; `*`: a number.

    `types`: the beginnings of the model types it is true for; none for all.
    """

    old: str
    new: str
    since: str
    types: tuple[str, ...] = ()


_QWEN_VL = ("qwen2_vl", "qwen2_5_vl")
_VIT = "encoder.layer.*."
RENAMINGS = (
    Renaming("^language_model.model", "^model.language_model", "4.52"),
    Renaming("^language_model.lm_head", "^lm_head", "4.52"),
    Renaming("^vision_tower", "^model.vision_tower", "4.52"),
    Renaming("^multi_modal_projector", "^model.multi_modal_projector", "4.52"),
    Renaming("^language_model.model", "^language_model", "4.52"),
    Renaming("^visual", "^model.visual", "4.52", _QWEN_VL),
    Renaming("^model.layers", "^model.language_model.layers", "4.52", _QWEN_VL),
    Renaming("^model.embed_tokens", "^model.language_model.embed_tokens", "4.52", _QWEN_VL),
    Renaming("^layers", "^language_model.layers", "4.52", _QWEN_VL),
    Renaming("^embed_tokens", "^language_model.embed_tokens", "4.52", _QWEN_VL),
    Renaming("block_sparse_moe", "mlp", "5.0"),
    Renaming("encoder.encoder", "encoder.aifi", "5.1", ("rt_detr",)),
    Renaming("^vlm.model", "^vlm", "5.5"),
    Renaming("vision_tower.vision_model", "vision_tower", "5.6"),
    Renaming("^vision_model", "^", "5.6", ("clip_vision", "siglip", "chinese_clip_vision", "mlcd")),
    Renaming("^text_model", "^", "5.6", ("clip_text", "siglip", "chinese_clip_text")),
    *(Renaming(f"{_VIT}attention.attention.{old}", f"layers.*.attention.{new}", "5.9")
      for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))),
    Renaming(f"{_VIT}attention.output.dense", "layers.*.attention.o_proj", "5.9"),
    Renaming(f"{_VIT}intermediate.dense", "layers.*.mlp.fc1", "5.9"),
    Renaming(f"{_VIT}output.dense", "layers.*.mlp.fc2", "5.9"),
    Renaming("^audio_tower", "^model.audio_tower", "5.10"),
    Renaming("^embed_out", "^lm_head", "5.14", ("gpt_neox",)),
    *(Renaming(f"attention.attention.{old}", f"attention.{new}", "5.18")
      for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))),
    Renaming(f"{_VIT}attention.output.dense", f"{_VIT}attention.o_proj", "5.18"),
)  # fmt: skip
#: Renamings in a row: a tensor of a vision tower went through three.
_STEPS = 4
_INNER = ".base_layer"


class Chain(NamedTuple):
    """New names for tensors, the renamings that lead there, and whether they lead to newer names."""

    names: Mapping[TensorInfo, str]
    steps: tuple[Renaming, ...]
    newer: bool


def chain(diff: Diff, stray: Iterable[TensorInfo]) -> Chain | None:
    """The shortest chains of renamings, all in one direction, under which every tensor has a module of its own."""
    stray = list(stray)
    known = frozenset(map(_pattern, anatomy.modules(diff)))
    rules = tuple(
        rule for rule in RENAMINGS if not rule.types or diff.expectation.tree.model_type.startswith(rule.types)
    )
    for newer in (True, False):
        found = _named(stray, known, rules, newer=newer)
        if found is not None and found.steps and (evidence.lands(diff, found.names) or anatomy.sit(diff, found.names)):
            return found
    return None


def _named(stray: list[TensorInfo], known: frozenset[str], rules: tuple[Renaming, ...], *, newer: bool) -> Chain | None:
    names: dict[TensorInfo, str] = {}
    steps: dict[Renaming, None] = {}
    for tensor in stray:
        path, leaf = _split(tensor.name)
        found = _shortest(_pattern(path), known, rules, newer)
        if found is None or not tensor.name.startswith(evidence.PREFIX):
            return None
        pattern, used = found
        steps.update(dict.fromkeys(used))
        names[tensor] = f"{evidence.PREFIX}{_numbered(pattern, path)}.{leaf}"
    return Chain(names, tuple(steps), newer)


def _split(name: str) -> tuple[str, str]:
    """A module's path and the rest of a tensor's name."""
    parts = evidence.parts(name)
    if parts.leaf:
        return parts.module, parts.leaf
    path, _, param = parts.module.rpartition(".")
    return (path[: -len(_INNER)], f"{_INNER[1:]}.{param}") if path.endswith(_INNER) else (path, param)


def _pattern(path: str) -> str:
    """A path with its numbers taken out."""
    return ".".join("*" if evidence.is_number(part) else part for part in path.split("."))


def _numbered(pattern: str, path: str) -> str:
    """A pattern with the numbers of `path` put in, in their order."""
    numbers = iter([part for part in path.split(".") if evidence.is_number(part)])
    return ".".join(next(numbers, "*") if part == "*" else part for part in pattern.split("."))


@lru_cache(maxsize=4096)
def _shortest(
    pattern: str,
    known: frozenset[str],
    rules: tuple[Renaming, ...],
    newer: bool,
) -> tuple[str, tuple[Renaming, ...]] | None:
    """Breadth first, so the first arrival is the shortest way. A name that is right already needs none."""
    seen = {pattern}
    queue: deque[tuple[str, tuple[Renaming, ...]]] = deque([(pattern, ())])
    while queue:
        here, used = queue.popleft()
        if here in known:
            return here, used
        for rule in rules if len(used) < _STEPS else ():
            there = _step(here, rule.old, rule.new) if newer else _step(here, rule.new, rule.old)
            if there is not None and there not in seen:
                seen.add(there)
                queue.append((there, (*used, rule)))
    return None


def _step(pattern: str, old: str, new: str) -> str | None:
    """`pattern` with the first run of segments `old` replaced, or None where it has none."""
    segments = pattern.split(".")
    wanted = [part for part in old.lstrip("^").split(".") if part]
    last = 0 if old.startswith("^") else len(segments) - len(wanted)
    for at in range(last + 1):
        if segments[at : at + len(wanted)] == wanted:
            put = [part for part in new.lstrip("^").split(".") if part]
            return ".".join([*segments[:at], *put, *segments[at + len(wanted) :]])
    return None
