"""Stage 2 of 7: expect. What PEFT would create for this config on this base, or how it would fail.

Source: peft 0.21.2 `peft_model.py`, `tuners/tuners_utils.py` (`inject_adapter`), `utils/other.py`
(`set_additional_trainable_modules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapterfit import discover
from adapterfit.errors import BadInput
from adapterfit.expect import experts, injection, packed
from adapterfit.expect.extras import save_modules
from adapterfit.expect.methods._layer import InjectionFails, Undecided, no_config
from adapterfit.expect.peft_class import missing_ability, peft_class, with_head
from adapterfit.expect.running import grouped_heads, prompt_raises, without_words
from adapterfit.expect.takeable import takeable
from adapterfit.expect.versions import LOADER, below, rule
from adapterfit.expect.wrapped import Wrapped
from adapterfit.records import AdapterConfig, Expectation, ModuleTree, Raised, Slot

METHODS = "adapterfit.expect.methods"


def expect(tree: ModuleTree, config: AdapterConfig, rules: Mapping[str, Any] = MappingProxyType({})) -> Expectation:
    """The slots PEFT would fill. Never raises: what cannot be decided is in `doubts`.

    `rules`: what an older loader does otherwise (`Consumer.rules`); config and tree are then as that loader takes them.
    """
    method = discover.member(METHODS, config.peft_type.lower())
    values = {**config.values, LOADER: rules} if rules else config.values
    if (
        rules.get("loader") != "model.load_adapter"
    ):  # without a class of PEFT nobody adds the classifier to what is saved
        values = with_head(values)
    found = Expectation(tree=tree, peft_class=peft_class(values), config=values, doubts=tree.doubts)
    if method is None:
        return _with(found, doubts=(*tree.doubts, f"the method {config.peft_type} is not modelled yet"))
    try:
        takeable(config.values)
        built = _prompt(method, found) if method.KIND == "prompt" else _tuner(method, found)
    except InjectionFails as failure:
        return _with(found, raised=failure.raised, packed=failure.packed)
    except Undecided as doubt:
        return _with(found, doubts=(*tree.doubts, str(doubt)))
    except BadInput as bad:
        return _with(found, doubts=(*tree.doubts, bad.flaw.message), flaws=(bad.flaw,))
    built = grouped_heads(_spared(built, tree, config, rules)) if rules else built
    refused = _as_second(built, config, rules) if "loader" in rules and built.raised is None else None
    if refused is not None:
        return _with(built, raised=refused)
    native = (
        rules.get("loader") == "model.load_adapter"
    )  # which wraps the base in no class of PEFT, and asks for no ability
    return built if native else missing_ability(built)


def _as_second(built: Expectation, config: AdapterConfig, rules: Mapping[str, Any]) -> Raised | None:
    """What is raised about an adapter beside another one with the same config."""
    parameters = built.config.get("target_parameters")
    if rules.get("parameters") and parameters:
        kind, _, line = str(rules["parameters"]).partition(": ")
        return Raised(kind, line.replace("{parameters}", str(list(parameters))), stage="inject")
    if rules.get("classifier") and built.config.get("task_type") == "SEQ_CLS":
        kind, _, line = str(rules["classifier"]).partition(": ")
        return Raised(kind, line, stage="inject")
    if rules.get("tied-tokens") and config.peft_type == "TRAINABLE_TOKENS" and built.tree.tied:
        kind, _, line = str(rules["tied-tokens"]).partition(": ")
        return Raised(kind, line, stage="forward")
    return None


#: Settings that keep modules out of the adapter. A loader that loses one adds layers there that were never trained.
_SELECTING = frozenset(("exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"))


def _spared(built: Expectation, tree: ModuleTree, config: AdapterConfig, rules: Mapping[str, Any]) -> Expectation:
    """An older loader's expectation, with what the lost settings would have kept out marked as holding nothing."""
    if not built.prefix:
        return _headless(built, config)
    lost = _SELECTING & config.dropped.keys()
    if not (lost or rules.get("saved-modules-are-targets")) or not built.inert or built.raised is not None:
        return built
    import dataclasses

    whole = dataclasses.replace(config, values=config.full, dropped={})
    meant = expect(tree, whole, {**rules, "saved-modules-are-targets": False})
    if meant.raised is not None or meant.doubts:
        return built
    kept = frozenset(meant.targets)
    slots = (
        slot if slot.role != "tuner" or slot.module in kept else dataclasses.replace(slot, optional=True)
        for slot in built.slots
    )
    return dataclasses.replace(built, slots=tuple(slots))


def _headless(built: Expectation, config: AdapterConfig) -> Expectation:
    """Prompts of PEFT 0.15 and 0.16 were trained beside the base's own head: none is in the file, and none need be.

    The fields of a config seldom tell 0.15 from older releases, which always saved a head: one that has none is not theirs.
    """
    import dataclasses

    if not config.newest or below(config.newest, "0.15") or not below(config.newest, "0.17"):
        return built
    spared = (slot.role == "saved-module" and slot.if_missing == "silent" for slot in built.slots)
    slots = (dataclasses.replace(slot, optional=slot.optional or spare) for slot, spare in zip(built.slots, spared))
    return dataclasses.replace(built, slots=tuple(slots))


def _with(found: Expectation, **changes: Any) -> Expectation:
    import dataclasses

    return dataclasses.replace(found, **changes)


def _tuner(method: Any, found: Expectation) -> Expectation:
    plan = injection.inject(method, found.tree, found.config)
    slots, state = plan.wrapped.expected()
    return _with(
        found,
        tree=plan.wrapped.tree,
        config=plan.config,
        slots=slots,
        state=state,
        targets=plan.targets,
        warns=plan.warns,
        doubts=(*found.doubts, *plan.doubts),
        renames=method.RENAMES,
        fusion=experts.fusion(plan.config, found.tree),
        inert=method.inert(plan.config),
        prefix=method.PREFIX,
        packed=plan.packed,
        raised=packed.failure(plan.packed) or (method.resized(plan) if hasattr(method, "resized") else None),
    )


def _prompt(method: Any, found: Expectation) -> Expectation:
    if not found.tree.model_type:
        if hasattr(method, "prepare"):
            method.prepare(found.config)
        no_config(found.tree, "prompt learning")
    failure = prompt_raises(found.config, found.tree) if LOADER in found.config else None
    if failure is not None:
        return _with(found, raised=failure)
    shape = method.prompt(found.config, found.tree.config)
    failure = without_words(found.tree)
    if failure is not None:
        return _with(found, raised=failure)
    copies = "silent" if rule(found.config, "missing-saved-modules") == "silent" else "raises"
    wrapped = Wrapped(found.tree, "base_model.", if_missing="raises", if_missing_saved=copies)
    doubts = save_modules(wrapped, found.config) if rule(found.config, "prompt-heads", newest=True) else ()
    slot = Slot(
        "prompt_embeddings", "prompt_encoder.default.embedding.weight", shape, "", role="prompt", if_missing="raises"
    )
    more = method.more(found.config, found.tree.config) if hasattr(method, "more") else {}
    others = (
        Slot(name, f"prompt_encoder.default.{name}", shape, "", role="prompt", if_missing="silent")
        for name, shape in more.items()
    )
    slots, state = wrapped.expected()
    return _with(
        found,
        slots=(*slots, slot, *others),
        state=state,
        doubts=(*found.doubts, *doubts),
        inert=False,
    )


def method_is_known(config: Mapping[str, Any]) -> bool:
    """Whether this method has a file of its own, so that an answer is possible at all."""
    return discover.member(METHODS, str(config.get("peft_type", "")).lower()) is not None
