"""A PEFT adapter for another release of PEFT: the config it knows, the layout it saves, and what cannot go over.

Facts: `read/peft_fields.json` (fields and defaults of every release, generated) and the release notes and sources of peft 0.2 to
0.21.2, as cited. A config key that the release does not know is dropped where it holds its default, and refused by name otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from adapterfit.causes.names._experts_turned import MARKED_SINCE_5
from adapterfit.consumers.versions import version_range
from adapterfit.conversion.base_model import Copied
from adapterfit.conversion.methods import METHODS, unscaled
from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, WeightsFile
from adapterfit.conversion.parameters import exchanged, laid_out, of_parameters, pairs
from adapterfit.conversion.pattern_tables import tables_for
from adapterfit.conversion.peft_rules import CLASSIFIERS, CONFIG, TRAINING, lost_biases, readable_config
from adapterfit.conversion.release_fields import PROMPTS, other_words
from adapterfit.conversion.release_names import other_names
from adapterfit.errors import CannotConvert
from adapterfit.expect.patterns import Patterns
from adapterfit.read import peft_facts
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
#: Starting values that leave the base alone, and the release that brought each; an older one gets `true`, which loads the same.
_INITS = {"gaussian": "0.6.0", "eva": "0.14.0", "orthogonal": "0.16.0"}
#: Starting values that change the base, which a release must know to load the adapter right.
_CHANGING = {"loftq": "0.7.0", "pissa": "0.11.0", "olora": "0.12.0", "corda": "0.15.0", "lora_ga": "0.19.0"}
#: What LoRA can be put on, by the number of dimensions of A, and since when.
_CONVOLUTIONS = {3: ("Conv1d", "0.15.0"), 4: ("Conv2d", "0.3.0"), 5: ("Conv3d", "0.14.0")}
_DORA = {"lora_embedding_A": "0.13.0", 3: "0.16.0", 4: "0.10.0", 5: "0.14.0"}
_A = re.compile(r"(?P<module>.+)\.(?P<kind>lora_A\.weight|lora_embedding_A)")


def written_for(opened: Opened, version: str) -> Package:
    """The adapter as that release would have saved it.

    Raises:
        CannotConvert: The release cannot load it, or would load something else; it is named.
    """
    config = _known(opened, version)
    kind, renames = _method(config, version)
    _refuse(config, opened, version)
    tensors: dict[str, Tensor] = {}
    turned = _turned(config, opened, version)
    words = other_words(config, opened, version, _fields(kind, version))
    for name, tensor in {**opened.tensors(), **turned}.items():
        if any(field in words.dropped and mark in name for field, mark in TRAINING.items()):
            continue
        new = renamed(name, renames, config, version)
        if new in tensors:
            raise CannotConvert(f"two tensors would be called {quote(new)}", (name,))
        tensors[new] = tensor
    fields = {
        **config_for(config, kind, version, words.dropped),
        **tables_for(config, opened, version),
        **words.instead,
    }
    if version in version_range(">=0.14") and unscaled(config):
        fields.update(alpha=fields["r"], alpha_pattern=dict(fields.get("rank_pattern") or {}))
        words.notes.append(
            "PEFT before 0.14, which wrote this, trained LoKr with scale 1: alpha is set to the rank, which gives it."
        )
    text = _json(fields)
    others = [Copied(name, opened.source) for name in _carried(opened)]
    weights = WeightsFile(WEIGHTS, tensors, {"format": "pt"})
    notes = [*_notes(config, opened, version), *words.notes]
    if turned:
        notes.append(
            f"A and B of {len(turned) // 2:,} parameters changed places: PEFT {version} takes their other side for the input."
        )
    return Package({CONFIG: text}, (weights, *others), tuple(notes))


def _turned(config: AdapterConfig, opened: Opened, version: str) -> dict[str, Tensor]:
    """A and B of parameters of which that release takes the other side for the input: their new numbers, by their names.

    Raises:
        CannotConvert: Which side that is cannot be told; what would tell is said.
    """
    borders = ("0.19.0", "0.19.1")
    if not config.values.get("target_parameters") or not any(_crosses(config, version, each) for each in borders):
        return {}
    tree = opened.tree()
    found: dict[str, Tensor] = {}
    for path, one in of_parameters(opened, config, pairs(opened)).items():
        if len(one.shape) < 3 or tree is None:
            continue
        marked = next(module.transposed_experts for module in tree.modules if module.name == one.module)
        marks = {marked, marked and tree.model_type not in MARKED_SINCE_5}
        wanted = {laid_out(version, transposed=mark) for mark in marks}
        if len(wanted) > 1:
            raise CannotConvert(
                f"which side of {quote(one.name)} PEFT {version} takes for its input depends on transformers: the one with "
                "4, the other with 5. adapterfit fix --for peft==…,transformers==… lays it out for both versions",
                ("target_parameters",),
            )
        if one.turned not in wanted:
            a, b = exchanged(one)
            found[f"{_PREFIX}{path}.lora_A.weight"], found[f"{_PREFIX}{path}.lora_B.weight"] = a, b
    return found


def _json(fields: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(dict(fields), indent=2, sort_keys=True).encode()


def _known(opened: Opened, version: str) -> AdapterConfig:
    if version not in peft_facts.versions():
        known = peft_facts.versions()
        raise CannotConvert(f"PEFT {quote(version)} is not known here: {known[0]} to {known[-1]} are", (version,))
    if version in version_range("<0.4"):
        raise CannotConvert(f"PEFT {version} reads adapter_model.bin only, and no pickles are written here", (WEIGHTS,))
    config = opened.adapter.config
    if (
        config is not None and config.peft_type == "BONE"
    ):  # no longer a method of the newest release, and known all the same
        return config
    return readable_config(opened)


def _carried(opened: Opened) -> Iterator[str]:
    """The files beside the adapter that belong to it: its tokenizer, its card."""
    for name in opened.source.names():
        ours = (CONFIG, opened.weights.file, "adapterfit.json", "receipt.json")
        if "/" not in name and name not in ours and not name.startswith("adapter_model."):
            yield name


# --------------------------------------------------------------------------------------------------- the method


def _method(config: AdapterConfig, version: str) -> tuple[str, Mapping[str, str]]:
    """The peft_type there, and what of the tensors' names changes with it."""
    kind, renames = config.peft_type, {}
    # MiSS was called Bone until 0.18, which has both (peft 0.19.0, scripts/convert-bone-to-miss.py); the block is the same.
    if kind == "BONE" and version in version_range(">=0.19"):
        kind, renames = "MISS", {".bone_": ".miss_"}
    elif kind == "MISS" and version in version_range("<0.17"):
        kind, renames = "BONE", {".miss_": ".bone_"}
        if config.values.get("init_weights") == "mini":
            raise CannotConvert(f"PEFT {version} calls MiSS Bone, and its Bone has no mini form", ("init_weights",))
    facts = peft_facts.method(kind)
    if facts is None or version not in facts.releases():
        since = f": it came with {facts.first}" if facts is not None and not facts.last else ""
        raise CannotConvert(f"PEFT {version} has no {kind}{since}", ("peft_type",))
    return kind, renames


