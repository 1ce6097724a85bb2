"""What nobody asked for costs nothing: a check without `--for` imports no engine, no other loader and no other face."""

import json
import subprocess
import sys

import pytest

from adapterfit.testing import make
from adapterfit.testing.disk import lay

pytestmark = pytest.mark.slow
UNASKED = (
    "adapterfit.serving",
    "adapterfit.answers",
    "adapterfit.ranging",
    "adapterfit.consumers.engines",
    "tomllib",
    "adapterfit.consumers.refusals",
    "adapterfit.consumers.rules",
    "adapterfit.compare.native",
    "adapterfit.expect.history",
    "adapterfit.report._consumers",
    "adapterfit.report._engines",
    "adapterfit.report.sarif",
    "xml.etree.ElementTree",
)
SCRIPT = """
import json, sys
from adapterfit.cli.main import run
from adapterfit.consumers import choice
choice._installed = dict  # as where no peft is installed: the answer is for the newest
run(["check", *sys.argv[1:], "--format", "json"])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules(*arguments):
    run = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["verdict"], set(json.loads(run.stderr.splitlines()[-1]))


def test_a_plain_check_imports_nothing_about_consumers_that_were_not_asked_for(tmp_path):
    adapter = lay(tmp_path / "adapter", make.as_files(make.lora("llama")))
    verdict, loaded = modules(str(adapter))
    assert verdict == "cannot-tell"  # no base
    assert [name for name in UNASKED if name in loaded] == []


def test_it_imports_them_when_they_are(tmp_path):
    adapter = lay(tmp_path / "adapter", make.as_files(make.lora("llama")))
    _, loaded = modules(str(adapter), "--for", "vllm", "--for", "transformers")
    assert {"adapterfit.serving", "adapterfit.consumers.engines", "adapterfit.consumers.refusals"} <= loaded
