"""What an adapter holds beside its method's own tensors: whole copies of modules, single rows, ties between them.

Source: peft 0.21.2 `utils/other.py` (`_set_trainable`, `set_additional_trainable_modules`) and `tuners/lora/model.py`
(`_add_modules_to_save_to_tie`, `_add_targets_to_tie`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapterfit.expect.methods._layer import InjectionFails, Undecided
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.peft_class import LATE_HEADS
from adapterfit.expect.targets import EMBEDDING_NAMES, ends_with_any, saved_modules
from adapterfit.expect.versions import LOADER, rule
from adapterfit.expect.wrapped import SHARED_ROWS, Wrapped
from adapterfit.records import Module, ModuleTree

# -------------------------------------------------------------------------------------------- tied weights


def tied_with_embedding(tree: ModuleTree) -> tuple[str, ...]:
    """The modules whose weight is the input embedding's."""
    weight = f"{tree.input_embeddings}.weight"
    group = next((group for group in tree.tied if weight in group), ())
    return tuple(name.rpartition(".")[0] for name in group if name != weight)


def tie(config: dict[str, Any], tree: ModuleTree, patterns: Patterns) -> frozenset[str]:
    """`ensure_weight_tying` (LoRA): rewrites the config in place; returns the modules tied to the embedding's LoRA."""
    tied = tied_with_embedding(tree)
    if not config.get("ensure_weight_tying") or not tied or config["peft_type"] != "LORA":
        return frozenset()
    saved, targets = list(config.get("modules_to_save") or ()), config.get("target_modules")
    if any(name.rpartition(".")[2] in EMBEDDING_NAMES for name in saved):
        kept = _without(saved + [tree.input_embeddings] * (tree.input_embeddings not in saved), tied, patterns)
        config.update(modules_to_save=kept, modules_to_tie=sorted(tied))
        return frozenset()
    if rule(config, "tied-targets") == "ignored":
        return frozenset()
    if isinstance(targets, str):
        if not any(patterns.full(targets, name) for name in EMBEDDING_NAMES):
            return frozenset()
        config["target_modules"] = rf"(?:{targets}|^{re.escape(tree.input_embeddings)}$)"
        return frozenset(tied)
    if not any(name.rpartition(".")[2] in EMBEDDING_NAMES for name in targets or ()):
        return frozenset()
    config["target_modules"] = _without(sorted({*(targets or ()), tree.input_embeddings}), tied, patterns)
    return frozenset(tied)


def _without(names: Iterable[str], tied: Iterable[str], patterns: Patterns) -> list[str]:
    kept = list(names)
    for key in tied:
        hit = next((name for name in kept if patterns.start(rf"(^|.*\.){name}($|\..*)", key)), None)
        if hit is not None:
            kept.remove(hit)
    return kept


def is_tied(name: str, tied: frozenset[str]) -> bool:
    """Whether a module takes its LoRA from the embedding's."""
    return bool(tied) and ends_with_any(name, tied)


# -------------------------------------------------------------------------------------------- whole copies


#: Tasks for which PEFT names heads beside those of the config.
_HEADED = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")


def save_modules(wrapped: Wrapped, config: Mapping[str, Any]) -> tuple[str, ...]:
    """`modules_to_save`: full copies of modules, matched by a bare `endswith`."""
    wanted = [name for name in config.get("modules_to_save") or () if isinstance(name, str)]
    hits = saved_modules(wrapped.tree, wanted)
    if str(config.get("task_type")) in _HEADED:
        hits = list(dict.fromkeys([*hits, *saved_modules(wrapped.tree, wanted, wrapped.prefix)]))
    tie = frozenset(config.get("modules_to_tie") or ())
    own = [f"{name}.{part}" for name, part in _attributes(wrapped) if f"{name}.{part}".endswith(tuple(wanted))]
    for name in hits:
        if name in wrapped.tuned and not name.endswith(_late(config)):
            _not_whole(wrapped, name, config)
        wrapped.saved[name] = False
    for module in wrapped.tree.modules:
        if tie and module.name.endswith(tuple(tie)):
            wrapped.saved[module.name] = True
    if rule(config, "saved-over-targets") == "raises" and str(config.get("task_type")) not in _HEADED:
        _refuse_below(wrapped)
    return _clashes(wrapped) + ((f"modules_to_save also reaches PEFT's own {own[0]}",) if own else ())


