"""Drawn clean content that resembles degradations: stripes, lattices, text and strings."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from mprnet_lit.utils.checks import require, require_generator, require_image, require_number
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]
Shape = tuple[int, int]

_FINE = 2
"""Factor by which text and strings are drawn larger, to be reduced by an area filter."""
_FRACTION_BITS = 4
"""Number of fractional bits of the coordinates that OpenCV draws with."""
_FONT_SIZES = (8, 10, 12, 15, 18, 22, 27, 33, 40, 48, 58, 70, 84, 100, 120)
"""Sizes of the outline font in drawn pixels; an affine map gives the sizes between them."""
_MAX_GLYPHS = 160
"""Maximum number of characters in an image, which bounds the time for small text."""
_LETTERS = tuple("eeeeettaaooiinnsshhrrddlluucmwfgypbvkxjqz")


class Patterns:
    """Draws patterns onto clean images before their degradation.

    Stripes look like rain, fine lattices like noise, and soft text like motion blur. A network
    that has seen them only in degraded images removes or changes them. The patterns are therefore
    part of the target. They cover the photograph, or replace it by a smooth background. Some are
    slightly blurred.

    Args:
        probability: probability that an image gets a pattern, 0 to 1.
        kinds: kinds to draw from: ``stripes`` (straight or curved, as of a zebra), ``lattice``
            (grids, fences, dots and checks), ``text`` (an outline font and the fonts of OpenCV,
            at any size and angle) and ``strings`` (strings, wires and hair).

    Raises:
        UserError: ``probability`` is out of range, or ``kinds`` is empty or has an unknown kind.
    """

    def __init__(
        self,
        probability: float = 0.3,
        kinds: Sequence[str] = ("stripes", "lattice", "text", "strings"),
    ) -> None:
        require_number("probability", probability, low=0, high=1)
        require("kinds", kinds, (list, tuple), "a list")
        if not kinds or not all(kind in _KINDS for kind in kinds):
            raise UserError(f"kinds={kinds} must be one or more of {', '.join(_KINDS)}, in a list")
        self.probability = probability
        self.kinds = tuple(kinds)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Draw one or two patterns, or return the image itself.

        Args:
            image: sRGB image, (H, W, 3) float32 in [0, 1].
            rng: random generator. A generator that is spawned from it draws all random numbers, so
                that the later numbers of ``rng`` do not depend on the patterns.

        Returns:
            Image with the patterns, (H, W, 3) float32 in [0, 1].

        Raises:
            UserError: ``image`` is not a floating-point array (H, W, 3), or ``rng`` is not a
                ``numpy.random.Generator``.
        """
        require_image(image)
        require_generator(rng)
        own = rng.spawn(1)[0]
        if own.random() >= self.probability:
            return image
        shape = image.shape[:2]
        drawn = image if own.random() < 0.5 else _shading(shape, own)
        for _ in range(own.choice([1, 2], p=[0.75, 0.25])):
            coverage = _KINDS[self.kinds[own.integers(len(self.kinds))]](shape, own)
            if own.random() < 0.3:
                coverage = _floats(cv2.GaussianBlur(coverage, (0, 0), own.uniform(0.4, 1.5)))
            coverage *= np.float32(own.uniform(0.3, 1))
            drawn = drawn + coverage[..., None] * (_shading(shape, own) - drawn)
        return np.clip(drawn, 0, 1)


