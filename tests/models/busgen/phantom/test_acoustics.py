"""Speckle, pulse and attenuation against the closed forms of ultrasound physics."""

import math
from dataclasses import replace

import numpy as np
import pytest

from models.busgen.phantom import acoustics
from models.busgen.phantom.devices import DEVICES

RAYLEIGH_SNR = math.sqrt(math.pi / (4 - math.pi))  # 1.913
CELL_MM = 0.05


def pulse(across: float = 2.0, along: float = 1.2, depths: int = 512) -> acoustics.Pulse:
    return acoustics.Pulse(np.full(depths, across), along)


def speckle(looks: int, seed: int = 0, scatterers: float = 1e9) -> np.ndarray:
    """The compounded envelope of a homogeneous medium, [512, 512]."""
    rng = np.random.default_rng(seed)
    per_cell = np.full((512, 512), scatterers, np.float32)
    thinned = acoustics.scatterer_density(per_cell, pulse(), rng.random((512, 512), dtype=np.float32))
    fields = (acoustics.complex_gaussian(rng, (512, 512)) * thinned for _ in range(looks))
    return acoustics.compounded_envelope(acoustics.blur(field, pulse()) for field in fields)


def snr(envelope: np.ndarray) -> float:
    return float(envelope.mean() / envelope.std())


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_the_snr_of_developed_speckle_is_rayleighs_times_the_root_of_the_looks(looks: int):
    assert snr(speckle(looks)) / math.sqrt(looks) == pytest.approx(RAYLEIGH_SNR, abs=0.05)


@pytest.mark.parametrize("scatterers", [0.7, 2.0, 5.0])
def test_few_scatterers_give_the_fourth_moment_of_a_sparse_sum(scatterers: float):
    # x = sum h s with s = 0 but for a share p:  E|x|^4 / (E|x|^2)^2 = 2 + 2 (1/p - 1) sum h^4 / (sum h^2)^2
    power = speckle(1, scatterers=scatterers) ** 2
    expected = 2 + 2 * (1 / scatterers - 1 / float(pulse().cells()[0]))
    assert np.mean(power**2) / np.mean(power) ** 2 == pytest.approx(expected, rel=0.1)
    assert snr(np.sqrt(power)) < RAYLEIGH_SNR - 0.05
    assert np.mean(power) == pytest.approx(1.0, abs=0.05), "thinned out, and as bright as before"


def test_a_resolution_cell_of_a_wide_pulse_has_the_area_of_the_continuous_one():
    assert pulse(4.0, 3.0).cells()[0] == pytest.approx(2 * math.pi * 4.0 * 3.0, rel=1e-3)


def test_the_mean_power_of_speckle_is_that_of_its_scatterers_at_every_depth():
    rng = np.random.default_rng(1)
    widths = acoustics.Pulse(np.linspace(0.7, 6.0, 256), 0.8)
    seen = np.abs(acoustics.blur(acoustics.complex_gaussian(rng, (256, 4096)), widths)) ** 2
    assert seen.mean(axis=1).reshape(8, 32).mean(axis=1) == pytest.approx(np.ones(8), abs=0.06)


def test_the_contrast_of_two_halves_is_seen_in_decibels():
    rng = np.random.default_rng(2)
    amplitude = np.where(np.arange(512) < 256, 1.0, 10 ** (-12 / 20)).astype(np.float32)
    power = np.abs(acoustics.blur(acoustics.complex_gaussian(rng, (512, 512)) * amplitude, pulse())) ** 2
    bright, dark = power[:, 20:236].mean(), power[:, 276:492].mean()
    assert 10 * math.log10(dark / bright) == pytest.approx(-12, abs=0.3)


@pytest.mark.parametrize("name", DEVICES)
def test_a_point_at_the_focus_is_as_wide_as_wavelength_times_f_number(name: str):
    device = DEVICES[name]
    fine = 0.01
    z = np.full(512, device.focus_mm)
    echoes = np.zeros((512, 512), np.complex64)
    echoes[256, 256] = 1
    seen = np.abs(acoustics.blur(echoes, acoustics.pulse_of(device, z, fine)))
    across = acoustics.SOUND_MM_PER_US / device.frequency_mhz * device.f_number
    assert np.count_nonzero(seen[256] > seen.max() / 2) * fine == pytest.approx(across, abs=1.1 * fine)
    # The envelope of a Gaussian spectrum whose -6 dB width is B has 4 ln 2 / (pi B) at half height.
    along = acoustics.SOUND_MM_PER_US / 2 * 4 * math.log(2) / (math.pi * device.bandwidth * device.frequency_mhz)
    assert np.count_nonzero(seen[:, 256] > seen.max() / 2) * fine == pytest.approx(along, abs=2.1 * fine)


def test_the_beam_is_root_two_wider_a_depth_of_field_from_the_focus():
    device = DEVICES["linear-7"]
    z = device.focus_mm + device.depth_of_field_mm * np.array([-1.0, 0.0, 1.0])
    width = acoustics.pulse_of(device, z, 0.01).across_H
    assert width / width[1] == pytest.approx(np.array([math.sqrt(2), 1, math.sqrt(2)]))


def test_the_loss_of_homogeneous_tissue_grows_by_twice_frequency_times_what_the_compensation_misses():
    alpha = np.full((200, 3), 1.2, np.float32)
    loss = acoustics.loss_db(alpha, CELL_MM, 10.0)
    z_cm = (np.arange(200) + 0.5) * CELL_MM / 10
    assert loss[:, 1] == pytest.approx(2 * 10.0 * (1.2 - acoustics.TGC_DB_PER_CM_MHZ) * z_cm, abs=1e-3)


@pytest.mark.parametrize(("alpha", "sign"), [(0.0, -1), (2.0, 1)])
def test_what_attenuates_less_enhances_and_what_attenuates_more_shadows(alpha: float, sign: int):
    column = np.full((100, 1), acoustics.TGC_DB_PER_CM_MHZ, np.float32)
    column[40:60] = alpha
    loss = acoustics.loss_db(column, CELL_MM, 10.0)
    assert loss[:40] == pytest.approx(np.zeros((40, 1)), abs=1e-4)
    assert np.all(np.sign(loss[60:]) == sign)


@pytest.mark.parametrize("name", ["linear-7", "linear-14"])
def test_the_pulse_is_attenuated_at_the_mean_frequency_that_is_left_at_the_focus(name: str):
    device = replace(DEVICES[name], focus_mm=8.0)
    f = np.linspace(-40, 40, 40001)  # the Gaussian's lower tail too: the closed form has it
    half_width = device.bandwidth * device.frequency_mhz / 2
    spectrum = 0.5 ** (((f - device.frequency_mhz) / half_width) ** 2)  # half the amplitude, -6 dB, at the edges
    left = spectrum * 10 ** (-acoustics.TGC_DB_PER_CM_MHZ * f * 2 * 0.8 / 20)
    assert acoustics.attenuation_frequency(device) == pytest.approx(np.sum(f * left) / np.sum(left), rel=2e-3)
