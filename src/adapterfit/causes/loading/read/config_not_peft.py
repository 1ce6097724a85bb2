"""adapter_config.json was not written for PEFT.

What this means: the file has no `peft_type`. mlx-lm and AdapterHub call their configs by the same name; others copy a
model's config.json to it. PEFT stops at once.

Why it happens: the adapter was trained with another library, or the wrong file was renamed.

Detection: the fields of the file tell whose it is.

Fix: load the adapter with the library it belongs to, or convert weights and config.

Where only the one field is missing, with fields of a LoRA and nothing but a LoRA's tensors, `adapterfit fix` adds
`"peft_type": "LORA"`.

Workaround: add it by hand.

Prevention: keep adapters of different libraries in folders whose names say which.

Setup:
    Path(CONFIG).write_text('{"lora_parameters": {"rank": 4, "scale": 2.0}, "num_layers": 2}')  # as mlx-lm writes it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises KeyError: 'peft_type'

Fixed:
    LoraConfig(**OPTIONS, inference_mode=True).save_pretrained("adapter")  # here only the config was another program's
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Fix, Flaw, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """PEFT's own config is silent."""
    files = make.as_files(make.lora("llama"))
    plain = json.loads(files[make.CONFIG])
    bad = [
        b'{"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8}}',
        b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
        b'{"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}',
        b"{}",
        json.dumps({"r": plain["r"], "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}).encode(),
    ]
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, make.CONFIG: each}) for each in bad]}


CAUSE = Cause(
    messages=(
        "KeyError: 'peft_type'",
        "TypeError: The PeftConfig config that is trying to be loaded is missing required keys: {'peft_type'}.",
        "TypeError: PeftConfig.__init__() got an unexpected keyword argument '_name_or_path'",
    ),
    codes=("config-not-peft",),
)


def cure(case: Case, _flaw: Flaw) -> Fix | None:
    """Fields of a LoRA, its strength among them, and nothing but its tensors, which they fit: the one missing is told."""
    from adapterfit.causes.config.method_differs import MARKS, method_of  # for the few that need it

    config = case.adapter.config
    raw = config.raw if config is not None else {}
    method = method_of(case)
    if raw and "peft_type" not in raw and not _FOREIGN & raw.keys() and method in MARKS.values() and method.isupper():
        return Fix(
            "unsafe",
            f'add "peft_type": "{method}", whose names the tensors have, if the other fields are of that training',
        )
    if "lora_alpha" not in raw or "r" not in raw or "peft_type" in raw or _FOREIGN & raw.keys():
        return None
    from adapterfit.causes.loading.read.adapter_config_missing import shown  # for the few that need it

    found, targets = shown(case.adapter), raw.get("target_modules")
    if found is None or raw["r"] != found.fields["r"]:
        return None
    if isinstance(targets, list) and not set(found.fields["target_modules"]) <= set(targets):
        return None
    said = 'add "peft_type": "LORA": the fields and the tensors are those of a LoRA'
    return Fix("safe", said, (SetConfig("peft_type", "LORA"),))


#: Fields of a model's config.json, and of other programs' adapter configs.
_FOREIGN = frozenset(
    {
        "_name_or_path", "architectures", "model_type", "vocab_size", "hidden_size", "torch_dtype", "_from_model_config", "eos_token_id",
        "fine_tune_type", "lora_parameters", "num_layers", "hidden_act", "attention_dropout", "transformers_version",
    }
)  # fmt: skip

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "peft_type", "not a peft", "merged model",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: no peft_type, or a field of a model's config."""
    fix = "use the adapter's own adapter_config.json; a merged model is loaded without PEFT"
    for error in symptoms.errors:
        name = error.message.strip("'\" .")
        if error.kind == "KeyError" and (
            name == "peft_type" or (name == "None" and (error.library == "peft" or said(symptoms, "peft")))
        ):
            yield suspect(
                symptoms, "the config has no peft_type: it was not written for PEFT", 0.9, [error.line], fix=fix
            )
        elif (
            error.kind == "KeyError" and name == "base_model_name_or_path" and said(symptoms, "adapter_config", most=1)
        ):
            yield suspect(
                symptoms, "transformers finds an adapter_config.json beside the model, and it names no base: another program wrote it", 0.7, [error.line],
                fix="take that adapter_config.json out of the model's folder, or load the model from another one",
                apart="the fields of that adapter_config.json: PEFT's has peft_type and base_model_name_or_path",
            )  # fmt: skip
    asked = said(symptoms, "_get_peft_type(")
    if asked and not symptoms.errors:
        yield suspect(
            symptoms, "PEFT looks up the peft_type of the config, and does not find it", 0.75, asked, fix=fix,
            apart="the last line: KeyError 'peft_type' means no such field, another name an unknown method",
        )  # fmt: skip
    told = said(symptoms, "missing required keys: {'peft_type'}", "'nonetype' object has no attribute 'peft_type'")
    if told:
        yield suspect(symptoms, "the config has no peft_type: it was not written for PEFT", 0.9, told, fix=fix)
    lacking = said(symptoms, "that is trying to be loaded is missing required keys")
    if lacking and not told:
        yield suspect(symptoms, "the config lacks fields that this PEFT cannot do without", 0.7, lacking, fix=fix)
    for argument in symptoms.arguments:
        if argument.name in _FOREIGN and (
            argument.called.endswith("Config") or any(f.library == "peft" for f in symptoms.frames)
        ):
            yield suspect(
                symptoms, f"{quote(argument.name)} is a field of a model's config, not of an adapter's", 0.88, [argument.line], fix=fix,
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """No peft_type; a model's field; a field of a newer PEFT."""
    return {
        "fires": [
            "KeyError: 'peft_type'",
            "TypeError: PeftConfig.__init__() got an unexpected keyword argument 'architectures'",
            "base = adapter_config['base_model_name_or_path']\nKeyError: 'base_model_name_or_path'",
        ],
        "silent": ["TypeError: LoraConfig.__init__() got an unexpected keyword argument 'use_dora'"],
    }
