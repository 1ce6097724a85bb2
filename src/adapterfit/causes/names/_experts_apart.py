"""A LoRA on fused experts, for a base that has a Linear for every expert: taken apart without loss.

A of a parameter is (E r, in), expert after expert, B (out, r E), rank after rank. Every expert gets its rows of A and its columns
of B; gate and up share A and halve B by rows. PEFT <= 0.19.0 took the other side for the input: then A'_e = B_e^T, B'_e = A_e^T.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapterfit.causes import anatomy, evidence, reconfigure
from adapterfit.causes.dates import is_older
from adapterfit.causes.names._experts import DOWN, GATE_UP
from adapterfit.causes.names._fusing import Cannot
from adapterfit.causes.reconfigure import Strength
from adapterfit.edits import Copy, Edit, Rename, Reshape, SetConfig, Split, Transpose
from adapterfit.records import Case, Diff, Module, TensorInfo

_A, _B = "lora_A.weight", "lora_B.weight"
_INNER = ".base_layer"
#: Names of an expert's gate, up and down.
_LEAVES = (("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj"))


class Ambiguous(Cannot):
    """Square matrices of an unknown release."""


@dataclass(frozen=True)
class Fused:
    """One parameter: its name in the file's base, the experts' place in this one, its pair, and its Linears' (leaf, out, in)."""

    name: str
    holder: str
    count: int
    a: TensorInfo
    b: TensorInfo
    parts: tuple[tuple[str, int, int], ...]


def holder(module: str, by_name: Mapping[str, Module]) -> str:
    """Where the base has one Linear per expert for a fused tensor's module; empty where it has not."""
    path = module.partition(_INNER)[0]
    if not path.endswith(".experts"):
        return ""
    found = (each for each in (path, path.replace(".mlp.", ".block_sparse_moe.")) if f"{each}.0" in by_name)
    return next((each for each in found if not anatomy.of_experts(by_name.get(each))), "")


def cure(case: Case, diff: Diff) -> tuple[Edit, ...]:
    """The edits for all fused experts of the file, and the config that goes with them.

    Raises:
        Cannot: They would not be exact.
        Ambiguous: The sides are alike, and no release is recorded.
    """
    config = case.adapter.config
    if config is None or not reconfigure.is_plain(config.values):
        raise Cannot("this kind of LoRA is more than the product of two matrices")
    fused = list(_found(case, diff))
    if not fused:
        raise Cannot("the file has no fused experts")
    taken = {tensor.name for one in fused for tensor in (one.a, one.b)}
    wanted = _others(case, diff, taken)
    turned = _turned(case, fused)
    made: list[Edit] = []
    for one in fused:
        strength = _strength(case, one.name, one.count, one.a, one.b)
        made += _apart(one, strength.rank, turned=turned)
        wanted.update({f"{one.holder}.{e}.{leaf}": strength for e in range(one.count) for leaf, _, _ in one.parts})
    config_edits = reconfigure.edits(case, diff.expectation.tree, wanted)
    return (*made, *config_edits, SetConfig("target_parameters", None))


def _found(case: Case, diff: Diff) -> Iterator[Fused]:
    by_name = anatomy.modules(diff)
    held: dict[str, dict[str, TensorInfo]] = {}
    for tensor in case.adapter.tensors:
        parts = evidence.parts(tensor.name)
        if holder(parts.module, by_name):
            held.setdefault(parts.module, {})[parts.leaf] = tensor
    for path, pair in held.items():
        where, outer = holder(path, by_name), path.partition(_INNER)[0]
        leaves = next((names for names in _LEAVES if all(f"{where}.0.{leaf}" in by_name for leaf in names)), None)
        if leaves is None or set(pair) != {_A, _B} or any(len(tensor.shape) != 2 for tensor in pair.values()):
            raise Cannot("the experts hold more than lora_A and lora_B, or have other names")
        name = _parameter(case, path, outer, held)
        chosen = leaves[:2] if name == GATE_UP else leaves[2:]
        sides = [(leaf, anatomy.sides(by_name[f"{where}.0.{leaf}"])) for leaf in chosen]
        if not all(size for _, size in sides):
            raise Cannot("the experts are no Linears")
        count = sum(1 for module in by_name if module.startswith(f"{where}.") and module[len(where) + 1 :].isdigit())
        shapes = tuple((leaf, size["out"], size["in"]) for leaf, size in sides)
        yield Fused(f"{outer}.{name}", where, count, pair[_A], pair[_B], shapes)


