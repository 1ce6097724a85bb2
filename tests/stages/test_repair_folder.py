"""The repaired folder: where it may lie, what is in it, with which modes; and the config's layout."""

import json
import os
import stat
from types import SimpleNamespace

import pytest

import adapterfit
from adapterfit.errors import CannotWrite
from adapterfit.repair import staging
from adapterfit.repair.config_text import rewritten
from adapterfit.testing import make
from adapterfit.testing.disk import lay

BASE = make.base("llama")
SAMPLE = make.lora().renamed(lambda name: "module." + name)
FILES = {**make.as_files(SAMPLE), "README.md": b"card", "tokenizer/tokens.txt": b"a\n"}


@pytest.fixture
def broken(tmp_path):
    return lay(tmp_path / "broken", FILES)


def mend(folder, out, **options):
    return adapterfit.fix(folder, base=BASE, out=out, **options)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_repaired_folder_holds_everything_and_fits(broken, tmp_path):
    receipt = mend(broken, tmp_path / "out")
    assert names(tmp_path / "out") == sorted([*FILES, "receipt.json"])
    assert (tmp_path / "out/README.md").read_bytes() == b"card"
    assert adapterfit.check(str(tmp_path / "out"), base=BASE).verdict == "fits"
    assert receipt.proof.holds
    assert names(broken) == sorted(FILES)
    assert all((broken / name).read_bytes() == data for name, data in FILES.items())


def test_the_receipt_on_disk_tells_what_was_there_what_is_there_and_the_proof(broken, tmp_path):
    import hashlib

    receipt = mend(broken, tmp_path / "out")
    found = json.loads((tmp_path / "out/receipt.json").read_bytes())
    assert found["schema"] == "adapterfit/receipt/v1"
    for name, data in FILES.items():
        assert found["before"][name] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for name in names(tmp_path / "out"):
        if name != "receipt.json":
            digest = hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
            assert found["after"][name]["sha256"] == digest
    assert {one["what"] for one in found["proof"]} == {"files", "bytes", "delta", "check", "safetensors", "peft"}
    assert [step.cause for step in receipt.plan.steps] == ["wrapper-prefix"]


def test_a_second_repair_has_nothing_to_do_and_the_same_repair_gives_the_same_bytes(broken, tmp_path):
    mend(broken, tmp_path / "one")
    again = mend(tmp_path / "one", tmp_path / "two")
    assert again.out == ""
    assert not (tmp_path / "two").exists()
    mend(broken, tmp_path / "three")
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
        for name in names(tmp_path / "one")
    )


def test_a_sound_adapter_is_left_alone(tmp_path):
    whole = lay(tmp_path / "whole", make.as_files(make.lora()))
    receipt = mend(whole, tmp_path / "out")
    assert (receipt.out, receipt.plan.steps, receipt.plan.after) == ("", (), "fits")
    assert not (tmp_path / "out").exists()


def test_what_would_still_not_fit_is_not_written(tmp_path):
    sample = SAMPLE.reshaped(lambda name: "lora_A" in name, lambda shape: (shape[0], shape[1] + 1))
    broken = lay(tmp_path / "broken", make.as_files(sample))
    receipt = mend(broken, tmp_path / "out")
    assert receipt.out == ""
    assert receipt.plan.remaining
    assert not (tmp_path / "out").exists()


