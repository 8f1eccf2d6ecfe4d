"""Videos of ``mode=restore``."""

import hashlib
from collections.abc import Callable
from functools import partial

from mprnet_lit.cli.restore_outputs import Outputs, Source
from mprnet_lit.inference import Restorer
from mprnet_lit.inference.change import mean_change
from mprnet_lit.inference.frame_batch import frames_at_once
from mprnet_lit.video.restore import restore_video
from mprnet_lit.video.segments import Segments


def restore_and_write(
    source: Source, restorer: Restorer, outputs: Outputs, progress: Callable[[int, int], None]
) -> None:
    """Restore a video and write the result, or resume a killed restoration.

    The unfinished video is in a hidden folder beside the result until the result is in place.

    Args:
        source: job with the state of the video file.
        restorer: restorer of the frames.
        outputs: options and records of the results.
        progress: callback with the number of restored frames and the total number.

    Raises:
        UserError: the video can't be restored, or the result can't be written.
    """
    place = source.job.destination
    name = hashlib.sha256(place.name.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = place.with_name(f".mprnet_lit-{name}.unfinished")
    segments = Segments(folder, f"{source.file.digest} {outputs.recipe}")
    with outputs.writing(source) as result:
        restored = restore_video(
            source.job.source,
            result,
            restorer,
            progress,
            outputs.note,
            batch_size=partial(frames_at_once, restorer),
            measure=mean_change,
            segments=segments,
        )
    segments.remove()
    outputs.tell(source.job, restored.change)
