"""A LoHa or LoKr written as a LoRA: real PEFT computes the same with either."""

import json

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from test_merging import build, trained  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.errors import CannotConvert  # noqa: E402

pytestmark = [pytest.mark.exact, pytest.mark.filterwarnings("ignore")]
KINDS = {
    "LoHa": ("llama", "LoHaConfig", {"r": 3, "alpha": 5, "target_modules": ["q_proj", "down_proj"]}, [9]),
    "LoHa with ranks": (
        "llama",
        "LoHaConfig",
        {
            "r": 3,
            "alpha": 5,
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"v_proj": 1},
        },
        [4, 9],
    ),
    "LoHa on a convolution": ("vit", "LoHaConfig", {"r": 3, "alpha": 5, "target_modules": ["projection"]}, [9]),
    "LoKr": ("llama", "LoKrConfig", {"r": 2, "alpha": 3, "target_modules": ["q_proj"]}, [16]),
    "LoKr in two": (
        "llama",
        "LoKrConfig",
        {"r": 2, "alpha": 3, "target_modules": ["q_proj"], "decompose_both": True},
        [4],
    ),
}


def deltas(model, folder):
    wrapped = peft.PeftModel.from_pretrained(model, folder)
    name = wrapped.active_adapter
    layers = {each: module for each, module in wrapped.named_modules() if hasattr(module, "get_delta_weight")}
    return {each: module.get_delta_weight(name).detach() for each, module in layers.items()}


@pytest.mark.parametrize(("kind", "cls", "fields", "ranks"), KINDS.values(), ids=KINDS)
def test_the_lora_changes_every_weight_as_the_product_did(kind, cls, fields, ranks, tmp_path):
    model = build(kind)
    model.save_pretrained(tmp_path / "base")
    trained(model, getattr(peft, cls)(**fields), tmp_path / "a")
    done = adapterfit.convert(tmp_path / "a", "lora", tmp_path / "b", base=tmp_path / "base")
    written = json.loads((tmp_path / "b/adapter_config.json").read_text())
    assert sorted({written["r"], *written["rank_pattern"].values()}) == ranks
    assert f"rank {', '.join(map(str, ranks))}" in " ".join(done.notes)
    wanted, found = deltas(build(kind), tmp_path / "a"), deltas(build(kind), tmp_path / "b")
    assert wanted.keys() == found.keys()
    assert wanted
    for name in wanted:
        assert wanted[name].abs().max() > 0.01
        assert torch.allclose(found[name], wanted[name], rtol=0, atol=4e-6 * wanted[name].abs().max().item()), name


REFUSED = {
    "a rank that is no lower": ("llama", "LoHaConfig", {"r": 8, "target_modules": ["v_proj"]}, "nothing is gained"),
    "cores of a convolution": (
        "vit",
        "LoHaConfig",
        {"r": 2, "target_modules": ["projection"], "use_effective_conv2d": True},
        "cores",
    ),
    "IA3": ("llama", "IA3Config", {"target_modules": ["k_proj"], "feedforward_modules": []}, "IA3"),
    "a LoRA": ("llama", "LoraConfig", {"target_modules": ["k_proj"]}, "LoRA already"),
}


@pytest.mark.parametrize(("kind", "cls", "fields", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_lora_is_refused(kind, cls, fields, said, tmp_path):
    trained(build(kind), getattr(peft, cls)(**fields), tmp_path / "a")
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(tmp_path / "a", "lora", tmp_path / "b")
