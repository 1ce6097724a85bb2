"""Rows of writing and of other processes that are not to be trusted: races, links, other file systems, a judge who lies."""

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import adapterfit
from adapterfit import judging, limits
from adapterfit.errors import CannotWrite
from adapterfit.repair import disk, staging
from adapterfit.repair.disk import Disk
from adapterfit.testing import make
from adapterfit.testing.disk import lay

BASE = make.base("llama")


@pytest.fixture
def broken(tmp_path):
    """A folder with a wrapped adapter and a card."""
    files = make.as_files(make.lora().renamed(lambda name: "module." + name))
    return lay(tmp_path / "broken", {**files, "README.md": b"card"})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_w03_of_two_commands_to_one_place_one_wins_and_the_other_is_2(broken, tmp_path):
    lay(tmp_path / "base", {"config.json": json.dumps(dict(BASE.config)).encode()})
    command = [sys.executable, "-m", "adapterfit", "fix", "broken", "--base", "base", "--out", "out"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in "ab"]
    assert sorted(one.wait(60) for one in both) == [0, 2]
    assert adapterfit.check(tmp_path / "out", BASE).verdict == "fits"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_w06_what_is_staged_lies_beside_its_place_on_the_same_file_system(broken, tmp_path, monkeypatch):
    seen = []

    class Seeing(Disk):
        def rename(self, old, new):
            seen.append((Path(old).stat().st_dev, Path(old).parent))
            super().rename(old, new)

    monkeypatch.setattr(staging, "Disk", Seeing)
    adapterfit.fix(broken, BASE, tmp_path / "out")
    assert seen == [(tmp_path.stat().st_dev, tmp_path)]


