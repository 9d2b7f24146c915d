"""Start the sandboxes and grade one submission in them.

`grade_task` is the unit of work: plain data in, plain data out, on whichever process or machine.
It keeps two warm parents per kind of assignment, one for each role, and starts children from them.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .inside import sandbox, wire

Role = Literal["student", "trusted"]

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
STUDENT_UID = 60100
TRUSTED_UID = 60101
_START_S = 120.0
_OWN_WORK = "To grade your own work without a sandbox: rnncourse grade NAME --trust-submissions"


class GradingUnavailableError(RuntimeError):
    """The sandbox cannot be had on this machine; the text says what to do."""


class SandboxError(RuntimeError):
    """The sandbox failed for a reason that is not the submission's."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes
    ----------
    cell_s : float
        Seconds per cell.
    total_s : float
        Seconds per submission.
    memory_mb : int
        Memory of all its processes together.
    disk_mb : int
        Size of its home folder and of its ``/tmp``, each.
    processes : int
        Processes and threads.
    respawns : int
        How often its process is started again after a crash or a time-out.
    """

    cell_s: float = 30.0
    total_s: float = 300.0
    memory_mb: int = 2048
    disk_mb: int = 64
    processes: int = 64
    respawns: int = 20


@dataclass(frozen=True)
class Profile:
    """What the warm parents of an assignment import and see.

    Attributes
    ----------
    preload : tuple of str
        Modules that are imported once, before anything is forked.
    torch : bool
        Whether torch is there at all.
    trusted_path : tuple of str
        Folders from which the test cells may import; the submitted code never sees them.
    files : tuple of (str, bytes)
        The instructor's files beside the notebook, which the tests may read, by relative path.
    """

    preload: tuple[str, ...] = ("numpy",)
    torch: bool = False
    trusted_path: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    limits: Limits = field(default_factory=Limits)


def why_unavailable() -> str | None:
    """Say why submissions cannot be graded safely on this machine.

    Returns
    -------
    str or None
        The reason and what to do about it; ``None`` if all is well.
    """
    if sys.platform != "linux":
        return (
            f"The sealed grader needs Linux; this is {platform.system()}. "
            "Grade in a Linux virtual machine or container, or on a cluster (--scheduler)."
        )
    if not sandbox.filter_supported():
        return f"The sealed grader knows x86_64 and aarch64, not {platform.machine()}."
    if shutil.which("bwrap") is None:
        return (
            "The sealed grader needs bubblewrap. Install it "
            "(Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)."
        )
    return None


def ensure_available() -> None:
    """Raise unless a sandbox of each role starts here.

    Raises
    ------
    GradingUnavailableError
        If something is missing.
    """
    reason = why_unavailable()
    if reason is None:
        return
    raise GradingUnavailableError(f"{reason}\n{_OWN_WORK}")


def _readable_prefix() -> tuple[list[str], str, str]:
    """Mounts for the interpreter, its path inside and the folder of its libraries."""
    prefix = os.path.realpath(sys.base_prefix)
    executable = os.path.realpath(sys.executable)
    if prefix == "/usr" or prefix.startswith("/usr/"):
        return [], executable, ""
    hidden = ("/tmp", "/dev", "/proc", "/home/student", "/course", "/packages")
    inside = "/python" if prefix.startswith(hidden) else prefix
    mounts = ["--ro-bind", prefix, inside]
    if not executable.startswith(prefix + "/"):
        executable = f"{prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return mounts, executable.replace(prefix, inside, 1), f"{inside}/lib"


def _package_folders() -> list[str]:
    """The folders of installed packages that this interpreter itself uses."""
    found = []
    for entry in sys.path:
        path = os.path.realpath(entry)
        if os.path.basename(path) in ("site-packages", "dist-packages") and os.path.isdir(path):
            found.append(path)
    return list(dict.fromkeys(found))


def _packages_below(mounts: list[str]) -> list[str]:
    """The folders of packages that come along with the interpreter's or the system's folders."""
    roots = [*mounts[1:2], "/usr", "/usr/local"]
    return [
        os.path.realpath(path)
        for root in roots
        for pattern in ("site-packages", "dist-packages")
        for path in Path(root).glob(f"lib/python*/{pattern}")
        if path.is_dir()
    ]


def _telling_files(folder: str) -> list[Path]:
    """Files of installed packages that name folders of this machine."""
    patterns = ("*.pth", "*.egg-link", "__editable__*", "*.dist-info/direct_url.json")
    return [path for pattern in patterns for path in Path(folder).glob(pattern) if path.is_file()]


def _write_files(folder: Path, files: tuple[tuple[str, bytes], ...]) -> list[str]:
    """Write files and return the names at the top, each of a file or a folder."""
    for name, data in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
    return sorted({name.split("/")[0] for name, _ in files})


def _command(role: Role, profile: Profile, scratch: Path, control: int) -> list[str]:
    """Build the bubblewrap command of a warm parent."""
    limits = profile.limits
    root = os.getuid() == 0
    command = ["bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    if root:
        # Without a user namespace here: the parent becomes an ordinary user by itself, since
        # limits do not bind root, not even in a user namespace.
        command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    else:
        command += ["--unshare-all"]
    command += ["--hostname", "grader"]
    command += ["--perms", "0755", "--dir", "/home"]
    for path in ("/tmp", "/home/student"):
        # For the warm-up only: every child mounts its own over these.
        command += ["--perms", "1777", "--size", str(limits.disk_mb << 20), "--tmpfs", path]
    for path in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/fonts"):
        command += ["--ro-bind-try", path, path]
    for name in ("passwd", "group"):
        text = "student:x:1000:1000::/home/student:/bin/sh\n"
        text = text if name == "passwd" else "student:x:1000:\n"
        (scratch / name).write_text(text)
        (scratch / name).chmod(0o644)
        command += ["--ro-bind", str(scratch / name), f"/etc/{name}"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    # Mapped, it gives memory that belongs to no process; see the filter of system calls.
    command += ["--dev-bind", "/dev/null", "/dev/zero"]
    mounts, executable, libraries = _readable_prefix()
    command += mounts
    paths = []
    own = _package_folders()
    shown = dict.fromkeys([*own, *_packages_below(mounts)])
    for number, folder in enumerate(shown):
        target = f"/packages/{number}"
        if folder.startswith("/usr/"):
            target = folder
        elif mounts and folder.startswith(f"{mounts[1]}/"):
            target = folder.replace(mounts[1], mounts[2], 1)  # seen there already
        else:
            command += ["--ro-bind", folder, target]
        if folder in own:
            paths.append(target)
        masked = {"rnncourse": "library"} if role == "student" else {}
        masked |= {} if profile.torch else {"torch": "no_torch"}
        for name, stub in masked.items():
            if os.path.isdir(f"{folder}/{name}"):
                command += ["--ro-bind", str(HERE / "stub" / stub), f"{target}/{name}"]
        for file in _telling_files(folder):
            command += ["--ro-bind", "/dev/null", f"{target}/{file.relative_to(folder)}"]
    inside = HERE / "inside"
    names = ["__init__", "wire", "sandbox", "parent", "student"]
    if role == "trusted":
        names += ["proxy", "trusted"]
        names.remove("student")
    for name in names:
        command += ["--ro-bind", str(inside / f"{name}.py"), f"/grader/inside/{name}.py"]
    first = ["/grader"]
    if role == "student":
        command += ["--ro-bind", str(HERE / "stub" / "library"), "/stub/rnncourse"]
        first.append("/stub")
    else:
        for number, folder in enumerate(profile.trusted_path):
            command += ["--ro-bind", folder, f"/course/{number}"]
            first.append(f"/course/{number}")
        command += ["--ro-bind", str(PACKAGE), "/library/rnncourse"]
        first.append("/library")
        for name in _write_files(scratch / "files", profile.files):
            command += ["--ro-bind", str(scratch / "files" / name), f"{sandbox.HOME}/{name}"]
        paths.append(sandbox.HOME)
    environment = {
        "HOME": sandbox.HOME,
        "IPYTHONDIR": f"{sandbox.HOME}/.ipython",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": libraries,
        "LOGNAME": "student",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline" if role == "student" else "agg",
        "MPLCONFIGDIR": f"{sandbox.HOME}/.matplotlib",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "PIP_RETRIES": "0",  # there is no network to wait for
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": ":".join([*first[1:], *paths]),
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        "USER": "student",
    }
    for name, value in environment.items():
        if value:
            command += ["--setenv", name, value]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/home/student"]
    uid = None
    if root:
        uid = STUDENT_UID if role == "student" else TRUSTED_UID
    config = {
        "role": role,
        "control": control,
        "preload": [*profile.preload, *(["IPython"] if role == "student" else [])],
        "drop_to": uid,
        "isolate": role == "student",
        "memory_mb": limits.memory_mb,
        "cpu_s": int(limits.total_s) + 5,
        "processes": _process_limit(limits.processes if role == "student" else 256, uid),
        "disk_mb": limits.disk_mb if role == "student" else 0,
    }
    start = (
        f"import sys; sys.path[:0] = {first!r}; sys.path += {paths!r}; "
        f"sys.argv[1:] = [{json.dumps(config)!r}]; "
        "from inside import parent; parent.main()"
    )
    return [*_with_open_folders(command), executable, "-I", "-S", "-c", start]


def _with_open_folders(command: list[str]) -> list[str]:
    """Make the folders above every mount readable to the user that the grader becomes."""
    made: set[str] = set()
    result: list[str] = []
    for index, word in enumerate(command):
        if word == "--ro-bind" or word == "--ro-bind-try":
            for folder in reversed(Path(command[index + 2]).parents):
                if str(folder) != "/" and str(folder) not in made and "/usr" not in str(folder):
                    made.add(str(folder))
                    result += ["--perms", "0755", "--dir", str(folder)]
        result.append(word)
    return result


def _process_limit(processes: int, uid: int | None) -> int:
    """Older kernels count a user's processes over all namespaces; then add what is running."""
    release = platform.release().split(".")
    with contextlib.suppress(ValueError, IndexError):
        if (int(release[0]), int(release[1].split("-")[0])) >= (5, 14):
            return processes
    uid = os.getuid() if uid is None else uid
    running = 0
    for task in Path("/proc").glob("[0-9]*/task/*"):
        with contextlib.suppress(OSError):
            running += task.stat().st_uid == uid
    return processes + running


