"""`adapterfit run` beside plain python: the same output, traceback and exit code, and an explanation below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SCRIPTS = {
    "prints and ends": "print('hello')",
    "its arguments and its path": "import os, sys; print(os.path.abspath(sys.argv[0]), sys.argv[1:], sys.path[0], __name__, __file__)",
    "leaves with a code": "import sys; sys.exit(7)",
    "leaves with a message": "import sys; sys.exit('no more')",
    "leaves without a code": "raise SystemExit",
    "raises": "def inner():\n    raise ValueError('x')\ninner()",
    "raises from another": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "raises while it handles another": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('k')",
    "raises a group with a note": "e = ValueError('v'); e.add_note('a note')\nraise ExceptionGroup('many', [e, KeyError('k')])",
    "raises what is no Exception": "class Odd(BaseException): pass\nraise Odd('x')",
    "cannot be compiled": "print('a'\nx = = 2",
    "is empty": "",
    "reads its input": "print(input())",
    "leaves work for the end": "import atexit; atexit.register(print, 'end'); raise RuntimeError('y')",
    "has a thread that outlives it": (
        "import threading, time\ndef later():\n    time.sleep(0.1)\n    print('later', flush=True)\n"
        "threading.Thread(target=later).start()\nraise RuntimeError('z')"
    ),
    "has its own hook": "import sys\nsys.excepthook = lambda t, e, tb: print('mine', e, tb.tb_frame.f_code.co_name)\n1 / 0",
    "imports its neighbour": "import neighbour; print(neighbour.WORD); neighbour.fail()",
    "asks who is main": "import __main__; X = 5; print(__main__.X, __main__.__spec__)",
    "keeps its main module for threads and exit handlers": (
        "import atexit, pickle, sys, threading, time\nclass C: pass\n"
        "atexit.register(lambda: print('end', type(pickle.loads(pickle.dumps(C()))) is C, sys.modules['__main__'].X))\n"
        "def late():\n    global X\n    time.sleep(0.1)\n    X = 6\n    print(type(pickle.loads(pickle.dumps(C()))) is C, flush=True)\n"
        "X = 5\nthreading.Thread(target=late).start()"
    ),
    "keeps its main module when it leaves": (
        "import atexit, pickle, sys\nclass C: pass\natexit.register(lambda: print(pickle.dumps(C())))\nsys.exit(3)"
    ),
    "shows its own names": "print(sorted(globals()), __doc__, __package__, __builtins__.__name__)",
    "looks for its source": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
    "starts processes": (
        "import multiprocessing as m\ndef f(x):\n    return x * 2\n"
        "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p:\n        print(p.map(f, [1, 2]))"
    ),
}


def start(command, folder):
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "PYTHONSAFEPATH")}
    return subprocess.run(
        command, cwd=folder, env=plain, capture_output=True, text=True, input="typed\n", timeout=120, check=False
    )


def side_by_side(plain, ours, folder):
    """Both at the same time: most of what they take is waiting."""
    with ThreadPoolExecutor(2) as pool:
        return pool.map(lambda command: start([sys.executable, *command], folder), (plain, ours))


@pytest.fixture
def beside(tmp_path):
    (tmp_path / "neighbour.py").write_text("WORD = 'next door'\ndef fail():\n    raise OSError('there')\n", "utf-8")
    return tmp_path


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_script_does_what_it_does_under_python(what, beside):
    (beside / "script.py").write_text(SCRIPTS[what], "utf-8")
    command = ["script.py", "a b", "--flag", "-h"]
    plain, ours = side_by_side(command, ["-m", "adapterfit", "run", *command], beside)
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)


MODULES = {
    "prints its arguments": (
        "tool.py",
        "import sys; print(sys.argv[1:], sys.path[0] == __import__('os').getcwd(), __spec__.name)",
    ),
    "raises": ("tool.py", "def inner():\n    raise ValueError('x')\ninner()"),
    "in a package, with a neighbour": ("pack/tool.py", "from . import near; print(near.X, __package__); near.fail()"),
    "leaves with a code": ("tool.py", "import sys; sys.exit(9)"),
    "is not there": ("other.py", ""),
    "cannot be compiled": ("tool.py", "x = = 2"),
}


@pytest.mark.parametrize("what", MODULES)
def test_a_module_does_what_it_does_under_python(what, tmp_path):
    name, text = MODULES[what]
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "near.py").write_text("X = 3\ndef fail():\n    raise OSError('near')\n", "utf-8")
    (tmp_path / name).write_text(text, "utf-8")
    module = "pack.tool" if name.startswith("pack") else "tool"
    command = ["-m", module, "a", "--b"]
    plain, ours = side_by_side(command, ["-m", "adapterfit", "run", *command], tmp_path)
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere.py", "no script"), ("folder", "folder without __main__.py"), ("\x1b[31m\u202e.py", "no script")],
)
def test_what_is_no_script_is_a_one_line_error(name, words, adapterfit, tmp_path):
    (tmp_path / "folder").mkdir()
    done = adapterfit("run", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_it_as_it_ends_python(tmp_path):
    text = (
        "import time, atexit, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job is deaf to it
        "atexit.register(print, 'end', flush=True)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    (tmp_path / "script.py").write_text(text, "utf-8")
    ends = []
    for command in ([sys.executable, "script.py"], [sys.executable, "-m", "adapterfit", "run", "script.py"]):
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "up\n"
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            ends.append((out, err, process.returncode))
    assert ends[0] == ends[1]


LOADS = """
    import sys, warnings
    warnings.simplefilter("ignore")
    sys.path.insert(0, {tests!r})
    import real, peft

    def build():
        return real.base({base})

    def attach(model):
        return peft.PeftModel.from_pretrained(model, "adapter")

    attach(build())
