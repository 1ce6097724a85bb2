"""The tensors carry the names of another program.

What this means: PEFT looks for `base_model.model.….lora_A.weight`. Names as kohya-ss, diffusers, mlx-lm, torchtune, NeMo,
llama.cpp or AdapterHub write them match nothing: PEFT warns about missing keys and the model behaves as the base does.
Some of these programs also store the matrices transposed.

Why it happens: the adapter was trained with another library, and only its config was written, or renamed, for PEFT.

Detection: the names in the file, which differ for each of these programs.

Fix: load the adapter with the library it belongs to, or convert it with that library's own tool.

Workaround: where only names differ, rename the keys; where matrices are transposed, transpose them too.

Prevention: keep adapters of different libraries in folders whose names say which.

Setup:
    def to_mlx(name):
        return name.replace("base_model.model.", "").replace("lora_A.weight", "lora_a").replace("lora_B.weight", "lora_b")

    tensors = {to_mlx(name): tensor.T.contiguous() for name, tensor in load_file(WEIGHTS).items()}
    save_file(tensors, WEIGHTS, {"format": "pt"})  # model.layers.0.self_attn.q_proj.lora_a, transposed: as mlx-lm writes it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(model)  # -> True

Fixed:
    def to_peft(name):
        return "base_model.model." + name.replace("lora_a", "lora_A.weight").replace("lora_b", "lora_B.weight")

    tensors = load_file("adapter/adapter_model.safetensors")
    tensors = {to_peft(name): tensor.T.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "lora key not loaded: lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "ValueError: Target modules {'lora_unet_down_blocks_0'} not found in the base model.",
        "Invalid LoRA checkpoint.",
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight', ...]",
    ),
    needs=("weights",),
)
_PIPE = "load it with pipe.load_lora_weights of diffusers"
#: An adapter's layout, where it is another program's → whose it is, and what to do.
FORMATS: Mapping[str, tuple[str, str]] = {
    "kohya": ("kohya-ss (diffusion)", _PIPE),
    "diffusers": ("diffusers", _PIPE),
    "lora_diffusion": ("cloneofsimo/lora (diffusion)", "load it with lora_diffusion.patch_pipe"),
    "mlx": (
        "mlx-lm",
        "rename .lora_a and .lora_b to .lora_A.weight and .lora_B.weight and transpose them, with a PEFT config",
    ),
    "torchtune": ("torchtune", "convert it with torchtune's tune_to_peft_adapter_weights"),
    "nemo": ("NVIDIA NeMo", "convert it with NeMo's script to a Hugging Face adapter"),
    "llama_cpp": ("llama.cpp (GGUF)", "use the adapter it was converted from"),
    "adapterhub": ("AdapterHub (adapters)", "load it with model.load_adapter of the adapters library"),
}


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires where the reader recognised the names of another program."""
    program, remedy = FORMATS.get(case.adapter.layout, ("", ""))
    names = [tensor.name for tensor in case.adapter.tensors]
    if not program or case.adapter.weights is None or all(name.startswith("base_model.") for name in names):
        return
    missing = [slot.key for slot in diff.missing] if diff is not None else []
    yield finding(
        f"{show(case.adapter.weights.file)} holds names of {program}, such as {quote(names[0])}: PEFT finds none of its own",
        at=names,
        explains=[*names, *missing],
        predicted="warns",
        found=program,
        expected="base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        fix=Fix("unsafe", remedy),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """PEFT's names are silent, even for modules that sound foreign."""
    plain = make.lora("llama")
    names = (
        "lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight",
        "unet.down_blocks.0.attentions.0.to_k.lora.down.weight",
        "model.layers.0.self_attn.q_proj.lora_a",
        "layers.0.attn.q_proj.lora_a.weight",
        "blk.0.attn_q.weight.lora_a",
        "bert.encoder.layer.0.attention.self.query.loras.sst.lora_A",
    )
    files = [make.safetensors({name: ("F32", (4, 4))}) for name in names]
    return {
        "silent": [
            plain,
            make.folder(make.as_files(plain.renamed(lambda name: name.replace("q_proj", "unet.q_proj")))),
        ],
        "fires": [make.weights_file({make.WEIGHTS: data}) for data in files],
    }


#: Words of another program's loader → whose format it wants.
_LOADERS = (
    ("no attribute 'num_layers'", "mlx-lm", 0.9), ('stringvalue: "num_layers"', "mlx-swift", 0.9), ("missing required key 'scale'", "mlx-lm", 0.9),
    ("no valid adapter config file found", "LoRAX", 0.7), ("is not found in adapter_config.json", "llama.cpp", 0.6),
    ("missing lora key", "torchtune", 0.8), ("unhandled keys [", "mlx", 0.7), ("unhandledkeys(", "mlx-swift", 0.7),
    ("failed to load lora adapter file from", "llama.cpp (GGUF)", 0.6), ("expect general.type to be 'adapter'", "llama.cpp (GGUF)", 0.6), ("llama_apply_lora_from_file_internal: unsupported file version", "llama.cpp (GGML)", 0.8), ("bad file magic", "llama.cpp (GGML or GGUF)", 0.86), ("invalid magic characters", "llama.cpp (GGUF)", 0.86), ("not a gguf file", "llama.cpp (GGUF)", 0.8), ("model_weights.ckpt", "NeMo", 0.6), ("0 lora slot", "mlx", 0.6),
)  # fmt: skip
#: How names of image models begin: how A is written there says nothing about a program for text.
_OF_IMAGES = ("lora_te", "lora_unet", "lycoris_", "unet.", "text_encoder", "diffusion_model.", "transformer.")
#: Segments that only one dialect has.
_DIALECTS = {
    "lora_a": "mlx or torchtune",
    "lora_b": "mlx or torchtune",
    "linear_in": "NeMo",
    "linear_out": "NeMo",
    "tok_embeddings": "Meta's own checkpoints and torchtune",
}

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "adapters.safetensors", "adapters.npz", "adapterhub", "torchtune", "megatron", "nemo", "right format", "meta_model",
)  # fmt: skip

