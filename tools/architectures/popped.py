"""Keys of a config.json that no field keeps: the config class takes them out of its keyword arguments and makes fields of them.

The sampler draws what is a field. These are found in the source (`kwargs.pop`, `kwargs.get`, `in kwargs`, `getattr(self, …)`),
tried with values of every kind that they may be of, and told apart by what that changes: fields, the tree alone, nothing.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable

from transformers import PreTrainedConfig

#: What configs are asked for and nothing is built by, beside the names that say so themselves.
HARMLESS = frozenset((
    "rope_theta", "rope_scaling", "rope_type", "rope_parameters", "rotary_emb_base", "rotary_pct", "partial_rotary_factor",
    "rope_local_base_freq", "global_rope_theta", "local_rope_theta", "dtype", "torch_dtype", "num_labels", "revision", "token",
    "cache_dir", "local_files_only", "trust_remote_code", "code_revision", "model_type", "is_causal", "attn_implementation",
    "return_dict", "output_attentions", "output_hidden_states", "transformers_version", "problem_type", "id2label", "label2id",
    "per_layer_config", "out_indices", "out_features", "name_or_path", "architectures", "quantization_config",
))  # fmt: skip
_TRIES = 3
_MARK = 97 * 101
#: Kinds that are tried, since they may change something, but that nothing is learned from.
_NOT_DRAWN = {"table", "word"}
Make = Callable[[random.Random, int], Any]


@dataclass
class Popped:
    """One such key. `makes`: draws of the kinds that change something; `where`: `fields`, `tree`, `unknown` or `nothing`."""

    default: Any
    where: str = "unknown"
    makes: list[Make] = field(default_factory=list)


def named(cls: type) -> dict[str, Any]:
    """The keys that the config class and its parents of the model's own files ask their arguments for, with defaults."""
    found: dict[str, Any] = {}
    for one in cls.__mro__:
        if one.__module__.startswith("transformers.models."):
            for name, default in _asked(ast.parse(textwrap.dedent(inspect.getsource(one)))):
                if name not in found or found[name] is None:
                    found[name] = default
    return {name: default for name, default in sorted(found.items()) if name not in HARMLESS and name[:1] != "_"}


def _asked(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and _is_kwargs(node.comparators[0]) and isinstance(node.left, ast.Constant):
            yield str(node.left.value), None
        if isinstance(node, ast.Subscript) and _is_kwargs(node.value) and isinstance(node.ctx, ast.Load):
            yield from _constant(node.slice)
        if not isinstance(node, ast.Call):
            continue
        method = node.func
        if isinstance(method, ast.Attribute) and method.attr in {"pop", "get"} and _is_kwargs(method.value):
            yield from _constant(*node.args)
        own = isinstance(method, ast.Name) and method.id in {"getattr", "hasattr"} and len(node.args) > 1
        if own and isinstance(node.args[0], ast.Name) and node.args[0].id == "self":
            yield from _constant(*node.args[1:])


def _is_kwargs(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "kwargs"


def _constant(name: ast.AST, default: ast.AST | None = None, *_: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        yield name.value, default.value if isinstance(default, ast.Constant) else None


# ------------------------------------------------------------------------------------------------ values


def kinds(cls: type[PreTrainedConfig], name: str, default: Any) -> dict[str, Make]:
    """Every kind that the key may be of → how to draw one, given the number of layers."""
    numbers, letters = _keys(cls)
    big = isinstance(default, int) and default > 16
    found: dict[str, Make] = {
        "number": lambda rng, _: 2 * rng.choice((11, 13, 17, 19, 23)) if big else rng.choice((1, 2, 3, 4)),
        "fraction": lambda rng, _: rng.choice((0.25, 0.5)),
        "flag": lambda rng, _: rng.random() < 0.5,
        "list": lambda rng, layers: [rng.choice(numbers or [0, 1]) for _ in range(layers)],
        "longer": lambda rng, layers: [rng.choice(numbers or [0, 1]) for _ in range(layers + 1)],
    }
    if letters:
        found["letters"] = lambda rng, layers: "".join(rng.choice(letters) for _ in range(layers))
    found["word"] = lambda *_: "resnet18"
    if name.endswith(("_config", "_dict", "_kwargs")):
        fields = [f for f, value in vars(cls()).items() if isinstance(value, int) and value > 2 and f[:1] != "_"]
        sub = cls.sub_configs.get(name.removesuffix("_dict"))
        inner = [f for f, value in vars(sub()).items() if type(value) is int and value > 2] if sub is not None else []
        found = {"table": lambda rng, _: dict.fromkeys(inner or fields, 2 * rng.choice((11, 13, 17)))}
    return found


def _keys(cls: type) -> tuple[list[int], list[str]]:
    """Whole numbers and single letters that tables in the config's file are asked for."""
    numbers: list[int] = []
    letters: list[str] = []
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(cls) or cls))):
        if isinstance(node, ast.Dict) and node.keys and all(isinstance(key, ast.Constant) for key in node.keys):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if all(type(key) is int for key in keys):
                numbers += keys  # type: ignore[arg-type]
            if all(isinstance(key, str) and len(key) == 1 for key in keys):
                letters += keys  # type: ignore[arg-type]
    return sorted(set(numbers)), sorted(set(letters))


