"""Degradations: reproducible, and with the statistics of what they stand for."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from scipy.spatial.distance import pdist
from tests.conftest import PHOTOS

from mprnet_lit.data.degradations import (
    CameraNoise,
    GaussianNoise,
    MotionBlur,
    RainStreaks,
    RandomChoice,
)
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.motion import motion_kernel
from mprnet_lit.data.degradations.noise import add_sensor_noise
from mprnet_lit.data.images import read_image, to_float
from mprnet_lit.errors import UserError

ALL = {
    "gaussian": GaussianNoise(),
    "camera": CameraNoise(),
    "motion": MotionBlur(),
    "rain": RainStreaks(),
    "choice": RandomChoice([GaussianNoise(), MotionBlur()]),
}


@pytest.fixture(scope="module")
def photo():
    return to_float(read_image(Path(PHOTOS) / "astronaut.png"))[100:300, 100:340]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ALL)
def test_a_function_of_image_and_seed_alone(name, photo):
    before = photo.copy()
    first, again, other = (ALL[name](photo, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(photo, before)
    assert first.shape == photo.shape and first.dtype == np.float32
    assert np.abs(first - photo).mean() > 1e-3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2)])
def test_images_of_any_size(name, shape):
    for seed in range(5):
        out = ALL[name](np.full((*shape, 3), 0.5, np.float32), rng(seed))
        assert out.shape == (*shape, 3) and np.isfinite(out).all()


def test_gaussian_noise_has_its_sigma_and_is_not_clipped(photo):
    noise = GaussianNoise(sigma=25)(photo, rng()) - photo
    assert noise.std() * 255 == pytest.approx(25, rel=0.01)
    assert abs(noise.mean()) * 255 < 0.5
    assert (photo + noise).min() < 0
    assert GaussianNoise(sigma=25, clip=True)(photo, rng()).min() == 0


def test_blind_gaussian_noise_covers_its_range():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    sigmas = [(GaussianNoise((10, 40))(grey, rng(s)) - grey).std() * 255 for s in range(60)]
    assert 9 < min(sigmas) < 14 and 36 < max(sigmas) < 41


def test_sensor_noise_grows_linearly_with_light():
    levels = np.linspace(0, 1, 6, dtype=np.float32)
    measured = [
        add_sensor_noise(np.full((200, 200, 3), level, np.float32), 0.01, 0.02, rng()).var()
        for level in levels
    ]
    slope, offset = np.polyfit(levels, measured, 1)
    assert slope == pytest.approx(0.01, rel=0.03)
    assert offset == pytest.approx(0.02**2, rel=0.1)


def test_transfer_function_is_srgbs_and_inverts(photo):
    # IEC 61966-2-1: 0.5 is 21.4 % of the light; the straight piece has a slope of 12.92.
    assert srgb_to_linear(np.float32([0.5, 0.04])) == pytest.approx(
        [0.21404, 0.04 / 12.92], abs=1e-5
    )
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(photo)), photo, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shake", [0.0, 1.0])
def test_motion_kernels_are_centred_paths_of_the_given_extent(seed, shake):
    kernel = motion_kernel(rng(seed), length=15, shake=shake)
    assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
    centre = (np.array(kernel.shape) - 1) / 2
    np.testing.assert_allclose(center_of_mass(kernel), centre, atol=0.05)
    assert pdist(np.argwhere(kernel)).max() == pytest.approx(15, abs=2 * 2**0.5)  # shared pixels
    assert max(kernel.shape) // 2 <= MotionBlur(length=15).margin


def test_motion_paths_are_straight_without_shake_and_curved_with_it():
    def straightness(shake, seed):
        kernel = motion_kernel(rng(seed), length=25, shake=shake)
        points = np.argwhere(kernel > 0)
        cov = np.cov(points.T, aweights=kernel[kernel > 0])
        low, high = np.linalg.eigvalsh(cov)
        return low / high

    assert max(straightness(0, s) for s in range(10)) < 0.02
    assert np.median([straightness(1, s) for s in range(20)]) > 0.05


def test_blur_adds_up_light_not_srgb_values():
    blur = MotionBlur(length=12, noise=0)
    dark = np.zeros((64, 64, 3), np.float32)
    dark[32, 32] = 1
    out = blur(dark, rng())
    assert srgb_to_linear(out).sum() == pytest.approx(3, rel=0.01)
    assert out.sum() > 6  # the same light, spread out, has larger sRGB values
    flat = np.full((40, 40, 3), 0.3, np.float32)
    np.testing.assert_allclose(blur(flat, rng()), flat, atol=1e-5)


def test_a_crop_with_its_margin_is_blurred_as_in_the_whole(photo):
    blur = MotionBlur(length=12, noise=0)
    m = blur.margin
    whole = blur(photo, rng(3))[60:120, 70:140]
    part = blur(photo[60 - m : 120 + m, 70 - m : 140 + m], rng(3))[m:-m, m:-m]
    np.testing.assert_allclose(part, whole, atol=1e-5)


def test_rain_only_brightens_and_its_amount_goes_with_the_area(photo):
    rain = RainStreaks()
    assert (rain(photo, rng()) >= photo - 1e-6).all()
    one = RainStreaks(layers=1, density=2000, length=30, brightness=0.8)
    wet = [
        np.mean([one(np.zeros((s, s, 3), np.float32), rng(k)).mean() for k in range(20)])
        for s in (64, 256)
    ]
    assert wet[0] == pytest.approx(wet[1], rel=0.2)
    twice = RainStreaks(layers=1, density=4000, length=30, brightness=0.8)
    doubled = np.mean(
        [twice(np.zeros((256, 256, 3), np.float32), rng(k)).mean() for k in range(20)]
    )
    assert 1.5 < doubled / wet[1] < 2.1


@pytest.mark.parametrize("angle", [0, 30, 60])
def test_rain_falls_at_its_angle(angle):
    rain = RainStreaks(layers=1, density=600, length=60, angle=angle)
    out = rain(np.zeros((300, 300, 3), np.float32), rng(1))[..., 0]
    dy, dx = np.gradient(out)
    # The structure tensor's main direction is across the streaks.
    across = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx - dy * dy).sum())
    assert abs(np.rad2deg(across)) == pytest.approx(angle, abs=5)


def test_random_choice_uses_all_by_their_weights():
    grey = np.full((4, 4, 3), 0.5, np.float32)
    choice = RandomChoice([GaussianNoise(0), GaussianNoise(50)], weights=[3, 1])
    noisy = [not np.array_equal(choice(grey, rng(s)), grey) for s in range(400)]
    assert np.mean(noisy) == pytest.approx(0.25, abs=0.07)
    assert ALL["choice"].margin == MotionBlur().margin


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(sigma=(50, 0)), r"GaussianNoise sigma=\(50, 0\)"),
        (lambda: GaussianNoise(sigma=-1), "GaussianNoise sigma=-1"),
        (lambda: MotionBlur(shake=[0, 2]), r"MotionBlur shake=\[0, 2\].*from 0 to 1"),
        (lambda: RainStreaks(angle=[1, 2, 3]), "RainStreaks angle"),
        (lambda: CameraNoise(shot=0), "CameraNoise shot=0"),
        (lambda: RandomChoice([]), "RandomChoice needs choices"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
