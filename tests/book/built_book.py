"""Where the built book lies, and its pages."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))


@dataclass(frozen=True)
class Book:
    """The pages of the built book, parsed."""

    folder: Path
    pages: dict[str, BeautifulSoup]

    def chapters(self) -> dict[str, BeautifulSoup]:
        """Return the numbered chapters, without the first page."""
        return {
            name: page
            for name, page in self.pages.items()
            if name[:2].isdigit() and name[:2] > "00"
        }
