"""How each PEFT method gets on with packed modules, as a quantised base has them: src/adapterfit/expect/packed.json.

`make packed` runs it. Each way of packing gets an environment of its own beside `.venv`, where a tiny Llama is saved with one adapter
per method, packed by the library itself, and each adapter is loaded by the real PEFT and run. What is written is what was seen: the
line that loading or running raised, or whether the adapter changes the packed model as it changes the plain one.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FACTS = ROOT / "src" / "adapterfit" / "expect" / "packed.json"
#: How the weights are packed → the library, and what it needs that the tests do not install, without requirements of their own.
LIBRARIES = {
    "bitsandbytes-4bit": ("bitsandbytes==0.50.2",),
    "bitsandbytes-8bit": ("bitsandbytes==0.50.2",),
    "gptq": (
        "gptqmodel==7.7.0", "optimum==2.3.0", "pypcre", "device-smi", "tokenicer", "logbar", "defuser", "dill", "threadpoolctl",
        "torchao==0.18.0", "datasets", "pyarrow", "pandas", "multiprocess", "xxhash", "aiohttp", "ninja", "maturin", "protobuf", "pillow",
    ),
    "hqq": ("hqq==0.2.8.post1", "termcolor", "einops"),
    "quanto": ("optimum-quanto==0.2.7", "ninja"),
    "torchao": ("torchao==0.18.0",),
    "fp8": (),
}  # fmt: skip
LIBRARIES["awq"] = LIBRARIES["gptq"]
#: What AdaMSS wants.
ALSO = ("scikit-learn", "scipy", "joblib", "cloudpickle", "threadpoolctl", "narwhals")
SIZE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
}
GROUP, SHIFTS = 32, range(0, 32, 4)
#: In which order AWQ puts eight columns into one number.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
#: Below this share of the change, another change is the noise of packing; above the second it is another change.
SAME, OTHER = 0.6, 1.2
#: How far the logits are to move, so that what packing itself moves is little beside it.
LOUD = 3.0


def adapters() -> dict[str, dict[str, Any]]:
    """Name of the facts → config: a method's name, with the options that make another thing of it."""
    to = {"target_modules": ["q_proj"]}
    lora = {"peft_type": "LORA", "r": 4, **to}
    found = {
        "LORA": lora,
        "LORA use_dora": {**lora, "use_dora": True},
        "LORA lora_bias": {**lora, "lora_bias": True},
        "LORA alora_invocation_tokens": {**lora, "alora_invocation_tokens": [3], "task_type": "CAUSAL_LM"},
        "LORA modules_to_save": {**lora, "modules_to_save": ["k_proj"]},
        **{f"LORA init_lora_weights={how}": {**lora, "init_lora_weights": how} for how in ("pissa", "olora", "orthogonal")},
        "LORA init_lora_weights=pissa_niter": {**lora, "init_lora_weights": "pissa_niter_2"},
        "ADALORA": {"total_step": 10}, "IA3": {"feedforward_modules": []}, "LOHA": {"r": 4}, "LOKR": {"r": 4},
        "OFT": {"oft_block_size": 4}, "BOFT": {"boft_block_size": 4}, "VERA": {"r": 4}, "PVERA": {"r": 4},
        "RANDLORA": {"r": 4}, "FOURIERFT": {"n_frequency": 50}, "WAVEFT": {"n_frequency": 50}, "HRA": {"r": 4},
        "VBLORA": {"r": 4, "num_vectors": 8, "vector_length": 32}, "MISS": {"r": 4}, "POLY": {"r": 4}, "C3A": {"block_size": 32},
        "MISS init_weights=bat": {"r": 4, "init_weights": "bat"}, "MISS init_weights=mini": {"r": 4, "init_weights": "mini"},
        "SHIRA": {"r": 4}, "ROAD": {}, "DELORA": {"r": 4}, "OSF": {}, "GRALORA": {"r": 4}, "LILY": {"r": 4}, "PEANUT": {"r": 4},
        "PSOFT": {"r": 4}, "TINYLORA": {"r": 4}, "BEFT": {}, "DEFT": {"r": 4}, "FROD": {}, "GLORA": {"r": 4}, "HIRA": {"r": 4},
        "UNILORA": {"r": 4}, "SUPERTUNING": {"r": 4}, "ADAMSS": {"r": 4},
    }  # fmt: skip
    return {
        name: config if "peft_type" in config else {"peft_type": name.partition(" ")[0], **to, **config}
        for name, config in found.items()
    }


# ------------------------------------------------------------------------------------------------ the bases


def plain(folder: Path) -> Any:
    """The base as it is."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def by_transformers(config: Callable[[], Any]) -> Callable[[Path], Any]:
    """A base that transformers packs while it loads."""

    def made(folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config(), device_map="cpu").eval()

    return made


def four_bits() -> Any:
    """NF4 of bitsandbytes."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


