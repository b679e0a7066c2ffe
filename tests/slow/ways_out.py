"""Tries to get out of the sandbox, in each of these ways; 0 is how many should succeed.

    python tests/slow/ways_out.py [--user NAME]

Each way is tried by a Python in the sandbox, as verifications and re-runs start it. Then it is said
what got out. With `--user`, root becomes that user first, so that both sorts of sandbox are tried.
Some ways need bait, which is put into place before: a secret in the home folder, a service that
listens, a process, a key.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

SECRET = f"bait-{uuid.uuid4().hex}"

# Runs inside. A way is a function that returns something true if it got out.
WAYS = r'''
import ctypes, errno, fcntl, glob, json, mmap, os, resource, signal, socket, struct, subprocess, sys, time

BAIT = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


def call(x86, arm, *args):
    """A system call by its number; the result, -1 for a refused one."""
    args = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in args]
    return libc.syscall(ctypes.c_long(x86 if X86 else arm), *args)


def text(path):
    with open(path, "rb") as file:
        return file.read(1 << 20)


def holds(path):
    return BAIT["secret"].encode() in text(path)


def writes(path, data=b"x"):
    with open(path, "r+b", buffering=0) as file:
        return file.write(data)


def creates(path):
    with open(path, "xb") as file:
        return file.write(b"x")


def connects(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(2)
        s.connect(address)
    return True


# -- files of the host
def reads_the_home(): return holds(BAIT["home"] + "/secret")
def reads_a_secret_beside_the_code(): return holds(BAIT["beside"])
def reads_etc_shadow(): return text("/etc/shadow")
def reads_etc_passwd(): return text("/etc/passwd")
def reads_host_names(): return text("/etc/hostname") or text("/etc/hosts")
def reads_ssh_keys(): return os.listdir(BAIT["home"] + "/.ssh")
def reads_a_tmp_of_the_host(): return holds(BAIT["tmp"])
def lists_var_run_or_srv(): return [p for p in ("/var", "/run", "/srv", "/mnt", "/opt", "/media", "/boot", "/sys", "/home") if os.path.exists(p) and os.listdir(p) and not BAIT["python"].startswith(p + "/")]
def finds_a_shell(): return [p for p in ("/bin/sh", "/usr/bin/env", "/bin/bash", "/usr/bin/git") if os.path.exists(p)]
def finds_a_setuid_program():
    for top, _, names in os.walk("/"):
        if top.startswith("/proc"):
            continue
        for name in names:
            try:
                mode = os.lstat(os.path.join(top, name)).st_mode
            except OSError:
                continue
            if mode & 0o6000 and mode & 0o170000 == 0o100000 and not os.statvfs(top).f_flag & os.ST_NOSUID:
                return os.path.join(top, name)
def reads_the_root_of_another_process(): return [p for p in glob.glob("/proc/*/root") if os.path.exists(p + "/etc/shadow")] or [p for p in glob.glob("/proc/*/cwd/*") if BAIT["secret"] in p]
def climbs_out_with_dots(): return holds("/../" * 8 + BAIT["home"] + "/secret")
def climbs_out_of_a_chroot():
    os.mkdir("jail")
    d = os.open(".", os.O_RDONLY)
    try:
        os.chroot("jail")
    except OSError:
        os.close(d)
        raise
    os.fchdir(d)
    for _ in range(30):
        os.chdir("..")
    os.chroot(".")
    return holds(BAIT["home"] + "/secret")
def opens_a_file_by_its_handle(): return call(304, 265, -100, bytes(128), os.O_RDONLY) >= 0 or ctypes.get_errno() != errno.EPERM

# -- writing
def writes_into_the_code(): return writes(BAIT["code"])
def writes_beside_the_code(): return creates(os.path.dirname(BAIT["code"]) + "/evil.py")
def writes_into_the_python():
    import json as module
    return writes(module.__file__)
def writes_into_site_packages(): return creates(os.path.dirname(os.path.dirname(BAIT["numpy"])) + "/evil.pth")
def writes_into_the_folder_of_the_run_on_the_host():
    creates("mark")
    os.remove("mark")
    return os.path.ismount(os.getcwd()) is False
def writes_the_configuration(): return writes("config.yml")
def writes_core_pattern(): return writes("/proc/sys/kernel/core_pattern")
def writes_a_kernel_setting(): return [p for p in ("/proc/sys/vm/drop_caches", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger") if os.path.exists(p) and os.access(p, os.W_OK)]
def writes_any_file_below_proc_sys(): return [os.path.join(t, n) for t, _, ns in os.walk("/proc/sys") for n in ns]
def sets_its_oom_score_below_zero(): return writes("/proc/self/oom_score_adj", b"-900")
def remounts_the_root_for_writing(): return libc.mount(b"none", b"/", None, 0x20, None) == 0
def creates_at_the_root(): return creates("/evil")
def creates_in_dev(): return creates("/dev/evil")
def makes_a_device(): return os.mknod("disk", 0o060600, os.makedev(8, 0)) is None
def opens_a_disk(): return [p for p in ("/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun") if os.path.exists(p)]
def reopens_an_inherited_file_and_writes_its_folder():
    return [n for n in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd/" + n) and not os.readlink("/proc/self/fd/" + n).startswith("/proc")]

# -- rights
def is_root(): return 0 in os.getresuid() + os.getresgid() or 0 in os.getgroups()
def becomes_root(): return os.setuid(0) is None
def has_a_capability(): return [l for l in text("/proc/self/status").decode().splitlines() if l.startswith(("CapEff", "CapPrm", "CapAmb", "CapInh")) and int(l.split()[1], 16)]
def may_gain_rights(): return b"NoNewPrivs:\t1" not in text("/proc/self/status")
def is_not_filtered(): return b"Seccomp:\t2" not in text("/proc/self/status")
def makes_a_namespace_of_users(): return libc.unshare(0x10000000) == 0
def makes_one_with_clone(): return call(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) >= 0
def makes_one_with_clone3():
    args = struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return libc.syscall(435, args, len(args)) >= 0
def enters_a_namespace_of_another():
    return libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0) == 0
def mounts(): return libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) == 0
def mounts_the_new_way(): return libc.syscall(430, b"tmpfs", 0) >= 0 or libc.syscall(428, -100, b"/", 1) >= 0
def unmounts(): return any(libc.umount2(p, 2) == 0 for p in (b"/proc/sys", b"/proc", b"/tmp", b"/"))
def pivots_the_root(): return call(155, 41, b"/tmp", b"/tmp") == 0
def loads_bpf(): return libc.syscall(321 if X86 else 280, 0, bytes(64), 64) >= 0 or ctypes.get_errno() != errno.EPERM
def uses_io_uring(): return libc.syscall(425, 4, bytes(120)) >= 0
def uses_userfaultfd(): return call(323, 282, 0) >= 0
def counts_with_perf(): return libc.syscall(298 if X86 else 241, bytes(128), 0, -1, -1, 0) >= 0
def reads_the_kernel_log(): return libc.klogctl(3, ctypes.create_string_buffer(64), 64) >= 0
def reads_keys_of_the_caller(): return call(250, 219, 0, -3, 0) >= 0 or call(249, 218, b"user", b"qn-bait", 0, 0) >= 0
def reboots(): return call(169, 142, 0xFEE1DEAD, 672274793, 0) == 0
def sets_the_clock(): return call(227, 112, 0, struct.pack("2Q", 1, 0)) == 0
def runs_another_architecture():
    if not X86:
        return False
    if os.fork() == 0:
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))  # getpid of 32 bits
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        os._exit(0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0 else 1)
    return os.wait()[1] == 0
def uses_x32(): return X86 and libc.syscall(0x40000000 + 39) >= 0

# -- other processes
def sees_a_process_of_the_host(): return [p for p in os.listdir("/proc") if p.isdigit() and BAIT["secret"].encode() in text(f"/proc/{p}/cmdline") and int(p) != os.getpid() and b"ways" not in text(f"/proc/{p}/cmdline") and b"inside" not in text(f"/proc/{p}/cmdline")]
def signals_a_process_of_the_host(): return BAIT["pid"] > 400 and os.kill(BAIT["pid"], 0) is None
def reads_the_environment_of_the_caller(): return [p for p in glob.glob("/proc/*/environ") if os.access(p, os.R_OK) and b"QN_SECRET" in text(p)]
def has_a_variable_of_the_caller(): return [n for n in os.environ if n not in ("PATH", "HOME", "TMPDIR", "LANG", "PWD", "LC_CTYPE")]
def traces_the_first_process(): return libc.ptrace(16, os.getppid(), 0, 0) == 0
def writes_the_memory_of_the_first_process():
    with open(f"/proc/{os.getppid()}/mem", "r+b", buffering=0) as memory:
        return call(311, 271, os.getppid(), 0, 0, 0, 0, 0) >= 0
def writes_into_what_is_handed_out(): return os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY) >= 0
def raises_its_priority(): return os.nice(-5) is not None
def puts_text_into_the_terminal(): return fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x") is not None
def shares_memory_with_the_host(): return [l for l in text("/proc/sysvipc/shm").splitlines()[1:]] or BAIT["shm"] in os.listdir("/dev/shm")
def outlives_the_run():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    os.wait()
    return False  # looked for afterwards, on the host

# -- the network
def reaches_a_service_of_the_host(): return connects(socket.AF_INET, ("127.0.0.1", BAIT["port"]))
def reaches_another_machine(): return connects(socket.AF_INET, ("1.1.1.1", 53))
def sends_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", ("8.8.8.8", 53))
def has_an_interface(): return [n for _, n in socket.if_nameindex() if n != "lo"]
def reaches_a_socket_in_a_file(): return connects(socket.AF_UNIX, BAIT["socket"])
def reaches_an_abstract_socket(): return connects(socket.AF_UNIX, "\0" + BAIT["abstract"])
def finds_a_socket_of_a_service(): return [p for p in ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/tmp/.X11-unix") if os.path.exists(p)]
def reaches_the_host_of_the_machine(): return socket.socket(40, socket.SOCK_STREAM) is not None
def opens_a_raw_socket(): return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) is not None
def opens_a_packet_socket(): return socket.socket(17, socket.SOCK_RAW) is not None
def uses_the_cryptography_of_the_kernel(): return socket.socket(38, socket.SOCK_SEQPACKET) is not None

# -- limits
def raises_a_limit():
    for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CPU"):
        number = getattr(resource, name)
        if resource.getrlimit(number)[1] == resource.RLIM_INFINITY:
            return name
        try:
            resource.setrlimit(number, (-1, -1))
        except ValueError:
            continue
        return name
def reserves_too_much_memory(): return len(bytearray(BAIT["memory"] * 3)) > 0
def starts_too_many_processes():
    started = []
    try:
        for _ in range(BAIT["processes"] + 50):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            started.append(pid)
        return True
    finally:
        for pid in started:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
def fills(place):
    block, size = bytes(1 << 20), 0
    names = [os.path.join(place, f"fill-{n}") for n in range(64)]
    try:
        for name in names:
            with open(name, "wb", buffering=0) as file:
                for _ in range(64):
                    size += file.write(block)
    finally:
        for name in names:
            if os.path.exists(name):
                os.remove(name)
    return size > BAIT["output"] + (600 << 20)
def fills_the_folder(): return fills(".")
def fills_tmp(): return fills("/tmp")
def fills_shared_memory(): return fills("/dev/shm")
def dumps_a_core(): return resource.getrlimit(resource.RLIMIT_CORE) != (0, 0)


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
found = {}
for name, way in list(globals().items()):
    if callable(way) and getattr(way, "__module__", "") == "__main__" and name not in ("call", "text", "holds", "writes", "creates", "connects", "fills"):
        try:
            found[name] = repr(way())[:200] if way.__code__.co_argcount == 0 and (result := way()) else ""
        except BaseException as error:
            found[name] = ""
os.makedirs("experiments", exist_ok=True)
with open("experiments/found.json", "w") as out:
    json.dump(found, out)
'''

# What code may leave behind, for the program that reads it: each must be refused.
LEFT = {
    "leaves_a_link": "os.symlink('/etc/passwd', 'experiments/x.json')",
    "leaves_too_many_files": "[open(f'experiments/{n}', 'w').close() for n in range(1500)]",
    "leaves_too_much": "[open(f'experiments/{n}', 'wb').write(bytes(20 << 20)) for n in range(4)]",
    "uses_too_much_memory": "x = bytearray(200 << 20); x2 = [bytearray(os.urandom(1 << 20)) for _ in range(400)]; time.sleep(20)",
    "uses_memory_in_many_processes": "[os.fork() for _ in range(3)]; x = [bytearray(os.urandom(1 << 20)) for _ in range(60)]; time.sleep(20)",
    "uses_too_much_time": "any(iter(int, 1))",
    "uses_time_in_many_processes": "os.fork(); os.fork(); any(iter(int, 1))",
}
BEGINNING = "import os, time; os.makedirs('experiments', exist_ok=True); "


@contextmanager
def bait(home: Path) -> Iterator[dict[str, Any]]:
    """What is there to be found, outside."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (home / "secret").write_text(SECRET)
        (home / ".ssh").mkdir(exist_ok=True)
        (home / ".ssh" / "id").write_text(SECRET)
        for name in ("tmp", "beside"):
            (place / name).write_text(SECRET)
        service = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        in_file = stack.enter_context(socket.socket(socket.AF_UNIX))
        in_file.bind(str(place / "socket"))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + SECRET)
        for one in (service, in_file, abstract):
            one.listen()
            threading.Thread(target=_accept, args=(one,), daemon=True).start()
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()", SECRET], stdin=subprocess.PIPE
        )
        stack.callback(process.communicate)
        shared = Path("/dev/shm") / SECRET
        shared.write_text(SECRET)
        stack.callback(shared.unlink)
        os.environ["QN_SECRET"] = SECRET
        yield {
            "secret": SECRET,
            "home": str(home),
            "beside": str(place / "beside"),
            "tmp": str(place / "tmp"),
            "port": service.getsockname()[1],
            "socket": str(place / "socket"),
            "abstract": SECRET,
            "pid": process.pid,
            "shm": SECRET,
        }


