"""The table of `--for all` beside the engines themselves: seven adapters that real PEFT made, every engine that runs on a CPU.

The rows are those that the fast tests hold the table to (`engine_rows.py`). Here each cell is taken from the engine: what it
raises, which tensors of the file are among those it holds afterwards, and what it multiplies them with. OpenVINO, whose adapters
show nothing of that, is left to `test_their_readers.py`.
"""

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402
from real_adapters import SHAPE, adapter_of, base_of  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.report import _consumers  # noqa: E402
from engine_rows import ADAPTERS, ROWS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
WEIGHTS = "adapter_model.safetensors"
#: More tokens than the base began with, as after `resize_token_embeddings`.
GROWN = 140


class Made:
    """One adapter on disk with its base, what PEFT scales each module by, and our table."""

    def __init__(self, folder, name):
        self.base, self.adapter = folder / "base", folder / "adapter"
        fields, more = dict(ADAPTERS[name]), {"num_local_experts": 4, "num_experts_per_tok": 2}
        model = base_of("mixtral", self.base, **more) if name == "experts" else base_of("llama", self.base, head_dim=16)
        if name == "vocabulary":
            model.resize_token_embeddings(GROWN)
            model.save_pretrained(self.base)
        adapter_of(model, self.adapter, **fields)
        self.tensors = load_file(self.adapter / WEIGHTS)
        again = transformers.AutoModelForCausalLM.from_pretrained(self.base)
        loaded = peft.PeftModel.from_pretrained(again, self.adapter).base_model.model
        self.trained = {
            path: module.scaling["default"] for path, module in loaded.named_modules() if hasattr(module, "lora_A")
        }
        report = adapterfit.check(str(self.adapter), base=str(self.base), consumer="all")
        self.rows = {answer.name: row for answer, row in zip(report.consumers, _consumers.rows(report))}
        self.vocabulary = GROWN if name == "vocabulary" else SHAPE["vocab_size"]

    def cell(self, held, scales):
        """A row's cell: from the tensors that an engine holds, and module → the scale it applies."""
        numbers = {number for tensor in held for number in tensor.flatten().tolist()}
        landed = [name for name, tensor in self.tensors.items() if tensor[tensor != 0][0].item() in numbers]
        applied = "all" if len(landed) == len(self.tensors) else f"{len(landed)}/{len(self.tensors)}"
        ratios = [scales[module] / self.trained[module] for module in scales]
        low, high = f"{min(ratios):.3g}", f"{max(ratios):.3g}"
        return f"yes {applied} " + ("same" if low == high == "1" else f"x{low}" if low == high else f"x{low}..{high}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Adapter → what was made, once."""
    found = {}

    def one(name):
        if name not in found:
            found[name] = Made(tmp_path_factory.mktemp(name), name)
        return found[name]

    return one


NO = "no - -"


def by_vllm(one, folder):
    import by_vllm

    model = by_vllm.loaded(one.adapter, "llama", one.vocabulary)
    if isinstance(model, Exception):
        return NO
    layers = model.loras.values()
    held = [tensor.float() for layer in layers for tensor in (layer.lora_a, layer.lora_b)]
    return one.cell(held, {name: layer.scaling for name, layer in model.loras.items()})


def by_sglang(one, folder):
    import by_sglang

    adapter = by_sglang.loaded(one.adapter, one.base)
    if isinstance(adapter, Exception):
        return NO
    return one.cell(by_sglang.kept(adapter), dict.fromkeys(_linear(one), adapter.scaling))


def by_converter(one, folder):
    import by_llama_cpp
    import gguf

    out = folder / "adapter.gguf"
    if by_llama_cpp.converted(one.adapter, one.base, out):
        return NO
    reader = gguf.GGUFReader(out)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    names = {"q_proj": "attn_q", "v_proj": "attn_v"}
    ranks = {each.name: min(map(int, each.shape)) for each in reader.tensors}
    scales = {
        module: alpha / ranks[f"blk.{module.split('.')[2]}.{names[module.rpartition('.')[2]]}.weight.lora_b"]
        for module in _linear(one)
    }
    return one.cell([torch.tensor(each.data.copy()) for each in reader.tensors], scales)


def by_mlx(one, folder):
    pytest.importorskip("mlx.core", reason="mlx is installed by `make oracles` only")
    from mlx_lm.tuner.utils import load_adapters

    with pytest.raises(AttributeError, match="has no attribute 'num_layers'"):
        load_adapters(None, str(one.adapter))
    return NO


def by_diffusers(one, folder):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed by `make oracles` only")
    shape = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 1, "attention_head_dim": 4}
    more = {"num_attention_heads": 2, "joint_attention_dim": 8, "caption_projection_dim": 8, "pooled_projection_dim": 8}
    model = diffusers.SD3Transformer2DModel(**shape, **more, out_channels=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_lora_adapter(dict(one.tensors), prefix="transformer")
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return "yes none -"


def _linear(one):
    return sorted(
        {name[len("base_model.model.") :].split(".lora_")[0] for name in one.tensors if "_proj.lora_A" in name}
    )


ENGINES = {
    "vllm": by_vllm,
    "sglang": by_sglang,
    "llama.cpp-converter": by_converter,
    "mlx-lm": by_mlx,
    "diffusers": by_diffusers,
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_row_is_what_the_engine_does(engine, adapter, made, tmp_path):
    one = made(adapter)
    row = one.rows[engine]
    ours = f"{row.accepted} {row.applied} {row.scale}"
    assert ours == ROWS[engine][list(ADAPTERS).index(adapter)]
    if (engine, adapter) == (
        "sglang",
        "dora",
    ):  # its manager refuses it by a flag of the config; no weight is looked at
        import by_sglang

        source = (by_sglang.engine_code.SOURCES / "sglang/srt/lora/lora_manager.py").read_text()
        assert "LoRA serving currently doesn't support DoRA adapters" in source
        return
    assert ENGINES[engine](one, tmp_path) == ours