def test_w06_where_it_cannot_be_moved_all_the_same_nothing_is_left(broken, tmp_path, monkeypatch):
    class Elsewhere(Disk):
        def rename(self, old, new):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(staging, "Disk", Elsewhere)
    with pytest.raises(CannotWrite):
        adapterfit.fix(broken, BASE, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_w08_a_source_that_is_mapped_elsewhere_or_linked_twice_keeps_its_bytes(broken, tmp_path):
    weights = broken / make.WEIGHTS
    os.link(weights, tmp_path / "second-name")
    before = contents(broken)
    with weights.open("r+b") as file, mmap.mmap(file.fileno(), 0) as held:
        adapterfit.fix(broken, BASE, tmp_path / "out")
        assert bytes(held) == before[make.WEIGHTS]
    assert contents(broken) == before
    assert (tmp_path / "second-name").read_bytes() == before[make.WEIGHTS]
    assert (tmp_path / "out" / make.WEIGHTS).stat().st_nlink == 1


def test_w08_the_source_itself_is_no_place_to_write_to(broken):
    before = contents(broken)
    with pytest.raises(CannotWrite):
        adapterfit.fix(broken, BASE, broken)
    assert contents(broken) == before


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000], ids=oct)
def test_w07_new_files_are_what_the_umask_leaves_and_old_ones_what_they_were(mask, broken, tmp_path):
    (broken / make.WEIGHTS).chmod(0o640)
    before = os.umask(mask)
    try:
        adapterfit.fix(broken, BASE, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes["receipt.json"] == 0o666 & ~mask
    assert modes[make.WEIGHTS] == 0o640


def test_w07_nobody_else_sees_a_copy_before_it_is_proven(broken, tmp_path, monkeypatch):
    seen = set()

    class Seeing(Disk):
        def create(self, path):
            descriptor = super().create(path)
            folder = Path(path).parent.stat().st_mode & 0o777
            seen.add((oct(folder), oct(os.fstat(descriptor).st_mode & 0o777)))
            return descriptor

    monkeypatch.setattr(staging, "Disk", Seeing)
    before = os.umask(0)
    try:
        adapterfit.fix(broken, BASE, tmp_path / "out")
    finally:
        os.umask(before)
    assert seen == {("0o700", "0o600")}


@pytest.mark.parametrize("what", ["a file", "a link to a file", "a link to nowhere"])
def test_w08_a_new_file_is_never_one_that_is_there_nor_what_a_link_leads_to(what, tmp_path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    if what == "a file":
        (tmp_path / "new").write_bytes(b"theirs")
    else:
        (tmp_path / "new").symlink_to("theirs" if what == "a link to a file" else "nowhere")
    with pytest.raises(FileExistsError):
        Disk().create(str(tmp_path / "new"))
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "nowhere").exists()


# ------------------------------------------------------------------------------------------------ W01, W05, W09: leftovers


LEFT = ".adapterfit-0123456789abcdef"


def test_w01_everything_is_on_the_disk_before_the_folder_has_its_name_and_then_the_name(tmp_path):
    done = []

    class Seeing(Disk):
        def sync(self, descriptor):
            done.append("file")
            super().sync(descriptor)

        def sync_folder(self, path):
            done.append(Path(path).name.partition(".adapterfit-")[0])
            super().sync_folder(path)

        def rename(self, old, new):
            done.append("rename")
            super().rename(old, new)

    with staging.Staging(tmp_path / "out", disk=Seeing()) as stage:
        for name in ("a", "sub/b"):
            with stage.file(name) as output:
                output.write(b"x")
        stage.publish()
    assert done == ["file", "file", "sub", ".out", "rename", tmp_path.name]


@pytest.mark.parametrize("name", ["out", "a\nb", "\x1b[2J", "é" * 100, "..."], ids=ascii)
def test_w01_whatever_the_place_is_called_what_a_killed_repair_left_there_is_removed(name, broken, tmp_path):
    with staging.Staging(tmp_path / name) as stage:
        left = Path(stage.folder).name
    (tmp_path / left / "sub").mkdir(parents=True)
    assert adapterfit.fix(broken, BASE, tmp_path / "next").swept == (left,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "next"]


def test_w01_a_leftover_that_is_being_mended_is_not_removed(broken, tmp_path):
    left = broken.rename(tmp_path / f".out{LEFT}")
    before = contents(left)
    receipt = adapterfit.fix(left, BASE, tmp_path / "out")
    assert (receipt.swept, receipt.proof.holds) == ((), True)
    assert contents(left) == before


def test_w05_a_place_whose_name_is_that_of_a_leftover_is_refused(broken, tmp_path):
    with pytest.raises(CannotWrite, match="taken for what a killed repair left"):
        adapterfit.fix(broken, BASE, tmp_path / f".x{LEFT}")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_w02_what_is_removed_may_be_written_to_whatever_mode_it_was_to_have(broken, tmp_path, monkeypatch):
    broken.chmod(0o555)
    modes = []

    class Elsewhere(Disk):
        def rename(self, old, new):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    real = disk.shutil.rmtree
    monkeypatch.setattr(
        disk.shutil, "rmtree", lambda path: (modes.append(Path(path).stat().st_mode & 0o777), real(path))
    )
    monkeypatch.setattr(staging, "Disk", Elsewhere)
    with pytest.raises(CannotWrite):
        adapterfit.fix(broken, BASE, tmp_path / "out")
    assert modes == [0o700]


@pytest.mark.parametrize("why", ["Ctrl-C", "a full disk"])
def test_w09_ctrl_c_while_it_is_removed_is_heard_after_that(why, broken, tmp_path, monkeypatch):
    class Interrupted(Disk):
        def sync(self, descriptor):
            if why == "Ctrl-C":
                raise KeyboardInterrupt
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def remove(self, path):
            signal.raise_signal(signal.SIGINT)
            super().remove(path)

    monkeypatch.setattr(staging, "Disk", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started deaf to it
    try:
        with pytest.raises(KeyboardInterrupt):
            adapterfit.fix(broken, BASE, tmp_path / "out")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


# ------------------------------------------------------------------------------------------------ W13: the judge

_GOOD = {"versions": {"peft": "0.21.2", "transformers": "5.23.0"}, "missing": [], "unexpected": [], "warnings": []}
#: What the process does that should ask the real PEFT → what is said of it.
JUDGES = {
    "garbage": ("printf '\\001\\377{]'", "the answer of the real PEFT"),
    "JSON of another kind": ("echo '[1, 2]'", "is not an object"),
    "nothing": ("cat > /dev/null", "ended without an answer"),
    "an answer without an end": ("cat > /dev/null; yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "said more than"),
    "death": ("kill -9 $$", "ended without an answer"),
    "silence": ("sleep 60", "had no answer after 1 s"),
    "a child that stays": ("(sleep 60 &) ; exit 0", "ended without an answer"),
    "nesting": ("head -c 100000 /dev/zero | tr '\\0' '['", "the answer of the real PEFT"),
}  # fmt: skip


def judge_of(folder, script):
    path = folder / "judge"
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("what", JUDGES)
def test_w13_a_judge_who_is_out_of_his_mind_is_not_heard_and_changes_nothing(what, tmp_path, monkeypatch):
    script, said = JUDGES[what]
    monkeypatch.setattr(limits, "JUDGE_SECONDS", 1)
    monkeypatch.setattr(limits, "JUDGE_ANSWER_BYTES", 1 << 20)
    for sample, verdict in ((make.lora(), "fits"), (make.lora(r=9).with_config(r=8), "does-not-fit")):
        report = adapterfit.check(sample.adapter, sample.case.base, exact=True, python=judge_of(tmp_path, script))
        assert said in report.exact.cannot
        assert (report.verdict, judging.beside(report)) == (verdict, "unasked")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("outcome", ["loads", "raises", "nonsense", ""])
def test_w13_a_judge_who_lies_is_quoted_and_the_verdict_stays(outcome, tmp_path):
    python = judge_of(tmp_path, f"cat > /dev/null; echo '{json.dumps({**_GOOD, 'outcome': outcome})}'")
    for sample, verdict in ((make.lora(), "fits"), (make.lora(r=9).with_config(r=8), "does-not-fit")):
        report = adapterfit.check(sample.adapter, sample.case.base, exact=True, python=python)
        assert (report.verdict, report.exact.outcome) == (verdict, outcome)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_w13_a_repair_that_the_judge_did_not_see_says_so_and_one_that_he_rejects_is_not_kept(broken, tmp_path):
    python = judge_of(tmp_path, "cat > /dev/null")
    receipt = adapterfit.fix(broken, BASE, tmp_path / "out", exact=True, python=python)
    assert [one.outcome for one in receipt.proof.shown if one.what == "peft"] == ["not-checked"]
    python = judge_of(tmp_path, f"cat > /dev/null; echo '{json.dumps({**_GOOD, 'outcome': 'raises'})}'")
    with pytest.raises(adapterfit.errors.NotProven):
        adapterfit.fix(broken, BASE, tmp_path / "again", exact=True, python=python)
    assert not (tmp_path / "again").exists()


# ------------------------------------------------------------------------------------------------ made meanwhile


MEANWHILE = {
    "a file": lambda path: path.write_bytes(b"theirs"),
    "a folder": lambda path: lay(path, {"theirs": b""}),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to a folder": lambda path: path.symlink_to("broken"),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_w03_what_somebody_makes_at_its_place_meanwhile_stays(what, broken, tmp_path, monkeypatch):
    class Late(Disk):
        def rename(self, old, new):
            MEANWHILE[what](tmp_path / "out")
            super().rename(old, new)

    monkeypatch.setattr(staging, "Disk", Late)
    before = contents(broken)
    with pytest.raises(CannotWrite, match="another process was first"):
        adapterfit.fix(broken, BASE, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "out"]
    assert contents(broken) == before
    assert not (tmp_path / "out" / make.WEIGHTS).exists() or what == "a link to a folder"
