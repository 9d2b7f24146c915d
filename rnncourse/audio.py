"""Notes made audible: a small synthesiser, WAV files, and a player that stands in a page.

Nothing is installed and nothing is fetched: :func:`synthesize` adds up sines, :func:`wav_bytes`
packs them, and :class:`Clip` puts the bytes into the page itself, where the browser plays them::

    from rnncourse.audio import play, synthesize

    signal = synthesize(pitch, onset, step_seconds=0.3)  # pitch and onset of shape (T, voices)
    play(signal, label="Chorale, first two lines")
"""

from __future__ import annotations

import base64
import html
import io
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnncourse._validation import Array, as_array, as_float, as_mask, check_positive, check_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Clip", "frequency", "play", "synthesize", "wav_bytes"]

RATE = 8000
"""Samples per second: enough for the overtones of a choir's range, and small in a page."""

HARMONICS = 8
ATTACK, RELEASE = 0.02, 0.12  # seconds until a note sounds in full, and until it is gone
DECAY = 1.1  # seconds in which the fundamental of a held note falls to 1/e


def frequency(pitch: ArrayLike) -> Array:
    """Return the frequency of MIDI pitches in equal temperament, A4 = 69 = 440 Hz.

    Parameters
    ----------
    pitch : array_like
        MIDI pitches; twelve make an octave.

    Returns
    -------
    ndarray, same shape
        Hertz.

    Raises
    ------
    TypeError
        If `pitch` holds anything but numbers.

    Examples
    --------
    >>> frequency([57, 69, 81])
    array([220., 440., 880.])
    """
    return np.asarray(440.0 * 2.0 ** ((as_float("pitch", pitch) - 69.0) / 12.0))


def synthesize(
    pitch: ArrayLike,
    onset: ArrayLike | None = None,
    *,
    step_seconds: float = 0.3,
    rate: int = RATE,
) -> Array:
    """Turn notes into sound: each is a sum of harmonics that swells, fades and is released.

    Parameters
    ----------
    pitch : array_like of int, shape (T, voices) or (T,)
        MIDI pitch of every voice at every step, 0 for a rest.
    onset : array_like of bool, same shape, optional
        Whether a note begins here. By default one begins wherever the pitch changes.
    step_seconds : float, default 0.3
        Length of a step.
    rate : int, default 8000
        Samples per second. Harmonics above half of it are left out, since they would be heard as
        other tones.

    Returns
    -------
    ndarray, shape (samples,)
        Between -1 and 1; silence if there is no note. The last notes ring out after the last step.

    Raises
    ------
    ValueError
        If the shapes do not fit together, there is no step, a pitch is outside 0 to 127, or
        `step_seconds` or `rate` is not positive.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> signal = synthesize([[60, 52], [60, 53], [0, 52]], step_seconds=0.25)
    >>> len(signal) / RATE  # three steps and the release
    0.87
    """
    notes = np.atleast_1d(as_array("pitch", pitch))
    notes = notes[:, None] if notes.ndim == 1 else notes
    if notes.ndim != 2 or not notes.size:
        raise ValueError(f"pitch has shape {np.shape(pitch)}, expected (T, voices) or (T,)")
    if not np.issubdtype(notes.dtype, np.integer) or notes.min() < 0 or notes.max() > 127:
        raise ValueError("pitch must hold MIDI numbers, integers from 0 (a rest) to 127")
    begins = np.ones(notes.shape, bool)
    begins[1:] = notes[1:] != notes[:-1]
    if onset is not None:
        begins |= as_mask("onset", onset, np.shape(pitch), of="pitch").reshape(notes.shape)
    check_positive("step_seconds", step_seconds)
    check_size(rate=rate)

    edges = np.round(np.arange(len(notes) + 1) * step_seconds * rate).astype(int)
    signal = np.zeros(edges[-1] + round(RELEASE * rate))
    for voice in range(notes.shape[1]):
        starts = np.flatnonzero(begins[:, voice])
        for start, end in zip(starts, [*starts[1:], len(notes)], strict=True):
            if notes[start, voice]:
                tone = _tone(int(notes[start, voice]), int(edges[end] - edges[start]), rate)
                signal[edges[start] : edges[start] + len(tone)] += tone
    peak = np.abs(signal).max()
    return signal * (0.95 / peak) if peak else signal


