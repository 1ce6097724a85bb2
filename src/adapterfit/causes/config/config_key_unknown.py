"""adapter_config.json has fields that this PEFT does not know.

What this means: PEFT 0.6 to 0.13 stop at the first such field with a TypeError, even where it says nothing (null). Since
0.14 unknown fields are dropped with one warning, the same for harmless and for decisive ones; before 0.6 they were dropped
without a word. A dropped `use_dora` or `use_rslora` changes what the adapter computes.

Why it happens: the adapter was saved with a newer PEFT, with a fork, or by hand; `enable_lora` and `merge_weights` are
left from PEFT 0.2.

Detection: the fields are compared with those of the PEFT that will load them. A field that is null, false or empty is
harmless, any other changes the meaning.

Fix: use a PEFT that knows the fields; or delete those that say nothing.

Workaround: `pip install -U peft`.

Prevention: state the needed PEFT version beside the adapter.

Setup:
    change_config(enable_lora=[True, False, True])  # left from PEFT 0.2

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # a TypeError with PEFT 0.6 to 0.13
    # warns: Unexpected keyword arguments ['enable_lora'] for class LoraConfig, these are ignored.

Fixed:
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    del config["enable_lora"]  # says nothing about this adapter; else load with a PEFT that knows the field
    Path("adapter/adapter_config.json").write_text(json.dumps(config))
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import between, said, suspect
from adapterfit.causes.versions import _tables
from adapterfit.edits import DropConfig
from adapterfit.records import AdapterConfig, Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import LogArgument, Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "TypeError: LoraConfig.__init__() got an unexpected keyword argument 'corda_config'",
        "TypeError: __init__() got an unexpected keyword argument 'enable_lora'",
        "UserWarning: Unexpected keyword arguments ['foo'] for class LoraConfig, these are ignored.",
    ),
    versions="an error with peft 0.6 to 0.13, a warning since 0.14",
    needs=("config",),
    codes=("runtime-config-ignored", "config-key-refused"),
)
#: The release that brought a field of LoRA; those of PEFT 0.3 are left out.
SINCE = {
    field: version
    for version, fields in {
        "0.4.0": "auto_mapping revision layers_to_transform layers_pattern",
        "0.6.0": "rank_pattern alpha_pattern",
        "0.7.0": "megatron_config megatron_core loftq_config",
        "0.8.0": "use_rslora",
        "0.9.0": "use_dora",
        "0.10.0": "layer_replication",
        "0.14.0": "exclude_modules eva_config lora_bias",
        "0.15.0": "trainable_token_indices corda_config",
        "0.16.0": "use_qalora qalora_group_size",
        "0.17.0": "target_parameters",
        "0.18.0": "peft_version alora_invocation_tokens arrow_config ensure_weight_tying",
        "0.19.0": "lora_ga_config use_bdlora",
        "0.20.0": "velora_config monteclora_config",
        "0.21.0": "kasa_config",
    }.items()
    for field in fields.split()
}
#: Fields of PEFT 0.2.
_GONE = ("enable_lora", "merge_weights")
#: Fields that say nothing about what the adapter computes, whatever they hold.
_NOTHING = frozenset(
    ("peft_version", "auto_mapping", "revision", "megatron_core", "qalora_group_size", "merge_weights", "inference_mode",
     "ensure_weight_tying", "lora_plus_lr_ratio", "eva_config", "loftq_config")
)  # fmt: skip
#: Settings whose loss shows in the comparison: modules without tensors, or tensors that nothing takes.
_SELECTS = frozenset(
    ("exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters", "modules_to_save")
)
_SHOWS = _SELECTS | {"trainable_token_indices", "lora_bias", "use_dora", "kasa_config", "use_bdlora"}


#: Settings of a whole method whose loss shows in the comparison, too; a Conv1D needs no fan_in_fan_out.
_SHAPES = frozenset((
    "r", "target_modules", "feedforward_modules", "fan_in_fan_out", "bias", "boft_block_size", "boft_block_num", "boft_n_butterfly_factor",
    "oft_block_size", "vector_length", "num_vectors",
))  # fmt: skip
#: How a loader that forgets the whole config is heard: it warns about the fields that it does not know.
_PREDICTED = {"forgets": "warns"}


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """One finding for all fields that the loader does not know."""
    config = case.adapter.config
    if config is None or not config.known or not config.unknown_keys:
        return
    handling = str(case.consumer.rules.get("unknown-config-keys", "warns"))
    keys = config.unknown_keys
    decisive = [
        key for key in keys if (key in config.dropped if key in config.newer else not _says_nothing(key, config))
    ]
    idle = frozenset() if _tables.in_force(case, diff) else frozenset(("rank_pattern", "alpha_pattern"))
    shows = _SHOWS | _SHAPES if handling == "forgets" else _SHOWS
    lost = [key for key in config.dropped if key not in shows and key not in idle]
    yield finding(
        _message(config, decisive, handling, case.consumer.peft),
        predicted=_PREDICTED.get(handling, handling),
        severity="error"
        if handling == "raises" or config.dropped.keys() - (shows if handling == "forgets" else _SELECTS) - idle
        else "warning"
        if decisive
        else "note",
        found=", ".join(show(key, 60) for key in keys[:8]),
        fix=_fix(config, decisive),
        code="config-key-refused" if handling == "raises" else "",
        differs=bool(lost) and handling != "raises",
    )


def _says_nothing(key: str, config: AdapterConfig) -> bool:
    value = config.raw[key]
    return key in _NOTHING or value is None or value is False or value in ({}, [], "")


def _message(config: AdapterConfig, decisive: list[str], handling: str, peft: str) -> str:
    keys = config.unknown_keys
    named = shorten((f"{key} ({_origin(key, config)})" for key in keys), 6)
    meaning = f"of these {shorten(decisive)} may change what the adapter computes" if decisive else "all say nothing"
    first = next(key for key in config.raw if key in set(keys))
    outcome = {
        "raises": f"PEFT {show(peft)} stops at the first (unexpected keyword argument '{show(first, 60)}')",
        "silent": f"PEFT {show(peft)} drops them without a word",
        "warns": "PEFT drops them with a warning",
        "forgets": f"PEFT {show(peft)} drops them with a warning, and every setting of the method (r, target_modules and the like) too",
    }[handling]
    return f"{show(config.file)} has {len(keys)} unknown field{'s' if len(keys) > 1 else ''}: {named}; {outcome}; {meaning}"


def _origin(key: str, config: AdapterConfig) -> str:
    if key in _GONE:
        return "gone since PEFT 0.3"
    return f"since PEFT {config.newer[key]}" if key in config.newer else "no PEFT has it"


def _fix(config: AdapterConfig, decisive: list[str]) -> Fix:
    keys = config.unknown_keys
    if not decisive:
        return Fix("safe", f"delete {shorten(keys)}: they say nothing", tuple(DropConfig(key) for key in keys))
    needed = max((config.newer[key] for key in decisive if key in config.newer), key=_release, default="")
    if needed and not set(decisive) & set(_GONE):
        return Fix("unsafe", f"pip install 'peft>={max(needed, '0.14.0', key=_release)}'")
    if set(decisive) & set(_GONE):
        return Fix("unsafe", "load it with PEFT 0.2, or convert it by hand: today's PEFT has no MergedLinear")
    return Fix("unsafe", f"ask the author what {shorten(decisive)} was meant to do; no PEFT release obeys it")


def _release(version: str) -> tuple[int, ...]:
    """`0.21.2` as (0, 21, 2); empty for anything else."""
    parts = version.split(".")[:3]
    return tuple(int(part) for part in parts) if len(parts) > 1 and all(part.isdigit() for part in parts) else ()


def examples(make: Any) -> dict[str, list[Any]]:
    """Fields that every release knows are silent."""
    plain = make.lora("llama")
    fields: list[Mapping[str, Any]] = [
        {"foo": 1},
        {"enable_lora": None, "merge_weights": False},
        {"lora_plus_lr_ratio": 16},
    ]
    return {
        "silent": [plain, plain.with_config(use_dora=False, kasa_config=None)],
        "fires": [
            *(plain.with_config(**each) for each in fields),
            plain.with_config(runtime_config={}),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "redundant arg", "redundant argument", "unknown field", "extra field", "extra key", "unknown arg", "enable_lora", "merge_weights", "loftq_config", "megatron_config", "layer_replication", "use_dora", "use_rslora", "eva_config", "corda_config", "exclude_modules", "lora_bias", "trainable_token_indices", "target_parameters", "alpha_pattern", "rank_pattern", "layers_to_transform", "layers_pattern", "arrow_config", "ensure_weight_tying", "use_qalora", "qalora_group_size", "runtime_config", "peft_version",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "from_peft_type"): 0.65}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a keyword that a config class did not know, or PEFT's word that it ignores some."""
    for argument in symptoms.arguments:
        likelihood = _likelihood(symptoms, argument)
        if not likelihood:
            continue
        yield suspect(
            symptoms, _heard(argument.name), likelihood, [argument.line],
            fix=_heard_fix(argument.name),
            apart="the frame above: config_cls(**kwargs) means the field is in adapter_config.json, your own line means your call",
        )  # fmt: skip
    bare = [e.line for e in symptoms.errors if e.kind == "TypeError" and not e.message]
    called = said(symptoms, "peftconfig.from_pretrained(", "peftmodel.from_pretrained(", "config_cls(**")
    if bare and called and not symptoms.arguments:
        yield suspect(
            symptoms, "a TypeError while PEFT reads a config nearly always is a field that it does not know", 0.5, [bare[0], *called],
            fix="pip install -U peft: 0.14 and later drop what they do not know", apart="the last line of the traceback: it names the field",
        )  # fmt: skip
    start = said(symptoms, "unknown initialization init_lora_weights")
    if start:
        name = between(symptoms, "init_lora_weights=")
        since = _STARTS.get(name, "")
        yield suspect(
            symptoms, f"this PEFT does not know init_lora_weights={quote(name)}" + (f": it came with {since}" if since else ""), 0.86, start,
            fix=f"pip install 'peft>={since}'" if since else "use the PEFT of the training",
        )  # fmt: skip
    ignored = said(symptoms, "unexpected keyword arguments [")
    if ignored:
        yield suspect(
            symptoms,
            "PEFT drops fields of a newer version",
            0.88,
            ignored,
            fix="pip install -U peft, if one of the fields is not null",
        )


