"""Adapters of the matrix that are refused: the reason that is given is what real PEFT's own logits show, and --unsafe mends what it says."""

import json
import shutil

import measured
import mending
import oracle
import pytest

import adapterfit
import shared_data

pytestmark = [pytest.mark.exact, pytest.mark.slow]


@pytest.fixture(scope="module")
def failing():
    """(kind, who saved it) → an adapter that today's PEFT fails on."""
    shared_data.need(shared_data.MATRIX)
    return {(one.kind, one.saver.partition("-")[0][1:]): one for one in measured.failing()}


def off(one, model):
    """How far the logits are from the saver's, relative to the largest of these."""
    import numpy as np

    reference = np.load(measured._reference(one.folder))
    found = measured._logits(model, one.base, None)
    return float(np.abs(found - reference).max() / max(1.0, np.abs(reference).max()))


def base_of(one):
    return shared_data.bases() / measured._FOLDERS.get(one.base, one.base)


def fresh(one):
    return oracle.base_model(base_of(one), measured._AUTO.get(one.base, "AutoModelForCausalLM"))


@pytest.mark.parametrize("kind", ["oft_coft", "prefix_bert", "prompt_bert"])
def test_what_unsafe_takes_here_computes_what_the_saver_did(kind, failing, tmp_path):
    one = failing[kind, "0.15.2"]
    refused = adapterfit.fix(one.folder, str(base_of(one)), tmp_path / "no")
    assert refused.out == ""
    assert [step.safety for step in refused.plan.left_out] == ["unsafe"]
    assert adapterfit.fix(one.folder, str(base_of(one)), tmp_path / "out", unsafe=True).plan.after == "fits"
    assert off(one, mending.loaded(fresh(one), tmp_path / "out")) < measured.CLOSE


@pytest.mark.parametrize(("saver", "outputs"), [("0.7.1", True), ("0.10.0", True), ("0.13.2", True), ("0.15.2", False)])
@pytest.mark.parametrize("kind", ["oft", "oft_share", "oft_coft"])
def test_oft_turned_the_outputs_of_a_layer_until_0_13_and_the_inputs_after_it(kind, saver, outputs, failing):
    one = failing[kind, saver]
    assert off(one, turned(one, outputs=outputs)) < measured.CLOSE
    assert off(one, turned(one, outputs=not outputs)) > 0.1
    said = [found.fix.summary for found in adapterfit.check(one.folder, str(base_of(one))).findings if found.fix]
    assert any("rotated the outputs" in each for each in said) is outputs


def turned(one, *, outputs):
    """The base with the blocks' rotations in its weights, on one side or the other."""
    import torch
    from safetensors.torch import load_file

    weights = one.folder / "adapter_model.safetensors"
    tensors = load_file(weights) if weights.exists() else torch.load(weights.with_suffix(".bin"), weights_only=True)
    model = fresh(one).eval()
    blocks = {name: each for name, each in tensors.items() if name.endswith("oft_r")}
    assert len(blocks) >= 4
    for name, each in blocks.items():
        weight = model.get_submodule(name[len("base_model.model.") : -len(".oft_r")]).weight
        skew = (each - each.transpose(1, 2)) / 2
        eye = torch.eye(each.shape[1])
        rotation = (eye - skew) @ torch.linalg.inv(eye + skew)
        count = weight.shape[0 if outputs else 1] // each.shape[1]
        whole = torch.block_diag(*(rotation[at % len(rotation)] for at in range(count)))
        with torch.no_grad():
            weight.copy_(whole.T @ weight if outputs else weight @ whole.T)
            weight.mul_(tensors.get(name[: -len("oft_r")] + "oft_s", torch.ones(1)))
    return model


@pytest.mark.parametrize("kind", ["oft", "oft_share"])
def test_no_setting_of_todays_oft_computes_the_series_of_0_17(kind, failing, tmp_path):
    one = failing[kind, "0.17.1"]
    config = json.loads((one.folder / "adapter_config.json").read_text("utf-8"))
    settings = [{}, *({"num_cayley_neumann_terms": terms} for terms in (4, 6, 7)), {"use_cayley_neumann": False}]
    for at, setting in enumerate(settings):
        folder = shutil.copytree(one.folder, tmp_path / str(at))
        (folder / "adapter_config.json").write_text(json.dumps({**config, **setting}), "utf-8")
        assert off(one, mending.loaded(fresh(one), folder)) > 0.05
