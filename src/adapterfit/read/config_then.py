"""`adapter_config.json` as an older PEFT takes it: the fields it had, its defaults, and what it does about the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapterfit.read import config_checks, config_patterns, config_trust, peft_facts
from adapterfit.records import AdapterConfig, Flaw
from adapterfit.text import quote, shorten, show

#: Settings that steer training, or that only note where something came from: losing them changes no output.
_WITHOUT_EFFECT = frozenset((
    "peft_version", "revision", "auto_mapping", "inference_mode", "base_model_name_or_path", "megatron_core",
    "megatron_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size",
    "runtime_config", "velora_config", "monteclora_config", "tokenizer_kwargs", "ensure_weight_tying",
))  # fmt: skip


#: Fields that the config of every method has: what is left where a loader forgets the others.
_OF_EVERY_CONFIG = frozenset(
    ("peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping")
)

_METHOD = ("unknown-peft-type", "method-newer-than-peft")


def as_loaded(config: AdapterConfig, rules: Mapping[str, Any]) -> AdapterConfig:
    """The config as the PEFT of these rules takes it; as it is where it could not be read at all.

    `values` are those of that PEFT, `full` those of the newest; `unknown_keys` is what that PEFT does not know, `newer` those
    of them that another PEFT knows → since when, `dropped` the settings among these whose loss changes what is computed.
    """
    if not config.peft_type or any(flaw.refused for flaw in config.flaws if flaw.code not in _METHOD):
        return config
    facts = peft_facts.method(config.peft_type)
    version = _release(str(rules["peft"]))
    if facts is None or version not in facts.releases():
        return replace(config, known=False, flaws=(_no_method(config, facts, version),))
    names = facts.fields_of(version) | {"peft_type"}
    strangers = tuple(sorted(key for key in config.raw if key not in names and key != "runtime_config"))
    forgets = bool(strangers) and rules.get("unknown-config-keys") == "forgets"
    taken = _OF_EVERY_CONFIG if forgets else names
    raw = {key: value for key, value in config.raw.items() if key in taken}
    then = facts._replace(fields={name: facts.fields[name] for name in names if name in facts.fields})
    flaws = [*_refused(config, strangers, then.config_class, rules), *_checked(raw, then, config.file)]
    return replace(
        config,
        values=_values(facts, raw, version) | _taken(config, rules),
        full={name: config.raw.get(name, field.default) for name, field in facts.fields.items()},
        known=True,
        unknown_keys=strangers,
        newer={key: facts.fields[key].first for key in strangers if key in facts.fields},
        flaws=tuple(flaw for flaw in flaws if not _is_newer(flaw, rules)),
        dropped={
            key: config.raw[key] for key in config.raw if key not in raw and _matters(facts, key, config.raw[key])
        },
    )


def _release(version: str) -> str:
    """The newest release of the tables that is not younger: `0.13.1.dev0` → `0.13.1`."""
    wanted = peft_facts.parse_release(version)
    fitting = [each for each in peft_facts.versions() if wanted and peft_facts.as_tuple(each) <= wanted[0]]
    return fitting[-1] if fitting else peft_facts.versions()[0]


def _values(facts: peft_facts.Method, raw: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Every field any release had: from the file, else as that release fills it, else switched off."""
    place = peft_facts.as_tuple(version)
    return {
        name: raw.get(
            name,
            next((d for since, d in reversed(field.defaults) if peft_facts.as_tuple(since) <= place), field.default),
        )
        for name, field in facts.fields.items()
    }


def _taken(config: AdapterConfig, rules: Mapping[str, Any]) -> dict[str, str]:
    """A task that this PEFT sets by itself, whatever the file says."""
    return {"task_type": "CAUSAL_LM"} if config.peft_type == "CPT" and rules.get("cpt-task") else {}