def eight_bits() -> Any:
    """LLM.int8() of bitsandbytes."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def torchao_int8() -> Any:
    """The 8-bit weights of torchao."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def quanto_int8() -> Any:
    """The 8-bit weights of quanto."""
    from transformers import QuantoConfig

    return QuantoConfig(weights="int8")


def hqq(folder: Path) -> Any:
    """HQQ by its own hand: transformers 5.23 does not load it."""
    import torch
    from hqq.core.quantize import BaseQuantizeConfig
    from hqq.models.hf.base import AutoHQQHFModel

    model = plain(folder)
    four = BaseQuantizeConfig(nbits=4, group_size=64)
    AutoHQQHFModel.quantize_model(model, quant_config=four, compute_dtype=torch.float32, device="cpu")
    return model


def fp8(folder: Path) -> Any:
    """The modules of a block-wise FP8 base, without their numbers: their kernels need a GPU, so that nothing is run."""
    from transformers.integrations.finegrained_fp8 import FP8Linear

    model = plain(folder)
    for name, module in list(model.named_modules()):
        if type(module).__name__ == "Linear" and not name.endswith("lm_head"):
            parent = model.get_submodule(name.rpartition(".")[0])
            made = FP8Linear(
                module.in_features, module.out_features, block_size=(128, 128), has_bias=module.bias is not None
            )
            setattr(parent, name.rpartition(".")[2], made)
    return model


def from_checkpoint(method: str) -> Callable[[Path], Any]:
    """A base whose checkpoint holds packed weights, in the layout of GPTQ or AWQ, four bits each, rounded to the nearest."""

    def made(folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        packed = folder.with_name(f"{folder.name}-{method}")
        if not packed.is_dir():
            write_packed(folder, packed, method)
        return AutoModelForCausalLM.from_pretrained(packed, device_map="cpu").eval()

    return made


def write_packed(folder: Path, packed: Path, method: str) -> None:
    """`qweight`, `qzeros`, `scales` (and GPTQ's `g_idx`) in place of every projection's weight."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            tensors[name] = weight
            continue
        tensors.update({name.removesuffix("weight") + leaf: tensor for leaf, tensor in four_of(weight, method).items()})
    config = json.loads((folder / "config.json").read_text())
    more = {"desc_act": False, "sym": True} if method == "gptq" else {"version": "gemm", "zero_point": True}
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": GROUP, **more}
    packed.mkdir()
    (packed / "config.json").write_text(json.dumps(config))
    save_file(tensors, packed / "model.safetensors", metadata={"format": "pt"})


def four_of(weight: Any, method: str) -> dict[str, Any]:
    """One matrix (out, in) in four bits: GPTQ packs eight inputs into a number, AWQ eight outputs."""
    import torch

    rows, columns = weight.shape
    grouped = weight.float().t().reshape(columns // GROUP, GROUP, rows)
    scales = grouped.abs().amax(1).clamp(min=1e-6) / 7
    values = (grouped / scales[:, None]).round().clamp(-8, 7).add(8).reshape(columns, rows).long()
    if method == "gptq":
        packed = sum(values[at::8] << shift for at, shift in enumerate(SHIFTS))
        zero = torch.full((columns // GROUP, rows // 8), 0x77777777, dtype=torch.int64)
        groups = {"g_idx": (torch.arange(columns) // GROUP).int()}
    else:
        packed = sum(values[:, at::8] << shift for at, shift in zip(AWQ_ORDER, SHIFTS))
        zero, groups = torch.full((columns // GROUP, rows // 8), 0x88888888, dtype=torch.int64), {}
    whole = {name: as_int32(tensor) for name, tensor in (("qweight", packed), ("qzeros", zero))}
    return {**whole, "scales": scales.half(), **groups}


def as_int32(tensor: Any) -> Any:
    """The same 32 bits, as the signed numbers that the checkpoints hold."""
    import torch

    return torch.where(tensor >= 2**31, tensor - 2**32, tensor).to(torch.int32).contiguous()


BASES: dict[str, Callable[[Path], Any]] = {
    "bitsandbytes-4bit": by_transformers(four_bits),
    "bitsandbytes-8bit": by_transformers(eight_bits),
    "torchao": by_transformers(torchao_int8),
    "quanto": by_transformers(quanto_int8),
    "gptq": from_checkpoint("gptq"),
    "awq": from_checkpoint("awq"),
    "hqq": hqq,
    "fp8": fp8,
}


# ------------------------------------------------------------------------------------------------ measuring


def measure(packing: str) -> dict[str, Any]:
    """Every method on one kind of packed base, in this Python."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "base")
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE)).save_pretrained(folder)
        load = BASES[packing]
        module = load(folder).model.layers[0].self_attn.q_proj
        ancestors = [f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__]
        methods = {}
        for name, config in adapters().items():
            methods[name] = one(name, config, folder, load, runs=packing != "fp8")
            print(f"{packing} {name}: {methods[name]}", file=sys.stderr)
    library = LIBRARIES[packing][0] if LIBRARIES[packing] else f"transformers=={version('transformers')}"
    return {
        "library": library,
        "class": ancestors[0].rpartition(".")[2],
        "ancestors": ancestors[:-2],
        # GPTQModel picks its class by what the machine can do.
        "by_hardware": packing in ("gptq", "awq"),
        "methods": methods,
    }


