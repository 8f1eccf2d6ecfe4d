"""Output of mode=restore: results with their records, the change of each photo, and the report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.cli.restore_inputs import Job, beside
from mprnet_lit.cli.restore_record import Records
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.images.reading import Pixels, write_png
from mprnet_lit.inference.change import change_text, excess_text, mean_change
from mprnet_lit.reports.image_report import Entry, center, write_report
from mprnet_lit.utils.atomic import staging
from mprnet_lit.utils.file_state import FileState
from mprnet_lit.weights.shipped import SHIPPED, shipped

_PICTURES = 20
"""Maximum number of photos in a report."""
_LARGEST = 1024
"""Maximum side of a picture in the report, in pixels; larger photos are cropped to the center."""


@dataclass(frozen=True)
class Source:
    """Job with the state of its file and, for a photo, the decoded photo."""

    job: Job
    file: FileState
    photo: Photo | None


@dataclass
class Outputs:
    """Output options, records of the results, and entries of the report.

    Attributes:
        limit: change of a photo above which a warning is printed; see ``Info.change``.
        note: function that prints a line.
        push: function that uploads files if the output is a URL.
    """

    stages: bool
    compare: bool
    report: bool
    recipe: str
    limit: float | None
    note: Callable[[str], None]
    push: Callable[[Sequence[Path]], None] = lambda files: None
    records: Records = field(default_factory=Records)
    entries: list[Entry] = field(default_factory=list)
    photos: int = 0

    @property
    def report_has_room(self) -> bool:
        """Whether the report has room for another photo."""
        return self.report and len(self.entries) < _PICTURES

    def show(
        self, job: Job, before: Pixels, stages: Sequence[Pixels], after: Pixels, change: float
    ) -> None:
        """Count a photo, and add it to the report unless the report is full."""
        self.photos += 1
        if self.report_has_room:
            # Crop to the centers, because the entries stay in memory until the page is written.
            first, *between, last = (center(image, _LARGEST) for image in (before, *stages, after))
            scores = {"change (of 255 levels)": change}
            entry = Entry(job.name, first, last, None, tuple(between), scores, after.shape[:2])
            self.entries.append(entry)

    def show_done(self, job: Job) -> None:
        """Count a photo that an earlier call restored, and add it to the report without stages.

        Its files are uploaded if an earlier upload failed.
        """
        self.push(job.files)
        if self.report_has_room and not job.is_video:
            before, after = read_photo(job.source).pixels, read_photo(job.destination).pixels
            self.show(job, before, (), after, mean_change(before, after))
        elif not job.is_video:
            self.photos += 1

    def tell(self, job: Job, change: float) -> None:
        """Print by how much a photo or video was changed, with a warning above the limit."""
        if excess := excess_text(change, self.limit):
            self.note(
                f"Warning: {job.name} {change_text(change)}, {excess}: compare it with the "
                "original, or lower inference.strength"
            )
        else:
            self.note(f"{job.name}: {change_text(change)}")

    @contextmanager
    def writing(self, source: Source) -> Iterator[Path]:
        """Yield a temporary path for a result; then record its files and move them into place."""
        destination = source.job.destination
        with staging(destination.parent) as folder:
            yield folder / destination.name
            self.records.publish(
                folder, destination.parent, self.recipe, source.job.source, source.file
            )
        self.push(source.job.files)

    def write(
        self, source: Source, stages: list[NDArray[Any]], restored: NDArray[Any]
    ) -> Callable[[], None]:
        """Write a restored photo with its stages and comparison to temporary files.

        Returns:
            Function that records the files, moves them into place, and counts the photo.
        """
        assert source.photo is not None
        before = source.photo.pixels
        with ExitStack() as stack:
            result = stack.enter_context(self.writing(source))
            write_photo(result, replace(source.photo, pixels=restored))
            for number, stage in enumerate(stages if self.stages else (), start=1):
                write_png(beside(result, f"stage{number}"), stage)
            if self.compare:
                write_png(beside(result, "compare"), np.concatenate((before, restored), 1))
            written = stack.pop_all()
        change = mean_change(before, restored)

        def publish() -> None:
            written.close()
            self.show(source.job, before, stages, restored, change)
            self.tell(source.job, change)

        return publish

    def write_report(self, page: Path, settings: Mapping[str, str]) -> None:
        """Write the report and record it."""
        shown = len(self.entries)
        count = "1 photo" if self.photos == 1 else f"{self.photos} photos"
        settings = {"restored": count, **settings}
        name = Path(settings["weights"]).stem
        if name in SHIPPED and Path(settings["weights"]) == shipped(name):
            settings["weights"] = f"{name} (in the package)"
        if self.limit is not None:
            limit = f"at most {self.limit:.1f} of 255 levels in 99% of the patches"
            settings = {**settings, "change in training": limit}
        with staging(page.parent) as folder:
            write_report(
                folder / page.name,
                "Restored photos",
                settings,
                [],
                self.entries,
                omitted=self.photos - shown,
            )
            self.records.publish(folder, page.parent)
        self.push([page])