class Parent:
    """A warm parent inside bubblewrap, and the socket on which children are ordered.

    Parameters
    ----------
    role : {"student", "trusted"}
    profile : Profile

    Raises
    ------
    GradingUnavailableError
        If the sandbox does not start.
    """

    def __init__(self, role: Role, profile: Profile) -> None:
        self._lock = threading.Lock()
        self._scratch = Path(tempfile.mkdtemp(prefix="rnncourse-"))
        self._scratch.chmod(0o755)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        number = theirs.fileno()
        self.process = subprocess.Popen(
            _command(role, profile, self._scratch, number),
            pass_fds=(number,),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            cwd="/",
        )
        theirs.close()
        ours.settimeout(_START_S)
        try:
            answer = json.loads(ours.recv(1 << 16) or b"{}")
        except (OSError, ValueError):
            answer = {}
        if "ready" not in answer:
            self._log.seek(0)
            text = self._log.read().decode(errors="replace").strip()
            self.close()
            detail = answer.get("failed") or text or "it ended without a word"
            raise GradingUnavailableError(
                f"The sandbox does not start: {detail[-1500:]}\n"
                "It needs unprivileged user namespaces (sysctl user.max_user_namespaces above 0, "
                "on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0; in a container "
                f"an unmasked /proc).\n{_OWN_WORK}"
            )
        ours.settimeout(None)
        self.ready_s = float(answer["ready"])

    def alive(self) -> bool:
        """Whether children can still be ordered."""
        return self.process.poll() is None

    def spawn(self, channel: socket.socket) -> Child:
        """Start a child whose only connection is `channel`.

        Raises
        ------
        SandboxError
            If the parent is gone.
        """
        ours, theirs = socket.socketpair()
        descriptors = array.array("i", [channel.fileno(), theirs.fileno()])
        try:
            with self._lock:
                self._control.sendmsg(
                    [b"child"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
                )
        except OSError as error:
            ours.close()
            raise SandboxError(f"the sandbox's parent is gone ({error})") from None
        finally:
            theirs.close()
        return Child(ours)

    def close(self) -> None:
        """End the parent and with it everything in its sandbox."""
        self._control.close()
        if self.process.poll() is None:
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


class Child:
    """A running child, held by its lifeline.

    Parameters
    ----------
    lifeline : socket.socket
        Closing it ends the child and all it started.
    """

    def __init__(self, lifeline: socket.socket) -> None:
        self._lifeline = lifeline

    def fileno(self) -> int:
        """Descriptor that becomes readable when the child has ended."""
        return self._lifeline.fileno()

    def end(self) -> dict[str, Any]:
        """End the child, wait until it is gone, and return its warden's report."""
        report: dict[str, Any] = {"reason": "lost"}
        try:
            self._lifeline.settimeout(20)
            with contextlib.suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_WR)
            data = b""
            while part := self._lifeline.recv(1 << 16):
                data += part
            if data:
                report = json.loads(data)
        except OSError:
            report = {"reason": "lost"}
        finally:
            self._lifeline.close()
        return report