#: Endings of PEFT's config classes; a model's config is another matter.
_STARTS = {
    "loftq": "0.7.0",
    "pissa": "0.11.0",
    "olora": "0.12.0",
    "eva": "0.14.0",
    "corda": "0.15.0",
    "orthogonal": "0.16.0",
    "lora_ga": "0.19.0",
}
_CONFIGS = (
    "LoraConfig", "LoraRuntimeConfig", "PeftConfig", "LoHaConfig", "LoKrConfig", "IA3Config", "OFTConfig", "BOFTConfig", "TuningConfig", "EncoderConfig",
    "VeraConfig", "VBLoRAConfig", "AdaptionPromptConfig", "PolyConfig", "HRAConfig", "FourierFTConfig", "CPTConfig", "BoneConfig", "MissConfig", "C3AConfig",
    "TokensConfig", "ShiraConfig", "RoadConfig", "OSFConfig", "DeloraConfig", "GraloraConfig", "WaveFTConfig", "PromptLearningConfig",
)  # fmt: skip


#: Keywords of `from_pretrained` that are no field of any config; some versions of PEFT hand them on to one.
_LOADING = frozenset(
    {
        "dtype",
        "device_map",
        "max_memory",
        "offload_folder",
        "offload_dir",
        "load_in_8bit",
        "load_in_4bit",
        "low_cpu_mem_usage",
        "torch_device",
    }
)