#: Names of a layer's parts in transformers, and in the checkpoints of the models' makers.
_LEAVES = (
    (("gate_proj", "up_proj", "down_proj"), ("w1", "w2", "w3")),
    (("q_proj", "k_proj", "v_proj"), ("wq", "wk", "wv", "attn.output_proj")),
)

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("mlx_lm", "load_adapters"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: another program's loader misses its own fields, or names are in another program's dialect."""
    fix = "convert the adapter with that program's own tool; where A and B are stored (in, r), transpose them too"
    for phrase, whose, likelihood in _LOADERS:
        told = said(symptoms, phrase)
        if told:
            yield suspect(
                symptoms,
                f"the loader is that of {whose}, and the adapter is in another format",
                likelihood,
                told,
                fix=fix,
            )
    for ours, theirs in _LEAVES:
        here, there = said(symptoms, *(f".{name}" for name in ours)), said(symptoms, *(f".{name}" for name in theirs))
        if here and there and not symptoms.misshapen and not symptoms.targets:
            yield suspect(
                symptoms, f"two programs' names of the same layers: {shorten(ours)} and {shorten(theirs)}", 0.5, [*here, *there], fix=fix,
                apart="which of the two the file has, and which the model",
            )  # fmt: skip
    lost = names_of(symptoms, "foreign-format")
    if lost is not None:
        yield suspect(
            symptoms, "nothing of the adapter was found: the names in the file may be another program's", lost.likelihood, lost.lines, fix=fix,
            apart="the first name in the file: base_model.model.….lora_A.weight is PEFT's",
        )  # fmt: skip
    every = (*symptoms.unexpected, *symptoms.missing, *symptoms.keys)
    text = [key for key in every if not key.name.startswith(_OF_IMAGES)]
    spoken = [(key, part) for key in text for part in key.name.split(".") if part in _DIALECTS]
    if spoken:
        yield suspect(
            symptoms, f"{quote(spoken[0][1])} is how {_DIALECTS[spoken[0][1]]} name it; PEFT and transformers name it otherwise", 0.85,
            [key.line for key, _ in spoken], fix=fix, apart="the orientation: PEFT stores A as (r, in), MLX as (in, r)",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Loaders of MLX; names of torchtune; PEFT's own are no dialect."""
    return {
        "fires": [
            "AttributeError: 'types.SimpleNamespace' object has no attribute 'num_layers'",
            "KeyError: LoRA config is missing required key 'scale'. Found 'alpha' instead",
            "unexpected: layers.0.attn.output_proj.lora_a.weight",
            "ERROR:lora-to-gguf:Unexpected name 'model.layers.0.self_attn.q_proj.lora_a': Not a lora_A or lora_B tensor",
            "unexpected: tok_embeddings.weight, layers.0.attention.wq.lora_a.weight",
        ],
        "silent": [
            "Found missing adapter keys while loading the checkpoint: ['base_model.model.h.0.attn.c_attn.lora_A.default.weight']"
        ],
    }
