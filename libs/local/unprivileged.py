"""Starts a server that refuses to be root from a process that is root, without opening any directory to others."""

import ctypes
import os
import pwd
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine, -1)
_CAP_DAC_OVERRIDE = 1
_TRIES = 3


def drop_root(directory: Path) -> Callable[[], None] | None:
    """What a child runs between fork and exec so that it is not root and owns `directory`; None if we are not root.

    First choice: a user namespace in which root is shown as an ordinary account. The files stay root's, so nothing
    below a closed home directory has to be opened. Where namespaces are forbidden, as in most containers, it becomes
    that account in truth and keeps the one capability to pass closed directories.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        return None
    account = _ordinary_account()
    enter = _namespace(account)
    owner = (0, 0) if _works(enter) else (account.pw_uid, account.pw_gid)
    if directory.stat().st_uid != owner[0]:
        _give(directory, owner)
    return enter if owner[0] == 0 else _identity(account)


def _ordinary_account() -> pwd.struct_passwd:
    """Any account that the machine knows by name, since PostgreSQL looks its own up; no password or shell is needed."""
    others = [account for account in pwd.getpwall() if account.pw_uid != 0]
    assert others, "the machine knows no account but root"
    return next((account for account in others if account.pw_name == "nobody"), others[-1])


def _namespace(account: pwd.struct_passwd) -> Callable[[], None]:
    def enter() -> None:
        if _LIBC.unshare(_CLONE_NEWUSER) != 0:
            raise PermissionError("user namespaces are not allowed")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{account.pw_uid} 0 1")
        _write("/proc/self/gid_map", f"{account.pw_gid} 0 1")

    return enter


def _works(enter: Callable[[], None]) -> bool:
    """Tried more than once: on a busy machine a namespace is refused now and then that the next moment is granted."""
    return any(_granted(enter) for _ in range(_TRIES))


def _granted(enter: Callable[[], None]) -> bool:
    try:
        return subprocess.run([sys.executable, "-SEc", ""], preexec_fn=enter, check=False).returncode == 0
    except (subprocess.SubprocessError, OSError):
        return False


def _identity(account: pwd.struct_passwd) -> Callable[[], None]:
    def become() -> None:
        _LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        only = 1 << _CAP_DAC_OVERRIDE
        header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        sets = struct.pack("IIIIII", only, only, only, 0, 0, 0)  # effective, permitted, inheritable: low, then high
        if _LIBC.syscall(_SYS_CAPSET, header, sets) != 0:
            raise PermissionError("capset")
        if _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0) != 0:
            raise PermissionError("ambient capability")

    return become


def _give(directory: Path, owner: tuple[int, int]) -> None:
    for root, directories, files in os.walk(directory):
        os.chown(root, *owner)
        for name in directories + files:
            os.chown(os.path.join(root, name), *owner, follow_symlinks=False)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)
