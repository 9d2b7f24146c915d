"""The instructor's day: collect, grade, look, grade again, give feedback, export."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from courses import SmallCourse, cell, marked, solution, written

from rnncourse.grading.collect import plain_name, who
from rnncourse.grading.marks import Mark, export_marks, statistics_page


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


def test_course_of_another_folder_is_refused_clearly(tmp_path: Path) -> None:
    from rnncourse.cli import main

    with pytest.raises(SystemExit, match=r"no nbgrader_config\.py"):
        main(["grade", "ps", "--course", str(tmp_path)])
