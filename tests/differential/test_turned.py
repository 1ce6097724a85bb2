"""Matrices stored the other way round, turned by `fix --unsafe`, loaded by real PEFT: the logits are those of the whole adapter."""

import json
import shutil
import subprocess
import sys

import breaking
import mending
import pytest

import adapterfit

pytestmark = [pytest.mark.exact, pytest.mark.slow]
#: Every method whose matrices are claimed, on every kind of module that it wraps; heads, embeddings and rows beside a LoRA.
NAMES = (
    "llama all-linear", "llama dora", "llama lora on the embedding", "llama lora and saved head", "llama lora and token rows",
    "tied llama, both ends saved", "llama replicated", "bert classifier", "gpt2 fused", "t5 lora", "mixtral experts",
    "llava language", "vit everywhere", "whisper dora", "llama adalora", "llama beft", "llama boft", "gpt2 deft", "llama delora",
    "llama frod", "llama glora", "gpt2 gralora", "llama hira", "llama hra", "gpt2 ia3", "llama lily", "gpt2 ln-tuning",
    "llama loha", "llama miss", "llama oft", "llama osf", "llama peanut", "llama poly", "gpt2 pvera", "llama randlora",
    "llama shadow", "llama supertuning", "gpt2 tinylora", "llama tokens", "llama unilora", "llama vblora", "llama vera",
)  # fmt: skip


def turned(whole, folder, which=lambda _name: True):
    """A copy with every chosen matrix that is not square the other way round; the names of these."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(whole, folder)
    held = load_file(str(whole / "adapter_model.safetensors"))
    wrong = {name for name, one in held.items() if one.dim() == 2 and len(set(one.shape)) == 2 and which(name)}
    new = {name: one.t().contiguous() if name in wrong else one for name, one in held.items()}
    save_file(new, str(folder / "adapter_model.safetensors"), {"format": "pt"})
    return wrong


def fix(saved, folder, out, *options):
    """`adapterfit fix` as it is typed."""
    base = folder.parent / "base"
    base.mkdir(exist_ok=True)
    (base / "config.json").write_text(json.dumps(dict(saved.case.base.config)), "utf-8")
    line = [sys.executable, "-m", "adapterfit", "fix", str(folder), "--base", str(base), "--out", str(out), *options]
    done = subprocess.run(line, capture_output=True, encoding="utf-8", check=False)
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_turned_matrices_are_turned_back_bit_for_bit(name, tmp_path):
    import torch
    from safetensors.torch import load_file

    one = breaking.saved(name, tmp_path)
    assert turned(one.folder, tmp_path / "bad")
    with pytest.raises((RuntimeError, ValueError), match=r"size mismatch|shape"):
        mending.loaded(one.fresh(), tmp_path / "bad")
    fix(one, tmp_path / "bad", tmp_path / "safe")
    assert not (tmp_path / "safe").exists()
    fix(one, tmp_path / "bad", tmp_path / "good", "--unsafe")
    found = mending.judged(tmp_path / "good", one.fresh, one.measure, one.logits, breaking.CLOSE)
    assert (found.word, found.why) == ("equal", "")
    kept, all_of_them = (
        load_file(str(where / "adapter_model.safetensors")) for where in (tmp_path / "good", one.folder)
    )
    assert kept.keys() == all_of_them.keys()
    assert all(torch.equal(kept[key], tensor) for key, tensor in all_of_them.items())


def test_square_matrices_are_neither_claimed_nor_turned_and_the_fix_says_that_they_are_there(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    case = breaking.broken.sample("llama lora").case
    config = {**case.adapter.config.raw, "r": case.base.config["hidden_size"], "target_modules": ["k_proj", "q_proj"]}
    breaking.save(breaking.broken.real_base(case, case.base.architecture), config, tmp_path / "whole")
    wrong = turned(tmp_path / "whole", tmp_path / "bad")
    file = str(tmp_path / "bad" / "adapter_model.safetensors")
    held = load_file(file)
    square = {name for name, one in held.items() if len(set(one.shape)) == 1}
    assert wrong
    assert square
    held.update({name: held[name].t().contiguous() for name in square})
    save_file(held, file, {"format": "pt"})
    (cause,) = (one for one in adapterfit.check(tmp_path / "bad", base=case.base).findings if one.severity == "error")
    assert cause.id == "stored-transposed"
    assert {edit.name for edit in cause.fix.edits} == wrong
    assert f"{len(square)} square matrices" in cause.fix.far
    adapterfit.fix(tmp_path / "bad", base=case.base, out=tmp_path / "good", unsafe=True)
    good = load_file(str(tmp_path / "good" / "adapter_model.safetensors"))
    assert all(torch.equal(good[name], held[name]) for name in square)
    assert all(torch.equal(good[name], held[name].t()) for name in wrong)


def test_of_square_modules_nothing_is_turned_where_the_names_may_be_exchanged(tmp_path):
    """A of rank 4 under the name of B has the sizes of B turned."""
    one = breaking.saved("whisper lora", tmp_path)
    turned(one.folder, tmp_path / "bad")
    (cause,) = (
        found for found in adapterfit.check(tmp_path / "bad", base=one.case.base).findings if found.severity == "error"
    )
    assert (cause.id, cause.fix.edits, len(cause.fix.readings)) == ("stored-transposed", (), 2)
    fix(one, tmp_path / "bad", tmp_path / "good", "--unsafe")
    assert not (tmp_path / "good").exists()
