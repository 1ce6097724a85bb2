"""Every cure is a line that can be run; here it is run as it is printed, and the engine that refused or erred loads the result."""

import re
import shlex
import subprocess
import sys
import types

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402
from real_adapters import adapter_of, base_of, experts_of, renamed  # noqa: E402

import adapterfit  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = torch.tensor([[1, 5, 9, 3]])


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(tmp_path, kind="llama", **config):
    base = base_of(kind, tmp_path / "base", head_dim=16)
    return adapter_of(base, tmp_path / "adapter", **config)


def asked(engine, adapter="adapter"):
    (answer,) = adapterfit.check(adapter, base="base", consumer=engine).consumers
    return answer


def cured(answer, kind, word):
    """Run the command of the first cure of that kind of effect; the folder it made."""
    cures = [effect.cure for effect in answer.effects if effect.kind == kind and word in effect.cure]
    assert cures, [(effect.kind, effect.cure) for effect in answer.effects]
    command = re.search(r"(?:adapterfit|python) .*", cures[0])[0]
    program, *rest = shlex.split(command)
    run = [sys.executable, *(["-m", "adapterfit"] if program == "adapterfit" else []), *rest]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return rest[rest.index("--out") + 1] if "--out" in rest else rest[-1]


def logits(adapter=None, base="base"):
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model = peft.PeftModel.from_pretrained(model, adapter) if adapter is not None else model
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def same(one, other):
    """As far apart as the order of float32 sums may be; and the adapter does something."""
    assert (other - logits()).abs().max() > 1e-3
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ flags


@pytest.mark.parametrize(("rank", "flag"), [(4, "8"), (24, "32"), (64, "64"), (300, "320")])
def test_vllm_takes_the_rank_with_the_flag_that_is_printed(rank, flag, tmp_path):
    import by_vllm

    folder = made(tmp_path, r=rank)
    (line,) = asked("vllm").launch
    assert f"--max-lora-rank {flag} --lora-modules adapter=adapter" in line
    helper = by_vllm.PEFTHelper.from_local_dir(str(folder), None)
    helper.validate_legal(types.SimpleNamespace(max_lora_rank=int(flag)))
    if rank > 16:
        with pytest.raises(ValueError, match="is greater than max_lora_rank 16"):
            helper.validate_legal(types.SimpleNamespace(max_lora_rank=16))


def test_vllm_knows_the_flag_for_fused_experts_and_the_field_of_the_adapter(tmp_path):
    import engine_code

    experts_of(tmp_path)
    cure = next(effect.cure for effect in asked("vllm").effects if "--enable-mixed-moe-lora-format" in effect.cure)
    assert '"is_3d_lora_weight": true' in cure
    sources = engine_code.SOURCES / "vllm"
    assert "enable_mixed_moe_lora_format" in (sources / "config/lora.py").read_text()
    assert '"--enable-mixed-moe-lora-format"' in (sources / "engine/arg_utils.py").read_text()
    assert "is_3d_lora_weight: bool" in (sources / "entrypoints/openai/models/protocol.py").read_text()


# ------------------------------------------------------------------------------------------------ the fold


@pytest.mark.parametrize(
    "config",
    [{"use_rslora": True, "alpha_pattern": {"q_proj": 32}}, {"alpha_pattern": {"v_proj": 3}}],
    ids=["rsLoRA with alpha_pattern", "alpha_pattern"],
)
def test_sglang_scales_as_peft_did_once_the_scale_is_in_the_numbers(config, tmp_path):
    import by_sglang

    folder = made(tmp_path, **config)
    out = cured(asked("sglang"), "scaled", "--to plain")
    assert by_sglang.loaded(tmp_path / out, tmp_path / "base").scaling == 1.0
    assert asked("sglang", out).predicted == "loads"
    assert same(logits(out), logits(str(folder)))


def test_llama_cpp_computes_what_peft_does_once_the_scale_is_in_the_numbers(tmp_path):
    import by_llama_cpp

    folder = made(tmp_path, use_rslora=True, alpha_pattern={"q_proj": 32})
    base = by_llama_cpp.base_converted(tmp_path / "base", tmp_path / "base.gguf")
    wanted = torch.log_softmax(logits(str(folder))[0, -1], -1)

    def served(path, name):
        assert by_llama_cpp.converted(path, tmp_path / "base", tmp_path / name) == ""
        return torch.tensor(by_llama_cpp.logprobs(base, tmp_path / name))

    assert (served(folder, "before.gguf") - wanted).abs().max() > 0.05
    out = cured(asked("llama.cpp"), "scaled", "--to plain")
    assert (served(tmp_path / out, "after.gguf") - wanted).abs().max() < 1e-3  # its own float16 cache


# ------------------------------------------------------------------------------------------------ zeros