def _matters(facts: peft_facts.Method, key: str, value: Any) -> bool:
    """Whether a lost setting was one that the newest PEFT has, other than its default, and not for training alone."""
    field = facts.fields.get(key)
    if field is None or key in _WITHOUT_EFFECT or value in (None, False, {}, [], ""):
        return False
    return bool(value != field.default)


def _checked(raw: Mapping[str, Any], then: peft_facts.Method, file: str) -> list[Flaw]:
    return [
        *config_checks.constructing(raw, then, frozenset(), file),
        *config_patterns.check(raw, then, file),
        *config_checks.injecting(raw, then, frozenset(), file),
        *config_trust.check(raw, file),
    ]


def _is_newer(flaw: Flaw, rules: Mapping[str, Any]) -> bool:
    """A refusal that came with a later PEFT."""
    if flaw.code == "oft-generation-changed":
        # Beside model.load_adapter PEFT 0.14.0 asks its base class alone, which knows nothing of OFT.
        return rules.get("oft") == "v1" or rules.get("unknown-config-keys") == "forgets"
    checks = (
        ("Invalid task type", "task-type"),
        ("must also be specified", "layers-pattern-alone"),
        ("cannot be used when", "layers-beside-pattern"),
    )
    return any(words in flaw.raised and rules.get(name) == "unchecked" for words, name in checks)


def _no_method(config: AdapterConfig, facts: peft_facts.Method | None, version: str) -> Flaw:
    name = config.peft_type
    since = f"PEFT has this method from {facts.first}" if facts is not None else "no PEFT has a method of this name"
    until = f" to {facts.last}" if facts is not None and facts.last else ""
    wanted = f">={facts.first},<={facts.last}" if until and facts else f">={facts.first}" if facts else ""
    newer = facts is not None and peft_facts.as_tuple(version) < peft_facts.as_tuple(facts.first)
    return Flaw(
        "method-newer-than-peft" if newer else "unknown-peft-type",
        f"{show(config.file)} says peft_type = {quote(name)}: {since}{until}, not in {version}",
        where=config.file,
        found=show(name),
        expected=f"a method of PEFT {version}",
        raised=f"KeyError: {show(repr(name))}",
        remedy=f"pip install 'peft{wanted}'" if wanted else "",
    )


def _refused(
    config: AdapterConfig, strangers: tuple[str, ...], config_class: str, rules: Mapping[str, Any]
) -> list[Flaw]:
    """The TypeError of PEFT 0.6 to 0.13 about the first key that its config class does not have."""
    if not strangers or rules.get("unknown-config-keys") != "raises":
        return []
    first = next(key for key in config.raw if key in strangers)
    line = f"TypeError: {config_class}.__init__() got an unexpected keyword argument {show(repr(first))}"
    return [
        Flaw(
            "config-key-refused",
            f"{show(config.file)} has {len(strangers)} {'key' if len(strangers) == 1 else 'keys'} that PEFT {rules['peft']} "
            f"does not know, and it raises a TypeError about them ({shorten(strangers)})",
            where=config.file,
            found=shorten(strangers),
            raised=line,
            remedy="pip install 'peft>=0.14', which takes such keys with a warning",
        )
    ]


# ------------------------------------------------------------------------------------------------ who can read it


def readable_by(config: AdapterConfig) -> tuple[str, ...]:
    """The PEFT releases, oldest first, that take the config without an error and without losing a setting that matters."""
    facts = peft_facts.method(config.peft_type)
    if facts is None:
        return ()
    return tuple(release for release in facts.releases() if release != "0.2.0" and _reads(config, facts, release))


def _reads(config: AdapterConfig, facts: peft_facts.Method, release: str) -> bool:
    names = facts.fields_of(release) | {"peft_type", "runtime_config"}
    strangers = [key for key in config.raw if key not in names]
    stops = bool(strangers) and (0, 6) <= peft_facts.as_tuple(release)[:2] < (0, 14)
    return not stops and not any(_matters(facts, key, config.raw[key]) for key in strangers)
