"""Rain and haze: their geometry, statistics and blending."""

from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest
from tests.conftest import PHOTOS

from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.data.degradations import Haze, RainStreaks
from mprnet_lit.images.reading import read_image, to_float


@pytest.fixture(scope="module")
def photo() -> NDArray[np.float32]:
    return to_float(read_image(Path(PHOTOS) / "astronaut.png"))[100:300, 100:340]


def rng(seed: int = 0) -> Any:
    return np.random.default_rng(seed)


def rain_on_black(rain: Any, side: int = 256, seeds: Any = range(20)) -> Any:
    return np.stack(
        [rain(np.zeros((side, side, 3), np.float32), rng(seed))[..., 0] for seed in seeds]
    )


def test_rain_only_brightens_and_stays_below_white(photo: NDArray[np.float32]) -> None:
    for seed in range(5):
        rainy = RainStreaks()(photo, rng(seed))
        assert (rainy >= photo - 1e-6).all() and rainy.max() <= 1


def test_rain_is_proportional_to_density_and_area() -> None:
    def amount(density: float, side: int) -> Any:
        rain = RainStreaks(layers=1, density=density, length=30, brightness=0.8)
        return rain_on_black(rain, side).mean()

    assert amount(1000, 64) == pytest.approx(amount(1000, 256), rel=0.2)
    assert 1.5 < amount(2000, 256) / amount(1000, 256) < 2.1


def test_rain_density_is_uniform_up_to_the_borders() -> None:
    rain = RainStreaks(layers=1, density=4000, length=15, width=4, angle=45, brightness=0.8)
    mean = rain_on_black(rain, 120, range(300)).mean(0)  # to about 1.5 %
    for border in (mean[0], mean[-1], mean[:, 0], mean[:, -1]):
        assert border.mean() == pytest.approx(mean[20:-20, 20:-20].mean(), rel=0.05)


@pytest.mark.parametrize("width", [2, 6])
def test_rain_streaks_have_the_given_width_and_brightness(width: int) -> None:
    rain = RainStreaks(layers=1, density=40, length=120, width=width, angle=0, brightness=0.6)
    wet = rain_on_black(rain)
    assert 0.5 < wet.max() <= np.float32(0.6)
    widths = []
    for image in wet:
        row, column = np.unravel_index(image.argmax(), image.shape)
        across = image[row, max(column - 15, 0) : column + 16]
        widths.append((across > across.max() / 2).sum())
    assert np.median(widths) == pytest.approx(width, abs=1)  # some streaks overlap


def test_haze_reduces_contrast_and_brightens(photo: NDArray[np.float32]) -> None:
    hazy = RainStreaks(density=0, haze=0.2)(photo, rng())
    assert hazy.std() == pytest.approx(0.8 * photo.std(), rel=1e-3)
    assert hazy.mean() > photo.mean()


@pytest.mark.parametrize("angle", [0, 30, 60])
def test_rain_falls_at_the_given_angle(angle: int) -> None:
    rain = RainStreaks(layers=1, density=600, length=60, angle=angle)
    out = rain(np.zeros((300, 300, 3), np.float32), rng(1))[..., 0]
    dy, dx = np.gradient(out)
    # The main direction of the structure tensor is perpendicular to the streaks.
    across = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx - dy * dy).sum())
    assert abs(np.rad2deg(across)) == pytest.approx(angle, abs=5)


def test_earlier_arguments_give_the_earlier_images() -> None:
    """The values are from version 0.2, which had neither motion blur nor directions."""
    images = rain_on_black(RainStreaks(haze=(0, 0.3)), 64, range(4))
    means = [0.09570691, 0.14052707, 0.28088748, 0.21446770]
    pixels = [
        [0.0791, 0.0791, 0.0791, 0.0791], [0.1449, 0.3416, 0.0919, 0.1406],
        [0.2390, 0.3928, 0.2390, 0.7057], [0.1697, 0.2225, 0.1697, 0.1707],
    ]  # fmt: skip
    np.testing.assert_allclose(images.mean((1, 2)), means, atol=2e-5)
    np.testing.assert_allclose(images[:, 20, ::16], pixels, atol=2e-4)


