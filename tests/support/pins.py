"""`python -m tests.support.pins`: write the exact versions of Modal's images, after a change of pyproject.toml.

By uv's resolver, for the Python and the platform of the images. Pick a quiet day for it, and look at the difference.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from serving.cloud import modal_app
from ui.deploy import modal_app as cloud

PLATFORM = "x86_64-manylinux_2_28"
FILES = {
    modal_app.PINS / "hf.txt": lambda: modal_app.list_requirements("hf"),
    modal_app.PINS / "vllm.txt": lambda: modal_app.list_requirements("vllm"),
    cloud.PINS: cloud.list_requirements,
}


def main() -> int:
    for file, requirements in FILES.items():
        with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
            wanted.write("\n".join(requirements()))
            wanted.flush()
            command = [
                sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--python-version",
                modal_app.PYTHON, "--python-platform", PLATFORM, "--no-header", "--no-annotate",
                "--no-emit-index-url", "--no-emit-find-links", wanted.name, "-o", str(file),
            ]  # fmt: skip
            subprocess.run(command, check=True)
        print(f"{file.relative_to(Path.cwd())}: {len(modal_app.read_pins(file))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
