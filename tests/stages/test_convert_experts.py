"""Adapters of fused experts for other releases of PEFT: which side of a matrix they take for the input, by the formula."""

import numpy as np
import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.testing import make
from convert_samples import config, numbers, peft_folder, read

LAYER = "base_model.model.model.layers.0.mlp.experts"
BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
EXPERTS, RANK, HIDDEN = 4, 4, 64


def trained(tmp_path, inner, parameters=BOTH, version="0.21.2", sides="now"):
    """A LoRA on the experts of one layer of a Mixtral, as PEFT >= 0.19.1 saves it, or with the sides of an older one."""
    parameters = [f"layers.0.{name}" for name in parameters]
    shapes = {"gate_up_proj": (2 * inner, HIDDEN), "down_proj": (HIDDEN, inner)}
    tensors = {}
    for at, name in enumerate(parameters):
        out, width = shapes[name.rpartition(".")[2]]
        out, width = (out, width) if sides == "now" else (width, out)
        key = LAYER + ".base_layer" * (len(parameters) - 1 - at)
        tensors[f"{key}.lora_A.weight"] = numbers((EXPERTS * RANK, width), seed=at)
        tensors[f"{key}.lora_B.weight"] = numbers((out, RANK * EXPERTS), seed=at + 5)
    fields = {"target_modules": [], "target_parameters": parameters, "peft_version": version, "r": RANK}
    return peft_folder(tmp_path / "a", {}, more=tensors, **fields), make.base("mixtral", intermediate_size=inner)


def change(folder, inner):
    """What the first parameter of the last wrapper adds to expert 2, whichever its layout: (d1, d2) by the sizes of `down`."""
    held = {name: np.frombuffer(raw, "<f4").reshape(shape) for name, (_, shape, raw) in tensors(folder).items()}
    a, b = held[f"{LAYER}.lora_A.weight"], held[f"{LAYER}.lora_B.weight"]
    product = b.reshape(b.shape[0], RANK, EXPERTS)[:, :, 2] @ a.reshape(EXPERTS, RANK, a.shape[1])[2]
    return product if product.shape == (HIDDEN, inner) else product.T


def tensors(folder):
    return read(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("inner", [96, 32], ids=["no side alike", "gate and up together square"])
def test_an_older_release_gets_the_other_side_and_gives_it_back(inner, tmp_path):
    source, base = trained(tmp_path, inner)
    done = adapterfit.convert(source, "peft==0.18.1", tmp_path / "old", base=base)
    assert "changed places" in " ".join(done.notes)
    assert config(tmp_path / "old")["peft_version"] == "0.18.1"
    assert tensors(tmp_path / "old") != tensors(source)
    np.testing.assert_allclose(change(tmp_path / "old", inner), change(source, inner), rtol=1e-6)
    adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "back", base=base)
    assert tensors(tmp_path / "back") == tensors(source)


def test_a_release_that_takes_the_same_side_gets_the_same_numbers_and_needs_no_base(tmp_path):
    source, _ = trained(tmp_path, 96)
    adapterfit.convert(source, "peft==0.19.1", tmp_path / "b")
    assert tensors(tmp_path / "b") == tensors(source)


def test_without_the_base_the_sides_are_not_exchanged(tmp_path):
    source, _ = trained(tmp_path, 96)
    with pytest.raises(CannotConvert, match="--base"):
        adapterfit.convert(source, "peft==0.18.1", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_square_matrices_alone_are_refused_with_both_readings_where_no_release_is_recorded(tmp_path):
    source, base = trained(tmp_path, 32, ["mlp.experts.gate_up_proj"], version=None)
    with pytest.raises(CannotConvert, match=r"0\.17 to 0\.19\.0 took the one, 0\.19\.1 and later the other"):
        adapterfit.convert(source, "peft==0.18.1", tmp_path / "b", base=base)


def test_tensors_of_another_size_are_refused_by_name(tmp_path):
    source, _ = trained(tmp_path, 96)
    with pytest.raises(CannotConvert, match=r"experts\.gate_up_proj"):
        adapterfit.convert(source, "peft==0.18.1", tmp_path / "b", base=make.base("mixtral", intermediate_size=80))


@pytest.mark.parametrize("to", ["kohya", "diffusers", "mlx", "gguf", "plain", "filled"])
def test_a_layout_without_fused_experts_refuses_them_by_name(to, tmp_path):
    source, base = trained(tmp_path, 96)
    with pytest.raises(CannotConvert, match=r"target_parameters|down_proj"):
        adapterfit.convert(source, to, tmp_path / "b", base=base)