def _shading(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw a color with a smooth gradient: (H, W, 3) in [0, 1]."""
    color = rng.beta(0.6, 0.6) + rng.normal(0, rng.choice([0.02, 0.02, 0.25]), 3)
    corners = color + rng.normal(0, rng.uniform(0, 0.15), (2, 2, 1))
    return _floats(cv2.resize(np.clip(corners, 0, 1).astype(np.float32), shape[::-1]))


def stripes(
    shape: Shape, rng: np.random.Generator, angle: float, period: float, duty: float, warp: Image
) -> Image:
    """Draw parallel stripes: coverage (H, W) in [0, 1], the exact area of pixels across them.

    Args:
        shape: height and width.
        rng: random generator of the position.
        angle: direction across the stripes in radians.
        period: distance between two stripes in pixels.
        duty: width of a stripe relative to the period.
        warp: displacement of the stripes in pixels, (H, W).
    """
    rows = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    columns = np.arange(shape[1], dtype=np.float32) * np.float32(np.cos(angle))
    across = (rows + columns + warp) / np.float32(period) + np.float32(rng.random())
    distance = np.abs(across - np.rint(across)) * np.float32(period)
    width = duty * period
    reach, most = np.float32((width + 1) / 2), np.float32(min(width, 1))
    # A pixel in a gap narrower than a pixel is also covered by the next stripe.
    coverage: Image = np.clip(reach - distance, 0, most)
    coverage += np.clip(reach - np.float32(period) + distance, 0, most)
    return coverage


def _warp(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw a smooth displacement (H, W) in pixels, 0 everywhere for half of the images."""
    cells = int(rng.integers(3, 7))
    strength = rng.choice([0, rng.uniform(0.05, 0.3)]) * max(shape) / cells
    coarse = rng.normal(0, strength, (cells, cells)).astype(np.float32)
    return _floats(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _period(rng: np.random.Generator) -> float:
    """Draw a period from 3 to 40 pixels, short ones more often."""
    return float(np.exp(rng.uniform(np.log(3), np.log(40))))


def _draw_stripes(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw straight or curved stripes: coverage (H, W) in [0, 1]."""
    angle, duty = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
    return stripes(shape, rng, angle, _period(rng), duty, _warp(shape, rng))


def _draw_lattice(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw bars in two directions, or dots or checks: coverage (H, W) in [0, 1]."""
    angle = rng.choice([0, rng.uniform(0, np.pi)])
    turn = rng.choice([np.pi / 2, np.pi / 2, np.pi / 3, rng.uniform(0.5, np.pi / 2)])
    period, warp = _period(rng), _warp(shape, rng)
    kind = rng.choice(["bars", "bars", "dots", "checks"])
    duty = {"bars": rng.uniform(0.08, 0.4), "dots": rng.uniform(0.3, 0.7), "checks": 0.5}[kind]
    second = period * rng.choice([1, rng.uniform(0.5, 4)])
    first = stripes(shape, rng, angle, period, duty, warp)
    other = stripes(shape, rng, angle + turn, max(second, 3), duty, warp)
    if kind == "bars":
        return first + other - first * other
    return first * other if kind == "dots" else first + other - 2 * first * other


def _draw_text(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw lines of random words: coverage (H, W) in [0, 1]."""
    size = float(np.exp(rng.uniform(np.log(5), np.log(60)))) * _FINE
    drawn = max((s for s in _FONT_SIZES if s <= size), default=_FONT_SIZES[0])
    side = int(np.hypot(*shape) * _FINE * drawn / size) + 1
    per_line = min(int(side / (0.4 * drawn)) + 2, _MAX_GLYPHS)
    step = drawn * rng.uniform(1.0, 1.8)
    lines = max(min(int(side / step) + 1, _MAX_GLYPHS // per_line), 1)
    top = rng.uniform(-0.2, 1) * max(side - lines * step, 0) - rng.uniform(0, 0.3) * drawn
    texts = [_words(per_line, rng) for _ in range(lines)]
    places = [(-rng.uniform(0, 0.3) * side, top + k * step) for k in range(lines)]
    paint = _paint_outlines if rng.random() < 0.5 else _paint_strokes
    canvas = paint(side, drawn, texts, places, rng)

    degrees = rng.choice([0, rng.normal(0, 6), 90, rng.uniform(-180, 180)], p=[0.3, 0.3, 0.1, 0.3])
    place = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, size / drawn)
    large = shape[1] * _FINE, shape[0] * _FINE
    place = place + np.array([[0, 0, (large[0] - side) / 2], [0, 0, (large[1] - side) / 2]])
    return _reduced(cv2.warpAffine(canvas, place, large), shape)


def _paint_outlines(
    side: int,
    size: int,
    texts: Sequence[str],
    places: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw text with the outline font of Pillow: (side, side) uint8."""
    canvas = np.zeros((side, side), np.uint8)
    for text, (left, top) in zip(texts, places, strict=True):
        line = np.concatenate([_glyph(letter, size) for letter in text], axis=1)
        line = line[max(-round(top), 0) :, max(-round(left), 0) :]
        free = canvas[max(round(top), 0) :, max(round(left), 0) :]
        shape = tuple(np.minimum(line.shape, free.shape))
        free[: shape[0], : shape[1]] |= line[: shape[0], : shape[1]]
    bold = int(rng.choice([1, 1, 1 + size // 10]))
    cv2.dilate(canvas, np.ones((bold, bold), np.uint8), dst=canvas)
    return canvas


def _paint_strokes(
    side: int,
    size: int,
    texts: Sequence[str],
    places: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw text with a font of OpenCV: (side, side) uint8."""
    canvas = np.zeros((side, side), np.uint8)
    face = int(rng.integers(8)) | int(rng.choice([0, cv2.FONT_ITALIC]))
    thickness = max(1, round(size * rng.uniform(0.02, 0.15)))
    scale = cv2.getFontScaleFromHeight(face, max(round(0.7 * size), 1), thickness)
    for text, (left, top) in zip(texts, places, strict=True):
        base = round(left), round(top + size)
        cv2.putText(canvas, text, base, face, scale, 255, thickness, cv2.LINE_AA)
    return canvas


@lru_cache(maxsize=len(_FONT_SIZES) * 100)
def _glyph(letter: str, size: int) -> NDArray[np.uint8]:
    """Draw a character with the font that Pillow includes: uint8, as high as a line."""
    font = _font(size)
    picture = Picture.new("L", (max(round(font.getlength(letter)), 1), round(1.3 * size)))
    ImageDraw.Draw(picture).text((0, 0), letter, fill=255, font=font)
    return np.asarray(picture)


@lru_cache(maxsize=len(_FONT_SIZES))
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(length: int, rng: np.random.Generator) -> str:
    """Draw words, capitals and numbers of ``length`` characters in total."""
    letters = "".join(rng.choice(_LETTERS, length))
    kind = rng.choice(["words", "capitals", "numbers"], p=[0.7, 0.2, 0.1])
    if kind == "numbers":
        letters = "".join(rng.choice(tuple("0123456789.,%+-/"), length))
    ends = np.cumsum(rng.integers(2, 9, length))
    words = [letters[a:b] for a, b in zip((0, *ends), ends, strict=False) if a < length]
    text = " ".join(word.capitalize() if rng.random() < 0.2 else word for word in words)
    return (text.upper() if kind == "capitals" else text)[:length]


def _draw_strings(shape: Shape, rng: np.random.Generator) -> Image:
    """Draw curves that cross the image in similar directions: coverage (H, W) in [0, 1]."""
    count = int(rng.integers(1, 21))
    center = np.array(shape[::-1]) * _FINE / 2
    reach = float(np.hypot(*center)) + 4 * _FINE
    spread = rng.choice([0, rng.uniform(0, 0.15), rng.uniform(0, 0.6)])
    angles = rng.uniform(0, np.pi) + rng.normal(0, spread, count)
    along = np.stack((np.cos(angles), np.sin(angles)), 1)[:, None]
    across = along[..., ::-1] * (-1, 1)
    steps = np.linspace(-1, 1, 9)[:, None]
    bend = rng.normal(0, rng.choice([0, 0.1, 0.4])) + rng.normal(0, spread / 2, count)
    offsets = rng.uniform(-1, 1, count)[:, None, None] + bend[:, None, None] * steps**2
    curves = center + reach * (steps * along + offsets * across)
    width = np.exp(rng.uniform(np.log(0.5), np.log(4))) * _FINE
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    points = np.rint(curves * 2**_FRACTION_BITS).astype(np.int32)
    for curve, value in zip(points, np.sort(rng.integers(100, 256, count)).tolist(), strict=True):
        thickness = max(round(width * rng.uniform(0.8, 1.2)), 1)
        cv2.polylines(canvas, [curve], False, value, thickness, cv2.LINE_AA, _FRACTION_BITS)
    return _reduced(canvas, shape)


def _reduced(canvas: cv2.typing.MatLike, shape: Shape) -> Image:
    """Reduce an 8-bit drawing to coverage (H, W) in [0, 1] by the mean of its pixels."""
    mean = cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA)
    return _floats(mean) / np.float32(255)


def _floats(array: cv2.typing.MatLike) -> Image:
    """Return an array of OpenCV as float32."""
    return np.asarray(array, np.float32)


_KINDS: dict[str, Callable[[Shape, np.random.Generator], Image]] = {
    "stripes": _draw_stripes,
    "lattice": _draw_lattice,
    "text": _draw_text,
    "strings": _draw_strings,
}