def test_without_a_place_only_a_plan_is_made(broken, tmp_path):
    receipt = adapterfit.fix(broken, base=BASE)
    assert (receipt.out, receipt.plan.after) == ("", "fits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


# ------------------------------------------------------------------------------------------------ where


def _file(path):
    path.write_bytes(b"x")
    return path


def _link(path, target):
    path.symlink_to(target)
    return path


PLACES = {
    "a folder that is there": lambda root: lay(root / "out", {"a": b""}),
    "an empty folder": lambda root: lay(root / "out", {}) if (root / "out").mkdir() is None else None,
    "a file": lambda root: _file(root / "out"),
    "a link to nowhere": lambda root: _link(root / "out", root / "nowhere"),
    "a link to a folder": lambda root: _link(root / "out", root),
    "the adapter itself": lambda root: root / "broken",
    "a place inside the adapter": lambda root: root / "broken" / "out",
    "a place inside it through a link": lambda root: _link(root / "link", root / "broken") / "out",
    "a place in a folder that is not there": lambda root: root / "no" / "out",
    "the Hub's cache": lambda root: lay(root / "models--a--b" / "snapshots" / "c", {"x": b""}) / "out",
    "an empty name": lambda root: root / "broken" / "..",
    "a name with a NUL": lambda root: f"{root}/a\0b",
    "a name that is too long": lambda root: root / ("x" * 300),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_refused_before_anything_is_written(place, broken, tmp_path, monkeypatch):
    out = PLACES[place](tmp_path)
    monkeypatch.setattr(staging.Staging, "_make", lambda _: pytest.fail("a staging folder is made"))
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(CannotWrite):
        mend(broken, out)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_place_inside_the_base_is_refused(broken, tmp_path):
    lay(tmp_path / "base", {"config.json": json.dumps(dict(BASE.config)).encode()})
    with pytest.raises(CannotWrite, match="only read"):
        adapterfit.fix(broken, base=str(tmp_path / "base"), out=tmp_path / "base" / "out")


def test_a_link_of_another_user_on_the_way_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    link = _link(tmp_path / "theirs", tmp_path / "real")
    real = os.lstat

    def lstat(path, **options):
        found = real(path, **options)
        return SimpleNamespace(st_mode=found.st_mode, st_uid=12345) if os.fspath(path) == str(link) else found

    monkeypatch.setattr(staging.os, "lstat", lstat)
    with pytest.raises(CannotWrite, match="another user"), staging.Staging(link / "out"):
        pass


def test_too_little_room_is_said_with_both_numbers(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CannotWrite, match=r"not enough room .*: [\d,]+ bytes are needed, 1,000 are free"):
        mend(broken, tmp_path / "out")


def test_a_file_name_never_leads_out_of_the_folder(tmp_path):
    with staging.Staging(tmp_path / "out") as stage:
        for name in ("../x", "/x", "a/../../x", "a//b", "", ".", "a\0b"):
            with pytest.raises(CannotWrite), stage.file(name):
                pass
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ what


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
def test_modes_are_kept_whatever_the_umask(mask, mode, broken, tmp_path):
    for path in broken.rglob("*"):
        path.chmod(0o755 if path.is_dir() else mode)
    broken.chmod(0o750)
    before = os.umask(mask)
    try:
        mend(broken, tmp_path / "out")
    finally:
        os.umask(before)
    found = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in names(tmp_path / "out")}
    assert found == {**dict.fromkeys(FILES, mode), "receipt.json": 0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("mode", "kept"), [(0o700, 0o700), (0o2750, 0o750), (0o555, 0o755)], ids=lambda mode: f"{mode:o}"
)
def test_a_folder_below_is_as_private_as_it_was_and_its_owner_may_write(mode, kept, broken, tmp_path):
    lay(broken, {"tokenizer/more/x": b""})
    (broken / "tokenizer").chmod(mode)
    mend(broken, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "tokenizer").stat().st_mode) == kept
    assert (tmp_path / "out" / "tokenizer" / "more" / "x").exists()


def test_hard_links_of_the_source_stay_the_sources(broken, tmp_path):
    os.link(broken / make.WEIGHTS, tmp_path / "other-name")
    mend(broken, tmp_path / "out")
    assert (tmp_path / "out" / make.WEIGHTS).stat().st_nlink == 1
    assert (broken / make.WEIGHTS).stat().st_nlink == 2


