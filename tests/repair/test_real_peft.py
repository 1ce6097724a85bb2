"""Broken on purpose, mended, loaded by the real PEFT: the logits are those of the unbroken adapter, bit for bit."""

import mended
import pytest

pytestmark = pytest.mark.exact

PREFIX = "base_model.model."
BREAKS = {
    "torch.compile's prefix": lambda held: {PREFIX + "_orig_mod." + n[len(PREFIX) :]: t for n, t in held.items()},
    "DataParallel's prefix": lambda held: {"module." + n: t for n, t in held.items()},
    "PEFT's own prefix missing": lambda held: {n[len(PREFIX) :]: t for n, t in held.items()},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    base = mended.base_folder("llama", str(root / "base"))
    return base, mended.adapter(root / "adapter", base)


@pytest.mark.parametrize("what", BREAKS)
def test_a_mended_adapter_computes_what_the_unbroken_one_does(what, whole, tmp_path):
    import torch

    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad", BREAKS[what])
    wanted, _ = mended.outputs(base, adapter)
    lost, missing = mended.outputs(base, bad)
    assert missing
    assert not torch.equal(wanted, lost)
    receipt = mended.mend(bad, base, tmp_path / "good", exact=True)
    found, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.equal(wanted, found)
    assert {one.what: one.outcome for one in receipt.proof.shown} == dict.fromkeys(
        ("files", "bytes", "check", "safetensors", "peft"), "proven"
    )
