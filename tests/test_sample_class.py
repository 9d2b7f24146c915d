"""The sample class gets the marks it deserves, and feedback that names its mistakes."""

import json
import re

import pytest

from tests.sample_class import __main__ as sample_class

WRONG = {
    "ada": set(),
    "bela": set(),
    "chen": set(),
    "dana": {
        "rnn_step_backward",
        "rnn_backward",
        "cross_entropy_backward",
        "embedding_backward",
        "numerical_gradient",
        "relative_error",
    },
    "emil": {"rnn_backward"},
    "fatima": {"rnn_step_backward"},
    "goran": {"embedding_backward"},
    "hana": {"rnn_backward", "cross_entropy_backward"},
    "ivan": {"numerical_gradient"},
}
NAMED = {
    "emil": "overwritten-not-summed",
    "fatima": "tanh-twice",
    "goran": "repeated-tokens-lost",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("class")
    sample_class.grade(path)
    return path


def test_marks_are_those_that_the_answers_deserve(folder):
    marks = sample_class.marks(folder)
    assert {student for student, _ in marks} == WRONG.keys()
    for (student, _), cells in marks.items():
        wrong = {cell.removeprefix("test_") for cell, (got, most) in cells.items() if got < most}
        assert wrong == WRONG[student], student
        assert all(got in (0, most) for got, most in cells.values())


@pytest.mark.parametrize(("student", "mistake"), NAMED.items())
def test_feedback_names_the_mistake(folder, student, mistake):
    name = sample_class.ASSIGNMENT
    page = folder / "grading" / "feedback" / student / name / f"{name}.html"
    named = re.findall(r"Known mistake \[([\w-]+)\]", page.read_text())
    assert set(named) == {mistake}


def test_a_crash_and_an_endless_loop_are_explained(folder):
    def errors(student):
        name = sample_class.ASSIGNMENT
        path = folder / "grading" / "autograded" / student / name / f"{name}.ipynb"
        cells = json.loads(path.read_text())["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return "\n".join(o["evalue"] for o in outputs if o["output_type"] == "error")

    assert "expected ':'" in errors("hana")
    assert re.search(r"no answer .* within \d+ s", errors("ivan"))


def test_the_table_of_marks_has_every_student(folder):
    rows = (folder / "grading" / "marks.csv").read_text().splitlines()[1:]
    assert len(rows) == len(WRONG)


def test_every_assignment_gives_full_marks_to_its_model_and_none_to_its_blank(tmp_path):
    assert sample_class.validate(tmp_path / "validation") == []
    graded = sample_class.marks(tmp_path / "validation")
    assert {name for _, name in graded} == set(sample_class.assignments())
