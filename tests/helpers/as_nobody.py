"""Runs a module as a user who owns nothing: as_nobody.py MODULE OPTIONS, by root. A person's own files may be read.

Of what root may do only reading is kept (CAP_DAC_READ_SEARCH), since Python itself may lie in root's home.
"""

import ctypes
import os
import runpy
import sys

NOBODY = 65534
PR_SET_KEEPCAPS, CAP_DAC_READ_SEARCH, VERSION_3 = 8, 2, 0x20080522


def become_nobody() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    # Effective, permitted, inheritable; and the same of the capabilities from 32 on.
    sets = (ctypes.c_uint32 * 6)(1 << CAP_DAC_READ_SEARCH, 1 << CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    assert os.geteuid() == NOBODY and not os.access("/", os.W_OK)


if __name__ == "__main__":
    become_nobody()
    del sys.argv[0], sys.path[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
