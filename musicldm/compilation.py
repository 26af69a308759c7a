"""The fast path: the functions of this package through `torch.compile`, or recorded as one CUDA graph.

Nothing is written twice. A `Compiled` or a `Captured` stands where the function stood; the function stays
its oracle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Captured", "Compiled", "compile_in_place"]

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


class Captured:
    """A function of tensors recorded once as a CUDA graph, and replayed: the CPU launches one thing per call.

    The function must be pure, of tensors that are all given or on the GPU already, and read nothing back: a
    run of `sampling.sample` with a plan that was moved there, and a decoder behind it, are such a function.
    So is a `Compiled` one, unless its mode makes graphs of its own. It runs without gradients.

    examples: tensors of the shapes and types of all later calls. Warm-up on a side stream comes first: it
    compiles, chooses kernels, and makes what they keep. Raises RuntimeError where there is no GPU.
    """

    def __init__(self, function: Callable[..., Any], *examples: Tensor, warmup: int = 1) -> None:
        if not torch.cuda.is_available():
            raise RuntimeError(
                "Captured: a CUDA graph needs a CUDA device, and torch sees none; call the function itself"
            )
        self._inputs = [example.clone() for example in examples]
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad():
            with torch.cuda.stream(side):
                for _ in range(warmup):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph):
                self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's results, as copies: the next replay writes to the same memory.

        Raises ValueError if a tensor has another shape or type than its example.
        """
        for mine, given in zip(self._inputs, inputs, strict=True):
            if (mine.shape, mine.dtype) != (given.shape, given.dtype):
                raise ValueError(
                    f"Captured: got {given.dtype} of shape {tuple(given.shape)}, expected {mine.dtype} of "
                    f"{tuple(mine.shape)}, for which the graph was recorded; record another one"
                )
            mine.copy_(given)
        self._graph.replay()
        if isinstance(self._outputs, Tensor):
            return self._outputs.clone()
        return tuple(output.clone() for output in self._outputs)
