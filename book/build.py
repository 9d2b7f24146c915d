"""Build the book: ``python book/build.py``.

Runs the pages whose results may have changed (several at a time), then lets Jupyter Book write the
HTML with warnings as errors. What has not changed is not done again; when nothing has changed, it
says so at once. A page that fails to run is reported with the failing cell, after the others.

``--page NAME`` builds single pages into a folder of their own while one writes them; links into the
rest of the book stay open there, so it does not treat warnings as errors.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
STAMP = BUILD / "built.sha256"
HTML = BUILD / "html"

sys.path.insert(0, str(BOOK / "_ext"))
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several pages run side by side
os.environ["IPYTHONDIR"] = str(BUILD / "ipython")  # a reader's own start-up files stay out of it


@dataclass
class Outcome:
    """How the execution of one page went."""

    page: str
    seconds: float
    error: str


def pages(toc: Path = BOOK / "_toc.yml") -> list[str]:
    """Return the pages of the table of contents, in order."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    return [name for name in parse_toc_yaml(toc) if (BOOK / f"{name}.md").is_file()]


def fingerprint() -> str:
    """Return a hash of all that the book is made from."""
    files = [ROOT / "_config.yml", ROOT / "requirements.lock"]
    made_elsewhere = ("experiments", "api")  # run by hand; written by the build itself
    files += [p for p in BOOK.rglob("*") if p.relative_to(BOOK).parts[0] not in made_elsewhere]
    files += (ROOT / "rnncourse").rglob("*.py")
    total = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
        if path.is_file() and not hidden:
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def notebook(page: str):  # type: ignore[no-untyped-def]  # nbformat has no types
    """Return a page as the notebook that myst-nb will look up in the cache, None without cells."""
    import course_cache
    from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    text = (BOOK / f"{page}.md").read_text("utf-8")
    if not is_myst_markdown_notebook(text):
        return None
    extensions = {"colon_fence", "dollarmath", "amsmath", "deflist", "attrs_block", "attrs_inline"}
    return read_myst_markdown_notebook(
        course_cache.with_key(text),
        MdParserConfig(enable_extensions=extensions),
        add_source_map=True,
        path=BOOK / f"{page}.md",
    )