"""


def loading(beside, base="", **fields):
    """A script that loads an adapter made by real PEFT, and that adapter beside it."""
    import real

    real.saved(beside / "adapter")
    if fields:
        real.reconfigure(beside / "adapter", **fields)
    text = textwrap.dedent(LOADS.format(tests=os.fspath(Path(real.__file__).parent), base=base))
    (beside / "script.py").write_text(text, "utf-8")


@pytest.mark.exact
def test_a_failing_load_is_explained_below_an_unchanged_traceback(beside):
    loading(beside, "hidden_size=96, num_attention_heads=4")
    plain = start([sys.executable, "script.py"], beside)
    ours = start([sys.executable, "-m", "adapterfit", "run", "script.py"], beside)
    assert plain.returncode == ours.returncode == 1
    assert ours.stdout == plain.stdout
    assert ours.stderr.startswith(plain.stderr)
    below = ours.stderr[len(plain.stderr) :]
    assert "wrong-base: error" in below
    assert "(as LlamaForCausalLM)" in below


@pytest.mark.exact
def test_a_load_that_works_says_nothing_nor_does_an_error_after_it(beside):
    loading(beside)
    with (beside / "script.py").open("a", encoding="utf-8") as file:
        file.write("\nraise ValueError('the batch is empty')\n")
    ours = start([sys.executable, "-m", "adapterfit", "run", "script.py"], beside)
    assert (ours.returncode, ours.stdout) == (1, "")
    assert ours.stderr.endswith("ValueError: the batch is empty\n")
    assert ours.stderr.startswith("Traceback")


@pytest.mark.exact
def test_a_refusal_of_the_guard_is_explained_by_its_report(beside):
    loading(beside, target_modules=["q_proj"])
    text = (beside / "script.py").read_text("utf-8").replace("peft.PeftModel.from_pretrained", "adapterfit.load")
    (beside / "script.py").write_text("import adapterfit\n" + text, "utf-8")
    ours = start([sys.executable, "-m", "adapterfit", "run", "script.py"], beside)
    assert ours.returncode == 1
    assert "targets-narrower-than-file: error" in ours.stderr
