"""A guitar distortion as a circuit model: a diode clipper between two first-order filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import bilinear, lfilter, resample_poly

_OVERSAMPLING = 8
_PARALLEL_STEPS = 4096  # oversampled steps of a part that is solved beside the others
_SETTLING_STEPS = 1024  # oversampled steps before each part: 130 time constants of the circuit at 44.1 kHz
_MAX_ITERATIONS = 60
_TOLERANCE = 1e-9  # volts


@dataclass(frozen=True)
class DiodeClipper:
    """A diode clipper: a resistor, and a capacitor beside two antiparallel diodes, after an amplifier.

    Yeh, Abel, Vladimirescu and Smith 2008, "Numerical methods for simulation of guitar distortion circuits", Computer
    Music Journal 32(2), eq. 2, with the component values there (Yeh, Abel and Smith 2007, DAFx-07, for the pedal)::

        dV/dt = (V_in - V) / (R C) - 2 I_s / C · sinh(V / V_t)

    It is solved by the trapezoidal rule and Newton's method at 8 times the sample rate. A high-pass filter precedes the
    amplifier, a low-pass filter, the tone control, follows the diodes.

    Attributes:
        gain: Of the amplifier: volts for an input of 1.
        high_pass: Corner frequency of the high-pass filter, in Hz.
        tone: Corner frequency of the tone control, in Hz.
        resistance: ``R`` in ohms.
        capacitance: ``C`` in farads.
        saturation_current: ``I_s`` of a diode, in amperes.
        thermal_voltage: ``V_t`` of a diode with its emission coefficient, in volts.

    >>> tone = np.sin(2 * np.pi * 220 * np.arange(4410) / 44_100)
    >>> wet = DiodeClipper(gain=10.0)(tone, 44_100)
    >>> wet.shape, bool(0.3 < np.abs(wet).max() < 0.8)
    ((4410,), True)
    """

    gain: float = 8.0
    high_pass: float = 120.0
    tone: float = 4000.0
    resistance: float = 2200.0
    capacitance: float = 10e-9
    saturation_current: float = 2.52e-9
    thermal_voltage: float = 45.3e-3

    def __call__(self, dry: np.ndarray, sample_rate: int) -> np.ndarray:
        """The distorted signal ``(T,)``, in volts, of a signal ``(T,)`` with samples from -1 to 1."""
        filtered = _first_order(np.asarray(dry, dtype=np.float64), self.high_pass, sample_rate, high_pass=True)
        volts = resample_poly(self.gain * filtered, _OVERSAMPLING, 1)
        clipped = resample_poly(self._clipped(volts, 1 / (_OVERSAMPLING * sample_rate)), 1, _OVERSAMPLING)
        return _first_order(clipped[: len(dry)], self.tone, sample_rate, high_pass=False)

    def _clipped(self, volts: np.ndarray, step: float) -> np.ndarray:
        """Output voltages ``(N,)`` for input voltages, ``step`` seconds apart.

        The circuit forgets its state within microseconds, so that parts of the signal are solved side by side, each
        after steps in which it settles.
        """
        parts = -(-len(volts) // _PARALLEL_STEPS)
        padded = np.zeros(_SETTLING_STEPS + parts * _PARALLEL_STEPS)
        padded[_SETTLING_STEPS : _SETTLING_STEPS + len(volts)] = volts
        starts = np.arange(parts) * _PARALLEL_STEPS
        found = np.zeros((parts, _PARALLEL_STEPS))
        voltage, change = np.zeros(parts), np.zeros(parts)
        for t in range(_SETTLING_STEPS + _PARALLEL_STEPS):
            source = padded[starts + t]
            voltage = self._next(voltage, change, source, step)
            change = self._change(voltage, source)
            if t >= _SETTLING_STEPS:
                found[:, t - _SETTLING_STEPS] = voltage
        return found.reshape(-1)[: len(volts)]

    def _change(self, voltage: np.ndarray, source: np.ndarray) -> np.ndarray:
        """Volts per second."""
        diodes = 2 * self.saturation_current * np.sinh(voltage / self.thermal_voltage)
        return ((source - voltage) / self.resistance - diodes) / self.capacitance

    def _next(self, voltage: np.ndarray, change: np.ndarray, source: np.ndarray, step: float) -> np.ndarray:
        """The voltage after a step of the trapezoidal rule, by Newton's method with steps of at most two ``V_t``.

        Raises:
            ArithmeticError: It does not converge.
        """
        target = voltage + 0.5 * step * change
        for _ in range(_MAX_ITERATIONS):
            diodes = 2 * self.saturation_current / self.thermal_voltage * np.cosh(voltage / self.thermal_voltage)
            slope = 1 + 0.5 * step * (1 / self.resistance + diodes) / self.capacitance
            correction = (voltage - target - 0.5 * step * self._change(voltage, source)) / slope
            limit = 2 * self.thermal_voltage
            voltage = voltage - np.clip(correction, -limit, limit)
            if np.abs(correction).max() < _TOLERANCE:
                return voltage
        raise ArithmeticError("the diode clipper did not converge: lower its gain")


def _first_order(signal: np.ndarray, corner: float, sample_rate: int, *, high_pass: bool) -> np.ndarray:
    """A first-order filter (bilinear transform of the analog one) with its corner in Hz."""
    pole = 2 * np.pi * corner
    numerator, denominator = bilinear([1.0, 0.0] if high_pass else [pole], [1.0, pole], sample_rate)
    return np.asarray(lfilter(numerator, denominator, signal))
