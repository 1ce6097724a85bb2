"""FRoD, AdaMSS and DeLoRA: what another machine or another base gives is found out after the load; what is right goes through."""

from __future__ import annotations

import pytest
import real

import adapterfit

pytestmark = pytest.mark.exact

FROD = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "progressbar": False}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return real.saved(tmp_path_factory.mktemp("frod"), kind="FrodConfig", **FROD)


@pytest.fixture
def of_another_machine(adapter, tmp_path):
    """The same adapter whose basis has other signs, as another eigenvalue solver turns them out."""
    import shutil

    from safetensors.torch import save_file

    folder = tmp_path / "other"
    shutil.copytree(adapter, folder)
    found = real.tensors(folder)
    for name, tensor in found.items():
        if ".frod_V." in name:
            tensor[:, ::2] *= -1
    save_file(found, folder / real.WEIGHTS)
    return folder


def logits(model):
    import torch

    with torch.no_grad(), real.quiet():
        return model(torch.arange(6)[None]).logits


def test_what_was_saved_here_loads_and_computes_as_with_plain_peft(adapter):
    import torch

    with real.quiet():
        guarded = adapterfit.load(real.base(), adapter)
    assert torch.equal(logits(guarded), logits(real.plain_load(real.base(), adapter)))
    assert not torch.allclose(logits(guarded), logits(real.base()), atol=1e-3)


def test_a_basis_that_this_machine_does_not_compute_is_refused_and_computes_something_else(of_another_machine):
    import torch

    with real.quiet(), pytest.raises(adapterfit.AdapterMisfit, match="directions that do not belong") as caught:
        adapterfit.load(real.base(), of_another_machine)
    assert caught.value.report.predicted == "cannot-tell"
    twice = real.plain_load(real.base(), of_another_machine)
    once = logits(twice)
    with real.quiet():
        twice.load_adapter(str(of_another_machine), adapter_name="again")
    twice.set_adapter("again")
    assert not torch.allclose(once, logits(twice), atol=1e-3)


def test_who_allows_what_cannot_be_told_gets_it(of_another_machine):
    with real.quiet():
        assert adapterfit.load(real.base(), of_another_machine, allow=("cannot-tell",)) is not None


ADAMSS = {"r": 8, "num_subspaces": 3, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.fixture
def segmented(tmp_path):
    pytest.importorskip("sklearn", reason="AdaMSS needs scikit-learn")
    return real.saved(tmp_path / "adamss", kind="AdamssConfig", **ADAMSS)


def test_segments_that_this_machine_finds_again_are_loaded_and_compute_as_with_plain_peft(segmented):
    import torch

    with real.quiet():
        guarded = adapterfit.load(real.base(), segmented)
    assert torch.equal(logits(guarded), logits(real.plain_load(real.base(), segmented)))
    assert not torch.allclose(logits(guarded), logits(real.base()), atol=1e-3)


def _other_seed(folder):
    real.reconfigure(folder, random_seed=7)


def _other_basis(folder):
    real.rewrite(folder, lambda held: {name: -tensor if "newB" in name else tensor for name, tensor in held.items()})


def _other_rows(folder):
    real.rewrite(
        folder, lambda held: {name: tensor[:-1] if "adamss_B.0" in name else tensor for name, tensor in held.items()}
    )


def _fewer_layers(folder):
    real.rewrite(folder, lambda held: {name: tensor for name, tensor in held.items() if "layers.1." not in name})


@pytest.mark.parametrize(
    "change", [_other_seed, _other_basis, _other_rows, _fewer_layers], ids=lambda change: change.__name__
)
def test_segments_that_are_not_those_of_the_file_are_refused(segmented, change):
    change(segmented)
    with real.quiet(), pytest.raises((adapterfit.AdapterMisfit, RuntimeError)):
        adapterfit.load(real.base(), segmented)


def test_another_base_gives_other_segments_and_is_refused(segmented):
    with real.quiet(), pytest.raises(adapterfit.AdapterMisfit, match="another basis on this machine"):
        adapterfit.load(real.base(seed=5), segmented)


DELORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def test_other_weights_than_those_whose_columns_delora_measured_are_refused(tmp_path):
    folder = real.saved(tmp_path / "adapter", kind="DeloraConfig", **DELORA)
    real.plain_load(real.base(seed=5), folder)
    with pytest.raises(adapterfit.AdapterMisfit, match="other weights in 4 of 4 layers"), real.quiet():
        adapterfit.load(real.base(seed=5), folder)
    with real.quiet():
        assert adapterfit.load(real.base(seed=5), folder, allow=("base-changed",)) is not None


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_base_that_delora_measured_is_taken_in_every_precision(precision, tmp_path):
    import torch

    folder = real.saved(tmp_path / "adapter", kind="DeloraConfig", **DELORA)
    with real.quiet():
        assert adapterfit.load(real.base().to(getattr(torch, precision)), folder) is not None