def run(page: str, book, cache, timeout: int) -> Outcome:  # type: ignore[no-untyped-def]
    """Execute one page and keep its outputs in the cache."""
    from jupyter_cache.base import CacheBundleIn
    from jupyter_cache.executors.utils import single_nb_execution

    start = time.monotonic()
    result = single_nb_execution(
        book, cwd=str(BOOK), allow_errors=False, timeout=timeout, meta_override=True
    )
    seconds = time.monotonic() - start
    if result.err is None:
        bundle = CacheBundleIn(book, str(BOOK / f"{page}.md"), data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return Outcome(page, seconds, result.exc_string if result.err is not None else "")


def execute(names: list[str], workers: int, timeout: int) -> list[Outcome]:
    """Execute the pages that the cache does not know, and report each as it ends."""
    from jupyter_cache import get_cache

    CACHE.mkdir(parents=True, exist_ok=True)
    cache = get_cache(CACHE)
    todo = {}
    for name in names:
        book = notebook(name)
        if book is None:
            continue
        try:
            cache.match_cache_notebook(book)
        except KeyError:
            todo[name] = book
    outcomes: list[Outcome] = []
    if not todo:
        return outcomes
    print(f"Running {len(todo)} of {len(names)} pages, {workers} at a time", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(run, name, book, cache, timeout) for name, book in todo.items()]
        for done, future in enumerate(as_completed(futures), 1):
            outcome = future.result()
            outcomes.append(outcome)
            state = "FAILED" if outcome.error else "ran"
            print(
                f"  [{done}/{len(todo)}] {outcome.page} {state} in {outcome.seconds:.1f} s",
                flush=True,
            )
    return outcomes


def write(arguments: list[str], *, show: bool) -> int:
    """Run Jupyter Book; show warnings and errors, and the rest when asked."""
    main = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", main, "build", str(BOOK), *arguments]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    kept: list[str] = []
    telling = False
    for line in process.stdout:
        kept.append(line)
        telling = telling or line.startswith("Traceback")
        trouble = any(word in line for word in ("WARNING:", "ERROR:", "CRITICAL:", "Error"))
        if show or telling or trouble:
            print(line, end="", flush=True)
        elif line.startswith(("reading sources", "writing output")) and sys.stdout.isatty():
            print(f"\r{line.strip():<78.78}", end="\r", flush=True)
    code = process.wait()
    if code and not any("WARNING" in line or "Error" in line for line in kept):
        print("".join(kept[-40:]))
    return code


def quiet_kernels() -> None:
    """Keep the kernels from warning about a connection that never leaves this machine."""
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other build writes into the same folder."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another build is running; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(*, workers: int, timeout: int, fresh: bool, verbose: bool) -> int:
    """Build the whole book; return the exit status."""
    start = time.monotonic()
    now = fingerprint()
    if not fresh and STAMP.is_file() and STAMP.read_text() == now and HTML.is_dir():
        print(f"The book is up to date: {HTML / 'index.html'}")
        return 0
    # Sphinx repeats a warning only for a page that it reads again.
    fresh = fresh or not STAMP.is_file()
    STAMP.unlink(missing_ok=True)
    failed = [o for o in execute(pages(), workers, timeout) if o.error]
    for outcome in failed:
        print(f"\n{outcome.page}.md does not run:\n{outcome.error}", file=sys.stderr)
    if failed:
        return 1
    print("Writing the pages", flush=True)
    code = write(["-W", "-n", "--keep-going", *(["--all"] if fresh else [])], show=verbose)
    if code:
        print("The book has warnings, and warnings are errors here (see above)", file=sys.stderr)
        return 1
    STAMP.write_text(now)
    print(f"The book is built in {time.monotonic() - start:.0f} s: {HTML / 'index.html'}")
    return 0


def readme_figure() -> int:
    """Write the landing page's figure where README.md shows it."""
    import base64

    import nbformat

    page = nbformat.read(HTML / "_sources" / "index.ipynb", as_version=4)
    outputs = [output for cell in page.cells for output in cell.get("outputs", [])]
    (picture,) = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    target = BOOK / "_assets" / "img" / "readme.png"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(base64.b64decode(picture))
    print(target)
    return 0


def build_single(names: list[str], *, workers: int, timeout: int, verbose: bool) -> int:
    """Build some pages into a folder of their own."""
    import yaml

    unknown = [name for name in names if not (BOOK / f"{name}.md").is_file()]
    if unknown:
        print(f"No such page: {', '.join(unknown)}", file=sys.stderr)
        return 2
    failed = [o for o in execute(names, workers, timeout) if o.error]
    for outcome in failed:
        print(f"\n{outcome.page}.md does not run:\n{outcome.error}", file=sys.stderr)
    if failed:
        return 1
    folder = BUILD / "pages" / names[0]
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config["execute"]["cache"] = str(CACHE)
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {name: str(BOOK / "_ext") for name in extensions}
    toc = {"format": "jb-book", "root": names[0], "chapters": [{"file": n} for n in names[1:]]}
    toc = {key: value for key, value in toc.items() if value}
    (folder / "_config.yml").write_text(yaml.safe_dump(config), "utf-8")
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), "utf-8")
    options = ["--config", str(folder / "_config.yml"), "--toc", str(folder / "_toc.yml")]
    code = write([*options, "--path-output", str(folder), "-n"], show=verbose)
    print(f"{folder / '_build' / 'html' / (names[0] + '.html')}")
    return 1 if code else 0


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the book.")
    parser.add_argument("--page", action="append", default=[], help="only this page (repeatable)")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--timeout", type=int, default=180, help="seconds for one cell")
    parser.add_argument("--fresh", action="store_true", help="write all pages again")
    parser.add_argument("--verbose", action="store_true", help="show all that Jupyter Book says")
    parser.add_argument(
        "--readme-figure",
        action="store_true",
        help="copy the built landing page's figure for README.md",
    )
    options = parser.parse_args()
    if options.readme_figure:
        return readme_figure()
    quiet_kernels()
    if options.page:
        return build_single(
            [name.removesuffix(".md") for name in options.page],
            workers=options.workers,
            timeout=options.timeout,
            verbose=options.verbose,
        )
    with alone():
        return build(
            workers=options.workers,
            timeout=options.timeout,
            fresh=options.fresh,
            verbose=options.verbose,
        )


if __name__ == "__main__":
    sys.exit(main())
