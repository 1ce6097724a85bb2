"""Every bad weights file is handed to the real PEFT: where we said what it does, it does that."""

import io
import sys
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.exact
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
from test_weight_rows import ROWS  # noqa: E402 - after the path that leads to it

from adapterfit.read.sources.folder import FolderSource  # noqa: E402
from adapterfit.read.weights import read_weights  # noqa: E402

#: Rows that the real loader must not be given: they are made to exhaust it, or take too long to build.
HEAVY = ("S05", "S06", "S07", "S08", "S36 100", "S47", "S49", "S50", "P20", "P21", "P22", "P34 a bomb")
#: Flaws that PEFT meets after the file was read; they have a test of their own below.
LATER = {"wrapped-state-dict", "not-a-state-dict", "not-dense"}
#: The row's tar is no whole tar: torch looks deeper than its mark.
NOT_QUITE = ("P30", "P23 a key")
CHOSEN = [row for row in ROWS if not row.name.startswith(HEAVY + NOT_QUITE) and not LATER & set(row.due)]


def first_flaw(folder):
    source = FolderSource(folder)
    flaws = read_weights(source, source.names()[0]).flaws
    return flaws[0] if flaws else None


def said_by(load, *arguments):
    """`Kind: message`, or an empty string where nothing was raised; and the warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            load(*arguments)
        except Exception as error:
            kind = type(error)
            module = f"{kind.__module__}." if kind.__module__ == "_pickle" else ""
            return f"{module}{kind.__name__}: {error}", warned
    return "", warned


@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: row.name)
def test_the_loader_does_what_the_flaw_says(row, tmp_path):
    row.build(tmp_path)
    flaw = first_flaw(tmp_path)
    said, _ = said_by(peft.utils.save_and_load.load_peft_weights, str(tmp_path), "cpu")
    if flaw is None:
        assert said == ""
    elif flaw.predicted == "raises":
        assert said.startswith(flaw.raised or "")
        assert said
    elif flaw.predicted in ("silent", "warns"):
        assert said == ""


# ------------------------------------------------------------------------------------------------ saved by torch


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.lin(x)


A, B = "base_model.model.lin.lora_A.weight", "base_model.model.lin.lora_B.weight"
PLAIN = {A: torch.ones(2, 3), B: torch.ones(4, 2)}
SAVED = {
    "a plain dict": (PLAIN, {}),
    "tensors one level down": ({"state_dict": PLAIN}, {}),
    "numbers beside tensors": ({**PLAIN, "epoch": 3, "note": None}, {}),
    "a list of tensors": (list(PLAIN.values()), {}),
    "a single tensor": (PLAIN[A], {}),
    "a key that is a number": ({**PLAIN, 1: PLAIN[A]}, {}),
    "a sparse tensor": ({**PLAIN, A: PLAIN[A].to_sparse()}, {}),
    "a tensor on meta": ({**PLAIN, A: PLAIN[A].to("meta")}, {}),
    "an expanded tensor": ({**PLAIN, A: torch.ones(1).expand(2, 3)}, {}),
    "protocol 3": (PLAIN, {"pickle_protocol": 3}),
    "protocol 4": (PLAIN, {"pickle_protocol": 4}),
    "the old layout": (PLAIN, {"_use_new_zipfile_serialization": False}),
}


@pytest.fixture
def adapter(tmp_path):
    peft.get_peft_model(Tiny(), peft.LoraConfig(target_modules=["lin"], r=2)).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    return tmp_path


@pytest.mark.parametrize("what", SAVED)
def test_peft_does_what_the_flaw_of_a_saved_file_says(what, adapter):
    saved, how = SAVED[what]
    out = io.BytesIO()
    torch.save(saved, out, **how)
    (adapter / "adapter_model.bin").write_bytes(out.getvalue())
    source = FolderSource(adapter)
    flaws = read_weights(source, "adapter_model.bin").flaws
    predicted = flaws[0].predicted if flaws else "none"
    said, warned = said_by(peft.PeftModel.from_pretrained, Tiny(), str(adapter))
    assert bool(said) == (predicted == "raises")
    assert said.startswith(flaws[0].raised if flaws and said else "")
    assert bool(warned) == (predicted == "warns") or said