def _tone(pitch: int, held: int, rate: int) -> Array:
    """Return one note, held for a number of samples and then released."""
    time = np.arange(held + round(RELEASE * rate)) / rate
    base = float(frequency(pitch))
    k = np.arange(1, HARMONICS + 1)
    k = k[k * base < 0.45 * rate]
    # Higher harmonics are softer and fade sooner, as on a struck string.
    fading = np.exp(-time[:, None] * (0.6 + 0.4 * k) / DECAY) * k**-1.4
    waves = np.sin(2 * np.pi * base * k * time[:, None])
    swell = np.minimum(time / ATTACK, 1.0)
    after = np.clip((time - held / rate) / RELEASE, 0.0, 1.0)
    release = 0.5 + 0.5 * np.cos(np.pi * after)
    return (waves * fading).sum(axis=1) * swell * release


def wav_bytes(signal: ArrayLike, rate: int = RATE, bits: int = 8) -> bytes:
    """Pack a signal as a mono WAV file.

    Parameters
    ----------
    signal : array_like, shape (samples,)
        Values between -1 and 1.
    rate : int, default 8000
        Samples per second.
    bits : {8, 16}, default 8
        Bits per sample. Eight are half as large; their rounding error lies about 50 dB below the
        loudest tone.

    Returns
    -------
    bytes
        The content of a ``.wav`` file.

    Raises
    ------
    ValueError
        If the signal is not one-dimensional, holds NaN or a value beyond 1, or `bits` is another
        number.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> len(wav_bytes([0.0, 0.5, 0.0]))  # 44 bytes of header, three samples, one to make it even
    48
    """
    samples = as_float("signal", signal)
    if samples.ndim != 1:
        raise ValueError(f"signal has shape {samples.shape}, expected (samples,)")
    if not np.isfinite(samples).all():
        raise ValueError("signal holds NaN or infinity")
    if samples.size and np.abs(samples).max() > 1.0:
        raise ValueError("signal goes beyond -1 and 1: divide it by its largest absolute value")
    check_size(rate=rate)
    if bits == 8:  # unsigned, by the format's definition, and an even number of bytes
        samples = np.append(samples, np.zeros(len(samples) % 2))
        raw = np.round(127 * samples + 128).astype(np.uint8).tobytes()
    elif bits == 16:
        raw = np.round(32767 * samples).astype("<i2").tobytes()
    else:
        raise ValueError(f"bits must be 8 or 16, but it is {bits}")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(bits // 8)
        out.setframerate(rate)
        out.writeframes(raw)
    return file.getvalue()


@dataclass(frozen=True)
class Clip:
    """A sound with its name, shown as a player in notebooks and pages; made by :func:`play`.

    Attributes
    ----------
    wav : bytes
        Content of a WAV file. It travels inside the page, so nothing is loaded from elsewhere.
    label : str
        What is heard, in words: shown above the player and read out with it.
    seconds : float
        Duration.

    Examples
    --------
    >>> Clip(b"RIFF", "A chord", 1.5)
    Clip(A chord, 1.5 s)
    """

    wav: bytes
    label: str
    seconds: float

    def __repr__(self) -> str:
        return f"Clip({self.label}, {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        name = html.escape(self.label)
        data = base64.b64encode(self.wav).decode("ascii")
        return (
            '<div style="margin:.6rem 0"><div aria-hidden="true" style="font-size:.9em">'
            f'{name}</div><audio controls preload="metadata" aria-label="{name}" '
            'style="width:24rem;max-width:100%;color-scheme:inherit" '
            f'src="data:audio/wav;base64,{data}"></audio></div>'
        )


def play(signal: ArrayLike, *, label: str, rate: int = RATE, bits: int = 8) -> Clip:
    """Return a player for a signal; a notebook cell that ends with it shows it.

    Parameters
    ----------
    signal : array_like, shape (samples,)
        Values between -1 and 1.
    label : str
        What is heard, in words, for readers who look for it and for those who do not see the page.
    rate : int, default 8000
        Samples per second.
    bits : {8, 16}, default 8
        See :func:`wav_bytes`.

    Returns
    -------
    Clip

    Raises
    ------
    ValueError
        If `label` is empty, or as in :func:`wav_bytes`.

    Examples
    --------
    >>> play(synthesize([69, 71, 72], step_seconds=0.2), label="Three notes that rise")
    Clip(Three notes that rise, 0.7 s)
    """
    if not isinstance(label, str):
        raise TypeError(f"label must be a text that says what is heard, but it is {label!r}")
    label = " ".join(label.split())
    if not label:
        raise ValueError("label is empty: say in words what is heard")
    return Clip(wav_bytes(signal, rate, bits), label, len(np.asarray(signal)) / rate)
