"""A repair that is killed or fails at any call that changes the disk: the source stays, and there is all of it or nothing."""

import errno
import hashlib
import os
import signal
import threading
from pathlib import Path

import pytest

import adapterfit
from adapterfit.errors import CannotWrite
from adapterfit.read.sources.folder import FolderSource
from adapterfit.repair import following, hashes, settling, staging
from adapterfit.repair.disk import Disk
from adapterfit.testing import make
from adapterfit.testing.disk import lay

CALLS = ("mkdir", "create", "write", "copy_range", "start", "chmod", "sync", "close", "sync_folder", "rename")
#: It is made for a large file only.
OF_LARGE = {"start"}


def failing(at, act):
    """A disk on which call number `at` (from 0) does `act` instead of what it should; it counts all."""

    class Failing(Disk):
        count = 0
        done: list[str] = []  # noqa: RUF012 - one disk lives for one repair

    def wrap(name):
        real = getattr(Disk, name)

        def call(self, *arguments):
            number, Failing.count = Failing.count, Failing.count + 1
            Failing.done.append(name)
            if number == at:
                act()
            return real(self, *arguments)

        return call

    for name in CALLS:
        setattr(Failing, name, wrap(name))
    return Failing


@pytest.fixture
def broken(tmp_path):
    """A folder with a wrapped adapter, a card and a tokenizer in a sub-folder."""
    sample = make.lora().renamed(lambda name: "module." + name)
    files = {**make.as_files(sample), "README.md": b"card", "tok/vocab.txt": b"a\nb\n"}
    return lay(tmp_path / "broken", files)


BASE = make.base("llama")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def mend(broken, out):
    return adapterfit.fix(broken, base=BASE, out=out)


def total(broken, monkeypatch, out):
    """How many calls a whole repair makes."""
    disk = failing(-1, None)
    monkeypatch.setattr(staging, "Disk", disk)
    mend(broken, out)
    return disk.count, disk.done


def fail(number):
    def act():
        raise OSError(number, os.strerror(number))

    return act


