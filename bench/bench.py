"""`make bench`: how long finding out takes, as ratios measured in one run.

Every repetition runs all contestants one after the other, each in a fresh process, and the medians are compared,
so that a machine which is slow today is slow for all of them. Files are sparse: true headers, and no weights behind.

    bench.py [--rounds N] [--no-loading]
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import shapes

HERE = Path(__file__).resolve().parent
CHECK = [sys.executable, "-m", "adapterfit", "check", "adapter", "--base", "base"]
#: No network, and no progress bars or warnings between our lines.
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class Run(NamedTuple):
    """One process: seconds from start to end, and its peak memory in MiB."""

    seconds: float
    mebibytes: float


def run(command: list[str], folder: Path) -> Run:
    """Run one process to its end; it must not fail."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return Run(seconds, usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024))


def interleaved(contestants: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, list[Run]]:
    """`rounds` repetitions of all contestants in turn, after one that is not counted."""
    found: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, command in contestants.items():
            result = run(command, folder)
            if number:
                found[name].append(result)
    return found


def table(found: dict[str, list[Run]]) -> dict[str, float]:
    """Print medians; returns them in seconds."""
    medians = {name: statistics.median(one.seconds for one in runs) for name, runs in found.items()}
    for name, runs in found.items():
        memory = statistics.median(one.mebibytes for one in runs)
        print(f"  {name:<42}{medians[name] * 1000:>10.1f} ms{memory:>10.1f} MiB")
    return medians


def goal(what: str, value: float, limit: float, unit: str, *, at_most: bool) -> bool:
    """Print a ratio beside its goal."""
    met = value <= limit if at_most else value >= limit
    print(
        f"  {what:<42}{value:>10.2f} {unit:<4} goal {'<=' if at_most else '>='} {limit:g}: {'met' if met else 'MISSED'}"
    )
    return met


def cold_check(folder: Path, rounds: int) -> bool:
    """A cold check of a 448-tensor adapter against an 8B-shaped base in four shards."""
    print("\n8B-shaped Llama in 4 shards, LoRA of 448 tensors")
    contestants = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "bare script: json of every header": [sys.executable, str(HERE / "bare_headers.py"), "adapter", "base"],
        "adapterfit check": CHECK,
    }
    found = interleaved(contestants, folder, rounds)
    nothing, bare, check = table(found).values()
    memory = statistics.median(one.mebibytes for one in found["adapterfit check"])
    print(f"  {'check / python -c pass':<42}{check / nothing:>10.1f} x")
    return all(
        [
            goal("check / bare script", check / bare, 6, "x", at_most=True),
            goal("peak memory of check", memory, 60, "MiB", at_most=True),
        ]
    )


def against_loading(folder: Path, rounds: int) -> bool:
    """The same question answered by loading: base and adapter of a 1B-shaped Llama, in a fresh process."""
    print(
        "\n1B-shaped Llama in bfloat16, LoRA of 224 tensors; imports included. Sparse files favour loading: no disk is read"
    )
    contestants = {
        "PeftModel.from_pretrained": [sys.executable, str(HERE / "by_loading.py"), "adapter", "base"],
        "adapterfit check": CHECK,
    }
    loading, check = table(interleaved(contestants, folder, rounds)).values()
    return goal("loading / check", loading / check, 40, "x", at_most=False)


def guarded(folder: Path, rounds: int) -> bool:
    """What `adapterfit.load` adds to `PeftModel.from_pretrained` on a live base, all in one process."""
    print("\n1B-shaped Llama in bfloat16, live; LoRA of 224 tensors: medians, and the median of the rounds' ratios")
    command = [sys.executable, str(HERE / "guarded.py"), str(folder), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **QUIET})
    each = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    names = ("PeftModel.from_pretrained", "adapterfit.load", "… with a stamp")
    for name, seconds in zip(names, zip(*each)):
        print(f"  {name:<42}{statistics.median(seconds) * 1000:>10.1f} ms")
    ours, stamped = (statistics.median(one[at] / one[0] for one in each) for at in (1, 2))
    return all(
        [
            goal("adapterfit.load / PeftModel", ours, 1.3, "x", at_most=True),
            goal("… with a stamp / PeftModel", stamped, 1.3, "x", at_most=True),
        ]
    )


def unimported(folder: Path) -> bool:
    """Whether a check leaves the heavy libraries alone."""
    script = "import sys; from adapterfit.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", script, *CHECK[3:]]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    loaded = set(result.stderr.split())
    heavy = [name for name in ("torch", "transformers", "peft", "numpy", "rich", "huggingface_hub") if name in loaded]
    print(f"\nHeavy libraries imported by a check: {', '.join(heavy) or 'none'} ({len(loaded)} modules in all)")
    return not heavy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-loading", action="store_true", help="leave out the comparison that needs torch")
    asked = parser.parse_args()
    compileall.compile_dir(HERE.parent / "src", quiet=1)  # PYTHONDONTWRITEBYTECODE would have every start compile anew
    with tempfile.TemporaryDirectory(prefix="adapterfit-bench-") as name:
        large, small = Path(name, "8b"), Path(name, "1b")
        shapes.lay(large, shapes.LLAMA_8B, shards=4)
        met = [cold_check(large, asked.rounds), unimported(large)]
        if asked.no_loading or importlib.util.find_spec("peft") is None:
            print("\nNot compared with loading: asked not to, or torch and peft are not installed")
        else:
            shapes.lay(small, shapes.LLAMA_1B, shards=1)
            met.append(against_loading(small, max(3, asked.rounds // 5)))
            met.append(guarded(small, max(9, asked.rounds)))
    print(f"\nPython {sys.version.split()[0]}, {os.cpu_count()} cores")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