def test_links_of_the_hub_cache_become_files(tmp_path):
    repo = tmp_path / "models--a--b"
    blobs = lay(repo / "blobs", {f"{at:040x}": data for at, data in enumerate(make.as_files(SAMPLE).values())})
    snapshot = repo / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for at, name in enumerate(make.as_files(SAMPLE)):
        (snapshot / name).symlink_to(f"../../blobs/{at:040x}")
    mend(snapshot, tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert len(list(blobs.iterdir())) == 2


def test_an_earlier_receipt_and_second_weights_are_left_out_and_named(broken, tmp_path):
    lay(broken, {"receipt.json": b"{}", "adapter_model.bin": b"\x80junk"})
    receipt = mend(broken, tmp_path / "out")
    left = {name for name, fate in receipt.files.items() if fate.startswith("left out")}
    assert left == {"adapter_model.bin", "receipt.json"}
    assert names(tmp_path / "out") == sorted([*FILES, "receipt.json"])


def test_what_was_not_read_is_not_copied_and_named(broken, tmp_path):
    (broken / "secret").symlink_to("/etc/hostname")
    os.mkfifo(broken / "pipe")
    lay(broken, {"a/b/c/d/deep.txt": b"x"})
    receipt = mend(broken, tmp_path / "out")
    left = {name: fate for name, fate in receipt.files.items() if fate.startswith("left out")}
    assert left.keys() == {"secret", "pipe", "a/b/c/d"}
    assert "leads out of the folder" in left["secret"]
    assert names(tmp_path / "out") == sorted([*FILES, "receipt.json"])


def test_one_file_is_mended_as_a_folder_is(broken, tmp_path):
    mend(broken / make.WEIGHTS, tmp_path / "out")
    assert names(tmp_path / "out") == ["adapter_config.json", make.WEIGHTS, "receipt.json"]


CONFIGS = {
    "two blanks": b'{\n  "b": 1,\n  "a": "\\u00e9"\n}',
    "four blanks and an end of line": b'{\n    "b": 1,\n    "a": [\n        1\n    ]\n}\n',
    "tabs": b'{\n\t"b": 1,\n\t"a": {}\n}\n',
    "one line": b'{"b": 1, "a": 2}',
    "one line without blanks": b'{"b":1,"a":2}\n',
    "characters as they are": '{\n  "b": "é",\n  "a": 1e-05\n}'.encode(),
    "lines of Windows": b'{\r\n  "b": 1,\r\n  "a": 2\r\n}\r\n',
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_without_changes_is_written_as_it_was(case):
    assert rewritten(CONFIGS[case], json.loads(CONFIGS[case])) == CONFIGS[case]


def test_a_new_field_comes_last_in_the_same_layout():
    fields = {**json.loads(CONFIGS["two blanks"]), "c": None}
    assert rewritten(CONFIGS["two blanks"], fields) == b'{\n  "b": 1,\n  "a": "\\u00e9",\n  "c": null\n}'


def test_a_config_that_was_not_there_is_laid_out_as_peft_does():
    assert rewritten(None, {"r": 4}) == b'{\n  "r": 4\n}'


def test_progress_comes_to_its_end(broken, tmp_path):
    seen = []
    mend(broken, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    done = [each for each, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {seen[0][1]}
    assert done[-1] <= seen[0][1]


def test_an_adapter_of_torch_is_written_as_safetensors_without_unpickling(tmp_path):
    forge = make.forge
    held = {
        t.name: (t.shape, bytes(at % 251 for at in range(4 * t.shape[0] * t.shape[1]))) for t in SAMPLE.adapter.tensors
    }
    described, storages = [], []
    for key, (name, ((rows, columns), data)) in enumerate(held.items()):
        where = forge.storage(str(key), rows * columns)
        strides = (columns, 1) if key else (1, rows)  # the first is saved as a transposed view
        described.append((forge.text(name), forge.tensor((rows, columns), strides, where=where)))
        storages.append(data)
    data = forge.zipped(forge.torch_zip(forge.pickled(forge.table(*described)), storages))
    broken = lay(tmp_path / "broken", {"adapter_model.bin": data, make.CONFIG: make.as_files(SAMPLE)[make.CONFIG]})
    receipt = mend(broken, tmp_path / "out")
    assert receipt.files["adapter_model.bin"].startswith("left out")
    assert names(tmp_path / "out") == ["adapter_config.json", make.WEIGHTS, "receipt.json"]
    written = (tmp_path / "out" / make.WEIGHTS).read_bytes()
    for key, ((rows, columns), numbers) in enumerate(held.values()):
        wanted = numbers
        if not key:
            cells = [numbers[4 * at : 4 * at + 4] for at in range(rows * columns)]
            wanted = b"".join(cells[column * rows + row] for row in range(rows) for column in range(columns))
        assert wanted in written


def test_a_stamp_tells_of_the_copy_by_its_new_names(tmp_path):
    from adapterfit.read.stamp import as_json
    from adapterfit.records import Stamp, WeightSample

    name = SAMPLE.names[0]
    rows, columns = next(t.shape for t in SAMPLE.adapter.tensors if t.name == name)
    from adapterfit.read import samples

    zeros = (0.0,) * sum(count for _, count in samples.places((rows, columns)))
    stamp = Stamp(
        "adapterfit.json", adapter_config=SAMPLE.adapter.config,
        adapter_content={name: WeightSample((rows, columns), "F32", zeros)},
    )  # fmt: skip
    text = json.dumps(as_json(stamp)).encode()
    broken = lay(tmp_path / "broken", {**FILES, "adapterfit.json": text})
    receipt = mend(broken, tmp_path / "out")
    assert receipt.files["adapterfit.json"] == "rewritten"
    found = json.loads((tmp_path / "out" / "adapterfit.json").read_bytes())
    assert list(found["adapter"]["content"]) == [name.replace("module.", "", 1)]
    assert {f.id for f in adapterfit.check(str(tmp_path / "out"), base=BASE).findings} == set()


# ------------------------------------------------------------------------------------------------ gathered


WHOLE = make.as_files(make.lora())


def shards(count, names=None):
    """The adapter in shards, as a trainer's code may write it."""
    tensors = make.lora().adapter.tensors
    parts = {f"adapter_model-{at + 1:05}-of-{count:05}.safetensors": tensors[at::count] for at in range(count)}
    files = {name: make.safetensors({t.name: (t.dtype, t.shape) for t in part}) for name, part in parts.items()}
    return {make.CONFIG: WHOLE[make.CONFIG], "adapter_model.safetensors.index.json": b"{}", **files}


def test_shards_become_the_one_file_that_peft_reads(tmp_path):
    broken = lay(tmp_path / "broken", shards(3))
    receipt = mend(broken, tmp_path / "out")
    assert names(tmp_path / "out") == ["adapter_config.json", make.WEIGHTS, "receipt.json"]
    assert receipt.plan.after == "fits"
    assert sum(fate.startswith("left out") for fate in receipt.files.values()) == 4


def test_a_missing_shard_is_unsafe_and_said(tmp_path):
    files = shards(3)
    del files["adapter_model-00002-of-00003.safetensors"]
    broken = lay(tmp_path / "broken", files)
    receipt = mend(broken, tmp_path / "out")
    assert receipt.out == ""
    assert [step.far for step in receipt.plan.left_out] == ["1 of 3 shards are not here"]


def test_weights_under_another_name_are_found(tmp_path):
    broken = lay(
        tmp_path / "broken", {make.CONFIG: WHOLE[make.CONFIG], "adapter_model (5).safetensors": WHOLE[make.WEIGHTS]}
    )
    receipt = mend(broken, tmp_path / "out")
    assert receipt.plan.after == "fits"
    assert names(tmp_path / "out") == ["adapter_config.json", make.WEIGHTS, "receipt.json"]


def test_safetensors_under_the_name_of_a_pickle_are_written_under_their_own(tmp_path):
    broken = lay(tmp_path / "broken", {make.CONFIG: WHOLE[make.CONFIG], "adapter_model.bin": WHOLE[make.WEIGHTS]})
    assert adapterfit.check(str(broken), base=BASE).verdict == "fits-after-fix"
    assert mend(broken, tmp_path / "out").plan.after == "fits"
    assert names(tmp_path / "out") == ["adapter_config.json", make.WEIGHTS, "receipt.json"]


def test_of_a_file_that_is_cut_off_the_whole_tensors_are_kept_only_where_that_is_asked_for(tmp_path):
    data = WHOLE[make.WEIGHTS]
    broken = lay(tmp_path / "broken", {**WHOLE, make.WEIGHTS: data[: -(len(data) // 4)]})
    receipt = mend(broken, tmp_path / "out")
    assert receipt.out == ""
    (left,) = receipt.plan.left_out
    assert "of 8 tensors are lost" in left.far
    receipt = mend(broken, tmp_path / "out", unsafe=True)
    assert receipt.out
    assert receipt.plan.after == "does-not-fit"
    kept = adapterfit.check(str(tmp_path / "out"), base=BASE)
    assert 0 < len(kept.case.adapter.tensors) < 8
    assert kept.predicted == "loads-partly"
    assert {one.name for one in kept.case.adapter.tensors}.isdisjoint(
        left.far.split(": ")[1].replace('"', "").split(", ")
    )
