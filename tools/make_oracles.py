"""Make the environment of `make oracles`: what the tests have anyway, and the other programs of tools/oracles.txt."""

import subprocess
import sys
import sysconfig
from pathlib import Path


def main() -> None:
    """Make it at the path given."""
    target = Path(sys.argv[1])
    ours = sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True)
    python = target / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    # site.addsitedir also follows the .pth files there, which is how an editable install is found.
    Path(theirs, "tests_environment.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    wanted = Path(__file__).with_name("oracles.txt")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(wanted)]
    subprocess.run(pip, check=True)


if __name__ == "__main__":
    main()
