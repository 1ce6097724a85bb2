"""`fix` on adapters that were damaged at random: it mends, refuses or has nothing to do, and never half of anything."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adapterfit
from adapterfit.errors import AdapterfitError
from adapterfit.testing import make
from adapterfit.testing.disk import lay
from fuzzing import tries

BASE = make.base("llama")
KINDS = {
    "wrapped": make.lora().renamed(lambda name: "module." + name),
    "whole": make.lora(),
    "DoRA": make.lora(use_dora=True).renamed(lambda name: name.replace("base_model.model.", "")),
    "IA3": make.adapter("llama", peft_type="IA3", target_modules=["k_proj"], feedforward_modules=[]),
    "a prompt": make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=3, task_type="CAUSAL_LM"),
}
FILES = {name: make.as_files(sample) for name, sample in KINDS.items()}
VALUES = st.sampled_from([None, 0, -1, 4, 2**70, 1.5, "", "q_proj", "LORA", "BONE", [], ["q_proj"], {}, {"a": 1}, True])


@st.composite
def folders(draw):
    """The files of an adapter, some of them damaged."""
    files = dict(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(0, 3))):
        way = draw(st.sampled_from(["cut", "flip", "name", "config", "lose", "second", "rename", "header"]))
        name = draw(st.sampled_from(sorted(files))) if files else ""
        data = files.get(name, b"")
        if way == "cut" and data:
            files[name] = data[: draw(st.integers(0, len(data) - 1))]
        elif way == "flip" and data:
            at = draw(st.integers(0, min(len(data), 3000) - 1))
            files[name] = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif way == "name" and name:
            old, new = draw(
                st.sampled_from(
                    [(b"q_proj", b"k_proj"), (b"lora_A", b"lora_B"), (b"layers.0", b"layers.1"), (b"weight", b"")]
                )
            )
            files[name] = data.replace(old, new, draw(st.integers(1, 3)))
        elif way == "config" and make.CONFIG in files:
            try:
                fields = json.loads(files[make.CONFIG])
            except ValueError:
                continue
            fields[draw(st.sampled_from([*sorted(fields), "extra", "alpha_pattern", "use_dora"]))] = draw(VALUES)
            files[make.CONFIG] = json.dumps(fields).encode()
        elif way == "lose":
            files.pop(name, None)
        elif way == "second":
            files[draw(st.sampled_from(["adapter_model.bin", "receipt.json", "adapterfit.json", "x/y"]))] = data
        elif way == "rename" and name:
            files[draw(st.sampled_from(["adapter_model (1).safetensors", "adapter_model.bin", "w.safetensors"]))] = (
                files.pop(name)
            )
        elif way == "header" and name:
            files[name] = data.replace(b'"F32"', draw(st.sampled_from([b'"F16"', b'"BF16"', b'"I32"', b'"F4"'])))
    return files


def fixed(root, unsafe):
    """The receipt; None where it was refused, with a line that can be printed."""
    try:
        return adapterfit.fix(root / "adapter", base=BASE, out=root / "out", unsafe=unsafe)
    except adapterfit.NotProven:
        raise
    except AdapterfitError as error:
        if not str(error).isprintable():
            raise
        return None


@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe"])
@tries(100)
@given(files=folders())
def test_fix_never_does_half_of_anything(unsafe, files):
    from safetensors import safe_open

    root = Path(tempfile.mkdtemp(prefix="adapterfit-"))
    try:
        (root / "adapter").mkdir()
        lay(root / "adapter", files)
        receipt = fixed(root, unsafe)
        if receipt is not None and receipt.out:
            again = adapterfit.check(str(root / "out"), base=BASE)
            assert again.verdict == receipt.plan.after
            assert receipt.plan.after == "fits" or unsafe
            if receipt.files.get(make.WEIGHTS) in ("rewritten", "new"):
                with safe_open(str(root / "out" / make.WEIGHTS), "np") as opened:
                    assert {*opened.keys()} == {tensor.name for tensor in again.case.adapter.tensors}
        assert bool(receipt is not None and receipt.out) is (root / "out").exists()
        there = {
            path.relative_to(root / "adapter").as_posix(): path.read_bytes()
            for path in (root / "adapter").rglob("*")
            if path.is_file()
        }
        assert there == files
        assert {path.name for path in root.iterdir()} <= {"adapter", "out"}
    finally:
        shutil.rmtree(root)
