"""The warm parent: started once per sandbox, it imports what every child needs, then forks.

It runs as the first program inside bubblewrap and never runs anybody's code itself. Every message
on its control socket asks for one child and carries two descriptors, the child's only connection
and a *lifeline*. Per child there is a warden, which watches memory and ends the
child when the other end of the lifeline closes, however that comes about.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

from . import sandbox

_TICK = 0.02
_MANY_THREADS = 8
# What a socket and a pipe can hold for a reader; this memory belongs to no process.
_SOCKET_KB, _PIPE_KB = 416, 64
_MOST_DESCRIPTORS = 256


def main() -> None:
    """Warm up, report, and fork on request until the control socket closes."""
    config = json.loads(sys.argv[1])
    control = socket.socket(fileno=config["control"])
    os.set_inheritable(config["control"], False)
    if config["drop_to"] is not None:
        sandbox.drop_to(config["drop_to"])
    started = time.monotonic()
    try:
        for name in config["preload"]:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # the cell that needs it will say so
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        # NumPy loads these on first use, which every child would pay for.
        importlib.import_module("numpy.random")
        importlib.import_module("numpy.linalg")
        runner = importlib.import_module(f"{__package__}.{config['role']}")
        runner.warm()
        _probe(config)
    except BaseException as error:
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"[:2000]}).encode())
        os._exit(1)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": time.monotonic() - started}).encode())
    if config["isolate"]:
        _fork_wardens(config, runner, control)
    else:
        _fork_children(config, runner, control)


def _order(control: socket.socket) -> array.array[int]:
    """Receive the two descriptors of the next child; end with the control socket."""
    data, ancillary, _, _ = control.recvmsg(1 << 16, socket.CMSG_LEN(4 * 4))
    if not data:
        os._exit(0)
    descriptors = array.array("i")
    for _, _, part in ancillary:
        descriptors.frombytes(part[: len(part) - len(part) % 4])
    return descriptors


def _fork_wardens(config: dict[str, Any], runner: Any, control: socket.socket) -> None:
    """For submitted code: a warden per child, which also holds the child's namespaces."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        descriptors = _order(control)
        if os.fork() == 0:
            _warden(config, runner, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_children(config: dict[str, Any], runner: Any, control: socket.socket) -> None:
    """For the trusted side, which starts no processes of its own: watch all children at once."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                child, line = children.pop(descriptor)
                poll.unregister(descriptor)
                _end(child)
                with contextlib.suppress(OSError):
                    line.sendall(json.dumps({"reason": "ended"}).encode())
                line.close()
                continue
            channel, lifeline = _order(control)
            child = os.fork()
            if child == 0:
                os.closerange(lifeline, lifeline + 1)
                _child(config, runner, channel, os.open("/dev/null", os.O_WRONLY))
            os.close(channel)
            line = socket.socket(fileno=lifeline)
            poll.register(line, select.POLLIN)
            children[lifeline] = (child, line)


def _probe(config: dict[str, Any]) -> None:
    """Try once what every child will do, so that a missing feature is reported at the start."""
    if not config["isolate"]:
        return
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            sandbox.enter_namespaces()
            if (pid := os.fork()) == 0:
                try:
                    _isolate(config)
                    os.write(write, b"ok")
                except BaseException as error:
                    os.write(write, str(error).encode()[:500])
                os._exit(0)
            os.waitpid(pid, 0)
        except BaseException as error:
            os.write(write, str(error).encode()[:500])
        os._exit(0)
    os.close(write)
    answer = os.read(read, 600)
    os.close(read)
    os.wait()
    if answer != b"ok":
        raise OSError(f"a child cannot be isolated: {answer.decode(errors='replace')}")


def _isolate(config: dict[str, Any]) -> None:
    sandbox.volunteer_for_oom()
    sandbox.limit_resources(
        config["memory_mb"], config["cpu_s"], config["processes"], config["disk_mb"]
    )
    sandbox.die_with_parent()
    sandbox.mount_private(config["disk_mb"])
    sandbox.drop_capabilities()
    sandbox.filter_system_calls()


def _warden(config: dict[str, Any], runner: Any, channel: int, lifeline: int) -> None:
    """Fork the child, watch it, report how it ended. Never returns."""
    report: dict[str, Any] = {"reason": "sandbox", "peak_mb": 0}
    line = socket.socket(fileno=lifeline)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sandbox.close_all_but([0, 1, 2, channel, lifeline])
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        if config["isolate"]:
            sandbox.enter_namespaces()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            _child(config, runner, channel, tell)
        os.close(channel)
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            trouble = pipe.read(2000)
        if trouble:
            report["text"] = trouble.decode(errors="replace")
        else:
            report = _watch(config, child, line, proc)
        _end(child)
    except BaseException:
        report["text"] = traceback.format_exc()[-2000:]
    try:
        line.sendall(json.dumps(report).encode())
    finally:
        os._exit(0)


def _child(config: dict[str, Any], runner: Any, channel: int, tell: int) -> None:
    try:
        os.setsid()
        if config["isolate"]:
            _isolate(config)
            os.chdir(sandbox.HOME)
        else:
            sandbox.limit_resources(
                config["memory_mb"], config["cpu_s"], config["processes"], config["disk_mb"]
            )
            sandbox.die_with_parent()
            sandbox.filter_system_calls()
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
    except BaseException:
        os.write(tell, traceback.format_exc().encode()[-1500:])
        os._exit(1)
    kept = fcntl.fcntl(channel, fcntl.F_DUPFD, 100)
    os.dup2(kept, 3)
    os.closerange(4, 65536)  # this also closes `tell`, which says that all went well
    try:
        runner.serve(socket.socket(fileno=3))
    finally:
        os._exit(0)


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _watch(
    config: dict[str, Any], child: int, lifeline: socket.socket, proc: int
) -> dict[str, Any]:
    """Wait for the child's end, the lifeline's, or too much memory."""
    limit_kb = config["memory_mb"] * 1024
    baseline = _resident_kb(proc, child)
    peak = 0
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    handle = os.pidfd_open(child)
    poll.register(handle, select.POLLIN)
    while True:
        events = dict(poll.poll(_TICK * 1000))
        if handle in events:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            return {"reason": "ended", "code": code, "peak_mb": peak >> 10}
        if events:
            return {"reason": "stopped", "peak_mb": peak >> 10}
        family = _family(proc, child)
        if sum(family.values()) > _MANY_THREADS:
            _step_back(proc, family)
        queued = _queued_kb(proc, family)
        used = queued + sum(max(0, _resident_kb(proc, pid) - baseline) for pid in family)
        peak = max(peak, used)
        if used > limit_kb:
            exact = _proportional_kb(proc, sorted(family))
            if exact is None or queued + exact - baseline > limit_kb:
                return {"reason": "memory", "peak_mb": peak >> 10}


def _read(proc: int, path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY, dir_fd=proc)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _resident_kb(proc: int, pid: int) -> int:
    fields = _read(proc, f"{pid}/statm").split()
    return int(fields[1]) * 4 if len(fields) > 1 else 0


def _queued_kb(proc: int, family: Iterable[int]) -> int:
    """Memory that may wait in the sockets and pipes of the processes, each counted once."""
    found: set[str] = set()
    unread = 0
    for pid in family:
        try:
            folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
        except FileNotFoundError:
            continue  # it ended meanwhile
        except OSError:  # one that is ending, or one that does not let itself be looked at
            unread += _MOST_DESCRIPTORS if _resident_kb(proc, pid) else 0
            continue
        try:
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    found.add(os.readlink(name, dir_fd=folder))
        except OSError:
            continue
        finally:
            os.close(folder)
    sockets = sum(target.startswith("socket:") for target in found)
    pipes = sum(target.startswith("pipe:") for target in found)
    return (unread + sockets) * _SOCKET_KB + pipes * _PIPE_KB


def _step_back(proc: int, family: dict[int, int]) -> None:
    """Give every thread of a crowd the lowest priority, so that others get their time, too."""
    for pid in family:
        with contextlib.suppress(OSError):
            tasks = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
            try:
                for task in os.listdir(tasks):
                    with contextlib.suppress(OSError):
                        os.setpriority(os.PRIO_PROCESS, int(task), 19)
            finally:
                os.close(tasks)


def _family(proc: int, root: int) -> dict[int, int]:
    """Every process below `root`, with its number of threads.

    Orphans in its namespace are adopted by it and so included.
    """
    parents: dict[int, int] = {}
    threads: dict[int, int] = {}
    for name in os.listdir(proc):
        if name.isdigit():
            # The name in parentheses is the child's to choose, so count from the last one.
            fields = _read(proc, f"{name}/stat").rpartition(b")")[2].split()
            if len(fields) > 17:
                parents[int(name)] = int(fields[1])
                threads[int(name)] = int(fields[17])
    family, added = {root}, True
    while added:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        added = bool(more)
    return {pid: threads.get(pid, 1) for pid in family}


def _proportional_kb(proc: int, family: list[int]) -> int | None:
    """Resident memory with shared pages counted once; ``None`` where it cannot be read."""
    total = 0
    for pid in family:
        for line in _read(proc, f"{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1])
                break
        else:
            try:
                os.stat(str(pid), dir_fd=proc)
            except OSError:
                continue  # it ended meanwhile
            return None
    return total


if __name__ == "__main__":
    main()