_parents: dict[Profile, dict[Role, Parent]] = {}
_parents_lock = threading.Lock()
# bubblewrap ends with the thread that started it, so one thread that never ends starts them all.
_starter: ThreadPoolExecutor | None = None
_owner = os.getpid()
_stopping = threading.Event()


def stop() -> None:
    """End every sandbox and start no new one until `resume`; what is running fails."""
    _stopping.set()
    close_parents()


def resume() -> None:
    """Allow sandboxes again."""
    _stopping.clear()


def parents(profile: Profile) -> dict[Role, Parent]:
    """Return the two warm parents of a profile, starting them where needed."""
    global _starter, _owner
    with _parents_lock:
        if _stopping.is_set():
            raise SandboxError("stopped")
        if _owner != os.getpid():  # forked from a process that had some: they are not ours
            _parents.clear()
            _starter, _owner = None, os.getpid()
        pair = _parents.get(profile)
        if pair is not None and all(parent.alive() for parent in pair.values()):
            return pair
        if pair is not None:
            for parent in pair.values():
                parent.close()
            del _parents[profile]
        ensure_available()
        if _starter is None:
            _starter = ThreadPoolExecutor(2, thread_name_prefix="sandbox")
        roles: tuple[Role, Role] = ("student", "trusted")
        started = {role: _starter.submit(Parent, role, profile) for role in roles}
        _parents[profile] = {role: future.result() for role, future in started.items()}
        return _parents[profile]


