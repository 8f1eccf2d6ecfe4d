"""Sharded data parallelism: training on several devices with FSDP2 of torch."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.compat import averaged_model


class ShardedStrategy(DDPStrategy):
    """Distributed data parallelism with sharded parameters, gradients and optimizer states.

    The sharded tensors are DTensors, of which each process holds a part. Averaged weights are
    sharded too. Mixed precision, the reduction of gradients and checkpoints are the same as with
    DDP, so that a checkpoint can be resumed with another strategy or number of devices.
    """

    def configure_ddp(self) -> None:
        """Shard the network and its average instead of wrapping them for DDP."""
        module = self.lightning_module
        assert isinstance(module, RestorationModule)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        _shard_network(module, mesh)
        for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                average = averaged_model(callback).to(self.root_device)
                _shard_network(cast(RestorationModule, average.module), mesh)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Gather the tensors of a checkpoint from all processes and save them to one file."""
        super().save_checkpoint(gathered(checkpoint), filepath, storage_options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Shard the optimizer states of a checkpoint as the parameters are."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            moments = {
                index: {name: _sharded_as(parameters[index], v) for name, v in values.items()}
                for index, values in state["state"].items()
            }
            optimizer.load_state_dict(state | {"state": moments})

    def teardown(self) -> None:
        """Release the resources. Unlike with DDP, the shards stay on their device."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def gathered(value: Any) -> Any:
    """Return a value with whole tensors instead of sharded ones, also in dictionaries and lists.

    All processes must call the function with the same structure.
    """
    if isinstance(value, dict):
        return {key: gathered(child) for key, child in value.items()}
    if isinstance(value, list):
        return [gathered(child) for child in value]
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor in this process (possibly empty), or another tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _shard_network(module: RestorationModule, mesh: DeviceMesh) -> None:
    """Shard a network in place, as one unit: weights take little memory beside activations."""
    # FSDP supports contiguous parameters only. The activations stay channels_last.
    module.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # Without resharding, parameters() would return whole tensors after a validation.
    fully_shard(module.model, mesh=mesh, reshard_after_forward=True)


def _sharded_as(parameter: Tensor, value: Any) -> Any:
    """Shard a moment as its parameter is; return other values unchanged."""
    if not (isinstance(parameter, DTensor) and isinstance(value, Tensor)):
        return value
    if value.shape != parameter.shape:  # the number of steps
        return value
    value = value.to(parameter.device).contiguous()
    # All processes have read the same file, so each takes its part without communication.
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
