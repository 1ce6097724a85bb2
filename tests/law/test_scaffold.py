"""`tools/new_cause.py`: what it writes is a whole cause, ready to be filled in."""

import importlib.util
import subprocess
import sys

import pytest
from source import ROOT

from adapterfit import pipeline
from adapterfit.cli._page import HEADINGS, parse
from adapterfit.diagnose.registry import Entry
from adapterfit.testing import make

TOOL = ROOT / "tools" / "new_cause.py"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scaffold(tmp_path):
    path = tmp_path / "my_cause.py"
    path.write_text(load(TOOL).TEMPLATE)
    return path


def test_its_page_has_every_heading(scaffold):
    module = load(scaffold)
    assert list(parse(Entry("my-cause", "names", module.CAUSE, module)).sections) == list(HEADINGS)


def test_its_examples_do_what_they_say(scaffold):
    module = load(scaffold)
    for kind, samples in module.examples(make).items():
        for sample in samples:
            report = pipeline.check(sample.adapter, base=sample.case.base)
            assert bool(list(module.check(report.case, report.diff))) is (kind == "fires")


def test_it_passes_our_own_lint(scaffold):
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--stdin-filename",
        "src/adapterfit/causes/names/my_cause.py",
        "-",
    ]
    source = scaffold.read_text()
    result = subprocess.run(command, input=source, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["names", "Not_Kebab"], "kebab-case"),
        (["names", "wrapper-prefix"], "already there"),
        (["nowhere", "my-cause"], "invalid choice"),
    ],
)
def test_it_refuses_what_would_be_no_cause(arguments, word):
    result = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert word in result.stderr