def close_parents() -> None:
    """End every warm parent of this process."""
    if _owner != os.getpid():
        return
    with _parents_lock:
        for pair in _parents.values():
            for parent in pair.values():
                parent.close()
        _parents.clear()


atexit.register(close_parents)


@dataclass(frozen=True)
class Cell:
    """A code cell as the runners see it.

    Attributes
    ----------
    kind : {"student", "locked", "test"}
    source : str
    hidden : tuple of (int, int)
        First and last line of every hidden region, counted from 1.
    """

    kind: Literal["student", "locked", "test"]
    source: str
    hidden: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Task:
    """One notebook of one submission, complete: nothing else is needed to grade it.

    Attributes
    ----------
    cells : tuple of Cell
    plain : str
        Sources of the instructor's ordinary cells, separated by form feeds.
    answers : tuple of str
        Names that the submission is to define.
    files : dict
        Extra files of the submission by relative path.
    """

    cells: tuple[Cell, ...]
    plain: str = "import numpy as np"
    answers: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)


Result = dict[str, Any]


def grade_task(task: Task) -> list[Result]:
    """Grade one notebook in the sandbox.

    Parameters
    ----------
    task : Task

    Returns
    -------
    list of dict
        One result per cell: ``passed``, ``score``, ``outputs``, ``error``, ``detail``.

    Raises
    ------
    GradingUnavailableError
        If there is no sandbox.
    SandboxError
        If the sandbox failed; the submission may be graded again.
    """
    for attempt in range(3):
        try:
            return _Run(task).grade()
        except SandboxError:
            if attempt == 2 or _stopping.is_set():
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


