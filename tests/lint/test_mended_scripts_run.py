"""Mended snippets run as they stand, with real PEFT on a tiny base; what can be compared is compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

import mended_code

from adapterfit.lint.rule import all_rules

pytestmark = pytest.mark.exact
FIXES = list(mended_code.mendable())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of every mended snippet; all of them run in one other process."""
    pytest.importorskip("peft", reason="peft is not installed")
    script = str(Path(mended_code.__file__))
    command = [sys.executable, "-W", "ignore", script, str(tmp_path_factory.mktemp("mended"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("how", ["script", "notebook"])
@pytest.mark.parametrize("fix", FIXES)
def test_what_a_fix_leaves_runs_and_peft_misses_nothing(fix, how, outcomes):
    found = outcomes[fix][how]
    if found.startswith(mended_code.NOT_RUN):
        pytest.skip(found)
    assert found == ""


def test_only_what_needs_one_more_library_is_not_run():
    needy = [name for name, (_, snippet) in mended_code.mendable().items() if snippet.needs or not snippet.runs]
    assert needy == ["config-passed-twice 1", "config-passed-twice 2", "config-passed-twice 3"]
    assert len(FIXES) >= 59


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


def first(rule, at=0):
    return all_rules()[rule].module.FIRES[at]


RAISES = {
    "file-instead-of-folder": "adapter_config.json",
    "parallel-model-saved": "save_pretrained",
    "frozen-adapter-trained": "does not require grad",
}


@pytest.mark.parametrize(("rule", "words"), RAISES.items(), ids=list(RAISES))
def test_where_a_safe_fix_says_that_the_code_can_only_raise_it_raises(rule, words, made, tmp_path, monkeypatch):
    with pytest.raises(Exception, match=words):
        run(first(rule).code, made, tmp_path, monkeypatch)


def lora(model):
    """The adapter's tensors in a model, without the adapter's name."""
    return {name.replace(".default.", "."): tensor for name, tensor in model.state_dict().items() if "lora_" in name}


def arrived(model, folder):
    import torch
    from safetensors.torch import load_file

    wanted = load_file(folder / "adapter" / "adapter_model.safetensors")
    found = lora(model)
    return {name for name, tensor in wanted.items() if name in found and torch.equal(found[name], tensor)}, set(wanted)


@pytest.mark.parametrize(
    "rule", ["adapter-into-bare-base", "adapter-into-peft-model", "loaded-into-wrapped", "weights-never-loaded"]
)
def test_as_it_stands_nothing_arrives_and_mended_everything_does(rule, made, tmp_path, monkeypatch):
    names, _ = run(first(rule).code, made, tmp_path, monkeypatch)
    assert arrived(names["model"], tmp_path)[0] == set()
    names, _ = run(first(rule).fixed, made, tmp_path, monkeypatch)
    found, wanted = arrived(names["model"], tmp_path)
    assert found == wanted != set()


@pytest.mark.parametrize("rule", ["merge-result-dropped", "saved-after-merge"])
def test_as_it_stands_an_empty_adapter_is_saved_and_mended_the_merged_model(rule, made, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    run(first(rule).code, made, tmp_path, monkeypatch)
    assert load_file(tmp_path / "merged" / "adapter_model.safetensors") == {}
    shutil.rmtree(tmp_path / "merged")
    run(first(rule).fixed, made, tmp_path, monkeypatch)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert "model.embed_tokens.weight" in load_file(tmp_path / "merged" / "model.safetensors")


def test_as_it_stands_names_of_a_compiled_model_are_saved_and_mended_those_of_the_model(made, tmp_path, monkeypatch):
    import torch

    for code, marked in ((first("compiled-state-saved").code, True), (first("compiled-state-saved").fixed, False)):
        run(code, made, tmp_path, monkeypatch)
        names = list(torch.load(tmp_path / "adapter.bin", weights_only=True))
        assert names
        assert all(name.startswith("_orig_mod.") is marked for name in names)


def test_as_it_stands_the_first_adapter_answers_and_mended_the_second(made, tmp_path, monkeypatch):
    active = [
        run(code, made, tmp_path, monkeypatch)[0]["model"].active_adapters
        for code in (first("second-adapter-inactive").code, first("second-adapter-inactive").fixed)
    ]
    assert active == [["default"], ["french"]]


def test_as_it_stands_another_scale_is_used_and_mended_the_adapters_own(made, tmp_path, monkeypatch):
    alphas = [
        run(code, made, tmp_path, monkeypatch)[0]["model"].peft_config["default"].lora_alpha
        for code in (first("config-overrides-file").code, first("config-overrides-file").fixed)
    ]
    assert alphas == [32, 8]


def test_wrapped_twice_gives_names_that_fit_no_plain_base(made, tmp_path, monkeypatch):
    names, _ = run(
        first("wrapped-twice").code.replace("LoraConfig()", 'LoraConfig(target_modules=["q_proj"])'),
        made,
        tmp_path,
        monkeypatch,
    )
    assert all(name.startswith("base_model.model.base_model.model.") for name in lora(names["model"]))