def test_sglang_takes_ranks_that_were_padded_with_zeros(tmp_path):
    import by_sglang

    folder = made(tmp_path, rank_pattern={"q_proj": 2})
    assert isinstance(by_sglang.loaded(folder, tmp_path / "base"), RuntimeError)
    out = cured(asked("sglang"), "refused", "--to plain")
    assert by_sglang.loaded(tmp_path / out, tmp_path / "base").scaling == 1.0
    assert asked("sglang", out).predicted == "loads"
    assert same(logits(out), logits(str(folder)))


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "k_proj"]], ids=" ".join)
def test_sglang_takes_q_with_pairs_of_zeros_for_k_and_v(targets, tmp_path):
    import by_sglang

    folder = made(tmp_path, target_modules=targets)
    assert isinstance(by_sglang.loaded(folder, tmp_path / "base"), KeyError)
    out = cured(asked("sglang"), "refused", "--to filled")
    adapter = by_sglang.loaded(tmp_path / out, tmp_path / "base")
    assert all("qkv_proj" in name for layer in adapter.layers for name in layer.weights)
    assert asked("sglang", out).predicted == "loads"
    assert same(logits(out), logits(str(folder)))


@pytest.mark.parametrize("engine", ["tgi", "lorax"])
def test_a_layer_subset_has_every_layer_once_zeros_are_added(engine, tmp_path):
    folder = made(tmp_path, layers_to_transform=[1])
    assert asked(engine).predicted == "loads-without-effect"
    out = cured(asked(engine), "dropped", "--to filled")
    assert asked(engine, out).predicted == "loads"
    assert same(logits(out), logits(str(folder)))


# ------------------------------------------------------------------------------------------------ names, and the merge


def test_vllm_takes_keys_that_were_renamed(tmp_path):
    import by_vllm

    folder = renamed(made(tmp_path), lambda name: name.replace(".weight", ".default.weight"))
    assert isinstance(by_vllm.loaded(folder, "llama"), ValueError)
    out = cured(asked("vllm"), "refused", "adapterfit fix")
    assert len(by_vllm.loaded(tmp_path / out, "llama").loras) == 4
    assert asked("vllm", out).predicted == "loads"


def test_vllm_finds_the_modules_once_a_wrappers_name_is_gone(tmp_path):
    import by_vllm

    folder = renamed(made(tmp_path), lambda name: name.replace("model.model.", "model._orig_mod.model.", 1))
    assert asked("vllm").predicted == "loads-without-effect"
    out = cured(asked("vllm"), "dropped", "adapterfit fix")
    assert set(by_vllm.loaded(tmp_path / out, "llama").loras) == {
        f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qv"
    }
    assert folder.exists()


@pytest.mark.parametrize(
    ("engine", "config"),
    [
        ("vllm", {"use_dora": True}),
        ("vllm", {"modules_to_save": ["lm_head"]}),
        (
            "llama.cpp",
            {"lora_bias": True, "kind": "qwen2"},
        ),  # its q and v have biases; without, PEFT merges no lora_bias
        ("sglang", {"trainable_token_indices": [1, 5]}),
    ],
    ids=["DoRA", "a saved module", "lora_bias", "token rows"],
)
def test_the_merged_model_computes_what_the_adapter_did(engine, config, tmp_path):
    folder = made(tmp_path, **config)
    answer = asked(engine)
    out = cured(answer, "refused" if answer.predicted == "raises" else "dropped", "merge")
    assert same(logits(base=out), logits(str(folder)))


def test_fused_experts_are_merged(tmp_path):
    folder = experts_of(tmp_path)
    out = cured(asked("sglang"), "dropped", "--to merged")
    assert same(logits(base=out), logits(str(folder)))


# ------------------------------------------------------------------------------------------------ other layouts


def test_mlx_lm_loads_what_its_cure_makes(tmp_path):
    mx = pytest.importorskip("mlx.core", reason="mlx is installed by `make oracles` only")
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    folder = made(tmp_path, use_rslora=True)
    wanted = logits(str(folder))
    out = cured(asked("mlx-lm"), "refused", "--to mlx")
    model = load_adapters(load_model(tmp_path / "base")[0], out)
    model.eval()
    found = torch.tensor(model(mx.array(TOKENS.tolist())).astype(mx.float32).tolist())
    assert same(found, wanted)


def test_a_bin_file_becomes_the_safetensors_that_tgi_reads(tmp_path):
    folder = made(tmp_path)
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    wanted = logits(str(folder))
    torch.save(load_file(path), folder / "adapter_model.bin")
    path.unlink()
    out = cured(asked("tgi"), "refused", "--to peft")
    assert asked("tgi", out).predicted == "loads"
    assert same(logits(out), wanted)
