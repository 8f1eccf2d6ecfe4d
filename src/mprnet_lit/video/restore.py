"""Restoration of a video with its sound, subtitles, time stamps and metadata.

Decoding, restoration, conversion and encoding run in different threads.
"""

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.atomic import atomic_writer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.prefetch import OrderedExecutor, prefetch
from mprnet_lit.video.batches import Decoding, UnusableVideoError
from mprnet_lit.video.color import has_alpha
from mprnet_lit.video.formats import FORMATS, dropped_properties, encoding_for
from mprnet_lit.video.reading import Source, closing_output, frame_errors, open_source, write_errors
from mprnet_lit.video.segments import Segments
from mprnet_lit.video.streams import add_copies, add_encoder, write_header
from mprnet_lit.video.writing import Writer

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = frozenset(FORMATS)

Frames = NDArray[np.uint8]

_DECODED_BATCHES = 2
"""Maximum number of batches that are decoded in advance."""
_PENDING_BATCHES = 4
"""Maximum number of restored batches that are not encoded yet."""
_PENDING_BYTES = 2**28
"""Maximum size of these batches, unless there is only one."""


class Restored(NamedTuple):
    """Number of restored frames, and the mean of their changes."""

    frames: int
    change: float


def restore_video(
    source: Path,
    destination: Path,
    restore: Callable[[Frames], Frames],
    progress: Callable[[int, int], None] = lambda done, total: None,
    notify: Callable[[str], None] = lambda line: None,
    *,
    batch_size: Callable[[int, int], int] = lambda height, width: 1,
    measure: Callable[[Frames, Frames], float] = lambda before, after: 0.0,
    segments: Segments | None = None,
) -> Restored:
    """Restore every frame of a video.

    The suffix of ``destination`` selects the container and the encoder: H.264 (CRF 15.5) in MP4,
    MOV and Matroska, VP9 (CRF 18) in WebM, MPEG-4 (quantizer 2) in AVI. The encoder writes 8 bits
    and 4:2:0, or 4:4:4 if the height or width is odd (except in AVI). An alpha channel is copied to
    WebM (VP9) and MOV (ProRes 4444).

    The output keeps the frame size, time stamps, color range, color tags, pixel aspect ratio,
    rotation, chapters, names and languages as far as its container supports them. RGB becomes YCbCr
    of limited range. Sound and subtitles are copied without re-encoding. Additional video streams,
    cover images, attachments and data streams are dropped. Interlaced video is restored as if it
    were progressive. Memory use does not depend on the duration, except for the time stamps.

    The frames are encoded in segments of 5 s. With ``segments``, a call after a killed one resumes
    after the last complete segment, and writes the same frames and time stamps as a single call.
    The earlier frames are decoded again, but not restored or encoded.

    Args:
        source: path of the video. Its first video stream is restored.
        destination: path of the output, which is written atomically. Missing parent folders are
            created. ``destination`` may equal ``source``.
        restore: function that maps frames, uint8 RGB (N, H, W, 3) before rotation, to restored
            frames of the same shape.
        progress: callback for the number of restored frames and the total number of frames, called
            after each frame.
        notify: callback for one line that lists the dropped properties and streams, called before
            the first frame is restored if any are dropped.
        batch_size: function that returns the maximum N, given the height and width of the frames.
        measure: function that returns the change of a frame, given the frame, uint8 (H, W, 3),
            before and after. Background threads call it, several at the same time.
        segments: work folder, which the caller removes after success. An error in the video removes
            it.

    Returns:
        Number of frames and the mean of their changes.

    Raises:
        UserError: PyAV is not installed; the source is missing, damaged, truncated or not a video,
            has an unsupported color matrix, or changes its size or colors midway; the destination
            can't be written, or its container does not support the frame size, sound or subtitles
            of the source (checked before the first frame is restored).
    """
    container_format = FORMATS.get(destination.suffix.lower())
    if container_format is None:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"can't write {destination}: its format is unknown; use one of {known}")
    options = {"movflags": "+faststart"} if container_format in ("mp4", "mov") else {}
    advice = "free disk space, or choose another folder or format"
    with open_source(source) as opened, atomic_writer(destination, "the video", advice) as file:
        import av

        path = str(Path(file.name).absolute())
        with write_errors(destination):
            output = av.open(path, "w", format=container_format, options=options)
        with closing_output(output, destination):
            job = _Job(opened, destination, output, segments, batch_size, measure)
            return job.run(restore, progress, notify)


@dataclass(frozen=True)
class _Job:
    """Opened source and output of one video."""

    source: Source
    destination: Path
    output: "OutputContainer"
    segments: Segments | None
    batch_size: Callable[[int, int], int]
    measure: Callable[[Frames, Frames], float]

    def run(
        self,
        restore: Callable[[Frames], Frames],
        progress: Callable[[int, int], None],
        notify: Callable[[str], None],
    ) -> Restored:
        """Restore and encode all frames, and copy the other streams."""
        decoding, writer = self._open()
        dropped = dropped_properties(self.source, self.output.format.name)
        if dropped:
            notify(f"{self.source.path}: the output drops {', '.join(dropped)}")
        done, total = 0, len(self.source.timestamps)
        try:
            with (
                OrderedExecutor(_PENDING_BATCHES, _PENDING_BYTES) as executor,
                closing(prefetch(decoding.batches(), _DECODED_BATCHES)) as batches,
            ):
                for batch in batches:
                    restored = None
                    if frames := [frame[None, ..., :3] for frame in batch.frames]:
                        restored = restore(np.concatenate(frames) if len(frames) > 1 else frames[0])
                    held = 3 * sum(frame.nbytes for frame in batch.frames)  # with its results
                    executor.submit(partial(writer.prepare, batch, restored), held)
                    for _ in batch.times:
                        done += 1
                        progress(done, total)
        except UnusableVideoError:
            if self.segments is not None:
                self.segments.remove()
            raise
        return Restored(done, fmean(writer.changes or [0.0]))

    def _open(self) -> tuple[Decoding, Writer]:
        """Add the streams of the output, write its header, and return the decoder and writer."""
        import av

        source, output, destination = self.source, self.output, self.destination
        first = source.first
        encoding = encoding_for(output.format.name, has_alpha(first))
        with frame_errors(source.path):
            color = encoding.color_for(first)
        with write_errors(destination):
            stream = add_encoder(output, source, destination, encoding, color)
            copies = add_copies(output, source, destination)
            write_header(output, copies, source, destination)
        reused = 0
        if self.segments is not None:
            versions = av.__version__, av.library_versions
            reused = self.segments.start(output.format.name, encoding, color, versions)

        def create_encoder() -> "VideoStream":
            # Nothing is written to the sink. Closing it ends its references to the encoder, which
            # is then freed, with its threads and frames, once its segment is written.
            with av.open(io.BytesIO(), "w", format=output.format.name) as sink:
                return add_encoder(sink, source, destination, encoding, color)

        size = self.batch_size(first.height, first.width)
        base = stream.codec_context.time_base
        decoding = Decoding(source, tuple(copies), base, encoding.alpha, size, reused)
        writer = Writer(
            destination,
            output,
            stream,
            copies,
            color,
            create_encoder,
            self.measure,
            self.segments,
            reused,
        )
        return decoding, writer
