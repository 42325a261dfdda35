"""Runs a command whose large rings fail: refuse_rings.py ENTRIES ERRNO COMMAND [ARGUMENT...]

io_uring_setup with ENTRIES or more fails with ERRNO; smaller rings are made, as where locked memory is short (ENOMEM).
"""
import ctypes, os, struct, sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, ERRNO, IO_URING_SETUP = 0x7FFF0000, 0x00050000, 425
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data; little endian

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def step(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)

entries, errno = int(sys.argv[1]), int(sys.argv[2])
steps = [
    step(LOAD, NUMBER),
    step(JUMP_IF_EQUAL, IO_URING_SETUP, 0, 3),
    step(LOAD, FIRST_ARGUMENT),
    step(JUMP_IF_AT_LEAST, entries, 0, 1),
    step(RETURN, ERRNO | errno),
    step(RETURN, ALLOW),
]
program = Program(len(steps), b"".join(steps))

libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[3], sys.argv[3:])
