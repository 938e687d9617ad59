"""The phantom's scanners: made-up presets, so that a device can be a condition, a shift of domain or a shortcut."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """How one scanner sends, receives and shows."""

    frequency_mhz: float  # centre of the pulse
    bandwidth: float  # at -6 dB, as a share of the frequency
    f_number: float  # of the receiving aperture: beam width = wavelength x f_number
    focus_mm: float
    depth_of_field_mm: float  # distance from the focus at which the beam is sqrt(2) wider
    looks: int  # envelopes averaged by spatial compounding; speckle SNR = 1.91 sqrt(looks)
    dynamic_range_db: float
    brightest_db: float  # shown as white; fat is 0 dB
    gamma: float  # grey = share of the dynamic range to this power
    sharpening: float  # of edges: what an unsharp mask adds
    smoothing_mm: float
    noise_db: float  # of the receiver at the skin, before the time-gain compensation lifts it
    zoom: float  # the field of view is the config's divided by this


DEVICES: dict[str, Device] = {
    "linear-7": Device(7.0, 0.55, 2.0, 20.0, 14.0, 1, 68.0, 28.0, 1.5, 0.0, 0.0, -58.0, 0.92),
    "linear-10": Device(10.0, 0.60, 1.8, 18.0, 12.0, 3, 62.0, 27.0, 1.5, 0.5, 0.12, -62.0, 1.0),
    "linear-12": Device(12.0, 0.65, 1.9, 16.0, 10.0, 4, 74.0, 31.0, 2.1, 0.0, 0.16, -66.0, 1.0),
    "linear-14": Device(14.0, 0.70, 1.7, 14.0, 9.0, 2, 56.0, 25.0, 1.25, 0.9, 0.1, -68.0, 1.06),
    "linear-18": Device(18.0, 0.70, 1.6, 10.0, 8.0, 3, 60.0, 26.0, 1.6, 0.3, 0.12, -72.0, 1.12),
}
