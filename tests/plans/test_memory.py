from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
import pytest

from archipel.plans.memory import keep_freed_memory

PAGE_FAULTS = """
import resource, numpy
from archipel.plans.memory import keep_freed_memory
assert keep_freed_memory()
numpy.ones(3_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    numpy.ones(3_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.processes
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    done = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True)
    pages_of_one_array = 24_000_000 // resource.getpagesize()
    assert int(done.stdout) < pages_of_one_array, "twenty arrays of the same size cost less than one fresh one"


def test_it_may_be_asked_for_more_than_once():
    assert keep_freed_memory() == keep_freed_memory()
    assert np.ones(10).sum() == 10
