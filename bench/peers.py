"""The peers' environment: `.venv-bench`, beside the product's, from `bench/requirements.txt`."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".venv-bench"
REQUIREMENTS = ROOT / "bench" / "requirements.txt"


def python() -> Path:
    """The peers' interpreter; installs what it needs first, when that has changed."""
    interpreter = HOME / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    installed = HOME / "requirements.sha256"
    if interpreter.exists() and installed.exists() and installed.read_text() == wanted:
        return interpreter
    uv = _uv()
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(HOME)], check=True)
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--python", str(interpreter)),
            *("--require-hashes", "-r", str(REQUIREMENTS)),
        ],
        check=True,
    )
    installed.write_text(wanted)
    return interpreter


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return str(beside)
    if found := shutil.which("uv"):
        return found
    raise SystemExit("bench: uv is missing; `make install` puts it into .venv")
