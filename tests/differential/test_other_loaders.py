"""`PeftModel.load_adapter` and `model.load_adapter` of transformers: what we say beside what they do, on a tiny real model."""

import json
import warnings
from functools import cache

import pytest

import adapterfit
from adapterfit.consumers.choice import LOADERS

pytestmark = pytest.mark.exact
QV = {"target_modules": ["q_proj", "v_proj"]}
#: Saved how → config class and fields. What each loader does with it is not written here: it is measured.
KINDS = {
    "plain": ("LoraConfig", QV),
    "rank pattern": ("LoraConfig", {**QV, "rank_pattern": {"v_proj": 4}, "alpha_pattern": {"v_proj": 2}}),
    "DoRA": ("LoraConfig", {**QV, "use_dora": True}),
    "head": ("LoraConfig", {**QV, "modules_to_save": ["lm_head"]}),
    "tokens": ("LoraConfig", {**QV, "trainable_token_indices": [1, 2]}),
    "aLoRA": ("LoraConfig", {**QV, "alora_invocation_tokens": [5, 6]}),
    "output layer": ("LoraConfig", {"target_modules": ["q_proj", "lm_head"]}),
    "biases": ("LoraConfig", {**QV, "bias": "all"}),
    "PiSSA": ("LoraConfig", {**QV, "init_lora_weights": "pissa"}),
    "LoKr": ("LoKrConfig", QV),
    "IA3": ("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "VeRA": ("VeraConfig", {**QV, "r": 4}),
    "VB-LoRA": ("VBLoRAConfig", {**QV, "r": 4, "num_vectors": 16, "vector_length": 8}),
    "prompt": ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    "Poly": ("PolyConfig", {**QV, "r": 4, "n_tasks": 1, "n_skills": 1}),
}


def model():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = LlamaConfig(vocab_size=64, num_hidden_layers=2, tie_word_embeddings=False, **sizes)
    return LlamaForCausalLM(config).eval()


def logits(loaded):
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        return loaded(input_ids=torch.tensor([[1, 2, 3, 5, 6, 7]])).logits


@cache
def saved(kind, root):
    """The adapter's folder and its logits: every part that is trained is filled with noise."""
    import peft
    import torch

    name, fields = KINDS[kind]
    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = peft.get_peft_model(model(), getattr(peft, name)(task_type="CAUSAL_LM", **fields))
    with torch.no_grad():
        for parameter in (p for p in trained.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = root / kind.replace(" ", "-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained.eval().save_pretrained(folder)
    return folder, None if kind == "Poly" else logits(trained)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loaders")
    model().save_pretrained(folder / "base")
    return folder


def load(loader, folder):
    import peft

    if loader == "model.load_adapter":
        loaded = model()
        loaded.load_adapter(str(folder))
        return loaded.eval()
    loaded = peft.PeftModel.from_pretrained(model(), str(folder))
    if loader == "PeftModel.load_adapter":
        loaded.load_adapter(str(folder), adapter_name="second")
        loaded.set_adapter("second")
    return loaded.eval()


def measured(loader, folder, wanted):
    """In our words, and the exception's text."""
    import torch

    torch.manual_seed(3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = logits(load(loader, folder))
    except Exception as error:
        return "raises", f"{type(error).__name__}: {error}"
    if torch.allclose(found, wanted, atol=1e-4):
        return "loads", ""
    return "loads-without-effect" if torch.allclose(found, logits(model()), atol=1e-4) else "differs", ""


def said(report):
    return "differs" if report.predicted in ("loads-partly", "loads-differently") else report.predicted


@pytest.mark.parametrize("loader", list(LOADERS)[1:])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Poly"])
def test_the_prediction_is_what_the_loader_does(kind, loader, root):
    folder, wanted = saved(kind, root)
    report = adapterfit.check(folder, base=root / "base", loader=loader)
    outcome, line = measured(loader, folder, wanted)
    assert (said(report), report.raised.text if outcome == "raises" else "") == (outcome, line)


def test_poly_raises_with_the_loader_of_transformers(root):
    folder, _ = saved("Poly", root)
    report = adapterfit.check(folder, base=root / "base", loader="model.load_adapter")
    assert measured("model.load_adapter", folder, None) == ("raises", report.raised.text)


def test_a_pickled_adapter_is_not_found_by_the_loader_of_transformers(root, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder, wanted = saved("plain", root)
    (tmp_path / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    torch.save(load_file(folder / "adapter_model.safetensors"), tmp_path / "adapter_model.bin")
    report = adapterfit.check(tmp_path, base=root / "base", consumer="transformers")
    assert measured("model.load_adapter", tmp_path, wanted) == ("raises", report.raised.text)
    assert adapterfit.check(tmp_path, base=root / "base").predicted == "loads"


def test_an_adapter_of_the_inner_model_is_found_by_the_loader_of_transformers_alone(root, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, wanted = saved("plain", root)
    (tmp_path / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    inner = {
        name.replace(".model.model.", ".model."): t
        for name, t in load_file(folder / "adapter_model.safetensors").items()
    }
    save_file(inner, tmp_path / "adapter_model.safetensors")
    for loader in ("model.load_adapter", "PeftModel.from_pretrained"):
        report = adapterfit.check(tmp_path, base=root / "base", loader=loader)
        assert said(report) == measured(loader, tmp_path, wanted)[0], loader


def test_the_cure_of_dora_is_found_by_both_loaders(root, tmp_path):
    folder, wanted = saved("DoRA", root)
    before = adapterfit.check(folder, base=root / "base", consumer="transformers")
    assert before.verdict == "fits-after-fix"
    adapterfit.fix(folder, base=root / "base", out=tmp_path / "mended", consumer="transformers")
    assert {measured(loader, tmp_path / "mended", wanted)[0] for loader in LOADERS} == {"loads"}
    assert json.loads((tmp_path / "mended" / "adapter_config.json").read_text())["use_dora"]
