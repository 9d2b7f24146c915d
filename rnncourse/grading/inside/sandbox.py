"""What a forked child does to itself before it runs anybody's code.

Own user, mount, process, IPC, network and host-name namespaces; a fresh, size-capped place to
write; limits on resources; no capabilities; a filter on system calls. The order matters: mounts
need the capabilities that are dropped afterwards.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Iterable

HOME = "/home/student"

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWCGROUP = 0x02000000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_ALL_NAMESPACES = (
    _CLONE_NEWNS
    | _CLONE_NEWCGROUP
    | _CLONE_NEWUTS
    | _CLONE_NEWIPC
    | _CLONE_NEWUSER
    | _CLONE_NEWPID
    | _CLONE_NEWNET
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 1, 2, 4, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = (
    1,
    4,
    22,
    24,
    38,
)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def drop_to(uid: int) -> None:
    """Give up root for good: resource limits do not bind root.

    Parameters
    ----------
    uid : int
        User and group to become.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # A change of user makes /proc/self root's; the maps of a user namespace must be writable.
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def enter_namespaces() -> None:
    """Unshare everything; a process forked next is the first of its own process namespace."""
    uid, gid = os.getuid(), os.getgid()
    flags = _ALL_NAMESPACES & ~_CLONE_NEWCGROUP
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"1000 {uid} 1"),
        ("gid_map", f"1000 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mount(target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    source = kind.encode() if kind else None
    result = _libc.mount(
        source,
        target.encode(),
        source,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {target}")


def mount_private(disk_mb: int) -> None:
    """Mount fresh, empty, size-capped file systems wherever a process may write.

    Parameters
    ----------
    disk_mb : int
        Size of the home folder and of ``/tmp``, each.
    """
    _mount("/", None, _MS_REC | _MS_PRIVATE)
    for target, size in ((HOME, disk_mb), ("/tmp", disk_mb), ("/dev/shm", 16)):
        options = f"size={size}m,nr_inodes=4096,mode=0777"
        _mount(target, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    # Terminals of its own, too: those of the sandbox would be seen from every child.
    _mount("/dev/pts", "devpts", _MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620,max=16")
    _mount("/proc", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_RDONLY, "size=4k,nr_inodes=2")


def volunteer_for_oom() -> None:
    """Ask the kernel to end this process first when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # a wish, not a promise: the watchdog and the limits hold without it


def limit_resources(memory_mb: int, cpu_s: int, processes: int, disk_mb: int) -> None:
    """Set the limits of this process and all it starts.

    Parameters
    ----------
    memory_mb : int
        Address space beyond what is mapped now.
    cpu_s : int
        Processor time of each process.
    processes : int
        Processes and threads in this user namespace.
    disk_mb : int
        Size of a file.
    """
    mapped = 0
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    wanted = {
        resource.RLIMIT_AS: mapped + (memory_mb << 20),
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: disk_mb << 20,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def drop_capabilities() -> None:
    """Drop every capability and the means to gain one."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    header, data = _CapHeader(0x20080522, 0), (_CapData * 2)()
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


# System calls that no exercise needs: (x86_64, aarch64), None where an architecture has none.
# memfd_create, vmsplice and System V shared memory are here because their memory belongs to no
# process, inotify because it watches what others do with the files of the system, and statmount
# because it names the folders of this machine.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "listmount": (458, 458),
    "modify_ldt": (154, None),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
_ARCHITECTURES = {
    "x86_64": {
        "audit": 0xC000003E,
        "column": 0,
        "clone": 56,
        "socket": 41,
        "fcntl": 72,
        "ioctl": 16,
        "mmap": 9,
        "prctl": 157,
    },
    "aarch64": {
        "audit": 0xC00000B7,
        "column": 1,
        "clone": 220,
        "socket": 198,
        "fcntl": 25,
        "ioctl": 29,
        "mmap": 222,
        "prctl": 167,
    },
}
_CLONE3 = 435
_FIRST_UNKNOWN = 467  # on every architecture; what later kernels add is not there
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX = 1
_F_NOTIFY = 1026
_MAP_SHARED_ANONYMOUS = 0x21


def filter_supported() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in _ARCHITECTURES


def filter_program(machine: str) -> bytes:
    """Assemble the filter for the kernel's classic BPF machine.

    Parameters
    ----------
    machine : str
        ``"x86_64"`` or ``"aarch64"``.

    Returns
    -------
    bytes
        Instructions of eight bytes each.

    Examples
    --------
    >>> len(filter_program("x86_64")) % 8
    0
    """
    arch = _ARCHITECTURES[machine]
    load, equal, at_least, any_bit, give, keep = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
    kill, allow = 0x80000000, 0x7FFF0000

    def deny(number: int) -> int:
        return 0x00050000 | number

    code: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch["audit"]),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 numbers would go round every line below
        (give, 0, 0, kill),
        (at_least, 0, 1, _FIRST_UNKNOWN),
        (give, 0, 0, deny(_ENOSYS)),
    ]

    def argument(call: int, index: int, test: Iterable[tuple[int, int, int, int]]) -> None:
        body = [(load, 0, 0, 16 + 8 * index), *test, (load, 0, 0, 0)]
        code.append((equal, 0, len(body), call))
        code.extend(body)

    argument(
        arch["clone"], 0, [(any_bit, 0, 1, _ALL_NAMESPACES | 0x80), (give, 0, 0, deny(_EPERM))]
    )
    argument(arch["socket"], 0, [(equal, 1, 0, _AF_UNIX), (give, 0, 0, deny(_EAFNOSUPPORT))])
    argument(arch["prctl"], 0, [(equal, 0, 1, _PR_SET_PDEATHSIG), (give, 0, 0, deny(_EPERM))])
    # Its pages stay when no process has them mapped any more, so nobody would be charged for them.
    shared = [(keep, 0, 0, _MAP_SHARED_ANONYMOUS), (equal, 0, 1, _MAP_SHARED_ANONYMOUS)]
    argument(arch["mmap"], 3, [*shared, (give, 0, 0, deny(_EPERM))])
    argument(arch["fcntl"], 1, [(equal, 0, 1, _F_NOTIFY), (give, 0, 0, deny(_EPERM))])
    for request in (_TIOCSTI, _TIOCLINUX):
        argument(arch["ioctl"], 1, [(equal, 0, 1, request), (give, 0, 0, deny(_EPERM))])
    code += [(equal, 0, 1, _CLONE3), (give, 0, 0, deny(_ENOSYS))]
    for numbers in _DENIED.values():
        number = numbers[arch["column"]]
        if number is not None:
            code += [(equal, 0, 1, number), (give, 0, 0, deny(_EPERM))]
    code.append((give, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def filter_system_calls() -> None:
    """Install the filter; it holds for this process and everything it starts."""
    text = filter_program(platform.machine())
    memory = ctypes.create_string_buffer(text, len(text))
    program = _Program(len(text) // 8, ctypes.addressof(memory))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "seccomp")


def close_all_but(keep: Iterable[int]) -> None:
    """Close every inherited descriptor that is not listed."""
    low = 0
    for number in sorted(set(keep)):
        if low < number:  # an empty range would be taken for an endless one
            os.closerange(low, number)
        low = number + 1
    os.closerange(low, 65536)


def die_with_parent() -> None:
    """Ask to be killed when the warden dies; the filter keeps the child from taking it back."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
