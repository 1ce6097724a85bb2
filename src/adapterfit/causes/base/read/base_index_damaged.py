"""The base's shard index cannot be read, or does not say what its shards hold.

What this means: `model.safetensors.index.json` is how a loader finds the shards of a large model. Where it is missing
or cannot be read, transformers stops. Where it merely disagrees with the shards, transformers 5 loads every tensor of
every shard it names all the same; a tensor that is in two shards is taken from the last one, without a word.

Why it happens: a merge conflict left in the file; an index from another revision than the shards; shards saved anew, or
renamed, without writing the index anew; a converter that counts bytes beyond every limit.

Detection: the index is parsed strictly, and its `weight_map` is compared with the headers of the shards.

Fix: fetch the index again from the revision the shards are of, or write it anew:
`AutoModel.from_pretrained(...).save_pretrained(...)` from a copy that still loads.

Workaround: none where it cannot be read; none needed where the message says that it is loaded all the same.

Prevention: download a model in one go and at one revision; never commit an index by hand.

Setup:
    whole = AutoModelForCausalLM.from_pretrained("base")
    shutil.rmtree("base")
    whole.save_pretrained("base", max_shard_size="20KB")
    index = Path("base/model.safetensors.index.json")
    kept = index.read_text()
    index.write_text(kept + kept)  # a merge kept both sides

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises JSONDecodeError: Extra data

Fixed:
    index.write_text(kept)  # fetched again, from the revision of the shards
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import json
from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "json.decoder.JSONDecodeError: Extra data: line 2 column 1",
        "KeyError: 'weight_map'",
        "OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory",
    ),
    codes=(
        "index-not-json",
        "index-without-weight-map",
        "index-shard-not-a-name",
        "index-metadata-missing",
        "index-total-size",
        "index-key-twice",
        "index-tensor-absent",
        "index-tensor-elsewhere",
        "index-tensor-unlisted",
        "tensor-in-two-shards",
        "base-index-missing",
    ),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """An index that names what its two shards hold is silent."""
    config = json.dumps(dict(make.base().config)).encode()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    sound = {"metadata": {"total_size": 8}, "weight_map": {"a": first, "b": second}}

    def on(index: bytes | None, more: str = "b") -> Any:
        shards = {first: ("a",), second: ("b", more)}
        files = {name: make.safetensors(dict.fromkeys(tensors, ("F32", (1,)))) for name, tensors in shards.items()}
        indexed = {} if index is None else {"model.safetensors.index.json": index}
        return make.base_folder({"config.json": config, **files, **indexed})

    def changed(**fields: object) -> bytes:
        return json.dumps({**sound, **fields}).encode()

    conflict = json.dumps(sound).encode() + b"\n=======\n" + json.dumps(sound).encode()
    broken = (conflict, b"[]", b'{"metadata": {}}', changed(weight_map={}), changed(weight_map={"a": 5}), None)
    odd = (
        changed(metadata={"total_size": -1}),
        changed(weight_map={"a": first, "b": second, "c": first}),
        changed(weight_map={"a": second, "b": first}),
    )
    return {
        "silent": [make.lora(), on(changed())],
        "fires": [*(on(index) for index in (*broken, *odd)), on(changed(), more="a"), on(changed(), more="c")],
    }
