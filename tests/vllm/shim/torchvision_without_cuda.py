"""Lets torchvision be imported beside a torch without CUDA. Imported at the start of each interpreter of .venv-vllm.

The index has torchvision only for torch's CUDA build. Beside another torch its compiled part does not load, and
`import torchvision` ends with "operator torchvision::nms does not exist", because it describes two operators that
were never declared. Declaring them is enough: what vLLM and transformers use (resize, normalize) is plain torch.
"""

import sys
from importlib.abc import MetaPathFinder

KEPT = []
"""A library takes its operators along when it is collected."""


class DeclareOperators(MetaPathFinder):
    """Finds nothing; acts when torchvision is looked for, so that torch is not imported where nobody wants it."""

    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN201
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                KEPT.append(library)


sys.meta_path.insert(0, DeclareOperators())
