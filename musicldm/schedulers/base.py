"""What all solvers share: noise schedule, prediction type, spacing of timesteps, the hub's config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from operator import index
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from . import hub
from .noise import NoiseSchedule
from .plan import Plan
from .spacing import SPACINGS, timesteps

__all__ = ["PREDICTION_TYPES", "Scheduler", "predict"]

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
S = TypeVar("S", bound="Scheduler")


@dataclass(frozen=True, kw_only=True)
class Scheduler(ABC):
    """A solver's settings, under the hub's own names. `plan(steps)` turns them into a table.

    The settings of the model default to MusicLDM's. Solvers are values: `dataclasses.replace` makes a changed
    one, and `OtherSolver.from_config(scheduler)` carries the noise schedule over to another solver.

    Raises ValueError where settings are unknown or contradict each other.
    """

    hub_class: ClassVar[str]  # `_class_name` in the hub's scheduler_config.json

    num_train_timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        self._one_of("prediction_type", PREDICTION_TYPES)
        self._one_of("timestep_spacing", SPACINGS)
        if not 0 <= self.steps_offset < self.num_train_timesteps:
            raise ValueError(
                f"{type(self).__name__}: got steps_offset {self.steps_offset!r}, "
                f"expected 0 to {self.num_train_timesteps - 1}"
            )
        self.noise_schedule  # noqa: B018  its own checks, now rather than at the first plan

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any] | Scheduler, **overrides: Any) -> S:
        """This solver with the settings of a scheduler_config.json, of `Scheduler.config`, of another solver.

        A missing key means what the class that wrote the file would use for it (`hub.read` has the details).
        Settings that only other solvers have are left behind. Raises ValueError for keys that nobody knows,
        and for settings of Diffusers' that would change the numbers and that we do not have (thresholding).
        """
        mapping = config.config if isinstance(config, Scheduler) else config
        own = frozenset(f.name for f in fields(cls) if f.init)
        return cls(**hub.read(mapping, overrides, name=cls.__name__, hub_class=cls.hub_class, own=own))

    @property
    def config(self) -> dict[str, Any]:
        """The hub's scheduler_config.json, complete, as Diffusers reads it."""
        settings = {f.name: (getattr(self, f.name), f.default) for f in fields(self) if f.init}
        return hub.write(settings, hub_class=self.hub_class)

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The forward process that these settings describe."""
        return NoiseSchedule(**{f.name: getattr(self, f.name) for f in fields(NoiseSchedule)})

    def plan(self, num_inference_steps: int, *, skip: int = 0) -> Plan:
        """The table for that many steps, or for what is left of them after the `skip` noisiest.

        What is left is a run of its own, started at less noise: a multistep solver begins it without history.

        Raises TypeError if the number is no integer, ValueError if it is below 1 or above
        `num_train_timesteps`, or `skip` leaves nothing.
        """
        expected = f"expected an integer from 1 to {self.num_train_timesteps}"
        try:
            if isinstance(num_inference_steps, bool):
                raise TypeError
            steps = index(num_inference_steps)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}: got num_inference_steps {num_inference_steps!r}, {expected}"
            ) from None
        if not 1 <= steps <= self.num_train_timesteps:
            raise ValueError(f"{type(self).__name__}: got {steps} inference steps, {expected}")
        if not 0 <= skip < steps:
            raise ValueError(
                f"{type(self).__name__}: got skip {skip} of {steps} steps, expected 0 to {steps - 1}"
            )
        return self._plan(steps, skip)

    @abstractmethod
    def _plan(self, num_inference_steps: int, skip: int) -> Plan: ...

    def with_eta(self: S, eta: float) -> S:
        """The same solver with that share of ancestral noise; only DDIM has any.

        Raises ValueError if eta is not 0.
        """
        if eta != 0:
            raise ValueError(
                f"{type(self).__name__} has no eta, got {eta}; DDIM is the solver that takes one"
            )
        return self

    def _timesteps(self, n: int, *, ahead: int = 0) -> list[float]:
        return timesteps(self.timestep_spacing, n, self.num_train_timesteps, self.steps_offset, ahead=ahead)

    def _one_of(self, name: str, known: tuple[object, ...]) -> None:
        got = getattr(self, name)
        if got not in known or isinstance(got, bool):
            raise ValueError(f"{type(self).__name__}: got {name} {got!r}, expected one of {known}")


def predict(
    prediction_type: str, x: Tensor, out: Tensor, alpha: float, sigma: float
) -> tuple[Tensor, Tensor]:
    """x = alpha x0 + sigma eps and a model output -> (x0, eps). Works on tensors and on a plan's symbols."""
    if prediction_type == "epsilon":
        return (x - sigma * out) / alpha, out
    if prediction_type == "sample":
        return out, (x - alpha * out) / sigma
    return alpha * x - sigma * out, alpha * out + sigma * x