def angles(rain: RainStreaks, seeds: Any) -> Any:
    """Return the angle to the vertical of the rain of each image in degrees, from -90 to 90."""
    dy, dx = np.gradient(rain_on_black(rain, 80, seeds), axis=(1, 2))
    # The main direction of the structure tensor is perpendicular to the streaks.
    double = np.arctan2(2 * (dx * dy).sum((1, 2)), (dx * dx - dy * dy).sum((1, 2)))
    return -np.rad2deg(double) / 2


@pytest.mark.parametrize("motion", [0, 1])
def test_rain_falls_in_any_direction(motion: float) -> None:
    rain = RainStreaks(layers=2, density=4000, length=30, angle=(0, 90), motion=motion)
    found = angles(rain, range(60))
    assert kstest(found, "uniform", (-90, 180)).pvalue > 0.01
    fixed = RainStreaks(layers=2, density=4000, length=30, angle=40, motion=motion)
    found = angles(fixed, range(20))
    np.testing.assert_allclose(np.abs(found), 40, atol=4)
    assert {-1, 1} == set(np.sign(found))


def test_layers_alternate_between_the_directions() -> None:
    """Rain at -60 and 60 degrees has two maxima of the gradient, and none between them."""
    rain = RainStreaks(
        layers=2, density=3000, length=30, angle=60, directions=2, falloff=1, motion=1
    )
    crossed = 0
    for image in rain_on_black(rain, 100, range(12)):
        dy, dx = np.gradient(image)
        direction = np.rad2deg(np.arctan2(dy, dx)) % 180
        strength = np.histogram(direction, (15, 45, 75, 105, 135, 165), weights=dx**2 + dy**2)[0]
        one, other = strength[[1, 3]] / strength.sum()
        assert one + other > 0.6
        crossed += min(one, other) > 0.2
    assert 2 <= crossed <= 10  # the signs differ in half of the images


@pytest.mark.parametrize(("density", "motion"), [(300, 0), (4000, 0), (20000, 0), (2000, 1)])
def test_covered_area_is_that_of_random_streaks(density: float, motion: float) -> None:
    """The share exp(-number * area) of an image remains dry (Boolean model)."""
    length, width = 20, 3
    rain = RainStreaks(
        layers=1, density=density, length=length, width=width, brightness=1, motion=motion
    )
    wet = (rain_on_black(rain, 200, range(8)) > 0.2).mean()
    sigma = width / 2.355
    peaks, factors = np.linspace(120, 255, 50) / 255, np.linspace(0.6, 1.2, 50)[:, None]
    if motion:  # points that fade along a parabola; their lengths only change their brightness
        peaks = np.minimum(peaks * (factors + 0.25) / 1.25, 1)
        at = np.linspace(-length / 2, length / 2, 101)
        peaks = peaks[..., None] * (1 - (at / (length / 2 + sigma)) ** 2)
        along = 1.0 * length
    else:  # lines; their ends are blurred like their sides
        along = 0.9 * length + 0.9 * width
    across = 2 * sigma * np.sqrt(2 * np.log(np.maximum(peaks / 0.2, 1)))
    area = along * across.mean()
    assert wet == pytest.approx(1 - np.exp(-density * area / 1e6), rel=0.08)


def test_motion_blurred_streaks_fade_toward_their_ends() -> None:
    """The mean of a parabola is 2/3 of its maximum, and that of a box all of it."""
    ratios = []
    for motion in (0.0, 1.0):
        rain = RainStreaks(
            layers=1, density=25, length=60, width=2, angle=0, brightness=1, motion=motion, spread=0
        )
        columns = [
            image[:, np.argmax(image.max(0))] for image in rain_on_black(rain, 200, range(40))
        ]
        inner = [c[c > 0.03] for c in columns if c.max() > 0.4 and max(c[0], c[-1]) < 0.03]
        ratios.append(np.mean([c.mean() / c.max() for c in inner]))
    assert ratios[0] > 0.88 and ratios[1] == pytest.approx(2 / 3, abs=0.07)


