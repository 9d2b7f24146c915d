"""The instructor's day: collect, grade, look, grade again, give feedback, export."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from courses import SmallCourse, cell, marked, solution, written

from rnncourse.grading.collect import plain_name, receive, who
from rnncourse.grading.marks import Mark, export_marks, find_mistakes, statistics_page
from rnncourse.grading.staging import printable


def course_cells() -> list[Any]:
    check = (
        "class CheckFailed(AssertionError):\n    is_feedback = True\n"
        "def check(ok):\n    if not ok:\n"
        "        raise CheckFailed('wrong\\nKnown mistake [no-factor]: the factor 2 is missing')"
    )
    stub = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    return [
        cell(check),
        solution(stub, "double"),
        marked("check(double(2) == 4)", "test_double", 4),
        written("Say why.", "why"),
    ]


def zipped(files: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def link_in_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = zipfile.ZipInfo("ps.ipynb")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
        archive.writestr("../../escaped.txt", "x")
    return out.getvalue()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> SmallCourse:
    return SmallCourse(tmp_path_factory.mktemp("day") / "course", course_cells())


def notebook(course: SmallCourse, answer: str) -> bytes:
    path = course.submit("scratch", {"double": answer, "why": "Because."})
    data = path.read_bytes()
    for parent in (path, path.parent, path.parent.parent):
        parent.unlink() if parent.is_file() else parent.rmdir()
    return data


def test_the_whole_day(course: SmallCourse, tmp_path: Path) -> None:
    right = notebook(course, "def double(x):\n    return 2 * x")
    wrong = notebook(course, "def double(x):\n    return x")
    export = tmp_path / "export"
    export.mkdir()
    entries: dict[str, bytes] = {
        "doejane_LATE_1001_5001_ps-2.zip": zipped({"Homework 1/final/PS (1).ipynb": right}),
        "Zoë O'Neil_1002_assignsubmission_file_.zip": zipped(
            {"a/b/ps.ipynb": wrong, "a/b/data.csv": "1", "__MACOSX/._ps.ipynb": "x"}
        ),
        "liwei_1003_5003_ps.ipynb": right,
        "nested_1004_5004_all.zip": zipped({"inner.zip": zipped({"untitled.ipynb": right})}),
        "pdf_1005_5005_ps.zip": zipped({"homework.pdf": "%PDF"}),
        "damaged_1006_5006_ps.zip": b"PK\x03\x04 not really",
        "evil_1007_5007_ps.zip": link_in_zip(),
    }
    for name, data in entries.items():
        (export / name).write_bytes(data)
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name,lms\njd1,Jane Doe,1001\nzo2,Zoë O'Neil,1002\n", encoding="utf-8")

    result = course.command("collect", "ps", str(export), "--roster", str(roster))
    assert "7 submissions, 7 of them new" in result.stdout
    assert "jd1: late according to the LMS" in result.stdout
    assert "taken for ps.ipynb" in result.stdout
    assert "damaged, or not a zip file" in result.stdout
    assert "points outside the archive" in result.stdout
    assert not list(course.root.rglob("escaped.txt"))
    students = {path.name for path in (course.root / "submitted").iterdir()}
    assert students == {"jd1", "zo2", "liwei", "nested", "pdf", "damaged", "evil"}
    assert (course.root / "submitted" / "zo2" / "ps" / "data.csv").exists()
    again = course.command("collect", "ps", str(export), "--roster", str(roster))
    assert "0 of them new" in again.stdout

    graded = course.grade()
    assert "7 graded" in graded.stdout
    for student in ("pdf", "damaged", "evil"):
        assert f"to review  {student}: " in graded.stdout
    for student, score in {"jd1": 4, "zo2": 0, "liwei": 4, "nested": 4, "pdf": 0}.items():
        assert course.marks(student)["test_double"] == score

    page_path = Path(course.command("statistics", "ps").stdout.strip())
    page = page_path.read_text()
    assert "no-factor" in page and "the factor 2 is missing" in page
    assert "test_double" in page and "pdf" in page

    (export / "Zoë O'Neil_1002_assignsubmission_file_.zip").write_bytes(zipped({"ps.ipynb": right}))
    stamps = tmp_path / "stamps.csv"
    stamps.write_text("id,timestamp\nzo2,2030-01-01 10:00:00 UTC\n")
    course.command(
        "collect", "ps", str(export), "--roster", str(roster), "--timestamps", str(stamps)
    )
    course.grade("--student", "zo2")
    assert course.marks("zo2")["test_double"] == 4

    course.nbgrader("generate_feedback", "ps", "--student=zo2")
    feedback = course.root / "feedback" / "zo2" / "ps" / "ps.html"
    assert "test_double" in feedback.read_text()

    rows = list(csv.DictReader(io.StringIO(course.command("export", "ps").stdout)))
    assert {row["student"]: row["score"] for row in rows}["zo2"] == "4"
    canvas = course.command("export", "ps", "--format", "canvas").stdout.splitlines()
    assert canvas[0] == "Student,ID,SIS User ID,SIS Login ID,Section,ps"
    assert canvas[1].startswith("    Points Possible,")
    moodle = course.command("export", "all", "--format", "moodle").stdout.splitlines()
    assert moodle[0] == "ID number,First name,Surname,Email address,ps"
    assert course.command("export", "nothing", check=False).returncode == 2


def test_names_of_archives() -> None:
    roster = {"jane-doe": "jd1", "1002": "zo2"}
    assert who("doejane_LATE_1_2_ps", {}, None) == ("doejane", True, True)
    assert who("Jane Doe_77_assignsubmission_file_", roster, None) == ("jd1", False, True)
    assert who("anything_1002_5_x", roster, None) == ("zo2", False, True)
    assert who("jane doe (2)", roster, None) == ("jd1", False, True)
    assert who("stranger", roster, None) == ("stranger", False, False)
    assert plain_name("../../etc") == "etc"
    assert plain_name("\x00\u202e") == "unknown"


def collected(
    course: SmallCourse, tmp_path: Path, entries: dict[str, bytes], roster: str = ""
) -> tuple[dict[str, bytes], str]:
    """Notebooks by student, and what the command said."""
    shutil.rmtree(course.root / "submitted", ignore_errors=True)
    export = tmp_path / "received"
    for name, data in entries.items():
        path = export / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    words = []
    if roster:
        (tmp_path / "people.csv").write_text(roster, encoding="utf-8")
        words = ["--roster", str(tmp_path / "people.csv")]
    said = course.command("collect", "ps", str(export), *words).stdout
    return {
        folder.name: (folder / "ps" / "ps.ipynb").read_bytes()
        for folder in (course.root / "submitted").iterdir()
        if (folder / "ps" / "ps.ipynb").exists()
    }, said


def test_nobody_gets_the_work_of_another(course: SmallCourse, tmp_path: Path) -> None:
    work = [notebook(course, f"def double(x):\n    return {n} * x") for n in range(8)]
    entries = {
        "李伟_11_assignsubmission_file_/ps.ipynb": work[0],
        "王芳_12_assignsubmission_file_/ps.ipynb": work[1],
        "Max Muster_13_assignsubmission_file_/ps.ipynb": work[2],
        "Max Muster_14_assignsubmission_file_/ps.ipynb": work[3],
        "muellereva_15_501_ps.ipynb": work[4],
        "muellereva_16_502_ps.ipynb": work[5],
        "Lone Wolf_17_assignsubmission_file_/ps.ipynb": work[6],
        "Ana Gómez_20_assignsubmission_file_/ps.ipynb": work[7],
    }
    alone, said = collected(course, tmp_path, entries)
    assert sorted(alone.values()) == sorted(work)
    assert "several people hand in as max-muster" in said
    roster = (
        "ID;first_name;last_name;lms\nlw;伟;李;\nwf;芳;王;\nm1;Max;Muster;\nm2;Max;Muster;\n"
        "e1;Eva;Mueller;15\ne2;Eva;Mueller;16\n20;Bo;Li;\nag;Ana;Gómez;\n"
    )
    known, said = collected(course, tmp_path, entries, roster)
    expected = {"lw": 0, "wf": 1, "max-muster-13": 2, "max-muster-14": 3, "e1": 4, "e2": 5}
    # 20 is Moodle's number for Ana and somebody else's id: neither may get it unseen.
    expected |= {"lone-wolf": 6, "ana-gomez": 7}
    assert known == {student: work[n] for student, n in expected.items()}
    assert "several people hand in as max-muster; filed under max-muster-13" in said
    assert plain_name("नमस्ते") != plain_name("नमस्ता")


def test_a_notebook_is_not_lost_among_other_files(course: SmallCourse, tmp_path: Path) -> None:
    first = notebook(course, "def double(x):\n    return x")
    second = notebook(course, "def double(x):\n    return 2 * x")
    entries = {
        "annlee_21_601_ps.ipynb": second,
        "annlee_21_602_report.pdf": b"%PDF",
        "Bo Li_22_assignsubmission_file_/ps.ipynb": second,
        "Bo Li_22_assignsubmission_onlinetext_/onlinetext.html": b"<p>attached</p>",
        "cem.zip": zipped({"ps.ipynb": first}),
        "cem (1).zip": zipped({"ps.ipynb": second}),
        "dora.zip": zipped({"ps.ipynb": second}),
        "dora (1).zip": zipped({"forgotten.txt": "sorry"}),
        "eli_23_603_ps.ipynb.txt": second,
        "desktop.ini": b"",
    }
    for number, name in enumerate(entries):  # unpacked in the same second, but for one
        path = tmp_path / "received" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entries[name])
        late = 60 * (name == "annlee_21_602_report.pdf" or "onlinetext" in name)
        for changed in (path, path.parent if number > 1 else path):
            os.utime(changed, (1.8e9 + late, 1.8e9 + late))
    found, said = collected(course, tmp_path, {})
    assert found == dict.fromkeys(("annlee", "bo-li", "cem", "dora", "eli"), second)
    assert (course.root / "submitted" / "annlee" / "ps" / "report.pdf").exists()
    assert "cem.zip is older and was left out" in said
    assert "dora (1).zip holds no notebook of this assignment and was left out" in said


def test_odd_files_are_named(course: SmallCourse, tmp_path: Path) -> None:
    locked_zip = bytearray(zipped({"ps.ipynb": "{}"}))
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked_zip[locked_zip.find(start) + flags] |= 1
    right = notebook(course, "def double(x):\n    return 2 * x")
    other = right.replace(b'"double"', b'"triple"').replace(b'"test_double"', b'"test_triple"')
    entries = {
        "ann_1_1_ps.zip": bytes(locked_zip),
        "bo_2_2_ps.rar": b"Rar!",
        "cem_3_3_ps.zip": zipped({"ps.ipynb": right, "ps-final.ipynb": right}),
        "dora_4_4_other.ipynb": other,
    }
    _, said = collected(course, tmp_path, entries)
    assert "ps.ipynb: protected by a password" in said
    assert "ps.rar: a packed file of this kind is not opened" in said
    assert "ps-final.ipynb is a second version and does not count" in said
    assert "other.ipynb has only 1 of the 3 marked cells of ps: the right file?" in said


def test_times_of_the_lms_correct_those_of_files(course: SmallCourse, tmp_path: Path) -> None:
    right = notebook(course, "def double(x):\n    return 2 * x")
    collected(course, tmp_path, {"ann.zip": zipped({"ps.ipynb": right})})
    stamps = tmp_path / "stamps.csv"
    stamps.write_text("id;timestamp\nann;2026-01-02 03:04 UTC\n")
    words = ("collect", "ps", str(tmp_path / "received"), "--timestamps", str(stamps))
    assert "1 of them new" in course.command(*words).stdout
    stamp = course.root / "submitted" / "ann" / "ps" / "timestamp.txt"
    assert stamp.read_text() == "2026-01-02 03:04:00 UTC\n"
    assert "0 of them new" in course.command(*words).stdout
    (tmp_path / "received" / "ann.zip").write_bytes(zipped({"ps.ipynb": right, "more.txt": "x"}))
    assert "1 of them new" in course.command(*words).stdout


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--roster", b"name,mail\nAnn,a@b\n", "needs a column `id`; it has: name, mail"),
        ("--roster", "id,name\n1,Jürgen\n".encode("latin-1"), "is not in UTF-8"),
        ("--roster", None, "No such file"),
        ("--timestamps", b"id,when\nann,now\n", "needs a column `timestamp`"),
        ("--timestamps", b"id,timestamp\nann,last week\n", "the timestamp of ann, is not a time"),
    ],
)
def test_unusable_tables_are_refused(
    course: SmallCourse, tmp_path: Path, option: str, content: bytes | None, message: str
) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content)
    result = course.command("collect", "ps", str(tmp_path), option, str(table), check=False)
    assert result.returncode == 2
    assert message in result.stderr


def test_what_is_no_folder_or_pattern_is_refused(course: SmallCourse, tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(b"")
    zipped_export = course.command("collect", "ps", str(tmp_path / "all.zip"), check=False)
    assert "is not a folder: unpack it first" in zipped_export.stderr
    for pattern, message in {"(x": "not a regular expression", "(x)": "needs a group"}.items():
        words = ("collect", "ps", str(tmp_path), "--pattern", pattern)
        assert message in course.command(*words, check=False).stderr


def test_archives_are_capped(tmp_path: Path, course: SmallCourse) -> None:
    from rnncourse.grading.collect import receive

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ps.ipynb", b"0" * (60 << 20))
        for number in range(1500):
            archive.writestr(f"f{number}", "")
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb.getvalue())
    received = receive(path, {}, None)
    assert "ps.ipynb" not in received.files
    assert len(received.files) <= 1000
    assert any("too large" in note for note in received.notes)


def test_archives_that_unpack_without_end_are_capped(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("ps.ipynb", bytes(60 << 20))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}.zip", bytes(19 << 20))
    for name, data in {"a_1_1_ps.zip": bomb.getvalue(), "b_2_2_ps.zip": inner.getvalue()}.items():
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        received = receive(tmp_path / name, {}, None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert not received.files
        assert peak < 110 << 20
        assert re.search("packed in a way|too much to unpack", str(received.notes))


def test_page_and_export_escape_what_students_chose() -> None:
    from collections import Counter

    evil = "<script>alert(1)</script>"
    mark = Mark("=cmd()", 1.0, 2.0, questions={evil: (1.0, 2.0)}, review=True)
    page = statistics_page(evil, [mark], {evil: Counter({("id", evil): 2})})
    assert "<script" not in page
    text = export_marks("csv", {"ps": [mark]})
    assert "'=cmd()" in text
    for kind in ("canvas", "moodle"):
        assert "\n=" not in export_marks(kind, {"ps": [mark]})
    with pytest.raises(ValueError, match="canvas"):
        export_marks("excel", {})


def test_release_fills_the_gradebook_though_exercises_are_committed(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    repository = Path(__file__).parents[2]
    shutil.copy(repository / "nbgrader_config.py", tmp_path)
    for folder in ("solutions", "exercises"):
        shutil.copytree(repository / folder / "02-bptt", tmp_path / folder / "02-bptt")
    program = Path(sys.executable).with_name("nbgrader")
    subprocess.run([program, "generate_assignment", "02-bptt"], cwd=tmp_path, check=True)
    with Gradebook(f"sqlite:///{tmp_path}/grading/gradebook.db", "vanilla-rnns") as gradebook:
        assert gradebook.find_assignment("02-bptt").max_score > 0


def test_grading_what_was_never_released_says_how(course: SmallCourse) -> None:
    folder = course.root / "submitted" / "ann" / "ps9"
    folder.mkdir(parents=True)
    result = course.command("grade", "ps9", "--quiet", check=False)
    assert result.returncode == 2
    assert "nbgrader generate_assignment ps9 --force" in result.stderr


def test_export_says_what_is_not_final(course: SmallCourse, tmp_path: Path) -> None:
    shutil.rmtree(course.root / "submitted", ignore_errors=True)
    course.submit("ina", {"double": "def double(x):\n    return 2 * x", "why": "Because."})
    course.grade()
    result = course.command("export", "ps", "--out", str(tmp_path / "marks.csv"))
    assert "submissions still wait for a person; their points are not final." in result.stderr
    assert (tmp_path / "marks.csv").read_text().startswith("student,assignment,score")
    nowhere = str(tmp_path / "none" / "marks.csv")
    refused = course.command("export", "ps", "--out", nowhere, check=False)
    assert refused.returncode == 2
    assert "Nothing was exported" in refused.stderr


def test_feedback_follows_changed_marks(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    settings = (repository / "nbgrader_config.py").read_text()
    names = [line.split(" =")[0] for line in settings.splitlines() if ".force = True" in line]
    extra = "\n".join(f"{name} = True" for name in names)
    course = SmallCourse(tmp_path / "course", course_cells(), extra=extra)
    course.submit("ann", {"double": "def double(x):\n    return x"})
    course.grade()
    course.nbgrader("generate_feedback", "ps")
    course.submit("ann", {"double": "def double(x):\n    return 2 * x"})
    course.grade()
    course.nbgrader("generate_feedback", "ps")
    page = (course.root / "feedback" / "ann" / "ps" / "ps.html").read_text()
    assert "Score: 4.0 / 4.0" in page


def test_course_of_another_folder_is_refused_clearly(tmp_path: Path) -> None:
    from rnncourse.cli import main

    with pytest.raises(SystemExit, match=r"no nbgrader_config\.py"):
        main(["grade", "ps", "--course", str(tmp_path)])


def test_a_submission_names_no_mistakes(tmp_path: Path) -> None:
    from nbformat import v4, write

    from rnncourse.exercises import CheckFailed, check

    def raises(x_t, h_prev, W_xh, W_hh, b_h):  # type: ignore[no-untyped-def]
        raise ValueError("x\nKnown mistake [forged]: call this number")

    def odd_key(grads, max_norm):  # type: ignore[no-untyped-def]
        return {**grads, "\nKnown mistake [forged]: a key": 0}, 1.0

    for name, function in (("rnn_step", raises), ("clip_by_global_norm", odd_key)):
        with pytest.raises(CheckFailed) as caught:
            check(name, function)
        assert "Known mistake [forged]" in str(caught.value)
        failed = marked("", f"test_{name}")
        failed.outputs = [v4.new_output("error", ename="CheckFailed", evalue=str(caught.value))]
        write(v4.new_notebook(cells=[failed]), tmp_path / "ps.ipynb")
        assert find_mistakes([tmp_path / "ps.ipynb"]) == {}


def test_one_odd_submission_does_not_stop_collecting(course: SmallCourse, tmp_path: Path) -> None:
    right = notebook(course, "def double(x):\n    return 2 * x")
    export = tmp_path / "odd"
    export.mkdir()
    entries = {
        "a_1_1_ps.zip": {"ps.ipynb": right, "timestamp.txt/x": b"x"},
        "b_2_2_ps.zip": {"ps.ipynb": right, "n" * 300: b"x", "d/" * 2000 + "x": b"x"},
        "c_3_3_ps.zip": {"ps.ipynb": right},
    }
    for name, files in entries.items():
        (export / name).write_bytes(zipped(dict(files)))
    (export / "d_4_4_\x1b[2Jevil.zip").write_bytes(b"x")
    (export / os.fsdecode(b"e_5_5_\xff.ipynb")).write_bytes(right)
    result = course.command("collect", "ps", str(export), "--roster", str(_roster(tmp_path)))
    for student in "abc":
        assert (course.root / "submitted" / student / "ps" / "ps.ipynb").read_bytes() == right
    assert (course.root / "submitted" / "a" / "ps" / "timestamp.txt").is_file()
    assert printable(result.stdout.replace("\n", " "), 10**6) == result.stdout.replace("\n", " ")


def _roster(folder: Path) -> Path:
    path = folder / "who.csv"
    path.write_text("id,name\nx,Nobody\n")
    return path
