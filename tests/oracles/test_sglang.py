"""SGLang's own reading of an adapter, on adapters that PEFT made, beside what we say. Its memory pool is not run."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import by_sglang  # noqa: E402
from real_adapters import adapter_of, base_of, edited, renamed  # noqa: E402

import adapterfit  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
#: `make oracles-older` runs the same against older releases.
VERSION = by_sglang.VERSION

#: Name → config of the adapter, how it is changed afterwards, the class of its error, and the claims it bears out.
CASES = {
    "plain": ({}, None, None, ["scale"]),
    "rsLoRA": ({"use_rslora": True}, None, None, ["scale"]),
    "alpha per module": ({"alpha_pattern": {"q_proj": 32}}, None, None, ["scale"]),
    "q only": ({"target_modules": ["q_proj"]}, None, KeyError, ["q-without-v"]),
    "q and k": ({"target_modules": ["q_proj", "k_proj"]}, None, KeyError, ["q-without-v"]),
    "mixed ranks": (
        {"rank_pattern": {"q_proj": 2}}, None, RuntimeError, ["qkv-ranks"],
    ),
    "gate and up of two ranks": (
        {"target_modules": ["gate_proj", "up_proj"], "rank_pattern": {"up_proj": 2}}, None, RuntimeError,
        ["gate-up-ranks"],
    ),
    "some layers": ({"layers_to_transform": [1]}, None, None, ["scale"]),
    "saved modules": ({"modules_to_save": ["lm_head"]}, None, None, ["modules-to-save"]),
    "lora_bias": ({"lora_bias": True}, None, None, ["lora-bias"]),
    "PiSSA": ({"init_lora_weights": "pissa"}, None, None, ["initialisation"]),
    "no rank": ({}, lambda folder: edited(folder, "r"), KeyError, ["config-fields-needed"]),
    "another method": ({}, lambda folder: edited(folder, peft_type="MISS"), AssertionError, ["method"]),
    "adapter's name in keys": (
        {}, lambda folder: renamed(folder, lambda n: n.replace(".weight", ".default.weight")), None,
        ["adapter-name-in-keys"],
    ),
    "a wrapper's prefix": (
        {}, lambda folder: renamed(folder, lambda n: n.replace("model.model.", "model._orig_mod.model.", 1)), None,
        ["prefix"],
    ),
    "a layer too many": (
        {}, lambda folder: renamed(folder, lambda n: n.replace("layers.1.", "layers.7.")), IndexError,
        ["layers-and-sizes"],
    ),
    "MLP": ({"target_modules": ["gate_proj", "down_proj"]}, None, None, ["scale"]),
}  # fmt: skip
NAMED = [
    pytest.param(name, id=name, marks=pytest.mark.bears("sglang", VERSION, *claims))
    for name, (*_, claims) in CASES.items()
]


@pytest.mark.parametrize("name", NAMED)
def test_sglang_does_what_we_say(name, tmp_path):
    config, change, raised, _ = CASES[name]
    folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter", **config)
    if change is not None:
        change(folder)
    theirs = by_sglang.loaded(folder, tmp_path / "base")
    (ours,) = adapterfit.check(str(folder), base=str(tmp_path / "base"), consumer=f"sglang=={VERSION}").consumers
    assert (type(theirs) if isinstance(theirs, Exception) else None) is raised
    if raised is not None:
        lines = [effect.says for effect in ours.effects if effect.kind == "refused"]
        assert ours.predicted == "raises"
        assert any(
            line.startswith(raised.__name__) and str(theirs).partition(" Expected")[0] in line for line in lines
        ), (
            theirs,
            lines,
        )
    else:
        assert ours.predicted != "raises", [effect.says for effect in ours.effects]
        assert {ratio.served for ratio in ours.ratios} == {theirs.scaling}