def one(name: str, config: dict[str, Any], folder: Path, load: Callable[[Path], Any], *, runs: bool) -> str:
    """What became of one adapter: `applied`, `nothing`, `differs`, `unclear`, or the line that was raised."""
    import peft

    saved = folder.with_name("adapter-" + "".join(c if c.isalnum() else "-" for c in name))
    runs = runs and config["peft_type"] != "POLY"  # its forward wants the number of a task
    before = logits(plain(folder))
    for strength in (0.3, 1.0, 3.0, 10.0):
        try:
            make(config, strength, folder, saved)
        except (ImportError, ValueError, TypeError) as error:
            return f"not measured: {type(error).__name__}: {error}"
        wanted = logits(peft.PeftModel.from_pretrained(plain(folder), saved).eval()) - before if runs else None
        if wanted is None or wanted.norm().item() > LOUD:
            break
    # Loaded anew each time: bitsandbytes lays the weights out anew in the first forward pass on a CPU.
    alone = logits(load(folder)) if runs else None
    base = load(folder)
    kind = type(base.model.layers[0].self_attn.q_proj).__name__
    try:
        model = peft.PeftModel.from_pretrained(base, saved).eval()
    except Exception as error:  # whatever it is, it is what a user sees
        # On a CPU, without numbers: what is missing there may be there on a GPU.
        only_here = not runs and type(error).__name__ in ("NotImplementedError", "_LinAlgError", "RuntimeError")
        return f"{'not measured:' if only_here else 'raises'} {line_of(error, kind)}"
    if not runs:
        return "loads"
    try:
        found = logits(model) - alone
    except Exception as error:
        return f"fails {line_of(error, kind)}"
    return verdict(wanted, found)


def make(config: dict[str, Any], strength: float, folder: Path, saved: Path) -> None:
    """Save an adapter whose trainable numbers are off their start by `strength` times the normal distribution."""
    import peft
    import torch
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    torch.manual_seed(1)
    made = peft.get_peft_model(plain(folder), PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]](**config))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * strength)
    made.save_pretrained(saved)


def logits(model: Any) -> Any:
    """Of sixteen tokens, in float32."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(16)[None]).logits.float()


def verdict(wanted: Any, found: Any) -> str:
    """The change beside that on the plain base."""
    if not found.isfinite().all():
        return "differs"
    if found.abs().max().item() == 0:
        return "nothing"
    off = ((found - wanted).norm() / wanted.norm()).item()
    print(f"  {off:.2f} of {wanted.norm().item():.3f}", file=sys.stderr)
    return "applied" if off < SAME else "differs" if off > OTHER else "unclear"


def line_of(error: Exception, kind: str) -> str:
    """The exception's class and its first words. `{class}` is the packed class, `{module}` the saved module; sizes, which are this model's own, are cut off."""
    words = " ".join(str(error).split("\n")[:2]).replace("\t", "")[:400]
    if kind != "Linear":
        words = re.sub(rf"<class '[\w.]*{kind}'>", f"<class '…{kind}'>", words).replace(kind, "{class}")
    words = re.sub(r"(Target module [{}\w]+)\([^)]*\)", r"\1(…)", words)
    words = words.replace("model.layers.0.self_attn.k_proj", "{module}")
    cut = re.search(r"(?<![A-Za-z_0-9])\d|: attempting", words)
    if cut and not isinstance(error, KeyError):
        words = words[: cut.start()] + "…"
    return f"{type(error).__name__}: {words}"


# ------------------------------------------------------------------------------------------------ environments


def environment(packing: str) -> Path:
    """A Python that has what this one has, and the library."""
    target = ROOT / ".venv" / f"packed-{LIBRARIES[packing][0].partition('==')[0] if LIBRARIES[packing] else 'plain'}"
    python = target / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_path("purelib")
    Path(theirs, "tests_environment.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, *LIBRARIES[packing], *ALSO], check=True)
    return python


def main() -> None:
    """Measure what is named, or all; write what was found beside what was known."""
    if sys.argv[1:2] == ["--here"]:
        print("ANSWER " + json.dumps(measure(sys.argv[2])))
        return
    known = json.loads(FACTS.read_text()) if FACTS.exists() else {"packings": {}}
    for packing in sys.argv[1:] or sorted(BASES):
        command = [str(environment(packing)), "-W", "ignore", __file__, "--here", packing]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = next((line for line in done.stdout.splitlines() if line.startswith("ANSWER ")), None)
        if answer is None:
            sys.exit(f"{packing}: {done.stderr[-2000:]}")
        known["packings"][packing] = json.loads(answer.removeprefix("ANSWER "))
        print(packing, len(known["packings"][packing]["methods"]), "methods")
    known["measured"] = {
        **{name: version(name) for name in ("peft", "transformers", "torch")},
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
    }
    FACTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
