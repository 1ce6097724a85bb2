"""Random adapters of real PEFT on random small bases, broken at random: a seed is a case, and the same seed the same case.

What `broken` tries by hand is drawn here: the architecture and its head, the method, its options together, what happens
to the file and to the base. What PEFT refuses to make is a case too: the same config is given to the loader.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hunting_options
import oracle

import adapterfit
from adapterfit.expect import modules
from adapterfit.read.base import read_base
from adapterfit.read.live import base_from_module
from adapterfit.read.sources.memory import MemorySource

#: Model types of the hunt: those that `broken` has not, and those that users have most.
TYPES = (
    "llama", "gpt2", "bert", "t5", "mixtral", "vit", "whisper", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "phi", "phi3",
    "falcon", "bloom", "opt", "mpt", "gpt_neox", "gptj", "roberta", "deberta-v2", "distilbert", "electra", "bart", "mt5", "clip",
    "siglip", "dinov2", "wav2vec2", "qwen2_vl", "qwen2_5_vl", "llava", "llava_next", "qwen2_moe", "qwen3_moe", "deepseek_v3", "gpt_oss",
    "olmoe", "olmo2", "mamba", "jamba", "swin", "granite", "granitemoe", "cohere", "starcoder2", "stablelm", "albert", "modernbert", "mbart", "pegasus",
    "m2m_100", "gpt_bigcode", "phimoe", "glm4", "smollm3", "xlm-roberta", "mpnet", "camembert", "deit", "beit", "biogpt",
    "gpt_neo", "codegen", "exaone4", "nemotron", "paligemma", "gemma3", "qwen3_vl", "idefics3", "mistral3", "internvl",
)  # fmt: skip
#: In place of a model type: a model of plain modules.
PLAIN = "plain"
_SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim", "projection_dim", "embed_dim"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "ffn_hidden_size", "n_inner"), 48),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers", "num_decoder_layers", "depth"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "max_seq_len", "n_positions", "max_source_positions", "max_target_positions"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "rotary_dim", "num_mel_bins", "patch_size", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4), "image_size": 16, "n_group": 2, "topk_group": 1,
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "kv_lora_rank", "q_lora_rank"), 24),
    "num_key_value_heads": 2, "num_kv_heads": 2, "num_experts_per_tok": 2, "vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "num_conv_pos_embedding_groups": 4,
    "num_conv_pos_embeddings": 8, "first_k_dense_replace": 1, "image_token_id": 5, "image_token_index": 5, "video_token_id": 6, "n_shared_experts": 1,
    "head_dim_ratio": 1, "state_size": 8, "time_step_rank": 4, "depths": [1, 1], "window_size": 4, "initializer_range": 0.1,
}  # fmt: skip
_TASKS = {
    "CausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS", "ForConditionalGeneration": "SEQ_2_SEQ_LM", "Model": "FEATURE_EXTRACTION",
}  # fmt: skip


class NotDrawn(Exception):
    """This seed gives no case: the class is not small, or cannot be built."""


@dataclass(frozen=True)
class Base:
    """A config and the class it is loaded as."""

    raw: str
    class_name: str

    def fresh(self) -> Any:
        return copy.deepcopy(_built(self.raw, self.class_name))

    def read(self) -> Any:
        return read_base(MemorySource({"config.json": self.raw.encode()}, label=self.class_name))

    def edited(self, **fields: Any) -> Base:
        raw = json.loads(self.raw)
        for part in (raw, *(value for value in raw.values() if isinstance(value, dict))):
            part.update({key: value for key, value in fields.items() if key in part})
        return Base(json.dumps(raw), self.class_name)


@dataclass(frozen=True)
class Found:
    """One case: how it came to be, what we say, what PEFT does."""

    story: str
    ours: str
    theirs: str
    why: str = ""

    @property
    def agree(self) -> bool:
        return self.ours == self.theirs


@cache
def _built(raw: str, class_name: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    values = json.loads(raw)
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        with torch.device("meta"):
            made = getattr(transformers, class_name)._from_config(config)
        if sum(parameter.numel() for parameter in made.parameters()) > 3_000_000:
            raise NotDrawn(f"{class_name} is not small")
        return getattr(transformers, class_name)._from_config(config).float().eval()


@cache
def _config(model_type: str) -> dict[str, Any]:
    """A small config of this type, its nested configs small too."""
    import transformers

    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        default = transformers.AutoConfig.for_model(model_type)
    return {**_shrunk(default), "model_type": model_type}


def _shrunk(config: Any) -> dict[str, Any]:
    raw = config.to_dict()
    small = {key: value for key, value in _SMALL.items() if key in raw and not isinstance(raw[key], dict) and raw[key] is not None
             and key not in config.attribute_map}  # fmt: skip
    if "multi_query" in raw:
        small.pop("num_key_value_heads", None)
    kept = {key: raw[key] for key in ("model_type",) if key in raw}
    nested = {key: _shrunk(value) for key, value in vars(config).items() if hasattr(value, "to_diff_dict")}
    return {**kept, **small, **nested}


def classes(model_type: str) -> list[str]:
    """The classes of a type that transformers has facts of."""
    found = modules.facts(model_type)
    return sorted(found["classes"]) if found else []


@dataclass(frozen=True)
class Plain(Base):
    """A model of plain modules, of no model type: `raw` is the kind of module it has (`test_methods.custom`)."""

    def fresh(self) -> Any:
        import test_methods

        return test_methods.custom(self.raw)

    def read(self) -> Any:
        return base_from_module(self.fresh())

    def edited(self, **fields: Any) -> Base:
        return self


def base(rng: random.Random, model_type: str) -> Base:
    """A small base of this type with a random head."""
    if model_type == PLAIN:
        import test_methods

        return Plain(rng.choice((*test_methods.KINDS, *test_methods.ATTENTION)), "")
    names = classes(model_type)
    if not names:
        raise NotDrawn(f"no facts of {model_type}")
    class_name = rng.choice(names)
    raw = copy.deepcopy(_config(model_type))
    raw["architectures"] = [class_name]
    if rng.random() < 0.3:
        raw["tie_word_embeddings"] = rng.random() < 0.5
    if rng.random() < 0.2:
        raw.update(id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    made = Base(json.dumps(raw), class_name)
    try:
        made.fresh()
    except NotDrawn:
        raise
    except Exception as error:
        raise NotDrawn(f"{class_name}: {type(error).__name__}: {error}") from None
    return made


def task(class_name: str) -> str | None:
    """What a user would call the task of this class."""
    return next((name for end, name in _TASKS.items() if class_name.endswith(end)), None)


# ------------------------------------------------------------------------------------------------ what is done to it

Tensors = dict[str, Any]
Way = Callable[[random.Random, Tensors, dict[str, Any]], None]


def _pick(rng: random.Random, tensors: Tensors) -> str:
    return rng.choice(sorted(tensors)) if tensors else ""


def _drop(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    for name in rng.sample(sorted(tensors), min(len(tensors), rng.choice((1, 1, 2, 5)))):
        del tensors[name]


def _rename(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    name = _pick(rng, tensors)
    if name:
        parts = name.split(".")
        at = rng.randrange(len(parts))
        parts[at] = rng.choice((parts[at] + "x", parts[at].upper(), "default", "base_layer"))
        tensors[".".join(parts)] = tensors.pop(name)


def _rename_all(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    old, new = rng.choice((
        ("base_model.model.", "base_model.model.module."), ("base_model.model.", ""), ("base_model.model.", "base_model."),
        ("base_model.model.model.", "base_model.model."), ("base_model.model.", "base_model.model.model."), (".weight", ".default.weight"),
        ("base_model.model.", "base_model.model._orig_mod."), (".layers.", ".h."), (".weight", ""), ("lora_A", "lora_a"), (".0.", ".1."),
        ("base_model.model.", "base_model.model.base_model.model."), ("language_model.", "language_model.model."), ("encoder.", ""),
        (".attention.", ".attn."), ("model.language_model.", "model."), ("lora_A", "lora_embedding_A"), ("lora_A.weight", "lora_A.other.weight"),
        ("model.visual.", "visual."), ("vision_tower.", "vision_tower.vision_model."), ("mlp.", "block_sparse_moe."), ("transformer.", ""),
    ))  # fmt: skip
    for name in list(tensors):
        tensors[name.replace(old, new, 1)] = tensors.pop(name)


def _transpose(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    flat = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    for name in rng.sample(flat, min(len(flat), rng.choice((1, 3)))):
        tensors[name] = tensors[name].T.contiguous()


def _reshape(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    name = _pick(rng, tensors)
    if name and tensors[name].ndim:
        at = rng.randrange(tensors[name].ndim)
        tensors[name] = rng.choice((lambda t: t.narrow(at, 0, max(1, t.shape[at] // 2)), lambda t: t.unsqueeze(0), lambda t: t.flatten(),
                                    lambda t: t.repeat_interleave(2, at), lambda t: t.new_zeros(0)))(tensors[name]).contiguous()  # fmt: skip


def _swap_layers(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    moved = {
        re.sub(r"\.([01])\.", lambda found: f".{1 - int(found[1])}.", name, count=1): tensor
        for name, tensor in tensors.items()
    }
    tensors.clear()
    tensors.update(moved)


def _swap_halves(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    moved = {
        name.replace("lora_A", "lora_#").replace("lora_B", "lora_A").replace("lora_#", "lora_B"): t
        for name, t in tensors.items()
    }
    tensors.clear()
    tensors.update(moved)


def _zeros(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    for name in tensors:
        if rng.random() < 0.5:
            tensors[name] = tensors[name] * 0


def _not_a_number(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    name = _pick(rng, tensors)
    if name:
        tensors[name] = tensors[name] * float("nan")


def _dtype(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    import torch

    kind = rng.choice((torch.float16, torch.bfloat16, torch.float64))
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(kind) if tensor.is_floating_point() else tensor


def _add(rng: random.Random, tensors: Tensors, _config: dict[str, Any]) -> None:
    name = _pick(rng, tensors)
    if name:
        new = rng.choice((name.replace(".0.", ".9."), name + ".extra", "lm_head.weight", name.replace("base_model.model", "base_model.other"),
                          re.sub(r"\.[a-z_]+\.lora_", ".nowhere.lora_", name)))  # fmt: skip
        tensors.setdefault(new, tensors[name].clone())


def _edit(rng: random.Random, tensors: Tensors, config: dict[str, Any]) -> None:
    targets = config.get("target_modules")
    edits: list[dict[str, Any]] = [
        {"r": 3}, {"lora_alpha": 1}, {"use_dora": True}, {"use_dora": False}, {"use_rslora": True}, {"modules_to_save": None}, {"bias": "all"},
        {"bias": "none"}, {"layers_to_transform": [0]}, {"layers_to_transform": None}, {"rank_pattern": {}}, {"target_modules": None}, {"task_type": None},
        {"target_modules": ".*"}, {"target_modules": []}, {"task_type": "CAUSAL_LM"}, {"task_type": "SEQ_CLS"}, {"fan_in_fan_out": True}, {"lora_bias": True},
        {"exclude_modules": [".*"]}, {"trainable_token_indices": None}, {"trainable_token_indices": [1]}, {"init_lora_weights": False}, {"init_weights": False},
        {"init_weights": True}, {"target_parameters": None}, {"layers_pattern": "layers"}, {"save_projection": False}, {"peft_type": "LORA"},
        {"peft_type": "LOHA"}, {"peft_type": "IA3"}, {"layer_replication": None}, {"modules_to_save": ["classifier", "score"]}, {"unheard_of": 1},
        {"modules_to_save": ["norm"]}, {"num_virtual_tokens": 3}, {"rank_pattern": {"0": 2}}, {"peft_version": "0.18.0"}, {"auto_mapping": None},
        {"ensure_weight_tying": True}, {"target_modules": "all-linear"},
    ]  # fmt: skip
    if isinstance(targets, list) and targets:
        edits += [
            {"target_modules": rng.sample(targets, len(targets) - 1)},
            {"exclude_modules": rng.sample(targets, 1)},
        ] * 3
        edits += [{"rank_pattern": {rng.choice(targets): 2}}] * 2
    config.update(rng.choice([edit for edit in edits if set(edit) <= set(config) | {"unheard_of"}]))


WAYS: Mapping[str, Way] = {
    "drop": _drop, "rename": _rename, "rename all": _rename_all, "transpose": _transpose, "reshape": _reshape, "swap layers": _swap_layers,
    "swap halves": _swap_halves, "zeros": _zeros, "not a number": _not_a_number, "dtype": _dtype, "add": _add, "edit": _edit, "edit more": _edit,
}  # fmt: skip
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth")
_WIDTHS = ("intermediate_size", "d_ff", "ffn_dim", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim")


def other_base(rng: random.Random, was: Base) -> tuple[str, Base]:
    """Another depth, width, vocabulary, head or family."""
    kind = rng.choice(("deeper", "shallower", "wider", "more words", "head", "head", "family", "tied"))
    if isinstance(was, Plain):
        made = base(rng, PLAIN)
        return f"on {made.raw}", made
    raw = json.loads(was.raw)
    if kind == "head":
        name = rng.choice(classes(raw["model_type"]))
        return f"as {name}", Base(json.dumps({**raw, "architectures": [name]}), name)
    if kind == "family":
        made = base(rng, rng.choice(TYPES))
        return f"on {made.class_name}", made
    if kind == "tied":
        return kind, was.edited(tie_word_embeddings=not raw.get("tie_word_embeddings", True))
    fields = {"deeper": dict.fromkeys(_DEPTHS, 3), "shallower": dict.fromkeys(_DEPTHS, 1), "wider": dict.fromkeys(_WIDTHS, 64),
              "more words": {"vocab_size": 140}}[kind]  # fmt: skip
    return kind, was.edited(**fields)


# ------------------------------------------------------------------------------------------------ the case


def hunt(seed: object, types: tuple[str, ...] = TYPES, method: str = "") -> Found:
    """Draw the case of this seed, ask us, load it with real PEFT.

    Raises:
        NotDrawn: The seed gives no case.
    """
    import torch

    rng = random.Random(str(seed))
    made = base(rng, rng.choice(types))
    config = hunting_options.options(rng, made.fresh(), task(made.class_name), method)
    torch.manual_seed(rng.randrange(10**6))
    config, tensors = _saved(made, config)
    story = [made.class_name or f"{PLAIN} {made.raw}", json.dumps(config, sort_keys=True, default=str)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        if rng.random() < 0.25:
            what, made = other_base(rng, made)
        else:
            what = rng.choice(list(WAYS))
            before = dict(config)
            WAYS[what](rng, tensors, config)
            what += str({key: config[key] for key in config if before.get(key, 0) != config[key]} or "")
        story.append(what)
    try:
        made.fresh()
    except Exception as error:
        raise NotDrawn(f"other base: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), config, tensors)
        return compared("; ".join(story), Path(folder), made)


def _saved(made: Base, config: dict[str, Any]) -> tuple[dict[str, Any], Tensors]:
    """What PEFT saves of a freshly adapted model full of noise; where it refuses, the config alone."""
    import breaking
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        try:
            breaking.save(made.fresh(), config, Path(folder))
            saved = json.loads((Path(folder) / "adapter_config.json").read_text())
            return saved, load_file(Path(folder) / "adapter_model.safetensors")
        except Exception:
            return config, {}


def _write(folder: Path, config: Mapping[str, Any], tensors: Tensors) -> None:
    from safetensors.torch import save_file

    whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, default=list))


def compared(story: str, folder: Path, made: Base) -> Found:
    """What we say of the files beside what PEFT does with them: the outcome, what it raises, and how many tensors it drops."""
    report = adapterfit.check(folder, base=made.read(), base_class=made.class_name or None)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        truth = _truth(made, folder)
    predicted = "loads" if report.predicted == "loads-differently" else report.predicted
    theirs = truth.outcome
    if predicted == "cannot-tell":
        return Found(story, predicted, theirs, "; ".join(entry.why for entry in report.not_checked[:2]))
    if theirs == "raises":
        said = report.raised.text if report.raised else ""
        same = predicted == "raises" and oracle.same_line(said, truth.raised)
        return Found(story, theirs if same else f"{predicted} {said}", theirs if same else f"{theirs} {truth.raised}")
    if (
        predicted != theirs
        and theirs == "loads-partly"
        and predicted == "loads-without-effect"
        and truth.warned[-1:] == ("not run",)
    ):
        predicted = theirs
    if (
        predicted == theirs
        and report.diff is not None
        and theirs != "loads"
        and report.counts.extra != len(truth.dropped)
    ):
        predicted, theirs = f"{predicted}, {report.counts.extra} dropped", f"{theirs}, {len(truth.dropped)} dropped"
    return Found(story, predicted, theirs, f"dropped {sorted(truth.dropped)[:3]}, missing {sorted(truth.missing)[:3]}")


def _truth(made: Base, folder: Path) -> oracle.Truth:
    """PEFT's; where a model cannot be run by tokens or an image alone, no effect is not told from part of one."""
    told: list[str] = []
    plain = oracle._same

    def same(model: Any, other: Any) -> bool:
        try:
            return plain(model, other)
        except Exception:
            told.append("not run")
            return False

    oracle._same = same
    try:
        truth = oracle.load(made.fresh, folder)
    finally:
        oracle._same = plain
    return oracle.Truth(truth.outcome, truth.raised, truth.dropped, truth.missing, (*truth.warned, *told))


def kept(model_type: str, class_name: str, config: Mapping[str, Any]) -> Found:
    """A case that a hunt found, by itself: saved by PEFT (where it does not refuse), and loaded on the same base."""
    if model_type == PLAIN:
        made: Base = Plain(class_name, "")
    else:
        made = Base(json.dumps({**_config(model_type), "architectures": [class_name]}), class_name)
    saved, tensors = _saved(made, dict(config))
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), saved, tensors)
        return compared(class_name, Path(folder), made)