def _parameter(case: Case, path: str, outer: str, held: Mapping[str, object]) -> str:
    """Two parameters are wrapped one around the other, gate and up inside; of one alone the config tells which it is."""
    if path == outer + _INNER and outer in held:
        return GATE_UP
    if path == outer and outer + _INNER in held:
        return DOWN
    values = case.adapter.config.values if case.adapter.config is not None else {}
    named = {
        each
        for each in (GATE_UP, DOWN)
        for target in values.get("target_parameters") or ()
        if f"{outer}.{each}".endswith(f".{target}") or f"{outer}.{each}" == target
    }
    if path != outer or len(named) != 1:
        raise Cannot("which parameter of the experts a pair is for cannot be told")
    return named.pop()


def _strength(case: Case, name: str, count: int, a: TensorInfo, b: TensorInfo) -> Strength:
    values = case.adapter.config.values if case.adapter.config is not None else {}
    tables = [values.get(field) or {} for field in ("rank_pattern", "alpha_pattern")]
    if not all(isinstance(table, Mapping) for table in tables) or not count:
        raise Cannot("the config's tables cannot be read")
    rank, alpha = (reconfigure.entry(t, name, values.get(f)) for t, f in zip(tables, ("r", "lora_alpha")))
    if a.shape[0] != b.shape[1] or a.shape[0] != count * rank or not isinstance(alpha, (int, float)):
        raise Cannot("the config's ranks and those of the tensors differ")
    return Strength(rank, alpha)


def _turned(case: Case, fused: list[Fused]) -> bool:
    """Whether A lies on the output side: by the sizes, and where they are alike by the release in the config.

    Raises:
        Cannot: The sizes are not those of this base.
        Ambiguous: Neither tells.
    """
    told: set[bool] = set()
    for one in fused:
        out, width = sum(part[1] for part in one.parts), one.parts[0][2]
        sides = (one.a.shape[1], one.b.shape[0])
        fits = {flag for flag, wanted in ((False, (width, out)), (True, (out, width))) if sides == wanted}
        if not fits:
            raise Cannot("the experts' matrices have other sizes than those of the base")
        told |= fits if len(fits) == 1 else set()
    config = case.adapter.config
    if not told and config is not None:
        version = config.raw.get("peft_version")
        releases = (version,) if isinstance(version, str) else (config.oldest, config.newest)
        told = {is_older(release, "0.19.1") for release in releases}
    if len(told) != 1:
        raise Ambiguous("the sides are alike")
    return told.pop()


def _others(case: Case, diff: Diff, taken: set[str]) -> dict[str, Strength]:
    """Every other LoRA layer of the file, with its rank and alpha; all of them must be the base's."""
    rest = anatomy.of_modules(tensor for tensor in case.adapter.tensors if tensor.name not in taken)
    ranks = reconfigure.ranks_in(rest)
    by_name, config = anatomy.modules(diff), case.adapter.config
    if ranks is None or config is None or not all(anatomy.sides(by_name.get(name)) for name in ranks):
        raise Cannot("other layers of the file are not this base's")
    strengths = reconfigure.strengths(config.values, ranks)
    if strengths is None or any(str(t).endswith(".weight") for t in config.values.get("target_parameters") or ()):
        raise Cannot("the config's ranks and those of the tensors differ, or it targets weights as parameters")
    return dict(strengths)


def _apart(one: Fused, rank: int, *, turned: bool) -> Iterator[Edit]:
    a, b = one.a.name, one.b.name
    experts = range(one.count)
    wide, high = (_B, _A) if turned else (_A, _B)  # which role each file tensor's pieces get
    yield Split(a, 0, tuple((f"{a}.{e}", rank) for e in experts))
    yield Reshape(b, (one.b.shape[0], rank, one.count))
    yield Split(b, 2, tuple((f"{b}.{e}", 1) for e in experts))
    for e in experts:
        yield Reshape(f"{b}.{e}", (one.b.shape[0], rank))
        if turned:
            yield Transpose(f"{a}.{e}", (1, 0))
            yield Transpose(f"{b}.{e}", (1, 0))
        new = {wide: f"{a}.{e}", high: f"{b}.{e}"}
        keys = [f"{evidence.PREFIX}{one.holder}.{e}.{leaf}" for leaf, _, _ in one.parts]
        yield from (Copy(new[_A], f"{key}.{_A}") for key in keys[:-1])
        yield Rename(new[_A], f"{keys[-1]}.{_A}")
        yield Split(new[_B], 0, tuple((f"{key}.{_B}", part[1]) for key, part in zip(keys, one.parts)))
