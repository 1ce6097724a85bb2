"""What holds for every conversion, tried on adapters and damage that nobody thought of."""

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import adapterfit
from adapterfit.conversion.flat_names import _FAMILIES, flat, unflattened
from adapterfit.errors import AdapterfitError, CannotConvert
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import CLIP, LLAMA, UNET, peft_folder, read, scales
from fuzzing import tries

MODULES = {"kohya": UNET, "diffusers": UNET, "mlx": LLAMA, "gguf": LLAMA}
ALPHAS = some.sampled_from([0.5, 1, 2, 3, 7, 16, 32, 0.1, 100])


@tries(60)
@given(form=some.sampled_from(sorted(MODULES)), draw=some.data())
def test_there_and_back_is_the_same_adapter(form, draw):
    """Ranks, alphas, rsLoRA, patterns and types at random, convolutions where the format has them: every number comes back.

    And every scale, to float32. Where a format has one scale for all, the others are multiplied into B: in float32, that is
    rounded twice; numbers of 16 bits are written in 32 meanwhile, and come back.
    """
    modules = MODULES[form]
    some_modules = some.sampled_from(sorted(modules))
    ranks = draw.draw(some.dictionaries(some_modules, some.integers(1, 6), max_size=3))
    fields = {
        "r": draw.draw(some.integers(1, 6)),
        "lora_alpha": draw.draw(ALPHAS),
        "use_rslora": draw.draw(some.booleans()),
        "rank_pattern": ranks,
        "alpha_pattern": draw.draw(some.dictionaries(some_modules, ALPHAS, max_size=3)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = (
            lay(folder / "base", {"config.json": json.dumps(CONFIGS["llama"]).encode()})
            if form in ("mlx", "gguf")
            else None
        )
        dtype = draw.draw(some.sampled_from(["BF16", "F16", "F32"]))
        source = peft_folder(folder / "a", modules, ranks, dtype, **fields)
        adapterfit.convert(source, form, folder / "b", base=base)
        adapterfit.convert(folder / "b", "peft", folder / "c")
        old, new = (read(each / "adapter_model.safetensors") for each in (source, folder / "c"))
        assert old.keys() == new.keys()
        rounded = dtype == "F32" and form in ("mlx", "gguf")
        for tensor, (kind, shape, data) in old.items():
            assert new[tensor][:2] == (kind, shape)
            if rounded and ".lora_B." in tensor:
                ours, theirs = (np.frombuffer(each, "<f4") for each in (data, new[tensor][2]))
                np.testing.assert_allclose(theirs, ours, rtol=2.5e-7, atol=0)
            else:
                assert new[tensor][2] == data
        before, after = scales(source), scales(folder / "c")
        assert before.keys() == after.keys()
        assert all(after[module] == pytest.approx(before[module], rel=1e-7) for module in before)


@tries(150)
@given(form=some.sampled_from([*sorted(MODULES), "peft"]), draw=some.data())
def test_damage_is_refused_or_does_no_harm(form, draw):
    """Bytes changed anywhere, or the end cut off: a refusal in words, or an adapter; never another error, never half a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = lay(folder / "base", {"config.json": json.dumps(CONFIGS["llama"]).encode()})
        source = peft_folder(folder / "a", MODULES.get(form, CLIP), {})
        if form != "peft":
            adapterfit.convert(source, form, folder / "b", base=base if form in ("mlx", "gguf") else None)
            source = folder / "b"
        file = draw.draw(some.sampled_from(sorted(path for path in source.iterdir())))
        data = bytearray(file.read_bytes())
        for _ in range(draw.draw(some.integers(1, 4))):
            data[draw.draw(some.integers(0, min(len(data), 4000) - 1))] = draw.draw(some.integers(0, 255))
        file.write_bytes(data[: draw.draw(some.integers(0, len(data)))] if draw.draw(some.booleans()) else data)
        with contextlib.suppress(AdapterfitError):
            adapterfit.convert(source, draw.draw(some.sampled_from(["peft", "mlx", "kohya"])), folder / "c")
        left = {path.name for path in folder.iterdir()}
        assert left <= {"a", "b", "base", "c"}
        assert "c" not in left or list((folder / "c").iterdir())


WORDS = [
    [word.rstrip("#") + (".0" if word.endswith("#") else "") for word in family.split()]
    for family in _FAMILIES.values()
]


@tries(300)
@given(some.sampled_from(WORDS).flatmap(lambda words: some.lists(some.sampled_from(words), min_size=1, max_size=6)))
def test_a_path_of_one_familys_words_is_read_back_or_asked_about(words):
    path = ".".join(words)
    with contextlib.suppress(CannotConvert):
        assert unflattened([flat(path)], ()) == {flat(path): path}
