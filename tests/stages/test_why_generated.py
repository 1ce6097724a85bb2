"""Errors made from their causes, for models of many shapes and in the ways in which people paste them: the cause is answered."""

from __future__ import annotations

import itertools
import json
import random

import pytest

import adapterfit
from adapterfit.causes.heard import ALIKE

SIZE = "size mismatch for {}: copying a param with shape torch.Size({}) from checkpoint, the shape in current model is torch.Size({})."
PEFT = "base_model.model."
#: Path of a layer, its modules with (in, out) as factors of the width, width, rows of the vocabulary, names of embedding and head.
MODELS = {
    "llama": ("model.layers.{}.", {"self_attn.q_proj": (1, 1), "self_attn.k_proj": (1, 0.25), "mlp.down_proj": (3.5, 1)}, 4096, 128256, "model.embed_tokens", "lm_head"),
    "qwen": ("model.layers.{}.", {"self_attn.q_proj": (1, 1), "mlp.gate_proj": (1, 5.25)}, 3584, 152064, "model.embed_tokens", "lm_head"),
    "gpt2": ("transformer.h.{}.", {"attn.c_proj": (1, 1), "mlp.c_fc": (1, 4)}, 768, 50257, "transformer.wte", "lm_head"),
    "bloom": ("transformer.h.{}.", {"self_attention.dense": (1, 1), "mlp.dense_4h_to_h": (4, 1)}, 4096, 250880, "transformer.word_embeddings", "lm_head"),
    "t5": ("encoder.block.{}.layer.0.", {"SelfAttention.q": (1, 1), "SelfAttention.o": (1, 1)}, 1024, 32128, "shared", "lm_head"),
    "nested": ("model.language_model.layers.{}.", {"self_attn.o_proj": (1, 1), "mlp.up_proj": (1, 4)}, 2560, 262208, "model.language_model.embed_tokens", "lm_head"),
    "opt": ("model.decoder.layers.{}.", {"self_attn.v_proj": (1, 1), "fc1": (1, 4)}, 2048, 50272, "model.decoder.embed_tokens", "lm_head"),
}  # fmt: skip


class Model:
    """A model's names and sizes, as an error tells them."""

    def __init__(self, name: str, width: float = 1.0) -> None:
        self.path, self.modules, wide, self.rows, self.embedding, self.head = MODELS[name]
        self.width = int(wide * width)

    def lora(self, rank: int, layers=(0, 1, 2)):
        """Key of each LoRA matrix → its shape."""
        for layer, (module, (wide, tall)) in itertools.product(layers, self.modules.items()):
            key = f"{PEFT}{self.path.format(layer)}{module}.lora_{{}}.default.weight"
            yield key.format("A"), [rank, int(self.width * wide)]
            yield key.format("B"), [int(self.width * tall), rank]


def mismatches(file, model):
    lines = (SIZE.format(key, shape, dict(model)[key]) for key, shape in file if shape != dict(model)[key])
    return "RuntimeError: Error(s) in loading state_dict for PeftModelForCausalLM:\n\t" + "\n\t".join(lines)


def missing(keys):
    return f"UserWarning: Found missing adapter keys while loading the checkpoint: {list(keys)}."


def rows(name, file, model, *parts):
    one = Model(name)
    keys = [f"{PEFT}{path}{end}" for path in (one.embedding, one.head) for end in parts]
    return mismatches([(key, [file, one.width]) for key in keys], [(key, [model, one.width]) for key in keys])


def another_rank(name):
    return mismatches([*Model(name).lora(24)], [*Model(name).lora(8)])


def another_width(name):
    return mismatches([*Model(name, 1.25).lora(16)], [*Model(name).lora(16)])


def emptied(name):
    model = [*Model(name).lora(16)]
    return mismatches([(key, [0]) for key, _ in model], model)