@pytest.mark.parametrize(("occlusion", "level"), [(0, 1), (0, 0.7), (1, 1), (1, 0.7), (0.5, 0.9)])
def test_streaks_are_added_or_blended(
    occlusion: float, level: float, photo: NDArray[np.float32]
) -> None:
    rain = RainStreaks(layers=1, density=4000, occlusion=occlusion, level=level)
    screened = RainStreaks(layers=1, density=4000)
    streaks = screened(np.zeros_like(photo), rng(3))  # screened streaks on black
    found = rain(photo, rng(3))
    added, blended = photo + level * streaks, photo + (level - photo) * streaks
    expected = (1 - occlusion) * added + occlusion * blended
    assert 0.02 < streaks.mean() < 0.8
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)


def test_added_layers_sum_and_screened_layers_multiply() -> None:
    black, half = (np.full((60, 60, 3), value, np.float32) for value in (0, 0.5))
    options: Any = {"layers": 3, "density": 3000, "brightness": 0.2, "falloff": 1}
    added, screened = (RainStreaks(**options, occlusion=k) for k in (0, 1))
    sums = added(black, rng(1))
    np.testing.assert_allclose(added(half, rng(1)), np.minimum(sums + 0.5, 1), atol=1e-6)
    dry = 1 - screened(black, rng(1))  # product of 1 - opacity of the layers
    np.testing.assert_allclose(screened(half, rng(1)), 1 - 0.5 * dry, atol=1e-6)
    assert sums.max() > 0.4 and (sums >= 1 - dry - 1e-6).all()
    covered_twice = sums > 0.2 + 1e-3
    assert (sums > 1 - dry + 1e-4)[covered_twice].all()


@pytest.mark.parametrize(("opacity", "relief"), [(0.7, 1), (0.7, 0.4), (0.3, 0)])
def test_haze_follows_koschmieders_law(
    opacity: float, relief: float, photo: NDArray[np.float32]
) -> None:
    haze = Haze(opacity, relief, airlight=0.8)
    dark, bright = (haze(np.full_like(photo, value), rng(2))[..., 0] for value in (0, 1))
    transmission = bright - dark
    np.testing.assert_allclose(dark, 0.8 * (1 - transmission), atol=1e-6)
    expected = photo * transmission[..., None] + 0.8 * (1 - transmission[..., None])
    np.testing.assert_allclose(haze(photo, rng(2)), expected, atol=1e-6)
    # The optical depth, relative to the farthest point.
    depth = np.log(transmission) / np.log(1 - opacity)
    assert depth.max() == pytest.approx(1, abs=1e-5)
    assert depth.min() == pytest.approx(1 - relief, abs=1e-5)
    assert max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1)) <= 0.1 * relief


def test_haze_differs_in_direction_and_strength() -> None:
    gray = np.full((32, 48, 3), 0.3, np.float32)
    veils = [Haze((0, 0.6), 1, 0.9)(gray, rng(seed))[..., 0] for seed in range(40)]
    strength = [(veil.max() - 0.3) / 0.6 for veil in veils]  # the opacity of the farthest point
    assert kstest(strength, "uniform", (0, 0.6)).pvalue > 0.01
    tops = [veil[:16].mean() > veil[16:].mean() for veil in veils]
    lefts = [veil[:, :24].mean() > veil[:, 24:].mean() for veil in veils]
    assert 8 < sum(tops) < 32 and 8 < sum(lefts) < 32


def test_recipe_has_faint_and_heavy_rain_of_several_kinds(photo: NDArray[np.float32]) -> None:
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("train", overrides=["task=derain"])
    recipe = hydra.utils.instantiate(config.task.degradation, _convert_="all")
    patch, generator = photo[50:98, 50:98], rng(1)
    rainy = [recipe(patch, generator) for _ in range(100)]
    errors = np.array([np.square(image - patch).mean() for image in rainy])
    assert np.mean(errors == 0) == pytest.approx(1 / 3, abs=0.12)  # patches without rain
    scores = -10 * np.log10(errors[errors > 0])
    assert np.quantile(scores, 0.1) < 15 and np.quantile(scores, 0.9) > 23
    assert 16 < np.mean(scores) < 26
