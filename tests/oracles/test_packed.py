"""Methods on packed modules: measured again with bitsandbytes, and `adapterfit.load` beside it."""

from __future__ import annotations

import pytest
from tools import measure_packed

import adapterfit
from adapterfit.expect.packed import facts

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("bitsandbytes", reason="bitsandbytes is in the environment of `make oracles` only")

NAMES = ("LORA", "LORA modules_to_save", "LOHA", "HRA", "UNILORA")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("packed") / "base"
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**measure_packed.SIZE)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("packing", ["bitsandbytes-4bit", "bitsandbytes-8bit"])
@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_facts_are_what_the_library_does_and_load_goes_by_them(base, packing, name):
    told = facts()["packings"][packing]["methods"][name]
    load, config = measure_packed.BASES[packing], measure_packed.adapters()[name]
    assert measure_packed.one(name, config, base, load, runs=True) == told
    folder = base.with_name("adapter")
    measure_packed.make(config, 0.3, base, folder)
    if told == "applied":
        adapterfit.load(load(base), folder)
        return
    with pytest.raises(adapterfit.AdapterMisfit, match="quantised-base-unsupported"):
        adapterfit.load(load(base), folder)