def sharded(name):
    model = [*Model(name).lora(16)]
    return mismatches([(key, [shape[0] * shape[1] // 8]) for key, shape in model], model)


def grown(name):
    return rows(name, Model(name).rows + 3, Model(name).rows, ".modules_to_save.default.weight")


def shrunk(name):
    return rows(name, Model(name).rows - 77, Model(name).rows, ".weight")


def resized(name):
    known = Model(name).rows // 64 * 64
    return rows(name, known, known - 271, ".modules_to_save.default.weight")


def all_missing(name):
    return missing(key for key, _ in Model(name).lora(8))


def deeper(name):
    return missing(key for key, _ in Model(name).lora(8, layers=(24, 25, 26, 27)))


def wrapped(name):
    keys = [key for key, _ in Model(name).lora(8)]
    lines = '", "'.join(keys), '", "'.join(f"module.{key}" for key in keys)
    return 'RuntimeError: Error(s) in loading state_dict for PeftModel:\n\tMissing key(s) in state_dict: "{}". \n\tUnexpected key(s) in state_dict: "{}". '.format(*lines)  # fmt: skip


def unnamed(name):
    keys = [key for key, _ in Model(name).lora(8)]
    lines = '", "'.join(keys), '", "'.join(key.replace(".default", "") for key in keys)
    return 'RuntimeError: Error(s) in loading state_dict for PeftModel:\n\tMissing key(s) in state_dict: "{}". \n\tUnexpected key(s) in state_dict: "{}". '.format(*lines)  # fmt: skip


def nothing_of_ours(name):
    one = Model(name)
    return f"_IncompatibleKeys(missing_keys=['{PEFT}{one.embedding}.weight', '{PEFT}{one.path.format(0)}norm.weight'], unexpected_keys=[])"


def two_types(name):
    return f'File "/x/site-packages/peft/tuners/lora/layer.py", line 7, in forward\nRuntimeError: {name}: the two must have equal dtypes, got torch.float16 and torch.bfloat16'


def refused(name):
    one = Model(name)
    return f"ValueError: {PEFT}{one.head}.base_layer.weight is unsupported LoRA weight"


def packed(name):
    one = Model(name)
    return f"RuntimeError: mat1 and mat2 shapes cannot be multiplied (77x{one.width} and 1x{one.width * one.width // 2}) lora"


MADE = {
    "rank-mismatch": another_rank, "wrong-base": another_width, "zero3-empty-weights": emptied, "fsdp-shard-saved": sharded, "vocabulary-grown": grown,
    "vocabulary-shrunk": shrunk, "base-resized-by-loader": resized, "model-class-differs": all_missing, "base-depth-differs": deeper, "wrapper-prefix": wrapped,
    "adapter-name-in-keys": unnamed, "missing-base-keys-harmless": nothing_of_ours, "adapter-dtype-differs": two_types, "weights-refused-by-engine": refused,
    "quantised-base-packed": packed,
}  # fmt: skip
HEAD = 'Traceback (most recent call last):\n  File "/x/run.py", line 3, in <module>\n    main()\n'


def boxed(text):
    return "\n".join(f"│ {line[at : at + 92].ljust(92)} │" for line in text.split("\n") for at in range(0, max(1, len(line)), 92))  # fmt: skip


FORMS = {
    "as it is": str,
    "behind a trainer's noise": lambda text: "{'loss': 0.73}\n" * 40 + HEAD + text,
    "behind an engine's times": lambda text: "\n".join(f"(EngineCore_DP0 pid=7) ERROR 12-15 18:57:10 [core.py:918] {line}" for line in text.split("\n")),
    "in JSON": lambda text: json.dumps({"severity": "ERROR", "msg": HEAD + text}),
    "in a box": boxed,
    "in colour, with a question behind": lambda text: f"\x1b[31m{text}\x1b[0m\nHow can I fix this? 谢谢",
}  # fmt: skip
CASES = [(cause, name, form) for cause in MADE for name in MODELS for form in random.Random(cause + name).sample(sorted(FORMS), 1)]  # fmt: skip


@pytest.mark.parametrize(("cause", "name", "form"), CASES, ids=lambda word: word)
def test_a_cause_is_answered_for_any_model_in_any_paste(cause, name, form):
    causes = adapterfit.why(FORMS[form](MADE[cause](name))).causes
    cause = {("model-class-differs", "nested"): "modules-renamed"}.get(
        (cause, name), cause
    )  # the level is what was renamed
    assert cause in [one.id for one in causes if one.likelihood + ALIKE >= causes[0].likelihood]