def _accept(service: socket.socket) -> None:
    while True:
        try:
            service.accept()[0].close()
        except OSError:
            return


def ways_out() -> dict[str, str]:
    """Every way that was tried, and what came of it: nothing, or how it got out."""
    import numpy

    from qn_tracking.reproduce import sandbox

    limits = sandbox.Limits(memory=1 << 30, processes=64, output=64 << 20, files=100)
    small = sandbox.Limits(memory=256 << 20, seconds=6, processes=16, output=32 << 20, files=100)
    home = Path(os.path.expanduser("~"))
    with bait(home) as about, tempfile.TemporaryDirectory() as place:
        (code := Path(place) / "qn-tracking-tree-0" / "src").mkdir(parents=True)
        (code / "module.py").write_text("x = 1\n")
        about |= {
            "code": str(code / "module.py"),
            "python": sys.executable,
            "numpy": numpy.__file__,
            "memory": limits.memory,
            "processes": limits.processes,
            "output": limits.output,
        }
        before = _settings()
        folder = _folder(place, "run-0")
        box = sandbox.sandboxed(folder, sys.executable, [str(code)], limits)
        command = [sys.executable, "-I", "-c", WAYS, json.dumps(about)]
        exit_code, said = sandbox.run(box, command, folder)
        if exit_code != 0:
            raise SystemExit(f"error: the ways were not tried: {said}")
        found: dict[str, str] = json.loads(Path(folder, "experiments", "found.json").read_bytes())
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = _words(pid)
            if about["code"].encode() in words and pid != str(os.getpid()):
                found["outlives_the_run"] = pid
        if _settings() != before:
            found["changes_a_setting_of_the_host"] = "yes"
        for number, (name, what) in enumerate(LEFT.items(), 1):
            folder = _folder(place, f"run-{number}")
            box = sandbox.sandboxed(folder, sys.executable, [], small)
            command = [sys.executable, "-I", "-c", BEGINNING + what]
            found[name] = _refused(partial(sandbox.run, box, command, folder), place)
    return found