def renamed(name: str, renames: Mapping[str, str], config: AdapterConfig, version: str) -> str:
    """A tensor's name in that release."""
    for old, new in renames.items():
        name = name.replace(old, new)
    # Until 0.6.2 a targeted module had its own bias; since 0.7.0 it lies in the wrapped layer.
    if name.endswith(".base_layer.bias") and version in version_range("<0.7"):
        return name[: -len(".base_layer.bias")] + ".bias"
    if name.endswith(".bias") and ".base_layer." not in name and version in version_range(">=0.7"):
        old_layout = config.values.get("bias") in ("all", "lora_only") and config.newest in version_range("<0.7")
        return name[: -len(".bias")] + ".base_layer.bias" if old_layout and _is_target(name, config) else name
    return name


def _is_target(name: str, config: AdapterConfig) -> bool:
    from adapterfit.expect.targets import Rule

    module = name[len(_PREFIX) : -len(".bias")]
    rule = Rule(config.values, Patterns())
    return not rule.excludes(module) and rule.matches(module)


# --------------------------------------------------------------------------------------------------- the config


def _fields(kind: str, version: str) -> frozenset[str]:
    facts = peft_facts.method(kind)
    return facts.fields_of(version) if facts is not None else frozenset()


def config_for(
    config: AdapterConfig, kind: str, version: str, dropped: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    """The fields that the release knows. Its own defaults need not be ours: where one changed, the value is written out.

    `dropped` are fields that it does not know and that change nothing, whatever they hold.

    Raises:
        CannotConvert: It does not know a field that holds something else than its default.
    """
    facts = peft_facts.method(kind)
    if facts is None:
        raise AssertionError("the method was looked up before")
    known = facts.fields_of(version)
    found = {key: value for key, value in config.raw.items() if key in known}
    own = peft_facts.method(config.peft_type)  # of MiSS, which is Bone there
    lost = []
    for key, value in config.raw.items():
        field = facts.fields.get(key) or (own.fields.get(key) if own is not None else None)
        if key in known or key in dropped or key in ("peft_version", "runtime_config") or field is None:
            continue
        if not any(value == default for _, default in field.defaults):
            lost.append(key)
    if lost:
        raise CannotConvert(
            f"PEFT {version} does not know {shorten(map(quote, lost))}, which this adapter sets", tuple(lost)
        )
    for key in known:
        field = facts.fields[key]
        if key not in found and len(field.defaults) > 1 and key in config.values:
            found[key] = config.values[key]
    found.update(peft_type=kind, **({"peft_version": version} if "peft_version" in known else {}))
    init = found.get("init_lora_weights")
    if isinstance(init, str) and init in _INITS and version in version_range(f"<{_INITS[init]}"):
        found["init_lora_weights"] = True
    start = _changing(init)
    if start and config.newest in version_range(
        f"<{_CHANGING[start]}"
    ):  # the writer did not know it, and started as ever
        found["init_lora_weights"] = True
    untied = config.newest in version_range("<0.19") and version in version_range(">=0.19")
    if found.get("ensure_weight_tying") and untied and config.peft_type == "LORA":
        found["ensure_weight_tying"] = False  # the writer did not obey it
    return found


def _changing(init: Any) -> str:
    return next((word for word in _CHANGING if isinstance(init, str) and init.startswith(word)), "")


def _notes(config: AdapterConfig, opened: Opened, version: str) -> Iterator[str]:
    facts = peft_facts.method(config.peft_type)
    strange = [key for key in config.raw if facts is not None and key not in facts.fields and key != "runtime_config"]
    dropped = [key for key in strange if key != "peft_type"]
    if dropped:
        yield f"Left out, as no release of PEFT knows them: {shorten(map(quote, dropped))}."
    if version in version_range("<0.5") and isinstance(config.values.get("target_modules"), list):
        yield "Not checked: PEFT 0.4 also matches targets inside of a word; compare with the base's modules."
    yield from other_names(opened)
    yield from lost_biases(config, opened)


# --------------------------------------------------------------------------------------------------- what cannot go over


def _refuse(config: AdapterConfig, opened: Opened, version: str) -> None:
    """What the fields alone do not show.

    Raises:
        CannotConvert: The release would raise on it, or load it as something else.
    """
    for what, names in (*_unsupported(config, opened, version), *_meaning_changed(config, opened, version)):
        raise CannotConvert(f"PEFT {version} {what} ({shorten(map(quote, names))})", tuple(names))


Problem = tuple[str, Sequence[str]]


def _unsupported(config: AdapterConfig, opened: Opened, version: str) -> Iterator[Problem]:
    if config.values.get("task_type") in ("QUESTION_ANS", "FEATURE_EXTRACTION") and version in version_range("<0.4"):
        yield "does not know this task", ("task_type",)
    init = config.values.get("init_lora_weights")
    start = _changing(init)
    known = start and config.newest not in version_range(f"<{_CHANGING[start]}")
    if known and version in version_range(f"<{_CHANGING[start]}"):
        yield f"does not know {init}, and would not take its start off the base", ("init_lora_weights",)
    if config.peft_type == "ADALORA" and not config.values.get("lora_dropout") and version in version_range("<0.5"):
        yield "cannot load an AdaLoRA without dropout", ("lora_dropout",)
    if config.peft_type == "ADAMSS" and (_crosses(config, version, "0.20.0") or version in version_range("<0.20")):
        yield (
            "or the release that wrote this finds AdaMSS' segments by numbers drawn without a seed",
            ("num_subspaces",),
        )
    heads = config.peft_type in PROMPTS and config.values.get("task_type") in CLASSIFIERS
    if heads and version in version_range(">=0.13,<0.14"):
        yield "raises on every prompt of a classifier", ("task_type",)
    if heads and version in version_range(">=0.17") and not any(".weight" in name for name in opened.tensors()):
        yield "looks for the classifier's head, which PEFT 0.15 and 0.16 did not save", ("modules_to_save",)
    if config.peft_type != "LORA":
        return
    for name, tensor in opened.tensors().items():
        match = _A.fullmatch(name)
        if match is None:
            continue
        dims: Any = match["kind"] if match["kind"] == "lora_embedding_A" else len(tensor.shape)
        kind, since = _CONVOLUTIONS.get(dims, ("", ""))
        if since and version in version_range(f"<{since}"):
            yield f"has no LoRA on {kind}", (name,)
        if config.values.get("use_dora") and dims in _DORA and version in version_range(f"<{_DORA[dims]}"):
            yield "has no DoRA on such a module", (name,)


def _meaning_changed(config: AdapterConfig, opened: Opened, version: str) -> Iterator[Problem]:
    """Fields and tensors that another release reads as something else; the release that wrote it is bounded by its config."""
    yield from _oft(config, version)
    if (
        config.peft_type == "LOKR"
        and config.values["alpha"] != config.values["r"]
        and version in version_range("<0.14")
        and _crosses(config, version, "0.14.0")
    ):
        yield "reads LoKr's alpha otherwise: it counts since 0.14 only", ("alpha",)
    if config.peft_type not in ("LORA", *METHODS):
        return
    yield from _ties(config, opened, version)
    yield from _layers(config, opened, version)
    if _scaled_embedding(opened) and _crosses(config, version, "0.18.0"):
        yield "does not scale the adapter of this model's embedding, or does where it was not", ("embed_tokens",)
    grouped = [
        name
        for name, tensor in opened.tensors().items()
        if name.endswith(".lora_B.weight") and len(tensor.shape) > 2 and _grouped(name, tensor, opened)
    ]
    if grouped and _crosses(config, version, "0.16.0"):
        yield "computes grouped convolutions otherwise", grouped


def _ties(config: AdapterConfig, opened: Opened, version: str) -> Iterator[Problem]:
    """Measured: releases until 0.5 lost what was trained of a tied pair, and load what others saved; `ensure_weight_tying` is of 0.19."""
    older = config.oldest in version_range("<0.6") and version in version_range(">=0.6")
    tree, held = opened.tree(), opened.tensors()
    for group in tree.tied if tree is not None else ():
        names = [_PREFIX + name for name in group if _PREFIX + name in held]
        if 0 < len(names) < len(group) and older:
            yield "cannot know what was trained: releases before 0.6 lost it of weights that the base ties", names
    embedding = any(".lora_embedding_A" in name for name in opened.tensors())
    before = config.newest in version_range("<0.19")
    if config.values.get("ensure_weight_tying") and embedding and not before and _crosses(config, version, "0.19.0"):
        yield "treats ensure_weight_tying of a LoRA otherwise", ("ensure_weight_tying",)


def _layers(config: AdapterConfig, opened: Opened, version: str) -> Iterator[Problem]:
    """Under layers_to_transform releases from 0.8 to 0.19 took the last number of a path, all others the first (peft #3318)."""
    if config.values.get("layers_to_transform") is None or not (
        _crosses(config, version, "0.20.0") or _crosses(config, version, "0.8.0")
    ):
        return
    twice = [name for name in opened.tensors() if sum(part.isdecimal() for part in name.split(".")) > 1]
    if twice:
        yield "counts layers_to_transform by another number of these paths", twice


def _scaled_embedding(opened: Opened) -> bool:
    """Gemma 3 multiplies its embedding's output, and since 0.18 LoRA on it as well (peft #2825)."""
    model_type = opened.base.model_type if opened.base is not None else ""
    return model_type.startswith("gemma3") and any(".lora_embedding_A" in name for name in opened.tensors())


def _crosses(config: AdapterConfig, version: str, border: str) -> bool:
    """Whether the writer may lie on the other side of a border than the reader."""
    older = version in version_range(f"<{border}")
    writer = config.newest if older else config.oldest
    return older != (writer in version_range(f"<{border}"))


def _oft(config: AdapterConfig, version: str) -> Iterator[Problem]:
    """OFT has had three layouts: until 0.13, in 0.14 and 0.15, and since 0.16; since 0.18 its series starts elsewhere (measured)."""
    if config.peft_type != "OFT":
        return
    series = bool(config.values.get("use_cayley_neumann", True))
    borders = ("0.14.0", "0.16.0", *(("0.18.0",) if series else ()))
    if any(_crosses(config, version, border) for border in borders):
        yield "has another OFT: other tensors, or other arithmetic", ("peft_type",)


def _grouped(name: str, tensor: Tensor, opened: Opened) -> bool:
    a = opened.tensors().get(name.replace(".lora_B.", ".lora_A."))
    return a is not None and (a.shape[0] != tensor.shape[1] or _groups(name, opened) > 1)


def _groups(name: str, opened: Opened) -> int:
    tree = opened.tree()
    module = name[len(_PREFIX) : -len(".lora_B.weight")]
    return next((each.groups for each in tree.modules if each.name == module), 1) if tree is not None else 1
