"""What the base's reader predicts about a damaged folder is what transformers does with it."""

from __future__ import annotations

import json
import shutil

import pytest

from adapterfit.read.base import read_base
from adapterfit.read.sources.folder import FolderSource

pytestmark = pytest.mark.exact

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny llama in several shards, saved by transformers."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model("llama", vocab_size=256, **sizes)
    folder = tmp_path_factory.mktemp("saved")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size="200KB")
    assert (folder / INDEX).exists()
    return folder


def shards(folder):
    return sorted(folder.glob("model-*.safetensors"))


def edit(name, change):
    """A damage: a JSON file changed, by a new text or in place."""

    def damage(folder):
        path = folder / name
        document = json.loads(path.read_text())
        text = change(document)
        path.write_text(text if isinstance(text, str) else json.dumps(document))

    return damage


def index(change):
    return edit(INDEX, change)


def config(**fields):
    return edit("config.json", lambda document: document.update(fields))


def first(document):
    return next(iter(document["weight_map"]))


def truncate(folder):
    data = shards(folder)[-1].read_bytes()
    shards(folder)[-1].write_bytes(data[: len(data) // 2])


def pointer(folder):
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123\n"
    shards(folder)[-1].write_text(text)


def escape(folder):
    """The first shard moved out of the folder, and the index following it."""
    gone = shards(folder)[0]
    outside = folder.parent / f"{folder.name}-outside.safetensors"
    gone.rename(outside)

    def change(document):
        document["weight_map"] = {
            name: f"../{outside.name}" if shard == gone.name else shard
            for name, shard in document["weight_map"].items()
        }

    index(change)(folder)


def copied(folder):
    """A tensor of the last shard in the first one too."""
    from safetensors.torch import load_file, save_file

    name, tensor = next(iter(load_file(shards(folder)[-1]).items()))
    save_file({**load_file(shards(folder)[0]), name: tensor.clone()}, shards(folder)[0], metadata={"format": "pt"})


def withdrawn(folder):
    """A tensor taken out of its shard, but still listed."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(shards(folder)[0])
    tensors.pop(next(iter(tensors)))
    save_file(tensors, shards(folder)[0], metadata={"format": "pt"})


DAMAGE = {
    "nothing": lambda folder: None,
    "a shard missing": lambda folder: shards(folder)[-1].unlink(),
    "all shards missing": lambda folder: [shard.unlink() for shard in shards(folder)],
    "a shard cut": truncate,
    "a shard is an LFS pointer": pointer,
    "the index missing": lambda folder: (folder / INDEX).unlink(),
    "a merge conflict": index(lambda document: json.dumps(document) + "\n=======\n" + json.dumps(document)),
    "an empty index": index(lambda document: ""),
    "the index a list": index(lambda document: "[]"),
    "no weight map": index(lambda document: document.pop("weight_map") and None),
    "an empty weight map": index(lambda document: document.update(weight_map={})),
    "the weight map a list": index(lambda document: document.update(weight_map=[1])),
    "a shard a number": index(lambda document: document["weight_map"].update({first(document): 5})),
    "no metadata": index(lambda document: document.pop("metadata") and None),
    "metadata a list": index(lambda document: document.update(metadata=[])),
    "a total of 72 digits": index(lambda document: document["metadata"].update(total_size=10**71)),
    "a tensor too many in the index": index(lambda document: document["weight_map"].update({"x": "model-00001-of-00002.safetensors"}) and None),
    "a tensor not listed": index(lambda document: document["weight_map"].pop(first(document)) and None),
    "a tensor in two shards": copied,
    "a listed tensor in no shard": withdrawn,
    "a shard outside": escape,
    "no config": lambda folder: (folder / "config.json").unlink(),
    "nothing left": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no model_type": edit("config.json", lambda document: document.pop("model_type") and None),
    "the config cut": edit("config.json", lambda document: json.dumps(document)[:-5]),
    "a config with a byte order mark": edit("config.json", lambda document: "\ufeff" + json.dumps(document)),
    "Infinity in the config": edit("config.json", lambda document: json.dumps(document)[:-1] + ', "x": Infinity}'),
    "a key twice": edit("config.json", lambda document: '{"num_hidden_layers": 5, ' + json.dumps(document)[1:]),
    "heads 0": config(num_attention_heads=0),
    "heads -4": config(num_attention_heads=-4),
    "heads a text": config(num_attention_heads="4"),
    "heads 4.0": config(num_attention_heads=4.0),
    "layers true": config(num_hidden_layers=True),
    "layers -1": config(num_hidden_layers=-1),
    "vocabulary -1": config(vocab_size=-1),
    "vocabulary 10**15": config(vocab_size=10**15),
    "auto_map": config(auto_map={"AutoModelForCausalLM": "x.Y"}),
    "a kernel": config(_attn_implementation_internal="evil/evil"),
}  # fmt: skip


def load(folder, monkeypatch):
    """What `from_pretrained` raises, as `Kind: text`; an empty string where it loads."""
    import transformers

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", DAMAGE)
def test_transformers_does_what_is_predicted(name, saved, tmp_path, monkeypatch):
    folder = tmp_path / "base"
    shutil.copytree(saved, folder)
    DAMAGE[name](folder)
    flaws = read_base(FolderSource(folder)).flaws
    raised = load(folder, monkeypatch)
    predicted = [flaw for flaw in flaws if flaw.predicted == "raises"]
    assert bool(predicted) == bool(raised), (raised, flaws)
    lines = [flaw.raised.rpartition("/")[0] or flaw.raised for flaw in predicted if flaw.raised]
    kinds = [line.partition(":")[0].rpartition(".")[2] for line in lines]
    assert not kinds or any(kind in raised for kind in kinds), (raised, lines)
