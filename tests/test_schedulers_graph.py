"""One compiled step serves every solver, and the loop reads nothing back from the device."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from musicldm.sampling import Guided, denoise_step, iterate
from musicldm.schedulers import DDIM, PNDM, SOLVERS, DPMSolver, Euler, UniPC

PLANS = [
    *((solver(), steps) for solver in SOLVERS for steps in (1, 4, 7)),
    (DDIM(eta=1.0), 5),
    (DPMSolver(solver_order=3, algorithm_type="sde-dpmsolver++"), 5),
    (UniPC(solver_order=3, solver_type="bh1"), 5),
    (PNDM(skip_prk_steps=True), 5),
    (Euler(use_karras_sigmas=True), 5),
]


class TinyUNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(4, 4)

    def forward(self, x, timestep, cond):
        return torch.tanh(self.mix(x) + cond[:, None, None, :4] + torch.cos(timestep / 100))


def test_one_graph_serves_all_solvers_all_step_counts_and_all_guidance():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    step = torch.compile(denoise_step, fullgraph=True, dynamic=False, backend=counter)
    generator = torch.Generator().manual_seed(0)
    unet, cond, uncond = TinyUNet(), *torch.randn(2, 1, 4, generator=generator)
    guidance = iter(torch.linspace(1.0, 9.0, len(PLANS)))
    with torch.no_grad():
        for solver, steps in PLANS:
            plan = solver.plan(steps)
            noise = torch.randn(len(plan) + 1, 1, 2, 3, 4, generator=generator)
            guided = Guided(unet, cond, uncond, next(guidance))
            *_, compiled = iterate(guided, plan, noise[0], step_noise=noise[1:], step=step)
            *_, plain = iterate(guided, plan, noise[0], step_noise=noise[1:])
            torch.testing.assert_close(compiled.x, plain.x)
    assert counter.frame_count == 1


class HostReads(TorchDispatchMode):
    """Counts the operations that wait for the device: .item(), float(tensor), nonzero, boolean masks."""

    names = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self.names
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_no_step_reads_anything_back_to_the_host(solver):
    plan = solver().plan(6)
    noise = torch.randn(len(plan), 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    with HostReads() as reads:
        for _ in iterate(lambda x, timestep: x.tanh() * timestep.cos(), plan, noise[0], step_noise=noise):
            pass
    assert reads.count == 0


def test_the_counter_of_host_reads_counts():
    with HostReads() as reads:
        float(torch.ones(()) * 2)
    assert reads.count == 1
