"""Locks of open files against other processes."""

from contextlib import suppress

with suppress(ImportError):  # Windows
    import fcntl


def lock_file(descriptor: int, *, wait: bool = True, shared: bool = False) -> bool | None:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: file descriptor.
        wait: whether to wait while another process holds the lock.
        shared: whether other processes may hold a shared lock at the same time.

    Returns:
        Whether the lock was acquired; ``None`` if the system or the file system does not support
        locks.
    """
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
    except NameError:  # Windows
        return None
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
