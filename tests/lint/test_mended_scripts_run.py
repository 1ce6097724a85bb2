"""Mended snippets run as they stand, with real PEFT on a tiny base; what can be compared is compared."""

from __future__ import annotations

import shutil
import warnings

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit.lint.rule import all_rules

pytestmark = pytest.mark.exact
RUNNABLE = [
    pytest.param(snippet, id=f"{entry.id} snippet {at + 1}")
    for entry in all_rules().values()
    for at, snippet in enumerate(entry.module.FIRES)
    if snippet.runs
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny Llama in `base`, a trained-looking LoRA for it in `adapter`, in both containers."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("made")
    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=32, pad_token_id=0,
    )  # fmt: skip
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    base = LlamaForCausalLM(config)
    base.save_pretrained(folder / "base")
    lora = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, lora)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder / "adapter")
    torch.save(peft.get_peft_model_state_dict(model), folder / "adapter" / "adapter_model.bin")
    return folder


def run(code, made, tmp_path, monkeypatch):
    """Run a script beside a copy of `made`; its global names come back."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {"__name__": "__main__"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(code, "script.py", "exec"), names)
    return names, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("snippet", RUNNABLE)
def test_a_mended_script_runs_and_peft_misses_nothing(snippet, made, tmp_path, monkeypatch):
    _, caught = run(snippet.fixed, made, tmp_path, monkeypatch)
    assert [message for message in caught if "Found missing adapter keys" in message] == []
