"""Rows D: links, FIFOs, strange names, wrong layouts. The right finding each, and nothing outside is opened."""

import functools
import os
import socket
import zipfile
from pathlib import Path

import pytest
from harness import Row, outcomes, verify

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.read.adapter import read_adapter
from adapterfit.read.sources.folder import FolderSource
from adapterfit.testing import make

NO = False


@functools.lru_cache(maxsize=1)
def good():
    return make.as_files(make.lora("llama"))


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def files(**more):
    return lambda folder: write(folder, {**good(), **more})


def beside(named):
    return lambda folder: write(folder, {**good(), **named})


def only(named):
    return lambda folder: write(folder, named)


def special(name, build):
    """A good adapter whose file `name` is replaced by what `build(path)` makes."""

    def put(folder):
        write(folder, {other: data for other, data in good().items() if other != name})
        build(folder / name)

    return put


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as here:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            here.bind(path.name)
        finally:
            os.chdir(before)


def link(target):
    return lambda path: path.symlink_to(target)


def inner_link(folder):
    write(folder, {make.CONFIG: good()[make.CONFIG], "real/weights": good()[make.WEIGHTS]})
    (folder / make.WEIGHTS).symlink_to("real/weights")


def loop(path):
    path.symlink_to(path.name)


def cycle(folder):
    write(folder, good())
    (folder / "again").symlink_to(folder)


def deep(folder):
    write(folder, good())
    (folder / "/".join("d" * 60)).mkdir(parents=True)


def many(folder):
    write(folder, good())
    (folder / "zz").mkdir()
    for i in range(limits.FOLDER_ENTRIES):
        (folder / "zz" / f"{i:06}").touch()


def odd_names(folder):
    write(folder, good())
    for name in (b"new\nline", b"\x1b[2J", b"not-utf-8-\xff", b"-rf", b"=cmd", b"x" * 255, "\u202eexe.bin".encode()):
        (folder / os.fsdecode(name)).write_bytes(b"")


def zipped(folder):
    with zipfile.ZipFile(folder / "adapter.zip", "w") as archive:
        archive.writestr("../../escape", b"x")


def directories(*names):
    def build(folder):
        for name in names:
            (folder / name).mkdir()

    return build


def one(name, build, *due, refused=NO, **more):
    return Row(name, build, due, refused, action="adapter", **more)


CONFIG, WEIGHTS, BIN = make.CONFIG, make.WEIGHTS, "adapter_model.bin"

ROWS = [
    one("D00 a folder as it should be", files()),
    one("D01 weights are a FIFO", special(WEIGHTS, os.mkfifo), "not-a-regular-file", refused=True, seconds=1.0),
    one("D01 config is a FIFO", special(CONFIG, os.mkfifo), "not-a-regular-file", refused=True, seconds=1.0),
    one("D01 weights are a socket", special(WEIGHTS, a_socket), "not-a-regular-file", refused=True, seconds=1.0),
    one("D01 weights link to a device", special(WEIGHTS, link("/dev/zero")), "path-escapes", refused=True, seconds=1.0),
    one(
        "D01 weights link to memory",
        special(WEIGHTS, link("/proc/self/mem")),
        "path-escapes",
        refused=True,
        seconds=1.0,
    ),
    one("D02 a link inside the folder", inner_link),
    one("D02 a link out of the folder", special(CONFIG, link("/etc/passwd")), "path-escapes", refused=True),
    one("D02 a link that leads nowhere", special(WEIGHTS, link("nowhere")), "dangling-link", refused=True),
    one("D02 a link to itself", special(WEIGHTS, loop), "dangling-link", refused=True),
    one("D03 both files are folders", directories(CONFIG, WEIGHTS), "adapter-config-missing", refused=True),
    one("D05 strange names of files", odd_names),
    one("D06 two weights that disagree", beside({BIN: b"stale"}), "two-weights-disagree"),
    one("D06 configs that differ by case", beside({"Adapter_Config.json": b"{}"}), "wrong-file-in-folder"),
    one("D07 too many entries", many, "over-limit", says=("the listing is partial",)),
    one("D07 too deep", deep, "over-limit", says=("the listing is partial",)),
    one("D07 a link that goes round", cycle),
    one("D08 a zip archive", zipped, "adapter-config-missing", refused=True, says=("was not unpacked",)),
    one("the folder is empty", only({}), "adapter-config-missing", refused=True, says=("no file",)),
    one("only the weights", only({WEIGHTS: b""}), "adapter-config-missing", "truncated-file", refused=True),
    one("pickles of a training", beside({"optimizer.pt": b"x", "training_args.bin": b"x"}), "extra-pickles"),
    one(
        "a model beside it", beside({"config.json": b"{}", "model.safetensors": b""}), "adapter-and-model-in-one-folder"
    ),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return outcomes(ROWS, tmp_path_factory.mktemp("folder_rows"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_strange_folder_gets_its_finding(row, answers):
    verify(row, answers[row.name])


def test_a_link_of_the_hub_cache_is_followed(tmp_path):
    """D02: `snapshots/<revision>/name` → `blobs/<hex>` is the one way out of a folder."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    write(blobs, {"a" * 40: good()[CONFIG], "b" * 64: good()[WEIGHTS]})
    snapshot.mkdir(parents=True)
    (snapshot / CONFIG).symlink_to("../../blobs/" + "a" * 40)
    (snapshot / WEIGHTS).symlink_to("../../blobs/" + "b" * 64)
    read = read_adapter(FolderSource(snapshot))
    assert read.flaws == ()
    assert len(read.tensors) == len(make.lora("llama").names)


def test_a_folder_swapped_for_a_link_between_walk_and_open_is_not_followed(tmp_path):
    """D09: the file is opened relative to the folder that was walked, and must be the one that was seen."""
    folder = tmp_path / "adapter"
    write(folder, good())
    source = FolderSource(folder)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/etc/hostname")
    with pytest.raises(CannotCheck, match="changed-while-reading"):
        read_adapter(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error_of_the_environment(tmp_path):
    """D04."""
    write(tmp_path, good())
    (tmp_path / CONFIG).chmod(0)
    with pytest.raises(CannotCheck):
        read_adapter(FolderSource(tmp_path))
