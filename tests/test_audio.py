"""Sound is what the notes say: pitch by spectrum, timing by silence, files by another reader."""

import base64
import io
import re
import wave

import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncourse.audio import RATE, RELEASE, Clip, frequency, play, synthesize, wav_bytes

few = settings(max_examples=20, deadline=None)
pitches = st.integers(36, 88)


def strongest(signal, rate=RATE):
    """Return the frequency of the largest peak of the spectrum."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 8 * len(signal)))
    return np.argmax(spectrum) * rate / (8 * len(signal))


def read(content):
    with wave.open(io.BytesIO(content)) as file:
        raw = file.readframes(file.getnframes())
        return file.getparams(), raw


def test_an_octave_doubles_and_a_semitone_is_a_twelfth_of_it():
    np.testing.assert_allclose(frequency([69, 81, 57]), [440, 880, 220])
    np.testing.assert_allclose(frequency(np.arange(60, 73)) / frequency(60), 2 ** (np.r_[:13] / 12))


@few
@given(pitches)
def test_a_note_sounds_at_its_frequency(pitch):
    signal = synthesize([pitch] * 4, step_seconds=0.25)
    assert abs(strongest(signal) / frequency(pitch) - 1) < 0.01


@few
@given(st.lists(pitches, min_size=1, max_size=4, unique=True), st.sampled_from([4000, 8000, 11025]))
def test_the_signal_is_bounded_and_as_long_as_it_says(chord, rate):
    signal = synthesize([chord, chord], step_seconds=0.2, rate=rate)
    assert len(signal) == round(0.4 * rate) + round(RELEASE * rate)
    assert 0.9 < np.abs(signal).max() < 1


def test_voices_add_up():
    one, other = (synthesize([[p]] * 3, step_seconds=0.3) for p in (60, 67))
    both = synthesize([[60, 67]] * 3, step_seconds=0.3)
    mix = np.linalg.lstsq(np.column_stack([one, other]), both, rcond=None)
    assert mix[1][0] < 1e-12 * len(both)
    assert min(mix[0]) > 0.1


def test_nothing_folds_back_below_its_pitch():
    """A harmonic above half the sampling rate would be heard as a lower, wrong tone."""
    signal = synthesize([88] * 8, step_seconds=0.25)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    hertz = np.fft.rfftfreq(len(signal), 1 / RATE)
    near = np.abs(hertz[:, None] - frequency(88) * np.arange(1, 4)).min(axis=1) < 40
    assert spectrum[~near].max() < 0.01 * spectrum.max()


def test_a_rest_is_silent_and_a_held_note_is_not_struck_again():
    quiet = synthesize([60, 60, 0, 0, 0, 64], step_seconds=0.25)
    loud = np.abs(quiet)
    assert loud[round(0.75 * RATE) : round(1.2 * RATE)].max() == 0.0
    assert loud[: round(0.5 * RATE)].max() > 0.5
    held, struck = (
        synthesize([60] * 4, onset=onset, step_seconds=0.25)
        for onset in ([True, False, False, False], [True, False, True, False])
    )
    middle = slice(round(0.52 * RATE), round(0.6 * RATE))
    assert np.abs(struck[middle]).max() > 1.2 * np.abs(held[middle]).max()
    assert (synthesize([0, 0]) == 0).all()


def test_the_arguments_stay_as_they_are():
    pitch, onset = np.array([[60, 52], [62, 52]]), np.array([[True, True], [True, False]])
    before = pitch.copy(), onset.copy()
    synthesize(pitch, onset)
    assert (pitch == before[0]).all()
    assert (onset == before[1]).all()


@pytest.mark.parametrize(
    ("pitch", "changes", "message"),
    [
        ([], {}, "shape"),
        ([[[60]]], {}, "shape"),
        ([60.5], {}, "integers"),
        ([-1], {}, "0 .a rest. to 127"),
        ([128], {}, "0 .a rest. to 127"),
        ([60, 62], {"onset": [True]}, "onset has shape"),
        ([60], {"step_seconds": 0}, "step_seconds"),
        ([60], {"rate": -8000}, "rate"),
    ],
)
def test_wrong_notes_are_named(pitch, changes, message):
    with pytest.raises(ValueError, match=message):
        synthesize(pitch, **changes)


@few
@given(st.lists(st.floats(-1, 1), max_size=30), st.sampled_from([8, 16]))
def test_what_is_written_is_read_back(signal, bits):
    params, raw = read(wav_bytes(np.array(signal), rate=11025, bits=bits))
    assert (params.nchannels, params.framerate, 8 * params.sampwidth) == (1, 11025, bits)
    values = (
        (np.frombuffer(raw, np.uint8) - 128.0) / 127
        if bits == 8
        else np.frombuffer(raw, "<i2") / 32767
    )
    assert len(values) - len(signal) in ((0, 1) if bits == 8 else (0,))
    np.testing.assert_allclose(values[: len(signal)], signal, atol=0.51 / (2 ** (bits - 1) - 1))


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_file_has_an_even_number_of_bytes_and_says_so(length):
    content = wav_bytes(np.zeros(length))
    assert content[:4] + content[8:12] == b"RIFFWAVE"
    assert len(content) % 2 == 0
    assert int.from_bytes(content[4:8], "little") == len(content) - 8


def test_eight_bits_lie_far_below_the_music():
    signal = synthesize([[72, 67, 64, 48]] * 8)
    _, raw = read(wav_bytes(signal))
    noise = (np.frombuffer(raw, np.uint8)[: len(signal)] - 128.0) / 127 - signal
    assert 20 * np.log10(signal.std() / noise.std()) > 35


@pytest.mark.parametrize(
    ("signal", "bits", "message"),
    [
        ([[0.0]], 8, "shape"),
        ([1.5], 8, "beyond"),
        ([np.nan], 16, "NaN"),
        ([0.0], 24, "8 or 16"),
    ],
)
def test_what_no_file_can_hold_is_refused(signal, bits, message):
    with pytest.raises(ValueError, match=message):
        wav_bytes(signal, bits=bits)


def test_a_clip_is_a_named_player_that_asks_nobody():
    clip = play(synthesize([60, 64]), label='  Bach,  <b>"two"</b> notes & more ')
    assert isinstance(clip, Clip)
    page = BeautifulSoup(clip._repr_html_(), "html.parser")
    (audio,) = page.find_all("audio")
    assert audio["aria-label"] == 'Bach, <b>"two"</b> notes & more'
    assert audio["aria-label"] in page.get_text()
    assert not page.find_all("b")
    assert audio.has_attr("controls")
    assert not audio.has_attr("autoplay")
    kind, data = audio["src"].split(",")
    assert kind == "data:audio/wav;base64"
    assert base64.b64decode(data) == clip.wav
    assert not re.search(r"https?:", clip._repr_html_())
    assert clip.seconds == pytest.approx(read(clip.wav)[0].nframes / RATE, abs=1e-3)


def test_a_clip_without_a_name_is_refused():
    with pytest.raises(ValueError, match="label is empty"):
        play([0.0, 0.1], label="  ")