def interrupt():
    raise KeyboardInterrupt


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_every_kind_of_call_is_made(broken, tmp_path, monkeypatch):
    _, done = total(broken, monkeypatch, tmp_path / "out")
    assert set(done) == set(CALLS) - OF_LARGE


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES], ids=errno.errorcode.get
)
def test_a_disk_that_fails_at_any_call_leaves_nothing(number, broken, tmp_path, monkeypatch):
    before = contents(broken)
    count, done = total(broken, monkeypatch, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    for at in range(count):
        monkeypatch.setattr(staging, "Disk", failing(at, fail(number)))
        with pytest.raises(CannotWrite):
            mend(broken, tmp_path / "out")
        assert contents(broken) == before
        assert leftovers(tmp_path) == []
        if (tmp_path / "out").exists():  # the last sync failed, after the rename: all of it is there
            assert at == count - 1
            assert done[at] == "sync_folder"
            assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("count", [3, 200], ids=["few files", "so many that threads sync them"])
def test_every_file_is_on_the_disk_before_the_folder_has_its_name(count, broken, tmp_path, monkeypatch):
    for at in range(count):
        (broken / f"{at}.txt").write_bytes(b"x")
    _, done = total(broken, monkeypatch, tmp_path / "out")
    assert done.count("sync") == done.count("create") == len(contents(tmp_path / "out")) == count + 5
    assert "sync" not in done[done.index("rename") :]


@pytest.mark.parametrize("act", [OSError(errno.EIO, "gone"), KeyboardInterrupt()], ids=["EIO", "Ctrl-C"])
def test_of_many_files_one_that_does_not_reach_the_disk_leaves_nothing(act, broken, tmp_path, monkeypatch):
    for at in range(200):
        (broken / f"{at}.txt").write_bytes(b"x")

    class Failing(Disk):
        left = 150

        def sync(self, descriptor):
            Failing.left -= 1
            if Failing.left == 0:
                raise act
            super().sync(descriptor)

    monkeypatch.setattr(staging, "Disk", Failing)
    with pytest.raises((CannotWrite, KeyboardInterrupt)):
        mend(broken, tmp_path / "out")
    assert Failing.left < 1
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


@pytest.fixture
def all_are_large(monkeypatch):
    """Every file is long enough to be synced and read back while it is written, which takes threads."""
    for module, name in ((staging, "_LARGE"), (settling, "_LARGE"), (settling, "_STRETCH"), (hashes, "_LARGE")):
        assert getattr(module, name) > 1
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(following, "PIECE", 100)
    monkeypatch.setattr(staging, "_KERNEL_CHUNK", 1000)


def test_a_large_file_is_read_back_while_it_is_written_and_has_its_hash(all_are_large, broken, tmp_path, monkeypatch):
    others = threading.active_count()  # those of libraries that other tests have loaded
    _, done = total(broken, monkeypatch, tmp_path / "out")
    receipt = mend(broken, tmp_path / "again")
    new = {name: data for name, data in contents(tmp_path / "out").items() if name != "receipt.json"}
    assert set(done) >= OF_LARGE
    assert len(new) == 4
    assert {name: hashlib.sha256(data).hexdigest() for name, data in new.items()} == {
        name: found.sha256 for name, found in receipt.after.items()
    }
    assert threading.active_count() == others


@pytest.mark.parametrize("call", ["start", "sync", "write", "copy_range", "close", "rename"])
@pytest.mark.parametrize("act", [fail(errno.EIO), interrupt], ids=["EIO", "Ctrl-C"])
def test_of_large_files_a_call_that_fails_in_any_thread_leaves_nothing(
    call, act, all_are_large, broken, tmp_path, monkeypatch
):
    before, others = contents(broken), threading.active_count()
    monkeypatch.setattr(staging, "Disk", type("Failing", (Disk,), {call: lambda *_: act()}))
    with pytest.raises((CannotWrite, KeyboardInterrupt)):
        mend(broken, tmp_path / "out")
    assert contents(broken) == before
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
    assert threading.active_count() == others


def test_a_large_file_that_cannot_be_read_back_is_not_kept(all_are_large, broken, tmp_path, monkeypatch):
    monkeypatch.setattr(following.Following, "_digest", lambda _: fail(errno.EIO)())
    with pytest.raises(CannotWrite, match="read back"):
        mend(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_ctrl_c_at_any_call_leaves_nothing(broken, tmp_path, monkeypatch):
    count, _ = total(broken, monkeypatch, tmp_path / "whole")
    for at in range(count - 1):
        monkeypatch.setattr(staging, "Disk", failing(at, interrupt))
        with pytest.raises(KeyboardInterrupt):
            mend(broken, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert leftovers(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_at_any_call_leaves_all_or_nothing_and_the_next_one_cleans_up(broken, tmp_path, monkeypatch):
    before = contents(broken)
    count, _ = total(broken, monkeypatch, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    for at in range(count):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(staging, "Disk", failing(at, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            mend(broken, tmp_path / "out")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert contents(broken) == before
        there = (tmp_path / "out").exists()
        assert not there or contents(tmp_path / "out") == whole
        left = leftovers(tmp_path)
        assert all(".out.adapterfit-" in name for name in left)
        monkeypatch.setattr(staging, "Disk", Disk)
        receipt = mend(broken, tmp_path / f"next-{at}")
        assert sorted(receipt.swept) == sorted(left)
        assert leftovers(tmp_path) == []
        assert contents(tmp_path / f"next-{at}") == whole
        for path in (tmp_path / "out",):
            if path.exists():
                path.rename(tmp_path / f"done-{at}")


def test_the_staging_folder_of_a_living_process_is_left_alone(tmp_path):
    with staging.Staging(tmp_path / "one") as first:
        with staging.Staging(tmp_path / "two") as second:
            assert second.swept == ()
        assert Path(first.folder).is_dir()


def test_of_two_repairs_to_one_place_one_wins_and_the_other_leaves_nothing(tmp_path):
    with staging.Staging(tmp_path / "out") as second:
        with second.file("a") as output:
            output.write(b"second")
        with staging.Staging(tmp_path / "out") as first:
            with first.file("a") as output:
                output.write(b"first")
            first.publish()
        with pytest.raises(CannotWrite, match="another process was first"):
            second.publish()
    assert contents(tmp_path) == {"out/a": b"first"}
    assert leftovers(tmp_path) == []


def test_a_source_that_changes_at_any_time_is_noticed(broken, tmp_path, monkeypatch):
    weights = broken / make.WEIGHTS
    before = weights.stat()
    _, done = total(broken, monkeypatch, tmp_path / "whole")
    for at in range(done.index("sync_folder")):
        monkeypatch.setattr(staging, "Disk", failing(at, lambda: os.utime(weights, ns=(1, 1))))
        with pytest.raises(adapterfit.CannotCheck, match="changed"):
            mend(broken, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert leftovers(tmp_path) == []
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_the_kernel_does_not_copy_is_read_and_written(broken, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    mend(broken, whole)

    class Old(Disk):
        def copy_range(self, source, target, start, count):
            raise OSError(errno.EXDEV, "not here")

    monkeypatch.setattr(staging, "Disk", Old)
    mend(broken, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def test_a_source_is_read_to_its_end_only(broken):
    with pytest.raises(adapterfit.BadInput):
        FolderSource(broken).read("README.md", 0, 5)
