from __future__ import annotations

import subprocess
import sys

import pytest

HEAPS = """
import ctypes, threading
from archipel.transport import process_memory
assert process_memory.single_arena()
def work():
    kept = [bytes(100_000) for _ in range(200)]
threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
stream = library.fopen(b"/dev/stdout", b"w")
library.malloc_info(0, ctypes.c_void_p(stream))
library.fflush(ctypes.c_void_p(stream))
"""


@pytest.mark.processes
def test_all_threads_share_single_arena():
    """malloc_info writes one element a heap."""
    shown = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, check=True).stdout
    assert shown.count("<heap nr=") == 1


@pytest.mark.processes
def test_what_was_imported_is_out_of_the_collectors_way():
    script = (
        "import gc; from archipel.transport import process_memory; process_memory.freeze_gc();"
        " print(gc.get_freeze_count())"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(shown) > 1000
