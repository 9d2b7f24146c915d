"""The claims ledger accepts what holds, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from rnncourse import claims
from rnncourse.claims import ClaimFailed, cite, claim, format_number, number


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_registered", {})


@pytest.mark.parametrize(
    ("value", "promise"),
    [
        (0.5, {"within": (0, 1)}),
        (0.0, {"within": (0, 1)}),
        (3, {"at_least": 3}),
        (np.float32(2), {"at_most": 2}),
        (1.01, {"close_to": (1, 0.1)}),
        ([1, 2, 3], {"at_least": 1, "at_most": 3}),
        ({"lstm": 0.9, "gru": 0.8}, {"at_least": 0.5}),
        (np.ones((2, 3)), {"close_to": (1, 0)}),
        (True, {}),
        (np.bool_(True), {}),
    ],
)
def test_what_holds_is_returned(value: object, promise: dict[str, object]) -> None:
    made = claim("some-id", "Something holds", value, **promise)  # type: ignore[arg-type]
    assert made.id == "some-id"
    assert made.text


@pytest.mark.parametrize(
    ("value", "promise", "reason"),
    [
        (1.5, {"within": (0, 1)}, "must be in"),
        (2.9, {"at_least": 3}, "must be ≥ 3"),
        (2.1, {"at_most": 2}, "must be ≤ 2"),
        (1.2, {"close_to": (1, 0.1)}, "must be 1 ± 0.1"),
        ([1, 4], {"at_least": 1, "at_most": 3}, "entry 1 is 4"),
        ({"lstm": 0.9, "gru": 0.4}, {"at_least": 0.5}, "entry gru is 0.4"),
        (float("nan"), {"at_least": 0}, "nan"),
        ([1, float("nan")], {"at_least": 0}, "entry 1 is nan"),
        (float("inf"), {"at_least": 0}, "inf"),
        (0.5, {"at_least": float("nan")}, "range contains nan"),
        (False, {}, "does not hold"),
        (True, {"at_least": 0}, "takes no range"),
        (0.5, {}, "give within"),
        ([], {"at_least": 0}, "no value"),
        ({}, {"at_least": 0}, "no value"),
    ],
)
def test_what_fails_raises(value: object, promise: dict[str, object], reason: str) -> None:
    with pytest.raises(ClaimFailed, match=reason):
        claim("some-id", "Something holds", value, **promise)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Upper", "two words", "colon:id", "", "-dash", "under_score"])
def test_malformed_ids_are_refused(name: str) -> None:
    with pytest.raises(ClaimFailed, match="id"):
        claim(name, "Something holds", True)


def test_an_id_stands_for_one_statement() -> None:
    claim("same-id", "Something holds", 1, at_least=0)
    claim("same-id", "Something holds", 2, at_least=0)  # the cell was run again
    with pytest.raises(ClaimFailed, match="already stands for"):
        claim("same-id", "Something else holds", 1, at_least=0)


def test_a_source_needs_a_key_and_a_claim_no_other_kind() -> None:
    assert cite("from-source", "Somebody found it", source="elman1990").kind == "source"
    with pytest.raises(ClaimFailed, match="name the source"):
        cite("no-source", "Somebody found it", source="")
    with pytest.raises(ClaimFailed, match="kind"):
        claim("odd-kind", "Something holds", True, kind="source")


def test_the_range_is_printed_as_it_is_checked() -> None:
    assert claim("tight", "It is tight", 1.0, at_most=1 + 1e-9, fmt=".1f").range == "≤ 1.000000001"
    assert claim("loose", "It is loose", 0.01, at_most=0.1, fmt=".1e").range == "≤ 0.1"


def test_several_values_offer_their_parts() -> None:
    runs = claim("runs", "Runs agree", [0.1, 0.3, 0.2], within=(0, 1), fmt=".1f", unit="s")
    assert runs.glued == {
        "runs": "0.2 (0.1 to 0.3) s",
        "runs.min": "0.1 s",
        "runs.median": "0.2 s",
        "runs.max": "0.3 s",
        "runs.range": "in [0.0, 1.0] s",
    }
    cells = claim("cells", "Cells agree", {"lstm": 0.9, "gru": 0.8}, at_least=0.5)
    assert cells.glued["cells.gru"] == "0.8"


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (0, ".2e", "0.00"),
        (-1e-7, ".0e", "−1×10⁻⁷"),
        (12, "d", "12"),
        (1e10, ".3g", "1×10¹⁰"),
        (-0.5, ".1%", "−50.0%"),
    ],
)
def test_numbers_read_as_in_a_text(value: float, fmt: str, text: str) -> None:
    assert format_number(value, fmt) == text


def test_a_number_must_be_one() -> None:
    with pytest.raises(ClaimFailed, match="nan"):
        number("some-number", float("nan"))
    with pytest.raises(ClaimFailed, match="key"):
        number("Some number", 1)


def test_the_badge_escapes_what_it_shows() -> None:
    badge = claim("angle", "a < b & c", 1e-9, at_most=1e-3).to_html()
    assert "a &lt; b &amp; c" in badge
    assert "10<sup>−9</sup>" in badge
    assert 'id="claim-angle"' in badge


SESSION = """
import json
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
with capture_output() as captured:
    shell.run_cell('''
from rnncourse.claims import claim, number
number("a-number", 0.1, ".2f")
claim("a-claim", "It holds", [1.0, 2.0], at_least=0)
''').raise_error()
print(json.dumps([[o.data, o.metadata] for o in captured.outputs]))
"""


def test_a_notebook_gets_one_badge_and_all_texts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, check=True
    )
    outputs = json.loads(done.stdout.splitlines()[-1])
    shown = [data for data, _ in outputs if "text/html" in data]
    assert len(shown) == 1  # the value of the last line adds no second badge
    names = {metadata["scrapbook"]["name"]: data for data, metadata in outputs}
    assert names["a-number"] == {"application/papermill.record/text/plain": "'0.10'"}
    assert names["a-claim"]["text/plain"] == "'1.5 (1 to 2)'"
    assert {"a-claim.min", "a-claim.max", "a-claim.median", "a-claim.range"} <= set(names)
    record = next(metadata for _, metadata in outputs if "rnncourse_claim" in metadata)
    assert record["rnncourse_claim"]["value"] == [1.0, 2.0]


def test_plain_python_needs_no_notebook() -> None:
    code = (
        "import sys; sys.modules['IPython'] = None\n"
        "from rnncourse.claims import claim\n"
        "print(claim('plain', 'It holds', 1.0, at_least=0).text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
