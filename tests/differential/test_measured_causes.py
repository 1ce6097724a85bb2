"""What causes claim about logits, measured: the saver's own beside those after loading with the real PEFT.

A tiny random base, an adapter whose trained parameters are noise, saved by PEFT; then the files are changed as users' are.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import adapterfit
from adapterfit.pipeline import cured
from adapterfit.plan.cures import safe_edits

pytestmark = pytest.mark.exact

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

IDS = torch.tensor([[1, 10, 20, 30, 40, 50]])
CLASSES = {"llama": "LlamaForCausalLM", "bert": "BertForSequenceClassification"}
SIZES = {
    "hidden_size": 32,
    "initializer_range": 0.2,  # large enough that attention, and so every bias in it, matters
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 64,
    "num_labels": 3,
}


@dataclass
class Saved:
    """An adapter folder, its base's folder, and the logits of the model that was saved."""

    adapter: Path
    base: Path
    family: str
    logits: Any

    def config(self, **fields: Any) -> None:
        path = self.adapter / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def tensors(self, change: Any) -> None:
        path = self.adapter / "adapter_model.safetensors"
        safetensors.save_file(change(safetensors.load_file(path)), path, {"format": "pt"})

    def load(self) -> Any:
        """Logits after `PeftModel.from_pretrained`; the generator starts elsewhere than it did when saving."""
        base = model(self.family)
        torch.manual_seed(999)
        return _logits(peft.PeftModel.from_pretrained(base, self.adapter))

    def far(self) -> float:
        """How far the loaded logits are from the saved ones, as a share of the adapter's effect."""
        effect = (self.logits - _logits(model(self.family))).abs().max()
        return float((self.load() - self.logits).abs().max() / effect)

    def report(self) -> Any:
        return adapterfit.check(self.adapter, base=self.base)


@cache
def config(family: str) -> Any:
    return transformers.AutoConfig.for_model(family, **SIZES)


def model(family: str) -> Any:
    """The base, the same every time."""
    torch.manual_seed(7)
    return getattr(transformers, CLASSES[family])(config(family)).eval()


def _logits(of: Any) -> Any:
    with torch.no_grad():
        return of.eval()(IDS).logits


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def save(tmp_path):
    """Train (with noise) and save an adapter."""

    def run(options: Any, family: str = "llama", prepare: Any = None) -> Saved:
        base = model(family)
        if prepare is not None:
            prepare(base, options)
        tuned = peft.get_peft_model(base, options)
        seeded = torch.Generator().manual_seed(1)
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn(parameter.shape, generator=seeded) * 0.2
        logits = _logits(tuned)
        tuned.save_pretrained(tmp_path / "adapter")
        (tmp_path / "base").mkdir()
        plain = {**config(family).to_dict(), "architectures": [CLASSES[family]]}
        (tmp_path / "base" / "config.json").write_text(json.dumps(plain))
        return Saved(tmp_path / "adapter", tmp_path / "base", family, logits)

    return run


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **options})


def gradients(base: Any, options: Any) -> None:
    from peft.tuners.lora.loraga import preprocess_loraga

    def step() -> None:
        base(input_ids=IDS, labels=IDS).loss.backward()

    preprocess_loraga(base, options, step)


# ------------------------------------------------------------------------------------------------ inits


@pytest.mark.parametrize("init", [True, "gaussian", "eva", "orthogonal", "pissa", "olora"])
def test_an_init_that_is_repeated_or_overwritten_gives_the_saved_logits_back(save, init):
    saved = save(lora(init_lora_weights=init, task_type="CAUSAL_LM"))
    assert saved.far() < 1e-3
    assert saved.report().verdict == "fits"
    assert not [f for f in saved.report().findings if f.severity != "note"]


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, None),
        ({"init_lora_weights": "lora_ga", "lora_ga_config": "LoraGAConfig"}, gradients),
    ],
    ids=["pissa with a random SVD", "lora_ga"],
)
def test_an_init_that_cannot_be_repeated_gives_other_logits(save, options, prepare):
    options = {key: getattr(peft, value)() if key.endswith("_config") else value for key, value in options.items()}
    saved = save(lora(task_type="CAUSAL_LM", **options), prepare=prepare)
    assert saved.far() > 0.05
    assert saved.report().predicted == "loads-differently"
    assert [f.id for f in saved.report().findings if f.severity == "error"] == ["init-changes-base"]


def test_corda_raises(save):
    saved = save(lora(task_type="CAUSAL_LM"))
    saved.config(init_lora_weights="corda", corda_config={})
    with pytest.raises(ValueError, match="eigens"):
        saved.load()
    assert saved.report().predicted == "raises"


def test_kasa_is_repeated_and_without_its_flag_is_not(save):
    saved = save(lora(kasa_config=peft.KasaConfig(), task_type="CAUSAL_LM"))
    assert saved.far() < 1e-3
    assert saved.report().verdict == "fits"
    saved.config(kasa_config=None)
    assert saved.far() > 0.05
    assert [f.id for f in saved.report().findings if f.severity == "error"] == ["method-flag-lost"]