# ------------------------------------------------------------------------------------------------ measured


class Measure:
    """What the keys of one model type do. `sampler` draws its config.json files, `builds` make its models of a config."""

    def __init__(self, sampler: Any, builds: list[Callable[[PreTrainedConfig], Any]]) -> None:
        self.sampler, self.builds = sampler, builds
        self.raws: list[dict[str, Any]] = []

    def all(self) -> None:
        """Try every key of the type and of its parts of fixed type, in place; an older name of one field is no such key."""
        if not any(part.popped for part in [self.sampler, *self.sampler.parts.values()]):
            return
        self.raws = self._drawn()
        self._of(self.sampler, "")
        for key, part in self.sampler.parts.items():
            if key not in self.sampler.auto:
                self._of(part, f"{key}.")

    def _drawn(self) -> list[dict[str, Any]]:
        """Files that build, with few fields, with all, and with every flag on: some keys only count beside one."""
        found: list[dict[str, Any]] = []
        for at in range(40):
            raw = self.sampler.raw(tame=True)
            raw = raw if at % _TRIES == 0 else _few(raw, parts=at % _TRIES == 1)
            if self._env(raw, "") is not None:
                found.append(raw)
            if len(found) == _TRIES:
                break
        most: dict[str, Any] = max(found, key=len, default={})
        flagged = {key: value is False or value for key, value in most.items()}
        return [*found, flagged] if flagged != most and self._env(flagged, "") is not None else found

    def _of(self, sampler: Any, prefix: str) -> None:
        for name, one in sampler.popped.items():
            if self._is_older_name(prefix, name):
                one.where = "nothing"
            else:
                self._measured(one, kinds(sampler.cls, name, one.default), prefix, name)

    def _measured(self, one: Popped, ways: dict[str, Make], prefix: str, name: str) -> None:
        """A kind that changes something is drawn from here on; a key of which a kind cannot be built stays unknown."""
        seen: set[str] = set()
        failed = fixed = False
        for kind, make in ways.items():
            if kind in {"fraction", "flag", "word"} and seen & {"fields", "tree"}:
                continue
            told = {self._change(raw, prefix, name, make, at) for at, raw in enumerate(self.raws)}
            failed |= not told - {"refused"}
            if told & {"fields", "tree"}:
                fixed |= kind in _NOT_DRAWN
                one.makes.append(make)
            seen |= told
        changes = [where for where in ("fields", "tree") if where in seen]
        one.where = changes[0] if changes else "unknown" if failed or not self.raws else "nothing"
        if fixed:
            one.makes.clear()

    def _change(self, raw: dict[str, Any], prefix: str, name: str, make: Make, seed: int) -> str:
        """What is otherwise with the key: `fields`, only the `tree`, `nothing`; `refused` where it cannot be built."""
        inner = raw.get(prefix[:-1], {}) if prefix else raw
        layers = next((value for key, value in inner.items() if re.search("layers$|depth$", key) and value), 3)
        given = {**inner, name: make(random.Random(seed), layers if isinstance(layers, int) else 3)}
        more = {**raw, prefix[:-1]: given} if prefix else given
        before, after = self._env(raw, prefix + name), self._env(more, prefix + name)
        if before is None or after is None:
            return "refused"
        if before != after:
            return "fields"
        trees = [self._tree(one) for one in (raw, more)]
        return "refused" if not trees[1] else "tree" if trees[0] != trees[1] else "nothing"

    def _env(self, raw: dict[str, Any], without: str) -> dict[str, Any] | None:
        from architectures.sample import environment

        try:
            env = environment(self.sampler.config(raw))
        except Exception:
            return None
        return {name: value for name, value in env.items() if name != without}

    def _tree(self, raw: dict[str, Any]) -> list[Any]:
        """The trees of all classes that can be built."""
        from architectures.observe import observe

        found = []
        for build in self.builds:
            try:
                found += observe(build(self.sampler.config(raw))).flat()
            except Exception:
                continue
        return found

    def _is_older_name(self, prefix: str, name: str) -> bool:
        """Whether one field takes whatever the key has; `Defaults.older_names` notes those of the type itself."""
        if prefix:
            return False
        env = self._env({**self.sampler.raw(tame=True), name: _MARK}, name) or {}
        return sum(value == _MARK for value in env.values()) == 1


def _few(raw: dict[str, Any], *, parts: bool) -> dict[str, Any]:
    """Only the depths, and the sub-configs so: most keys count where the field that they make is absent."""
    found = {key: value for key, value in raw.items() if key == "model_type" or re.search("layers$|depth$", key)}
    inner = {key: value for key, value in raw.items() if parts and isinstance(value, dict) and key.endswith("_config")}
    return {**found, **{key: _few(value, parts=True) for key, value in inner.items()}}