def _late(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The heads that PEFT names once the layers are in (`peft_class.with_head`)."""
    return tuple(config.get(LATE_HEADS) or ())


def refuse_wrapped_heads(wrapped: Wrapped, config: Mapping[str, Any]) -> None:
    """The last thing that happens: a head that PEFT names late has become a layer of the method."""
    for name in wrapped.saved:
        if name in wrapped.tuned and name.endswith(_late(config)):
            _not_whole(wrapped, name, config)


def _not_whole(wrapped: Wrapped, name: str, config: Mapping[str, Any]) -> None:
    """PEFT keeps no copy of a module that it has wrapped; the class it names is the method's own."""
    kind = next((module.kind for module in wrapped.tree.modules if module.name == name), "")
    layer = f"peft.tuners.{str(config['peft_type']).lower()}.layer.{'Linear' if kind == 'Conv1D' else kind}"
    line = f"modules_to_save cannot be applied to modules of type <class '{layer}'>"
    raise InjectionFails("TypeError", line)


def _refuse_below(wrapped: Wrapped) -> None:
    """An older copy hides what is below it, and it is made before the layers there are looked for."""
    for name in wrapped.tuned:
        above = min((saved for saved in wrapped.saved if name.startswith(f"{saved}.")), key=len, default=None)
        if above is not None:
            part = name[len(above) + 1 :].partition(".")[0]
            raise InjectionFails("AttributeError", f"ModulesToSaveWrapper has no attribute `{part}`")


def _attributes(wrapped: Wrapped) -> set[tuple[str, str]]:
    """The containers that a method hangs into the modules it wraps: `q_proj` and `lora_A`."""
    layers = ((name, slot) for name, wrappers in wrapped.tuned.items() for slots in wrappers for slot in slots)
    return {(name, slot.key.partition(".")[0]) for name, slot in layers}


def _clashes(wrapped: Wrapped) -> tuple[str, ...]:
    """Arrangements whose outcome depends on the order in which PEFT replaces modules; we do not follow it there."""
    saved = set(wrapped.saved)
    names = {module.name for module in wrapped.tree.modules}
    nested = [name for name in saved if any(name.startswith(other + ".") for other in saved)]
    both = [name for name in wrapped.tuned if any(name == other or name.startswith(other + ".") for other in saved)]
    both += [name for name in saved if any(name.startswith(other + ".") for other in wrapped.tuned)]
    if nested or both:
        return (f"modules_to_save and other wrappers overlap at {sorted({*nested, *both})[0]}",)
    if not saved <= names:
        return (f"modules_to_save reaches {sorted(saved - names)[0]}, a second path of a shared module",)
    return ()


# -------------------------------------------------------------------------------------------- single rows


def train_tokens(wrapped: Wrapped, config: Mapping[str, Any]) -> tuple[str, ...]:
    """`trainable_token_indices`: single rows of an embedding, replaced."""
    wanted = config.get("trainable_token_indices")
    if wanted is None:
        return ()
    tree = wrapped.tree
    layers = wanted if isinstance(wanted, Mapping) else {_embedding(tree, config): wanted}
    for name in layers:
        if name in (config.get("modules_to_save") or ()):
            raise InjectionFails(
                "ValueError",
                "The embedding layer is already marked to be trained fully, either specify "
                f"`modules_to_save=[..., \"{name}\", ...]` or `trainable_tokens={{'{name}': x}}` but not both.",
            )
    tied = tied_with_embedding(tree) if tree.config.get("tie_word_embeddings", True) else ()
    skip, mismatch = _tied_rows(layers, tied, tree.input_embeddings, config)
    for name, indices in layers.items():
        if name not in skip:
            _wrap_tokens(wrapped, name, indices, config)
    embedding = wrapped.tokens.get(tree.input_embeddings)
    if tied and embedding and (config.get("ensure_weight_tying") or not mismatch):
        for module in tree.modules:
            if module.name.endswith(tied) and module.name not in wrapped.tokens:
                wrapped.tokens[module.name] = SHARED_ROWS
    overlap = [name for name in wrapped.tokens if name in wrapped.tuned or name in wrapped.saved]
    return (f"trainable_token_indices and another wrapper meet at {overlap[0]}",) if overlap else ()


def _embedding(tree: ModuleTree, config: Mapping[str, Any]) -> str:
    """The input embedding's name; a plain module has none, and of a transformers model without one PEFT asks in vain."""
    if tree.input_embeddings or not tree.model_type or LOADER in config:
        return tree.input_embeddings or "embed_tokens"
    if any(module.name.endswith("embed_tokens") for module in tree.modules):
        raise Undecided(
            f"trainable_token_indices without a layer on {tree.class_name}, whose input embedding is not known"
        )
    raise _no_embeddings(tree.class_name)


def ask_for_ties(tree: ModuleTree, config: Mapping[str, Any]) -> None:
    """PEFT asks each model with ties which of them are the input embedding's, whatever the adapter's targets are."""
    if tree.unembedded and LOADER in config:
        raise Undecided(f"whether an older PEFT asks {tree.unembedded} for its input embeddings, which it cannot say")
    if tree.unembedded:
        raise _no_embeddings(tree.unembedded)


def _no_embeddings(class_name: str) -> InjectionFails:
    line = f"`get_input_embeddings` not auto\u2011handled for {class_name}; please override in the subclass."
    return InjectionFails("NotImplementedError", line)


def _tied_rows(
    layers: Mapping[str, Any], tied: tuple[str, ...], embedding: str, config: Mapping[str, Any]
) -> tuple[frozenset[str], bool]:
    """Layers left to the tie, and whether tied layers name different rows."""
    ends = [
        name
        for name in layers
        if embedding.endswith(name) or any(one.endswith(name) or name in one.split(".") for one in tied)
    ]
    if len(ends) < 2 or not tied:
        return frozenset(), False
    mismatch = any(layers[name] != layers[ends[0]] for name in ends)
    if mismatch and config.get("ensure_weight_tying"):
        if LOADER in config:
            raise Undecided("ensure_weight_tying with different token rows for tied layers")
        line = (
            "Cannot ensure weight tying when different token indices are specified for tied layers. Conflicting layers: "
            f"{', '.join(f'{name}: {layers[name]}' for name in ends)}. "
            "Please use the same indices for all tied layers or set ensure_weight_tying=False."
        )
        raise InjectionFails("ValueError", line)
    return (frozenset() if mismatch else frozenset(ends) & frozenset(tied)), mismatch


def _wrap_tokens(wrapped: Wrapped, wanted: str, indices: Any, config: Mapping[str, Any]) -> None:
    hits = [module for module in wrapped.tree.modules if module.name.endswith(wanted)]
    if not hits:
        line = (
            f"Target modules {{{wanted!r}}} not found in the base model. Please check the target modules and try again."
        )
        raise InjectionFails("ValueError", line)
    if not isinstance(indices, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in indices):
        raise Undecided("trainable_token_indices are not whole numbers")
    for module in hits:
        shape = module.params.get("weight", ())
        _has_rows(module, wrapped.tree, config)
        if module.kind == "Linear" and rule(config, "token-rows-of-linear") == "raises":
            raise InjectionFails("AttributeError", "'Linear' object has no attribute 'embedding_dim'")
        beyond = next((index for index in indices if not -shape[0] <= index < shape[0]), None)
        if beyond is not None:
            line = f"index {beyond} is out of bounds for dimension 0 with size {shape[0]}"
            raise InjectionFails("IndexError", line)
        wrapped.tokens[module.name] = len(indices)


#: Kinds of module that say how wide a row is: `embedding_dim` or `in_features`.
_WITH_ROWS = ("Linear", "Embedding")
_WITHOUT = ("Conv1D", "Conv1d", "Conv2d", "Conv3d", "norm", "MultiheadAttention")


def _has_rows(module: Module, tree: ModuleTree, config: Mapping[str, Any]) -> None:
    """PEFT asks for the weight, and then for the width of a row, which few kinds of module have."""
    if module.kind in _WITH_ROWS and len(module.params.get("weight", ())) == 2:
        return
    inside = any(other.name == f"{module.name}.weight" for other in tree.modules)
    weight = "weight" in module.params
    if LOADER in config or not module.class_name or inside or (weight and module.kind not in _WITHOUT):
        raise Undecided(f"trainable tokens on {module.name}, which is no embedding")
    lacks = "in_features" if weight else "weight"
    raise InjectionFails("AttributeError", f"'{module.class_name}' object has no attribute '{lacks}'")
