"""Which modules of the base a config selects: PEFT's own rules, bit for bit.

Source: peft 0.21.2 `tuners/tuners_utils.py` (`check_target_module_exists`, `_find_minimal_target_modules`,
`_maybe_include_all_linear_layers`) and `utils/other.py` (`get_pattern_key`, `_set_trainable`). The differential
tests run both on generated configs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterfit.expect.patterns import Patterns
from adapterfit.expect.peft_class import LATE_HEADS
from adapterfit.expect.versions import rule
from adapterfit.record import dataclass
from adapterfit.records import Module, ModuleTree

#: From so many entries on PEFT condenses a list of targets (MIN_TARGET_MODULES_FOR_OPTIMIZATION).
CONDENSE_FROM = 20
ALL_LINEAR = "all-linear"
SEQ_CLS_HEADS = ("score", "classifier")
EMBEDDING_NAMES = ("embed_tokens", "lm_head")

Targets = "str | list[str] | None"


@dataclass(frozen=True)
class Selection:
    """Module names by what PEFT does with them, each in `named_modules()` order."""

    matched: tuple[str, ...]
    excluded: tuple[str, ...]
    unmatched: int


def select(modules: Iterable[Module], config: Mapping[str, Any], patterns: Patterns) -> Selection:
    """Sort every module (the root left out) into matched, excluded, unmatched.

    `config` has `target_modules` resolved: a string is a regular expression, never `all-linear`.
    """
    matched, excluded, unmatched = [], [], 0
    rule = Rule(config, patterns)
    for module in modules:
        if not module.name:
            continue
        if rule.excludes(module.name):
            excluded.append(module.name)
        elif rule.matches(module.name):
            matched.append(module.name)
        else:
            unmatched += 1
    return Selection(tuple(matched), tuple(excluded), unmatched)


class Rule:
    """`check_target_module_exists`, with what does not depend on the module taken out of the loop."""

    def __init__(self, config: Mapping[str, Any], patterns: Patterns) -> None:
        self._patterns = patterns
        self._targets = config.get("target_modules")
        self._names = frozenset(self._targets) if isinstance(self._targets, (list, tuple)) else frozenset()
        exclude = config.get("exclude_modules") or ()
        self._exclude = exclude
        self._exclude_names = frozenset() if isinstance(exclude, str) else frozenset(exclude)
        # PEFT interpolates these unescaped, and also matches everything *below* such a module; before 0.16 the end of its own name.
        itself = rule(config, "saved-modules-are-targets", newest=False)
        pattern = r".*{}$" if itself else r"(^|.*\.){}($|\..*)"
        self._saved = [pattern.format(name) for name in _kept_whole(config)]
        self._layers = _layer_indexes(config.get("layers_to_transform"))
        self._layer_patterns = _layer_patterns(config.get("layers_pattern"), rule(config, "layer-index", "first"))
        #: Before 0.5 a suffix needed no dot before it, but for (IA)³; before 0.8 a full name was no exception from the layers.
        plain = rule(config, "suffix", "dotted") == "plain" and config.get("peft_type") != "IA3"
        self._dotless = tuple(self._names) if plain else ()
        self._full_names = frozenset() if rule(config, "layer-index") == "common" else self._names

    def excludes(self, name: str) -> bool:
        """Whether the config keeps PEFT away from this module."""
        if isinstance(self._exclude, str):
            if self._exclude and self._patterns.full(self._exclude, name):
                return True
        elif self._exclude_names and ends_with_any(name, self._exclude_names):
            return True
        return any(self._patterns.start(saved, name) for saved in self._saved)

    def matches(self, name: str) -> bool:
        """Whether the config targets it, given that it is not excluded."""
        if self._targets is None:
            return False
        if isinstance(self._targets, str):
            return self._patterns.full(self._targets, name)
        if name in self._full_names:
            return True
        if not (name.endswith(self._dotless) if self._dotless else ends_with_any(name, self._names)):
            return False
        return self._layers is None or self._layer_of(name) in self._layers

    def _layer_of(self, name: str) -> int | None:
        for pattern in self._layer_patterns:
            found = self._patterns.start(pattern, name)
            if found is not None:
                return int(found.group("idx"))
        return None


def _kept_whole(config: Mapping[str, Any]) -> list[str]:
    """`modules_to_save`, without the heads that PEFT adds after it has chosen its targets."""
    late = config.get(LATE_HEADS) or ()
    return [name for name in config.get("modules_to_save") or () if name not in late]


def _layer_indexes(value: Any) -> frozenset[int] | None:
    """The layer numbers a config restricts itself to; None for no restriction (None, or an empty list)."""
    if value is None or value == []:
        return None
    return frozenset(value) if isinstance(value, (list, tuple)) else frozenset((value,))


#: What PEFT took for the name of a list of layers before 0.8.
_COMMON_LAYERS = ("layers", "h", "block", "blocks", "layer")


def _layer_patterns(value: Any, how: str) -> list[str]:
    listed = [value] if isinstance(value, str) else list(value or ())
    if how == "common":
        return [rf".*.{pattern}\.(?P<idx>\d+)\.*" for pattern in (listed if value is not None else _COMMON_LAYERS)]
    if how == "last":  # greedy: the last numbered segment, which may be an expert
        return [rf".*\.{pattern}\.(?P<idx>\d+)\." for pattern in listed or [r"[^.]*"]]
    if not value:
        # Lazy: the first numbered segment is the layer, a later one may be an expert.
        return [r".*?\.[^.]*\.(?P<idx>\d+)\."]
    return [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in listed]


def ends_with_any(name: str, suffixes: frozenset[str]) -> bool:
    """Whether `name` is one of the suffixes or ends with a dot and one of them."""
    if name in suffixes:
        return True
    at = name.find(".")
    while at >= 0:
        if name[at + 1 :] in suffixes:
            return True
        at = name.find(".", at + 1)
    return False


#: How a key of `rank_pattern` or `alpha_pattern` is made a regular expression, by the word of the rule.
_KEYS: Mapping[str, str] = {"now": r"(.*\.)?({})$", "below": r".*\.{}$", "anywhere": r"(.*\.)?{}$"}


def pattern_key(table: Mapping[str, Any], name: str, patterns: Patterns, how: str = "now") -> str | None:
    r"""The first key of a rank or alpha table that fits a module's name: `re.match(rf"(.*\.)?({key})$", name)`.

    `how`: as PEFT does it now, or did (`below`: LoRA until 0.14; `anywhere`: LoHa and LoKr until 0.14).
    """
    for key in table:
        if patterns.start(_KEYS[how].format(key), name):
            return key
    return None


def all_linear(tree: ModuleTree, task_type: str | None, how: str = "full names") -> list[str]:
    """The full names that `all-linear` stands for: every Linear and Conv1D but the output layer.

    The output layer is the output embedding, or for a classifier without one the first of `score`, `classifier`. `how` an
    older PEFT did it: the `last names` of all of them, without an output layer that has but one; or those with `heads` of
    classifiers too.
    """
    names = [module.name for module in tree.modules if module.kind in ("Linear", "Conv1D")]
    output = _output_layer(tree, None if how == "last names with heads" else task_type)
    if how == "full names":
        return [name for name in names if name != output]
    return sorted({name.rpartition(".")[2] for name in names} - {output})


def _output_layer(tree: ModuleTree, task_type: str | None) -> str:
    if not tree.model_type or tree.output_embeddings:
        return tree.output_embeddings
    if task_type != "SEQ_CLS":
        return ""
    present = {module.name for module in tree.modules}
    return next((name for name in SEQ_CLS_HEADS if name in present), "")


def condense(targets: Sequence[str], names: Iterable[str]) -> list[str]:
    """A long list of targets as the fewest suffixes that hit nothing else on this base."""
    wanted = frozenset(targets)
    others = {suffix for name in names if not ends_with_any(name, wanted) for suffix in _suffixes(name)}
    required: set[str] = set()
    for target in sorted(wanted, key=_suffixes):
        for suffix in _suffixes(target):
            if suffix in required or suffix in others:
                continue
            if not any(target.endswith("." + done) for done in required):
                required.add(suffix)
                break
    return sorted(required) if required and len(required) < len(wanted) else sorted(wanted)


def _suffixes(name: str) -> list[str]:
    """`a.b.c` → `c`, `b.c`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def saved_modules(tree: ModuleTree, wanted: Sequence[str], prefix: str = "") -> list[str]:
    """The modules that `modules_to_save` wraps, in order: a bare `endswith`, without a dot, duplicates included.

    `prefix` is what stands before the names when PEFT looks at the wrapped model (`base_model.model.`).
    """
    names = [module.name for module in tree.modules if module.name]
    names.extend(tree.aliases)
    return [name for name in names if any((prefix + name).endswith(want) for want in wanted)]
