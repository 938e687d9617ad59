"""The network and its optimizer on one worker: DeepSpeed's engine, and a plain-torch twin with the same contract."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra import zero_parts
from infra.clusters import Cluster
from infra.settings import train_on_processors
from models.common.contract import Engine, EngineFactory, LearnerState
from models.common.errors import CheckpointError

_WHOLE = "whole on each worker"

OptimizerFactory = Callable[[Any], torch.optim.Optimizer]


def engine_factory(cluster: Cluster, device: torch.device) -> EngineFactory:
    """What a stage calls to get its engine on this cluster."""
    kind = DeepSpeedEngine if cluster.engine == "deepspeed" else TorchEngine

    def make_engine(
        module: nn.Module,
        optimizer: OptimizerFactory,
        *,
        clip_norm: float | None = None,
        full_precision: bool = False,
    ) -> Engine:
        fits = _for_module(cluster, module, full_precision=full_precision)
        return kind(module.to(device), optimizer, clip_norm=clip_norm, cluster=fits)

    return make_engine


def _for_module(cluster: Cluster, module: nn.Module, *, full_precision: bool) -> Cluster:
    """The cluster as this module can use it; see `EngineFactory`."""
    if _is_float64(module):
        return cluster.but(precision="fp32", zero_stage=0)
    if full_precision:
        return cluster.but(precision="fp32", zero_stage=min(cluster.zero_stage, 2))
    return cluster


def _is_float64(module: nn.Module) -> bool:
    return any(parameter.dtype == torch.float64 for parameter in module.parameters())


class TorchEngine:
    """Plain torch: what DeepSpeed's results are held against, and quick to start in a test."""

    def __init__(
        self, module: nn.Module, optimizer: OptimizerFactory, *, clip_norm: float | None, cluster: Cluster
    ) -> None:
        self.module = module
        self.optimizer = optimizer(_trained(module).values())
        self.clip_norm = clip_norm
        self.bf16 = cluster.precision == "bf16"

    def __call__(self, *inputs: Any) -> Any:
        kind = next(self.module.parameters()).device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.bf16):
            return self.module(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        loss.backward()
        if last:
            _average([p.grad for p in self.module.parameters() if p.grad is not None])

    def step(self) -> float:
        norm = _clip(self.module.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def set_learning_rate(self, learning_rate: float) -> None:
        _set_learning_rate(self.optimizer, learning_rate)

    def state_dict(self) -> LearnerState:
        return LearnerState(shared={"module": _module_state(self.module), "optimizer": self.optimizer.state_dict()})

    def load_state_dict(self, state: LearnerState) -> None:
        _require_kind(state, _WHOLE)
        _load_module(self.module, state.shared["module"])
        self.optimizer.load_state_dict(state.shared["optimizer"])

    def optimizer_state(self, name: str) -> list[Tensor]:
        return _state_of(self.optimizer, self.module, name)

    def weights(self) -> dict[str, Tensor]:
        return _copies(self.module)


class DeepSpeedEngine:
    """DeepSpeed's engine at the cluster's ZeRO stage and precision.

    At stage 0 every rank holds everything. From stage 1 on, each rank's part of the optimizer (at 3, of the weights
    too) is its own, and is cut anew for another number of workers. Those parts are float32, so that a float64 module
    runs at stage 0.
    """

    def __init__(
        self, module: nn.Module, optimizer: OptimizerFactory, *, clip_norm: float | None, cluster: Cluster
    ) -> None:
        deepspeed = _import_deepspeed(cluster)
        self.clip_norm = clip_norm
        self.zero_stage = cluster.zero_stage
        self.kind = f"spread by ZeRO {self.zero_stage} in {cluster.precision}" if self.zero_stage else _WHOLE
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimizer(_trained(module).values()),
            config=_deepspeed_config(cluster, clip_norm),
            dist_init_required=False,
        )
        self.module: nn.Module = self.engine.module
        # DeepSpeed refuses to average float64 gradients (its accelerators do not name the type), and would send them
        # in float32: they are averaged here.
        self.averages_itself = _is_float64(self.module)
        self.engine.enable_backward_allreduce = not self.averages_itself

    def __call__(self, *inputs: Any) -> Any:
        return self.engine(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss)  # at the last one it averages the gradient over the ranks, too
        if self.averages_itself and last:
            _average([p.grad for p in self.module.parameters() if p.grad is not None])

    def step(self) -> float:
        if self.zero_stage == 0:
            # DeepSpeed clips at stage 0 as well, but does not tell the norm.
            norm = _clip(self.module.parameters(), self.clip_norm)
            self.engine.step()
            return norm
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def set_learning_rate(self, learning_rate: float) -> None:
        _set_learning_rate(self.optimizer, learning_rate)

    def state_dict(self) -> LearnerState:
        if self.zero_stage == 0:
            return LearnerState(shared={"module": _module_state(self.module), "optimizer": self.optimizer.state_dict()})
        module = {"module": _module_state(self.module)}
        optimizer = {"optimizer": self.optimizer.state_dict(), "kind": self.kind}
        if self.zero_stage == 3:  # the optimizer's part holds the weights; the module's own tensors are empty
            return LearnerState(shared={}, own=optimizer)
        return LearnerState(shared=module, own=optimizer)

    def load_state_dict(self, state: LearnerState) -> None:
        _require_kind(state, self.kind)
        if self.zero_stage != 3:
            _load_module(self.module, state.shared["module"])
        if self.zero_stage == 0:
            self.optimizer.load_state_dict(state.shared["optimizer"])
        else:
            # DeepSpeed wants a list with every rank's part and reads this rank's. Unless told, it takes the weights
            # that it updates from the module, where bf16 has rounded them.
            parts = [self._own_part(state)] * dist.get_world_size()
            self.optimizer.load_state_dict(parts, load_from_fp32_weights=True)

    def _own_part(self, state: LearnerState) -> dict[str, Any]:
        if not state.of_others:
            return state.own["optimizer"]
        saved = [own["optimizer"] for own in state.of_others]
        rank, size = dist.get_rank(), dist.get_world_size()
        return zero_parts.for_rank(saved, self.optimizer, zero_stage=self.zero_stage, rank=rank, size=size)

    def optimizer_state(self, name: str) -> list[Tensor]:
        if self.zero_stage == 0:
            return _state_of(self.optimizer, self.module, name)
        if not self.optimizer.optimizer.state:
            return _zeros(self.module)
        if self.zero_stage < 3:
            # DeepSpeed ties parameters to the state that it finds at its first step: not yet, or not any more, to
            # the one that was loaded.
            self.optimizer._hp_optimizer_states_linked = False
            self.optimizer._lazy_init_hp_params_optimizer_state()
        from deepspeed.utils import safe_get_full_optimizer_state

        full = []
        for parameter in _trained(self.module).values():
            state = safe_get_full_optimizer_state(parameter, name)
            assert state is not None, f"the optimizer holds no '{name}'"
            full.append(state)
        return full

    def weights(self) -> dict[str, Tensor]:
        if self.zero_stage == 0:
            return _copies(self.module)
        from deepspeed.utils import safe_get_full_fp32_param

        full = {}
        for name, parameter in _trained(self.module).items():
            value = safe_get_full_fp32_param(parameter)
            assert value is not None, f"DeepSpeed holds no float32 value of {name}"
            full[name] = value.detach().cpu().clone()
        return full


def _import_deepspeed(cluster: Cluster) -> Any:
    if not cluster.gpus_per_worker:
        train_on_processors()
    import deepspeed
    import deepspeed.ops

    # The operator speeds up all-reduce within a host, and would be compiled at first use: a machine that has no
    # compiler could not train at all.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _deepspeed_config(cluster: Cluster, clip_norm: float | None) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,  # learners make their own batches; only accumulation reads this
        "gradient_accumulation_steps": 1,
        "gradient_clipping": (clip_norm or 0.0) if cluster.zero_stage else 0.0,
        "zero_optimization": {"stage": cluster.zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": cluster.precision == "bf16"},
    }


def _require_kind(state: LearnerState, kind: str) -> None:
    """Raises CheckpointError where the state was saved by an engine that keeps it in another way."""
    [found, *_] = [own["kind"] for own in (state.own, *state.of_others) if own] or [_WHOLE]
    if found != kind:
        raise CheckpointError(
            f"the checkpoint's optimizer was {found}; here it is {kind}\n"
            "fits: any number of workers of a cluster with the ZeRO stage and precision that this run began with\n"
            "resume on such a cluster, or begin anew with another --run-key"
        )


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _module_state(module: nn.Module) -> dict[str, Tensor]:
    """The module's state without what is frozen, which is as it was when the stage began."""
    frozen = _frozen(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _load_module(module: nn.Module, state: dict[str, Tensor]) -> None:
    missing, unexpected = module.load_state_dict(state, strict=False)
    lost = sorted({*missing, *unexpected} - _frozen(module))
    assert not lost, f"the module and its saved state differ in {', '.join(lost)}"


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters(remove_duplicate=False) if not parameter.requires_grad}


def _set_learning_rate(optimizer: Any, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _clip(parameters: Iterable[nn.Parameter], clip_norm: float | None) -> float:
    """Scales the gradient down to `clip_norm` where it is longer; returns its norm before."""
    bound = float("inf") if clip_norm is None else clip_norm
    return float(torch.nn.utils.clip_grad_norm_(list(parameters), bound))


def _average(gradients: list[Tensor]) -> None:
    """Replaces each gradient by its mean over the ranks, in one message."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _state_of(optimizer: torch.optim.Optimizer, module: nn.Module, name: str) -> list[Tensor]:
    """In full; zeros for a parameter that no step has changed."""
    if not optimizer.state:
        return _zeros(module)
    found = [optimizer.state.get(parameter, {}).get(name) for parameter in _trained(module).values()]
    assert any(state is not None for state in found), f"the optimizer holds no '{name}'"
    return [zeros if state is None else state for state, zeros in zip(found, _zeros(module), strict=True)]


def _zeros(module: nn.Module) -> list[Tensor]:
    """Zeros like the parameters, whose shapes ZeRO 3 keeps aside."""
    return [p.new_zeros(getattr(p, "ds_shape", p.shape)) for p in _trained(module).values()]


def _copies(module: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU in float32, or in float64 where the module's are."""
    return {
        name: value.detach().to("cpu", torch.promote_types(value.dtype, torch.float32)).clone()
        for name, value in _trained(module).items()
    }
