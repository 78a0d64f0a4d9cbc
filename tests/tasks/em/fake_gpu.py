"""A device "cuda" that is none: its tensors live in memory, but must not meet those of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_MARK = "_on_fake_gpu"


class FakeGpu(TorchFunctionMode):
    """Inside, `device="cuda"` makes marked tensors; mixing them with others, or reading them
    without `.cpu()`, is the error that CUDA would raise. `used` counts operations on them.
    """

    used = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = any(hasattr(tensor, _MARK) for tensor in tensors)
        if getattr(function, "__self__", None) is torch.Tensor.device and ours:
            return torch.device("cuda", 0)
        asked = [leaf for leaf in _devices((args, kwargs)) if leaf.type == "cuda"]
        if ours and any(t.ndim > 0 and not hasattr(t, _MARK) for t in tensors) and name != "to":
            raise RuntimeError(f"{name}: a tensor on the CPU meets one on the GPU")
        if ours and name in ("numpy", "tolist", "__array__"):
            raise TypeError(f"{name}: copy the tensor to host memory first")
        found = function(*_on_cpu(args), **_on_cpu(kwargs))
        if (ours and name != "cpu") or asked:
            type(self).used += 1
            _mark(found)
        return found.clone() if name == "cpu" and ours else found


def _devices(values: Any) -> Iterator[torch.device]:
    for leaf in tree_leaves(values):
        if isinstance(leaf, torch.device):
            yield leaf
        elif isinstance(leaf, str) and leaf.split(":")[0] in ("cuda", "cpu"):
            yield torch.device(leaf)


def _on_cpu(values: Any) -> Any:
    def one(leaf: Any) -> Any:
        named = isinstance(leaf, str) and leaf.split(":")[0] == "cuda"
        return "cpu" if named or isinstance(leaf, torch.device) else leaf

    return tree_map(one, values)


def _mark(found: Any) -> None:
    for leaf in tree_leaves(found):
        if isinstance(leaf, torch.Tensor):
            setattr(leaf, _MARK, True)
