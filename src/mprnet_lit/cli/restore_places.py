"""Local paths for the inputs and the output of mode=restore, which may be URLs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mprnet_lit.cli.restore_inputs import SUFFIXES, Job
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.mirror import fetch
from mprnet_lit.utils.outbox import Outbox
from mprnet_lit.utils.remote import Location
from mprnet_lit.utils.url import is_url, local_path, shown


def local_inputs(sources: Sequence[str], output: str) -> list[str]:
    """Return the inputs, with the local copy of each URL.

    Files in ``output`` are not downloaded. Wildcards in local copies need no expansion.

    Raises:
        UserError: a URL can't be read, or is also the output.
    """
    for source in sources:
        if is_url(source) and is_url(output) and _place(source) == _place(output):
            raise UserError(
                f"output={shown(output)} would overwrite the input files: choose another output"
            )
    return [str(fetch(each, _is_photo_or_video, without=output)) for each in sources]


class Target:
    """Place of the results: a local file or folder, or a URL to which they are uploaded.

    Args:
        output: local path or URL. A URL with the suffix of an image or a video is a file.

    Attributes:
        local: path to which the results are written.

    Raises:
        UserError: the protocol of the URL is unknown, or its package is not installed.
    """

    def __init__(self, output: str) -> None:
        self._outbox: Outbox | None = None
        self.local = output
        if (path := local_path(output)) is not None:
            self.local = path
        elif is_url(output):
            folder, _, name = output.rpartition("/")
            is_file = _is_photo_or_video(name)
            self._outbox = Outbox(folder if is_file else output)
            self.local = str(self._outbox.folder / name if is_file else self._outbox.folder)

    @property
    def push(self) -> Callable[[Sequence[Path]], None]:
        """Function that uploads files unless they are unchanged; without a URL, it does nothing."""
        return self._outbox.push if self._outbox else lambda files: None

    def check(self, jobs: Sequence[Job], page: Path | None, *, overwrite: bool) -> None:
        """Check that no upload overwrites a file that this machine did not upload.

        Args:
            jobs: files to restore.
            page: path of the report, if one is written.
            overwrite: whether to replace such files.

        Raises:
            UserError: an upload would overwrite such a file, or the URL can't be read.
        """
        if self._outbox is not None:
            files = [file for job in jobs for file in job.files]
            if page is not None:
                files.append(page)
            self._outbox.check(files, overwrite=overwrite)


def _is_photo_or_video(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _place(url: str) -> tuple[Any, str]:
    """Return the file system and the path of a URL."""
    location = Location(url)
    return location.fs, location.path.rstrip("/")
