"""Ask the PEFT of this Python what it does with an adapter, without any weights. A script, run by `process.py`.

Reads one JSON object from standard input (`base_config`, `class_name`, `adapter_config`, `pickled`, `tensors`: [[name, dtype,
shape], …]), builds the base from its config on the meta device, hands names and shapes to the real
`PeftModel.from_pretrained`, and writes one line of JSON: `versions`, `outcome`, `raised`, `missing`, `unexpected`,
`warnings`, or `cannot` with the reason why there is no answer. Runs on peft 0.3 and later.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Keys of a base's config that make transformers run code or fetch kernels; they are dropped.
_RUNS_CODE = ("auto_map", "_attn_implementation_internal", "_attn_implementation", "attn_implementation")
#: Sizes are what counts: a quantised base has the same features in a module of another class.
_IGNORED = (*_RUNS_CODE, "quantization_config")
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
#: What a prompt takes out of the file by itself, and tensors that PEFT creates and never saves.
_PROMPTS = ("prompt_embeddings", "prefix_task_cols", "prefix_task_rows")
_UNSAVED = ("prompt_encoder", ".ranknum.")
#: How torch says that an operation needs numbers.
_NEEDS_VALUES = ("meta tensor", "Meta tensor", "register_meta")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def main() -> None:
    """Read the question, write the answer."""
    question = json.load(sys.stdin)
    out = os.dup(1)
    os.dup2(2, 1)  # what the libraries print is not the answer
    try:
        answer = judged(question)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said
        answer = {"cannot": f"{type(error).__name__}: {error}"[:2000]}
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(answer) + "\n")


def judged(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question."""
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        return {"cannot": f"torch, transformers and peft are needed in {sys.executable}: {error}"}
    versions = {lib.__name__: lib.__version__ for lib in (peft, transformers, torch)}
    torch.set_num_threads(1)
    try:
        base = built(question["base_config"], question["class_name"], transformers, torch)
    except Exception as error:  # noqa: BLE001
        return {"versions": versions, "cannot": f"the base cannot be built: {type(error).__name__}: {error}"[:2000]}
    return {"versions": versions, **asked(base, question, peft, torch)}


def built(config: dict[str, Any], class_name: str, transformers: Any, torch: Any) -> Any:
    """The base on the meta device: every name and shape, no weight."""
    plain = {key: value for key, value in config.items() if key not in _IGNORED}
    made = transformers.AutoConfig.for_model(**plain)
    cls = getattr(transformers, class_name)
    with torch.device("meta"):
        return (cls._from_config if hasattr(cls, "_from_config") else cls)(made).eval()


def asked(base: Any, question: dict[str, Any], peft: Any, torch: Any) -> dict[str, Any]:
    """What `PeftModel.from_pretrained` does with the tensors, observed."""
    tensors = {
        name: torch.empty(shape, dtype=getattr(torch, _DTYPES.get(dtype, "float32")), device="meta")
        for name, dtype, shape in question["tensors"]
    }
    seen: dict[str, Any] = {}
    raised = ""
    own = {id(tensor) for tensor in (*base.parameters(), *base.buffers())}
    with (
        tempfile.TemporaryDirectory(prefix="adapterfit-judge-") as folder,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        (Path(folder) / "adapter_config.json").write_text(json.dumps(question["adapter_config"]), encoding="utf-8")
        # Only the file there is: PEFT below 0.4 does not look for safetensors, and says that there are no weights.
        (Path(folder) / _WEIGHTS[question["pickled"]]).touch()
        with instead_of_reading(tensors, seen, torch), torch.device("meta"):
            try:
                peft.PeftModel.from_pretrained(base, folder)
            except Exception as error:  # noqa: BLE001
                raised = f"{type(error).__name__}: {error}".replace(folder, "ADAPTER")
    if any(word in raised for word in _NEEDS_VALUES):
        return {"cannot": f"this method looks at the base's values, and the meta device has none ({raised[:300]})"}
    missing = left_empty(seen, own, tensors)
    unexpected = [key for key in seen.get("unexpected", ()) if key not in _PROMPTS]
    outcome = "raises" if raised else "loads" if not missing and not unexpected else "loads-partly"
    listed = [
        str(entry.message) for entry in told if not issubclass(entry.category, (DeprecationWarning, FutureWarning))
    ]
    return {
        "outcome": outcome,
        "raised": raised[:20_000],
        "missing": missing,
        "unexpected": unexpected,
        "warnings": [line[:1000] for line in listed[:20]],
    }


def left_empty(seen: dict[str, Any], own: set[int], tensors: dict[str, Any]) -> list[str]:
    """The adapter's tensors that nothing was loaded into, by whichever of their names; `own` are the base's."""
    if "model" not in seen:
        return []
    state, empty = seen["model"].state_dict(keep_vars=True), set(seen["missing"])
    filled = {id(tensor) for key, tensor in state.items() if key not in empty}
    left = [key for key in seen["missing"] if id(state[key]) not in own | filled]
    prompts = [key for key in state if key.rpartition(".")[2] in set(_PROMPTS) - tensors.keys()]
    return [key for key in left if not any(word in key for word in _UNSAVED)] + prompts


@contextlib.contextmanager
def instead_of_reading(tensors: dict[str, Any], seen: dict[str, Any], torch: Any) -> Iterator[None]:
    """PEFT gets the meta tensors wherever it would read a file, and its load result is kept."""
    from peft import peft_model
    from peft.utils import save_and_load

    plain_load_state, plain_load = torch.nn.Module.load_state_dict, torch.load
    homes = (save_and_load, peft_model)
    readers = [(home, "safe_load_file") for home in homes if hasattr(home, "safe_load_file")]
    kept = [(home, name, getattr(home, name)) for home, name in readers]

    def observed(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain_load_state(self, state, *args, **kwargs)
        if isinstance(self, peft_model.PeftModel) and result is not None:
            # PEFT filters this very object in place afterwards, by rules of its own: keep a copy.
            seen.update(model=self, missing=list(result.missing_keys), unexpected=list(result.unexpected_keys))
        return result

    torch.nn.Module.load_state_dict, torch.load = observed, lambda *_args, **_kwargs: dict(tensors)
    for home, name in readers:
        setattr(home, name, lambda *_args, **_kwargs: dict(tensors))
    try:
        yield
    finally:
        torch.nn.Module.load_state_dict, torch.load = plain_load_state, plain_load
        for home, name, plain in kept:
            setattr(home, name, plain)


if __name__ == "__main__":
    main()
