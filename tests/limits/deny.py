"""Runs a command that may not use some system calls: deny.py NUMBER[,NUMBER...] COMMAND [ARGUMENT...]

They fail with EPERM, as under the seccomp profiles of container runtimes.
"""
import ctypes, os, struct, sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO, EPERM = 0x7FFF0000, 0x00050000, 1

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def step(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)

steps = [step(LOAD, 0)]  # the number of the call
for number in sys.argv[1].split(","):
    steps += [step(JUMP_IF_EQUAL, int(number), 0, 1), step(RETURN, ERRNO | EPERM)]
steps.append(step(RETURN, ALLOW))
program = Program(len(steps), b"".join(steps))

libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
