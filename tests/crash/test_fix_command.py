"""The fix command as a process: interrupted at its steps, and in surroundings that lack something."""

import json
import os
import subprocess
import sys

import pytest

from adapterfit.testing import make
from adapterfit.testing.disk import lay

pytestmark = pytest.mark.slow
#: Runs the command on a disk that interrupts the process at one of its calls.
INTERRUPTED = """
import os, signal, sys
from adapterfit.repair import disk, staging
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started deaf to it
class Interrupting(disk.Disk):
    def {call}(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return super().{call}(*arguments)
staging.Disk = Interrupting
from adapterfit.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def here(tmp_path):
    """A base, and an adapter that needs mending."""
    lay(tmp_path / "base", {"config.json": json.dumps(dict(make.base("llama").config)).encode()})
    files = make.as_files(make.lora().renamed(lambda name: "module." + name))
    lay(tmp_path / "wrapped", {**files, "README.md": b"card"})
    return tmp_path


def command(here, out="out"):
    return ["fix", str(here / "wrapped"), "--base", str(here / "base"), "--out", str(here / out)]


def started(arguments, cwd, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize("call", ["mkdir", "create", "write", "copy_range", "sync", "rename"])
def test_an_interrupt_at_any_step_is_130_and_leaves_nothing(call, here):
    before = sorted(path.name for path in here.iterdir())
    done = started(["-c", INTERRUPTED.format(call=call), *command(here)], here)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize(
    "lost",
    [("HOME",), ("PATH",), ("HOME", "PATH", "USER", "TMPDIR", "XDG_CACHE_HOME", "LANG")],
    ids=["HOME", "PATH", "all of them"],
)
def test_without_variables_of_the_environment_it_works(lost, here):
    environment = {name: value for name, value in os.environ.items() if name not in lost}
    done = started(["-m", "adapterfit", *command(here)], here, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "out" / "receipt.json").is_file()


def test_in_the_locale_c_names_beyond_ascii_are_written(here):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = started(["-m", "adapterfit", *command(here, "aus gäbe")], here, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "aus gäbe" / "receipt.json").is_file()


def test_a_reader_that_is_gone_ends_it_without_a_traceback(here):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "adapterfit", *command(here)],
            cwd=here, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "out" / "receipt.json").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be removed there")
def test_in_a_folder_that_was_deleted_whole_paths_work_and_others_are_2(here):
    script = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
    script += "from adapterfit.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = started(["-c", script, *command(here)], here)
    assert done.returncode == 0, done.stderr
    done = started(["-c", script, "fix", "wrapped", "--base", "base", "--out", "out2"], here)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_2_and_named(here):
    (here / "shut").mkdir(mode=0o500)
    done = started(["-m", "adapterfit", *command(here, "shut/out")], here)
    assert done.returncode == 2
    assert "shut" in done.stderr


def test_a_folder_of_many_files_is_carried_over_whole(here):
    for at in range(500):
        (here / "wrapped" / f"{at:05}.txt").write_bytes(b"")
    done = started(["-m", "adapterfit", *command(here)], here)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((here / "out").iterdir())) == 500 + 4


def test_on_sixty_columns_no_line_is_longer(here):
    done = started(["-m", "adapterfit", *command(here), "--plan"], here, env={**os.environ, "COLUMNS": "60"})
    long = [line for line in done.stdout.splitlines() if len(line) > 60 and " " in line.strip()]
    assert [line for line in long if len(max(line.split(), key=len)) < 50] == []