def _likelihood(symptoms: Symptoms, argument: LogArgument) -> float:
    """How surely the keyword is a field of a PEFT config; 0 where it is some other call's."""
    ours = argument.called.endswith(_CONFIGS)
    if argument.called.startswith("PeftConfig") and argument.name in _LOADING:
        return 0.87
    bare = argument.called in {"", "__init__"}
    if argument.name in SINCE and (ours or bare):
        return 0.95
    if ours or (bare and argument.name in _GONE):
        return 0.85
    if bare and any(frame.library == "peft" for frame in symptoms.frames):
        return 0.8
    return 0.55 if bare and any(word in symptoms.folded for word in ("lora", "peft")) else 0.0


def _heard(name: str) -> str:
    if name in _LOADING:
        return f"{name} is a keyword of from_pretrained: this PEFT hands it on to its config"
    if name in SINCE:
        return f"{name} came with PEFT {SINCE[name]}: the PEFT that loads is older, the one that saved is at least that"
    if name in _GONE:
        return f"{name} is a field of PEFT 0.2, gone since 0.3"
    return f"no PEFT has a field {quote(name)}: a fork, another config's field, or your own call"


def _heard_fix(name: str) -> str:
    if name in _LOADING:
        return f"pip install -U peft; or leave {name} out of PeftModel.from_pretrained and give it to the base"
    if name in SINCE:
        return f"pip install 'peft>={SINCE[name]}' (0.14 and later drop what they do not know); or delete {name} from adapter_config.json if it is null, false or empty"
    if name in _GONE:
        return f"delete {name} from adapter_config.json if it is null or false"
    return f"pip install 'peft>=0.14', or delete {quote(name)} from adapter_config.json if it says nothing"


def logs() -> dict[str, list[str]]:
    """Fields of newer versions, in old and new wordings; a model's own config."""
    return {
        "fires": [
            "ValueError: Unknown initialization init_lora_weights='orthogonal'",
            "TypeError: FourierFTConfig.__init__() got an unexpected keyword argument 'exclude_modules'",
            "TypeError: LoraConfig.__init__() got an unexpected keyword argument 'corda_config'",
            "TypeError: PeftConfig.__init__() got an unexpected keyword argument 'max_memory'",
            "TypeError: __init__() got an unexpected keyword argument 'use_dora'",
            "UserWarning: Unexpected keyword arguments ['arrow_config'] for class LoraConfig, these are ignored.",
        ],
        "silent": [
            "TypeError: LlamaConfig.__init__() got an unexpected keyword argument 'foo'",
            "TypeError: LoraConfig.__init__() missing 1 argument",
        ],
    }