# ------------------------------------------------------------------------------------------------ flags and noise


@pytest.mark.parametrize(
    ("flag", "on", "off"), [("use_dora", True, False), ("lora_bias", True, False), ("kasa_config", {}, None)]
)
def test_a_lost_flag_changes_the_logits_and_the_safe_cure_brings_them_back(save, flag, on, off):
    value = peft.KasaConfig() if flag == "kasa_config" else on
    saved = save(lora(**{flag: value}, task_type="CAUSAL_LM"))
    saved.config(**{flag: off})
    report = saved.report()
    assert saved.far() > 1e-3
    assert [f.id for f in report.findings if f.severity == "error"] == ["method-flag-lost"]
    edits = safe_edits(report)
    assert cured(report, edits).verdict == "fits"
    saved.config(**{edit.key: edit.value for edit in edits})
    assert saved.far() < 1e-3


def test_missing_tensors_are_noise_where_the_init_is_off(save):
    saved = save(lora(init_lora_weights=False, task_type="CAUSAL_LM"))
    saved.tensors(lambda tensors: {name: t for name, t in tensors.items() if ".layers.0." not in name})
    with_flag = saved.far()
    assert "random-when-missing" in {f.id for f in saved.report().findings}
    saved.config(init_lora_weights=True)
    assert saved.far() != with_flag
    assert "random-when-missing" not in {f.id for f in saved.report().findings}


@pytest.mark.parametrize("peft_type", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_a_prompt_without_a_task_type_has_no_effect_on_the_logits(save, peft_type):
    saved = save(getattr(peft, peft_type)(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    assert saved.report().verdict == "fits"
    saved.config(task_type=None)
    assert torch.equal(saved.load(), _logits(model("llama")))
    report = saved.report()
    assert report.verdict == "does-not-fit"
    assert [f.id for f in report.findings if f.severity == "error"] == ["task-type-differs"]


# ------------------------------------------------------------------------------------------------ patterns, biases


def test_the_tables_that_a_cure_writes_are_read_by_peft_as_the_old_ones_were(save):
    anchored = "^model.layers.1.self_attn.q_proj"
    saved = save(lora(task_type="CAUSAL_LM"))
    old = {"rank_pattern": {anchored: 2}, "alpha_pattern": {anchored: 64, "layers.0.self_attn.q_proj|k_proj": 32}}
    raw = json.loads((saved.adapter / "adapter_config.json").read_text())
    since = ("loftq_config", "megatron_config", "megatron_core", "use_rslora", "use_dora", "layer_replication")
    newer = {"eva_config", "exclude_modules", "lora_bias", "corda_config", "trainable_token_indices", "use_qalora"}
    newer |= {
        "qalora_group_size",
        "target_parameters",
        "alora_invocation_tokens",
        "arrow_config",
        "ensure_weight_tying",
    }
    newer |= {
        "peft_version",
        "lora_ga_config",
        "use_bdlora",
        "velora_config",
        "monteclora_config",
        "kasa_config",
        *since,
    }
    kept = {key: value for key, value in raw.items() if key not in newer}
    (saved.adapter / "adapter_config.json").write_text(json.dumps({**kept, **old}))
    report = saved.report()
    assert report.predicted == "raises"
    assert [f.id for f in report.findings if f.severity == "error"] == ["pattern-key-anchored"]
    saved.config(**{edit.key: edit.value for edit in safe_edits(report)})
    assert saved.report().verdict == "fits"


def test_biases_of_the_old_layout_are_dropped_and_their_new_names_bring_them_back(save):
    saved = save(lora(target_modules=["query"], bias="all", task_type="SEQ_CLS"), family="bert")
    assert saved.far() < 1e-3
    saved.tensors(
        lambda tensors: {name.replace("query.base_layer.bias", "query.bias"): t for name, t in tensors.items()}
    )
    report = saved.report()
    assert saved.far() > 1e-3
    assert [f.id for f in report.findings if f.severity == "error"] == ["bias-layout-old"]
    names = {edit.old: edit.new for edit in safe_edits(report)}
    saved.tensors(lambda tensors: {names.get(name, name): t for name, t in tensors.items()})
    assert saved.far() < 1e-3
    assert saved.report().verdict == "fits"


def test_biases_that_the_file_lacks_change_the_logits(save):
    saved = save(lora(target_modules=["query"], bias="lora_only", task_type="SEQ_CLS"), family="bert")
    saved.tensors(lambda tensors: {name: t for name, t in tensors.items() if "base_layer.bias" not in name})
    saved.config(peft_version="0.18.1")
    assert saved.far() > 1e-3
    assert "bias-not-saved" in {f.id for f in saved.report().findings}
