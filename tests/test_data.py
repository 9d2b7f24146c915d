"""The shipped data: complete, verified, and split without leakage."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from rnncourse import data

FOLDER = Path(__file__).parents[1] / "book" / "data"
LOADERS = {
    "moby_dick.txt.gz": data.moby_dick,
    "movie_reviews.tsv.gz": data.movie_reviews,
    "japanese_vowels.tsv.gz": data.japanese_vowels,
    "bach_chorales.jsonl.gz": data.bach_chorales,
    "number_words.tsv.gz": data.number_words,
    "sunspots.csv": data.sunspots,
    "co2.csv": data.co2,
    "el_nino.csv": data.el_nino,
}


def test_every_file_has_a_loader_and_stays_small() -> None:
    assert set(LOADERS) == set(data.CHECKSUMS)
    assert sum((FOLDER / name).stat().st_size for name in LOADERS) < 3_000_000


def test_readme_states_size_and_checksum_of_every_file() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\S+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", readme, re.M)
    assert {name: digest for name, _, digest in rows} == data.CHECKSUMS
    for name, size, _ in rows:
        assert int(size.replace(",", "")) == (FOLDER / name).stat().st_size


@pytest.mark.parametrize("name", LOADERS)
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=f"{re.escape(name)} is missing.*git checkout"):
        LOADERS[name](folder=tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_changed_content_is_refused(name: str, tmp_path: Path) -> None:
    raw = (FOLDER / name).read_bytes()
    if name.endswith(".gz"):
        content = gzip.decompress(raw)
        (tmp_path / name).write_bytes(gzip.compress(content[:-2] + b"x\n"))
    else:
        (tmp_path / name).write_bytes(raw.replace(b"1", b"2", 1))
    with pytest.raises(data.DataError, match="damaged or of another version"):
        LOADERS[name](folder=tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 20, 1000])
def test_cut_archive_is_refused(cut: int, tmp_path: Path) -> None:
    name = "moby_dick.txt.gz"
    (tmp_path / name).write_bytes((FOLDER / name).read_bytes()[:cut])
    with pytest.raises(data.DataError, match="damaged"):
        data.moby_dick(folder=tmp_path)


def test_flipped_byte_in_an_archive_is_refused(tmp_path: Path) -> None:
    name = "moby_dick.txt.gz"
    raw = bytearray((FOLDER / name).read_bytes())
    raw[5000] ^= 0xFF
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(data.DataError, match="damaged"):
        data.moby_dick(folder=tmp_path)


def test_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNCOURSE_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"sunspots\.csv is missing"):
        data.sunspots()
    monkeypatch.setenv("RNNCOURSE_DATA", str(tmp_path / "none"))
    with pytest.raises(data.DataError, match="RNNCOURSE_DATA"):
        data.sunspots()


def test_moby_dick_is_whole() -> None:
    text = data.moby_dick()
    headings = re.findall(r"^CHAPTER (\d+)\.", text, re.M)
    assert [int(n) for n in headings] == list(range(1, 136))
    assert "Call me Ishmael." in text and text.rstrip().endswith("found another orphan.")
    assert 1_150_000 < len(text) < 1_250_000


def test_reviews_are_split_by_text() -> None:
    reviews = data.movie_reviews()
    assert len(reviews.texts) == len(reviews.ratings) == len(reviews.split) == 10_605
    assert np.abs(reviews.ratings).max() <= 4
    sides = defaultdict(set)
    for text, split in zip(reviews.texts, reviews.split, strict=True):
        assert text == text.strip() and text
        sides[text.lower()].add(str(split))
    assert max(map(len, sides.values())) == 1
    shares = [np.mean(reviews.split == s) for s in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_vowels_have_the_published_counts() -> None:
    vowels = data.japanese_vowels()
    lengths = np.array([len(f) for f in vowels.frames])
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert all(f.shape[1] == 12 and np.isfinite(f).all() for f in vowels.frames)
    train = np.bincount(vowels.speaker[vowels.split == "train"])
    test = np.bincount(vowels.speaker[vowels.split == "test"])
    assert train.tolist() == [30] * 9
    assert test.tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_chorales_are_consistent(steps: int) -> None:
    chorales = data.bach_chorales(steps)
    assert len(chorales) > 340
    for c in chorales:
        assert c.pitch.shape == c.onset.shape and c.pitch.shape[1] == 4
        assert c.fermata.shape == (len(c.pitch),)
        assert c.onset[0].all()
        # where a voice moves, a note begins
        assert c.onset[1:][np.diff(c.pitch, axis=0) != 0].all()
        sounding = c.pitch[c.pitch > 0]
        assert sounding.min() >= 33 and sounding.max() <= 86


def test_coarse_chorales_keep_what_sounds() -> None:
    for fine, coarse in zip(data.bach_chorales(4), data.bach_chorales(1), strict=True):
        np.testing.assert_array_equal(fine.pitch[::4], coarse.pitch)
        for k in range(1, len(coarse.onset)):
            began = fine.onset[4 * k - 3 : 4 * k + 1].any(axis=0)
            np.testing.assert_array_equal(coarse.onset[k], began)


def test_chorale_grid_must_divide() -> None:
    with pytest.raises(ValueError, match="steps_per_quarter"):
        data.bach_chorales(3)


def test_settings_of_one_tune_share_a_split() -> None:
    chorales = data.bach_chorales(1)
    sides = defaultdict(set)
    for c in chorales:
        sides["tune", str(c.tune)].add(c.split)
        if c.title:
            sides["title", c.title].add(c.split)
    assert max(map(len, sides.values())) == 1
    passion = {"bwv244.15", "bwv244.17", "bwv244.44", "bwv244.54", "bwv244.62", "bwv248.5"}
    assert len({c.tune for c in chorales if c.id in passion}) == 1
    assert {c.split for c in chorales} == {"train", "valid", "test"}


def test_chorales_are_in_their_normal_key() -> None:
    # the last chord's bass is the tonic for most: C in major, A in minor
    hits = []
    for c in data.bach_chorales(1):
        bass = c.pitch[:, 3][c.pitch[:, 3] > 0][-1] % 12
        hits.append(bass == (0 if c.mode == "major" else 9))
    assert np.mean(hits) > 0.6


def test_numbers_align_by_meaning() -> None:
    pairs = {p.number: p for p in data.number_words()}
    assert len(pairs) == 9_999
    assert all(n in pairs for n in range(1, 1000))
    same = {"two": {"zwei"}, "forty": {"vierzig"}, "one": {"ein", "eins"}, "hundred": {"hundert"}}
    for p in pairs.values():
        assert len(p.german) == len(p.alignment)
        used = [a for a in p.alignment if a >= 0]
        assert len(used) == len(set(used))  # no English word is said twice
        said = [w for w in p.english if w != "and"]
        assert len(used) == len(said)
        for word, source in zip(p.german, p.alignment, strict=True):
            assert (source == -1) == (word == "und")
            if source >= 0 and p.english[source] in same:
                assert word in same[p.english[source]]
    assert pairs[121].german == ("ein", "hundert", "ein", "und", "zwanzig")
    assert pairs[121].alignment == (0, 1, 4, -1, 3)


@pytest.mark.parametrize("load", [data.sunspots, data.co2, data.el_nino])
def test_series_have_equal_steps(load) -> None:  # type: ignore[no-untyped-def]
    series = load()
    assert series.time.shape == series.values.shape
    assert np.isfinite(series.values).all()
    np.testing.assert_allclose(np.diff(series.time), 1 / 12 if series.season == 12 else 1)


def test_loaders_hand_out_fresh_arrays() -> None:
    first = data.sunspots()
    first.values[0] = 99
    assert data.sunspots().values[0] == 5
