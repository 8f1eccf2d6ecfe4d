"""Advice after an out-of-memory error: smaller micro-batches."""

from lightning import Callback, LightningModule, Trainer

from mprnet_lit.utils.hardware import is_gpu_out_of_memory


class OutOfMemoryAdvice(Callback):
    """Detects out-of-memory errors and suggests a smaller micro-batch.

    Attributes:
        advice: error message with a remedy; empty if no out-of-memory error occurred.
    """

    def __init__(self) -> None:
        self.advice = ""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Set ``advice``, which differs between training and validation."""
        if not is_out_of_memory(exception):
            return
        reason = (str(exception).strip() or type(exception).__name__).splitlines()[0]
        if not trainer.training:
            self.advice = (
                f"out of memory in validation ({reason}): set a smaller data.val_crop_size"
            )
            return
        batch = trainer.datamodule.device_batch_size()  # type: ignore[attr-defined]
        self.advice = f"out of memory with {batch} patches per device ({reason}): set "
        if batch > 1:
            smallest_factor = next(n for n in range(2, batch + 1) if batch % n == 0)
            self.advice += (
                "trainer.accumulate_grad_batches="
                f"{trainer.accumulate_grad_batches * smallest_factor} (the total batch size stays "
                "the same), "
            )
        self.advice += "module.gradient_checkpointing=true or a smaller data.patch_size"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device or the system ran out of memory."""
    text = str(error)
    of_cpu = "DefaultCPUAllocator" in text and "allocate memory" in text
    return (
        isinstance(error, MemoryError)
        or is_gpu_out_of_memory(error)
        or (isinstance(error, RuntimeError) and of_cpu)
    )