class _Run:
    """The worker's part in grading one notebook: start processes, collect results."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._pair = parents(task.profile)
        self._results: dict[int, Result] = {}
        self._students: list[Child] = []
        self._memory = False

    def grade(self) -> list[Result]:
        restarts = 0
        cells = self._task.cells
        while len(self._results) < len(cells):
            before = len(self._results)
            report = self._from(before)
            stuck = len(self._results)
            if stuck < len(cells):
                if report["reason"] in ("sandbox", "lost"):
                    raise SandboxError(str(report.get("text", "a sandbox ended unexpectedly")))
                reason = "the test used up the time or memory it may have"
                self._results[stuck] = _not_run(reason)
                restarts += 1
                if restarts > 3:
                    for index in range(stuck + 1, len(cells)):
                        self._results[index] = _not_run("the cell was not run")
        return [self._results[index] for index in range(len(cells))]

    def _from(self, start: int) -> dict[str, Any]:
        """Run one trusted process from cell `start` on, until it ends or hangs."""
        limits = self._task.profile.limits
        ours, theirs = socket.socketpair()
        trusted = self._pair["trusted"].spawn(theirs)
        theirs.close()
        connection = wire.Connection(ours)
        files = list(self._task.files)
        message = {
            "cells": [asdict(cell) for cell in self._task.cells],
            "plain": self._task.plain,
            "answers": list(self._task.answers),
            "limits": asdict(limits),
            "files": files,
            "start": start,
        }
        ending = time.monotonic() + limits.total_s + limits.cell_s + 10
        try:
            connection.send(message, [self._task.files[name] for name in files], ending)
            while True:
                patience = min(ending, time.monotonic() + limits.cell_s * 2 + 10)
                header, _ = connection.receive(patience)
                if "student" in header:
                    self._new_student(ours)
                elif "end" in header:
                    break
                else:
                    self._take(header)
        except (TimeoutError, EOFError, OSError, wire.ProtocolError):
            pass  # the caller sees from the missing results that it did not reach the end
        finally:
            ours.close()
            report = trusted.end()
            self._end_students()
        return report

    def _take(self, header: dict[str, Any]) -> None:
        index = header["cell"]
        error = header.get("error")
        if error is not None and error["kind"] == "crash" and self._students:
            ended = self._end_students()
            if ended.get("reason") == "memory":
                limit = self._task.profile.limits.memory_mb
                error["text"] = f"the submitted code used more than its {limit} MB of memory"
            elif ended.get("reason") == "sandbox":
                raise SandboxError(str(ended.get("text", "the sandbox failed"))[-1500:])
            elif ended.get("reason") == "lost":
                raise SandboxError("the sandbox of the submission disappeared")
        self._results[index] = header

    def _new_student(self, trusted: socket.socket) -> None:
        self._end_students()
        mine, theirs = socket.socketpair()
        try:
            self._students.append(self._pair["student"].spawn(theirs))
            descriptors = array.array("i", [mine.fileno()])
            trusted.sendmsg([b"s"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        finally:
            mine.close()
            theirs.close()

    def _end_students(self) -> dict[str, Any]:
        report: dict[str, Any] = {}
        while self._students:
            report = self._students.pop().end()
        return report


def _not_run(text: str) -> Result:
    error = {"kind": "time", "name": "NotRun", "text": text, "trace": "", "where": ""}
    return {"passed": False, "score": None, "error": error, "outputs": [], "detail": text}
