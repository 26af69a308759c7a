"""The fast path: the functions of this package through `torch.compile`, one graph per shape.

Nothing is written twice. A `Compiled` stands where the function stood; the function stays its oracle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Compiled", "compile_in_place"]

log = logging.getLogger(__name__)

MOST_SHAPES = 256  # torch gives up after 8 unless told: a study of lengths and batch sizes needs more


class Compiled:
    """A function of tensors, compiled as one graph without breaks for each new shape.

    The first call with a shape compiles, which takes a minute or more for a U-Net, and says so in the log;
    later calls run. Outputs are copies: with CUDA graphs (mode="reduce-overhead") every replay writes to the
    same memory, and what a caller keeps must survive the next step.

    mode, backend: torch.compile's. dynamic: one graph for clips of any length (time is the last axis but one
    of every tensor here) instead of one per length; it compiles longer and may run slower.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        mode: str | None = None,
        dynamic: bool = False,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        self.name = name
        self.dynamic = dynamic
        self._run = torch.compile(
            function, fullgraph=True, mode=mode, dynamic=None if dynamic else False, backend=backend
        )
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, *arguments: Any) -> Any:
        """The function's own arguments, and its results: a tensor or a tuple of tensors."""
        import torch._dynamo  # here, since it takes a second and only the fast path needs it

        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if self.dynamic:
            for tensor in tensors:
                torch._dynamo.maybe_mark_dynamic(tensor, tensor.ndim - 2)
        self._say(arguments, tensors)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # the limits' names until torch 2.5, kept by later versions as aliases
        limits = {"cache_size_limit": MOST_SHAPES, "accumulated_cache_size_limit": 8 * MOST_SHAPES}
        with torch._dynamo.config.patch(limits):
            outputs = self._run(*arguments)
        if isinstance(outputs, Tensor):
            return outputs.clone()
        return tuple(output.clone() for output in outputs)

    def _say(self, arguments: tuple[Any, ...], tensors: list[Tensor]) -> None:
        shapes = [each.shape[:-2] + each.shape[-1:] if self.dynamic else each.shape for each in tensors]
        signature = (*map(type, arguments), *shapes, *((each.dtype, each.device) for each in tensors))
        if signature not in self._seen:
            self._seen.add(signature)
            sizes = ", ".join(str(tuple(each.shape)) for each in tensors)
            log.warning("compiling %s for %s; later clips of this size run at once", self.name, sizes)


def compile_in_place(module: nn.Module, **options: Any) -> None:
    """`module.compile`, by way of `Compiled`: calls are compiled, parameters and keys stay as they are.

    options: `Compiled`'s.
    """
    module._compiled_call_impl = Compiled(module._call_impl, type(module).__name__, **options)
