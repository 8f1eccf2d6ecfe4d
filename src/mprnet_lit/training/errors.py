"""Conversion of training errors to error messages with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from mprnet_lit.training.callbacks.out_of_memory import OutOfMemoryAdvice
from mprnet_lit.training.callbacks.peer_check import PeerCheck
from mprnet_lit.utils.compat import is_restoring
from mprnet_lit.utils.errors import UserError


@contextmanager
def explained(trainer: Trainer, folder: Path) -> Iterator[None]:
    """Convert training errors of known cause to a UserError with a remedy.

    Raises:
        UserError: the cause of the error is known.
        SystemExit: another process was lost, and ``PeerCheck`` has printed a message.
    """
    try:
        yield
    except Exception as error:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PeerCheck) and callback.lost:
                raise SystemExit(1) from error
            if isinstance(callback, OutOfMemoryAdvice) and callback.advice:
                raise UserError(callback.advice) from error
        if sentence := _of_worker(str(error), folder) or _of_checkpoint(error, trainer):
            raise UserError(sentence) from error
        raise


def _of_worker(text: str, folder: Path) -> str:
    """Return a message if a DataLoader worker died, or an empty string."""
    resume = f"then add resume=auto to resume from the last checkpoint in {folder}"
    if "killed by signal: Bus error" in text or "shared memory(shm)" in text:
        return (
            "a DataLoader worker ran out of shared memory (/dev/shm): give a container more "
            f"(docker run --shm-size=2g) or set data.num_workers=0, {resume}"
        )
    if "DataLoader worker (pid" in text:
        return (
            "a DataLoader worker died unexpectedly (possibly out of memory): set a smaller "
            f"data.num_workers or data.cache_gb, {resume} (the message of torch: "
            f"{text.partition('. ')[0]})"
        )
    return ""


def _of_checkpoint(error: Exception, trainer: Trainer) -> str:
    """Return a message if restoring a checkpoint failed, or an empty string."""
    if not is_restoring(trainer) or isinstance(error, UserError | OSError):
        return ""
    first_line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return (
        f"{trainer.ckpt_path} can't be resumed: it does not fit this configuration, or it is "
        f"damaged ({first_line}); to start from its weights use weights={trainer.ckpt_path} "
        "without resume"
    )
