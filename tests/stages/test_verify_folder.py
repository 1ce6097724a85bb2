"""Whatever becomes of a copy between writing and looking at it: the proof fails, and nothing gets its name."""

import dataclasses
import json
import os
import struct

import pytest

import adapterfit
from adapterfit.errors import AdapterfitError
from adapterfit.records import TensorInfo
from adapterfit.repair import folder, numbers
from adapterfit.testing import make
from adapterfit.testing.disk import lay
from adapterfit.verify import replay
from adapterfit.verify.reading import by_safetensors

BASE = make.base("llama")


def filled(sample):
    """The sample's weights, no two numbers alike."""
    header, data, at = {"__metadata__": {"by": "a trainer", "format": "pt"}}, b"", 0
    for tensor in sample.adapter.tensors:
        count = tensor.shape[0] * tensor.shape[1]
        more = struct.pack(f"<{count}f", *(1 + (at + each) / 7 for each in range(count)))
        header[tensor.name] = {
            "dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(more)],
        }  # fmt: skip
        data, at = data + more, at + count
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def broken(tmp_path):
    """A wrapped adapter of distinct numbers, and a card."""
    sample = make.lora().renamed(lambda name: "module." + name)
    return lay(tmp_path / "broken", {**make.as_files(sample), make.WEIGHTS: filled(sample), "README.md": b"card"})


def in_header(change):
    """Change the header of the copy, and perhaps its data."""

    def act(copy):
        whole = (copy / make.WEIGHTS).read_bytes()
        size = 8 + struct.unpack("<Q", whole[:8])[0]
        header, data = json.loads(whole[8:size]), whole[size:]
        data = change(header, data) or data
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        (copy / make.WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)

    return act


def in_config(key, value):
    def act(copy):
        fields = json.loads((copy / make.CONFIG).read_bytes())
        (copy / make.CONFIG).write_text(json.dumps({**fields, key: value}), "utf-8")

    return act


def bit(at):
    def act(copy):
        whole = bytearray((copy / make.WEIGHTS).read_bytes())
        whole[at] ^= 1
        (copy / make.WEIGHTS).write_bytes(whole)

    return act


def exchange(field):
    def change(header, _):
        one, other = [name for name in header if name.endswith("lora_A.weight")][:2]
        header[one][field], header[other][field] = header[other][field], header[one][field]

    return change


def rename(header, _):
    name = next(name for name in header if name.endswith("lora_A.weight"))
    header[name + "x"] = header.pop(name)


def one_more(header, data):
    header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    return data + bytes(4)


def say(**metadata):
    return in_header(lambda header, _: header.update({"__metadata__": metadata}))


def cut(copy):
    os.truncate(copy / make.WEIGHTS, (copy / make.WEIGHTS).stat().st_size - 10)


HARM = {
    "the first bits of the data": bit(-4000), "the last bits": bit(-1), "the length of the header": bit(0),
    "two tensors of one shape": in_header(exchange("data_offsets")), "a name": in_header(rename), "one more tensor": in_header(one_more),
    "the end": cut, "other metadata": say(format="tf"), "metadata that went": say(format="pt"),
    "a field of the config": in_config("lora_alpha", 99), "one that looks the same": in_config("fan_in_fan_out", 0),
    "one more field": in_config("use_rslora", True), "the card": lambda copy: (copy / "README.md").write_bytes(b"carD"),
    "a file that went": lambda copy: (copy / "README.md").unlink(), "one more file": lambda copy: (copy / "x").write_bytes(b""),
    "the config": lambda copy: (copy / make.CONFIG).unlink(), "the weights": lambda copy: (copy / make.WEIGHTS).unlink(),
}  # fmt: skip


@pytest.mark.parametrize("wish", [{}, {"base_name": "owner/name"}], ids=["config copied", "config rewritten"])
@pytest.mark.parametrize("harm", HARM)
def test_what_happens_to_the_copy_is_noticed(harm, wish, broken, tmp_path, monkeypatch):
    from pathlib import Path

    real, done = folder.write, []

    def write(stage, *arguments):
        real(stage, *arguments)
        HARM[harm](Path(stage.folder))
        done.append(harm)

    monkeypatch.setattr(folder, "write", write)
    with pytest.raises(AdapterfitError):
        adapterfit.fix(broken, BASE, tmp_path / "out", **wish)
    assert done
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_what_the_plan_sets_in_the_config_is_proven(broken, tmp_path):
    receipt = adapterfit.fix(broken, BASE, tmp_path / "out", base_name="owner/name")
    (shown,) = [one for one in receipt.proof.shown if one.what == "config"]
    assert shown.outcome == "proven"
    assert "base_model_name_or_path" in shown.detail


def test_a_large_tensor_that_is_renamed_is_copied_bit_by_bit(broken, tmp_path, monkeypatch):
    """Not computed, though tensors of that size are where their numbers change."""
    monkeypatch.setattr(replay, "_NUMBERS", 16)
    (shown,) = [one for one in adapterfit.fix(broken, BASE, tmp_path / "out").proof.shown if one.what == "bytes"]
    assert (shown.outcome, "computed" in shown.detail) == ("proven", False)
    assert "copied bit by bit" in shown.detail


@pytest.mark.parametrize("how", ["one number", "not to the nearest"])
def test_numbers_that_are_cast_wrongly_are_noticed(how, tmp_path, monkeypatch):
    real = numbers.cast

    def cast(bits, old, new):
        if how == "one number":
            wrong = real(bits, old, new).copy()
            wrong.reshape(-1)[3] += 2
            return wrong
        return (bits >> 16).astype("<u2")

    adapter = lay(tmp_path / "whole", {**make.as_files(make.lora()), make.WEIGHTS: filled(make.lora())})
    plan = adapterfit.fix(adapter, BASE, dtype="BF16", unsafe=True).plan
    monkeypatch.setattr(numbers, "cast", cast)
    with pytest.raises(adapterfit.errors.NotProven, match="not as planned"):
        adapterfit.fix(adapter, BASE, tmp_path / "out", dtype="BF16", unsafe=True)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert plan.steps


OTHER = {"name": "b", "dtype": "I32", "shape": (3, 2)}


@pytest.mark.parametrize("field", [None, *OTHER])
def test_what_safetensors_reads_otherwise_than_we_do_is_a_failure(field, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "w").write_bytes(make.safetensors({"a": ("F32", (2, 3))}))
    ours = TensorInfo("a", "F32", (2, 3))
    read = dataclasses.replace(ours, **({field: OTHER[field]} if field else {}))
    assert by_safetensors(str(tmp_path / "w"), [read]).outcome == ("failed" if field else "proven")
    assert by_safetensors(str(tmp_path / "w"), []).outcome == "failed"


def test_what_safetensors_cannot_read_is_a_failure(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "w").write_bytes(make.safetensors({"a": ("F32", (2, 3))})[:-1])
    assert by_safetensors(str(tmp_path / "w"), [TensorInfo("a", "F32", (2, 3))]).outcome == "failed"
