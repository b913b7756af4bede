"""colpali-engine's BiGemma3 alone, in a process of its own: what is imported counts for all of a process."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, logging, sys
from serving.embedders.bigemma3.colpali_import import import_bigemma3
module = import_bigemma3()
assert import_bigemma3() is module and logging.root.isEnabledFor(logging.WARNING)
found = [name for name in sys.modules if name.startswith("colpali_engine.models.") and sys.modules[name]]
print(json.dumps([module.BiGemma3.__name__, module.BiGemmaProcessor3.__name__, found]))
assert sys.modules["torchvision"] is sys.modules["sklearn"] is sys.modules["scipy"] is None
"""


def test_no_other_family_of_models_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model, processor, modules = json.loads(done.stdout.splitlines()[-1])
    assert (model, processor) == ("BiGemma3", "BiGemmaProcessor3")
    assert all(name.startswith("colpali_engine.models.gemma3") for name in modules), modules
