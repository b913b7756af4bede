"""The environment variables of our processes: those that they need, and none that may hold a secret.

Only variables named here are passed on: a snapshot has all of a worker's memory in files, and a list of secrets would
never be complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

NEEDED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HF_HOME", "TESSDATA_PREFIX")
NEEDED_PREFIXES = ("LC_", "SSL_CERT_", "PYTHON", "XDG_", "HF_HUB_", "TRANSFORMERS_")
LIBRARIES = ("OMP_", "GOMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "TORCH", "TRITON_", "VLLM_")
"""Prefixes of variables that native libraries read at load; a restored process does not read them again."""
SECRET = re.compile(r"(?:^|_)(?:TOKEN|KEYS?|SECRETS?|PASSWORD|CREDENTIALS?|AUTH)(?:_|$)", re.IGNORECASE)
"""Names that are not passed on despite those prefixes, such as VLLM_API_KEY and HF_HUB_TOKEN."""


def process_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that each process of ours needs. Proxies are left out: their URLs may contain a password."""
    kept = (*NEEDED_PREFIXES, *LIBRARIES)
    return {
        name: value
        for name, value in environment.items()
        if name in NEEDED or (name.startswith(kept) and not SECRET.search(name))
    }


def library_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that decide how native libraries compute: they belong to a snapshot's identity."""
    return {name: value for name, value in process_variables(environment).items() if name.startswith(LIBRARIES)}
