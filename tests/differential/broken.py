"""Adapters of many methods and the ways to break them; what we say of each beside what real PEFT does."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache, partial

import oracle

import adapterfit
from adapterfit.testing import make

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
ADAPTERS = {
    "llama lora": ("llama", LORA),
    "llama all-linear": ("llama", {**LORA, "target_modules": "all-linear"}),
    "llama dora": ("llama", {**LORA, "use_dora": True}),
    "llama lora on the embedding": ("llama", {**LORA, "target_modules": ["q_proj", "embed_tokens"]}),
    "llama lora and saved head": ("llama", {**LORA, "modules_to_save": ["lm_head"]}),
    "llama lora and token rows": ("llama", {**LORA, "trainable_token_indices": [3, 5]}),
    "llama patterns": ("llama", {**LORA, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.1.*": 3}}),
    "llama one layer": ("llama", {**LORA, "layers_to_transform": [1]}),
    "llama replicated": ("llama", {**LORA, "layer_replication": [[0, 2], [1, 2]]}),
    "tied llama, both ends saved": ("llama-tied", {**LORA, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied llama, tying ensured": ("llama-tied", {**LORA, "modules_to_save": ["lm_head"], "ensure_weight_tying": True}),
    "bert classifier": ("bert", {**LORA, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}),
    "bert biases": ("bert", {**LORA, "target_modules": ["query"], "task_type": None, "bias": "all"}),
    "gpt2 fused": ("gpt2", {**LORA, "target_modules": ["c_attn", "c_fc"], "lora_bias": True}),
    "t5 lora": ("t5", {**LORA, "target_modules": ["q", "v", "wo"], "task_type": "SEQ_2_SEQ_LM"}),
    "mixtral experts": ("mixtral", {**LORA, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}),
    "llava language": ("llava", {**LORA, "target_modules": r".*language_model.*\.(q|v)_proj", "task_type": None}),
    "qwen2 lokr": (
        "qwen2",
        {"peft_type": "LOKR", "r": 2, "alpha": 4, "target_modules": ["q_proj"], "decompose_both": True},
    ),
    "llama loha": ("llama", {"peft_type": "LOHA", "r": 2, "alpha": 4, "target_modules": ["q_proj", "down_proj"]}),
    "llama ia3": ("llama", {"peft_type": "IA3"}),
    "gpt2 ia3": ("gpt2", {"peft_type": "IA3"}),
    "llama adalora": (
        "llama",
        {
            "peft_type": "ADALORA",
            "init_r": 3,
            "total_step": 10,
            "target_modules": ["q_proj", "v_proj"],
            "lora_alpha": 4,
        },
    ),
    "llama beft": ("llama", {"peft_type": "BEFT", "target_modules": ["q_proj", "v_proj"]}),
    "llama boft": ("llama", {"peft_type": "BOFT", "boft_block_size": 8, "target_modules": ["q_proj", "v_proj"]}),
    "llama c3a": ("llama", {"peft_type": "C3A", "block_size": 16, "target_modules": ["q_proj", "v_proj"]}),
    "llama c3a from zero": ("llama", {"peft_type": "C3A", "block_size": 8, "init_weights": True}),
    "gpt2 deft": ("gpt2", {"peft_type": "DEFT", "r": 4}),
    "llama deft without injection": ("llama", {"peft_type": "DEFT", "r": 4, "para": True}),
    "llama delora": ("llama", {"peft_type": "DELORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "gpt2 fourierft": ("gpt2", {"peft_type": "FOURIERFT", "n_frequency": 20, "n_frequency_pattern": {"c_attn": 7}}),
    "llama frod": ("llama", {"peft_type": "FROD", "target_modules": ["q_proj", "v_proj"]}),
    "llama frod, basis not saved": (
        "llama",
        {"peft_type": "FROD", "target_modules": ["q_proj"], "save_projection": False},
    ),
    "bert glora": (
        "bert",
        {"peft_type": "GLORA", "task_type": "SEQ_CLS", "r": 4, "target_modules": ["query"], "config_D_E": "vector"},
    ),
    "llama glora": ("llama", {"peft_type": "GLORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "gpt2 gralora": ("gpt2", {"peft_type": "GRALORA", "r": 4, "hybrid_r": 2, "target_modules": ["c_attn", "c_proj"]}),
    "llama hira": ("llama", {"peft_type": "HIRA", "r": 4, "target_modules": ["q_proj", "embed_tokens"]}),
    "llama hra": ("llama", {"peft_type": "HRA", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "llama lily": ("llama", {"peft_type": "LILY", "r": 4, "stride_A": 2, "target_modules": ["q_proj", "v_proj"]}),
    "llama ln-tuning": ("llama", {"peft_type": "LN_TUNING"}),
    "gpt2 ln-tuning": ("gpt2", {"peft_type": "LN_TUNING", "target_modules": ["ln_1", "c_proj"]}),
    "llama miss": ("llama", {"peft_type": "MISS", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "llama miss in blocks": (
        "llama",
        {"peft_type": "MISS", "r": 8, "init_weights": "bat", "target_modules": ["q_proj"]},
    ),
    "llama oft": ("llama", {"peft_type": "OFT", "oft_block_size": 8, "target_modules": ["q_proj", "embed_tokens"]}),
    "llama oft shared": ("llama", {"peft_type": "OFT", "oft_block_size": 7, "block_share": True}),
    "llama osf": (
        "llama",
        {"peft_type": "OSF", "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_pr": 0.25}},
    ),
    "llama osf everywhere": ("llama", {"peft_type": "OSF", "effective_rank": 8}),
    "llama peanut": ("llama", {"peft_type": "PEANUT", "r": 4, "depth": 2, "target_modules": ["q_proj", "v_proj"]}),
    "llama poly": ("llama", {"peft_type": "POLY", "r": 4, "n_tasks": 2, "n_skills": 3, "n_splits": 2}),
    "llama psoft": ("llama", {"peft_type": "PSOFT", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "gpt2 pvera": ("gpt2", {"peft_type": "PVERA", "r": 4, "target_modules": ["c_attn", "c_fc"]}),
    "llama randlora": ("llama", {"peft_type": "RANDLORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "llama randlora, bases not saved": ("llama", {"peft_type": "RANDLORA", "r": 4, "save_projection": False}),
    "llama road": ("llama", {"peft_type": "ROAD", "group_size": 16, "target_modules": ["q_proj", "v_proj"]}),
    "llama shadow": ("llama", {"peft_type": "SHADOW", "r": 4}),
    "llama shira": ("llama", {"peft_type": "SHIRA", "r": 2, "target_modules": ["q_proj", "v_proj"]}),
    "llama supertuning": ("llama", {"peft_type": "SUPERTUNING", "r": 3, "target_modules": ["q_proj", "v_proj"]}),
    "llama tinylora": ("llama", {"peft_type": "TINYLORA", "target_modules": ["q_proj", "v_proj"], "weight_tying": 0.5}),
    "gpt2 tinylora": ("gpt2", {"peft_type": "TINYLORA", "target_modules": ["c_attn", "wte"], "save_projection": False}),
    "llama tokens": ("llama", {"peft_type": "TRAINABLE_TOKENS", "token_indices": [3, 1]}),
    "tied llama tokens": ("llama-tied", {"peft_type": "TRAINABLE_TOKENS", "token_indices": [3, 1]}),
    "llama unilora": ("llama", {"peft_type": "UNILORA", "r": 4, "theta_d_length": 32, "save_indices": True}),
    "llama vblora": ("llama", {"peft_type": "VBLORA", "r": 4, "num_vectors": 9, "vector_length": 8}),
    "llama vera": ("llama", {"peft_type": "VERA", "r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "gpt2 vera, projection not saved": ("gpt2", {"peft_type": "VERA", "r": 4, "save_projection": False}),
    "llama waveft": ("llama", {"peft_type": "WAVEFT", "n_frequency": 20, "target_modules": ["q_proj", "v_proj"]}),
    "gpt2 waveft by share": (
        "gpt2",
        {
            "peft_type": "WAVEFT",
            "n_frequency": 20,
            "target_modules": ["c_attn", "c_proj"],
            "proportional_parameters": True,
        },
    ),
    "llama adaption prompt": ("llama", {"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 2}),
    "gpt2 adaption prompt": ("gpt2", {"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 1}),
    "llama prefix": ("llama", {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3}),
    "llama cartridge": ("llama", {"peft_type": "CARTRIDGE", "num_virtual_tokens": 3}),
    "llama cpt": ("llama", {"peft_type": "CPT", "cpt_token_ids": [5, 6, 7], "task_type": "CAUSAL_LM"}),
    "t5 multitask prompt": (
        "t5",
        {
            "peft_type": "MULTITASK_PROMPT_TUNING",
            "num_virtual_tokens": 3,
            "num_tasks": 2,
            "num_ranks": 2,
            "task_type": "SEQ_2_SEQ_LM",
        },
    ),
    "t5 prompt": ("t5", {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3, "task_type": "SEQ_2_SEQ_LM"}),
    "gpt2 p-tuning": ("gpt2", {"peft_type": "P_TUNING", "num_virtual_tokens": 3, "encoder_hidden_size": 8}),
    "vit classifier": (
        "vit",
        {**LORA, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"], "task_type": None},
    ),
    "vit everywhere": ("vit", {**LORA, "target_modules": "all-linear", "task_type": None}),
    "vit ia3": (
        "vit",
        {"peft_type": "IA3", "target_modules": ["k_proj"], "feedforward_modules": [], "task_type": None},
    ),
    "whisper lora": ("whisper", {**LORA, "target_modules": ["q_proj", "v_proj"], "task_type": None}),
    "whisper dora": ("whisper", {**LORA, "use_dora": True, "target_modules": ["k_proj", "fc1"], "task_type": None}),
    "whisper vera": ("whisper", {"peft_type": "VERA", "r": 4, "target_modules": ["out_proj"], "task_type": None}),
}


def first(sample):
    return sample.names[0]


MUTATIONS = {
    "as it was saved": lambda s: s,
    "one tensor gone": lambda s: s.dropped(lambda n: n == first(s)),
    "half of the tensors gone": lambda s: s.dropped(lambda n: n in s.names[::2]),
    "no tensor left": lambda s: s.dropped(lambda _: True),
    "one tensor more": lambda s: s.added({"base_model.model.nowhere.lora_A.weight": (4, 4)}),
    "one tensor renamed": lambda s: s.renamed(lambda n: n + "_" if n == first(s) else n),
    "DDP's prefix": lambda s: s.renamed(lambda n: "module." + n),
    "no prefix": lambda s: s.renamed(lambda n: n.replace("base_model.model.", "", 1)),
    "one level less": lambda s: s.renamed(lambda n: n.replace("base_model.model.model.", "base_model.model.", 1)),
    "one level more": lambda s: s.renamed(lambda n: n.replace("base_model.model.", "base_model.model.model.", 1)),
    "the adapter's name inside": lambda s: s.renamed(lambda n: n.replace("A.weight", "A.default.weight")),
    "another adapter's name inside": lambda s: s.renamed(lambda n: n.replace("A.weight", "A.other.weight")),
    "one tensor transposed": lambda s: s.reshaped(lambda n: n == first(s), lambda shape: shape[::-1]),
    "every last dimension doubled": lambda s: s.reshaped(lambda _: True, lambda shape: (*shape[:-1], shape[-1] * 2)),
    "ZeRO-3's empty tensors": lambda s: s.reshaped(lambda n: n in s.names[::2], lambda _: (0,)),
    "layers renumbered": lambda s: s.renamed(lambda n: n.replace(".1.", ".7.")),
    "another rank in the config": lambda s: s.with_config(r=6, init_r=5, num_virtual_tokens=4),
    "fewer targets in the config": lambda s: s.with_config(target_modules=["q_proj"]),
    "more targets in the config": lambda s: s.with_config(target_modules=["q_proj", "v_proj", "k_proj", "o_proj"]),
    "targets that are nowhere": lambda s: s.with_config(target_modules=["nope"]),
    "a pattern that matches everything": lambda s: s.with_config(target_modules=".*"),
    "targets left to PEFT": lambda s: s.with_config(target_modules=None),
    "saved modules forgotten": lambda s: s.with_config(modules_to_save=None),
    "a saved module that was not": lambda s: s.with_config(modules_to_save=["norm"]),
    "random start values": lambda s: s.with_config(init_lora_weights=False).dropped(lambda _: True),
    "DoRA switched on": lambda s: s.with_config(use_dora=True),
    "DoRA switched off": lambda s: s.with_config(use_dora=False),
    "the task forgotten": lambda s: s.with_config(task_type=None),
    "another task": lambda s: s.with_config(task_type="SEQ_CLS"),
    "a causal task": lambda s: s.with_config(task_type="CAUSAL_LM"),
    "token rows beyond the vocabulary": lambda s: s.with_config(trainable_token_indices=[9999]),
    "on a llama": lambda s: s.on("llama"),
    "on a tied llama": lambda s: s.on("llama-tied"),
    "on a deeper llama": lambda s: s.on("llama", num_hidden_layers=3),
    "on a shallower llama": lambda s: s.on("llama", num_hidden_layers=1),
    "on a wider llama": lambda s: s.on("llama", hidden_size=96),
    "on a llama with more words": lambda s: s.on("llama", vocab_size=300),
    "on a gpt2": lambda s: s.on("gpt2"),
    "on a mixtral": lambda s: s.on("mixtral"),
    "on a bert with two labels": lambda s: s.on("bert", id2label={"0": "A", "1": "B"}, label2id={"A": 0, "B": 1}),
    "on a t5": lambda s: s.on("t5"),
    "on a llava": lambda s: s.on("llava"),
}


@cache
def sample(name):
    family, config = ADAPTERS[name]
    return make.adapter(family, **config)


@cache
def _built(config, class_name):
    import torch
    import transformers

    raw = json.loads(config)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = transformers.AutoConfig.for_model(**raw)
    return getattr(transformers, class_name)._from_config(made).float().eval()


def real_base(case, class_name):
    return copy.deepcopy(_built(json.dumps(dict(case.base.config)), class_name))


@dataclass(frozen=True)
class Compared:
    """One broken adapter on one base: what we say, what PEFT does, and the lines of what it raises."""

    predicted: str
    truth: str
    said: str = ""
    raised: str = ""

    @property
    def agree(self) -> bool:
        """Whether both are the same, with the same line where it raises."""
        same = self.predicted == self.truth
        return same and (self.predicted != "raises" or oracle.same_line(self.said, self.raised))


def compare(name, what, folder) -> Compared:
    """Break an adapter, ask us, and load it with PEFT from a folder that is still empty."""
    broken = MUTATIONS[what](sample(name))
    report = adapterfit.check(broken.adapter, base=broken.case.base)
    if report.diff is None or report.predicted == "cannot-tell":
        return Compared("cannot-tell", "not run", "; ".join(entry.why for entry in report.not_checked[:2]))
    for file, data in make.as_files(broken).items():
        (folder / file).write_bytes(data)
    truth = oracle.load(partial(real_base, broken.case, report.diff.expectation.tree.class_name), folder)
    predicted = "loads" if report.predicted == "loads-differently" else report.predicted
    return Compared(predicted, truth.outcome, report.raised.text if report.raised else "", truth.raised)