def _folder(place: str, name: str) -> str:
    folder = Path(place, name)
    folder.mkdir()
    (folder / "config.yml").write_text("{}\n")
    (folder / "config.yml").chmod(0o644)
    return str(folder)


def _words(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _settings() -> bytes:
    return Path("/proc/sys/kernel/core_pattern").read_bytes()


def _refused(do: Callable[[], tuple[int, str]], place: str) -> str:
    """Nothing if it ends in an error, or the program ends without having left anything."""
    from qn_tracking.errors import UnsupportedError

    try:
        code, _ = do()
    except UnsupportedError:
        code = 1
    outside = [str(path) for path in (Path(place) / "evil", Path("/tmp/evil")) if path.exists()]
    return ", ".join(outside) or ("" if code != 0 else "was accepted")


def main() -> int:
    """Prints what got out; 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--user", help="become this user first")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.user is not None:
        user = pwd.getpwnam(args.user)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    home = tempfile.mkdtemp(prefix="home-")
    os.environ["HOME"] = home
    try:
        found = ways_out()
    finally:
        shutil.rmtree(home)
    out = {name: how for name, how in found.items() if how}
    if args.json:
        print(json.dumps(found))
    else:
        for name, how in out.items():
            print(f"{name.replace('_', ' ')}: {how}")
        print(f"{len(out)} of {len(found)} ways out, as user {os.geteuid()}")
    return bool(out)


if __name__ == "__main__":
    sys.exit(main())
