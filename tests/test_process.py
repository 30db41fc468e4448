"""A process keeps the memory that its steps give back."""

import subprocess
import sys

import pytest

KEEPS = """
import ctypes
from rlhfv_jax import process
process.keep_memory()
library, size = ctypes.CDLL(None), ctypes.c_size_t(3 * 2**30)
library.malloc.restype = library.sbrk.restype = ctypes.c_void_p

def step():
  buffer, end = library.malloc(size), library.sbrk(0)
  assert buffer and buffer + size.value <= end, 'not of the heap'
  library.free(ctypes.c_void_p(buffer))
  library.malloc(ctypes.c_size_t(2**20))
  return end

end = step()
print(end == library.sbrk(0) == step() == library.sbrk(0))
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc alone')
def test_a_buffer_of_gigabytes_is_there_for_the_next_step():
  """Never touched here, so that it takes no memory."""
  done = subprocess.run(
    [sys.executable, '-c', KEEPS], capture_output=True, text=True
  )
  assert done.stdout == 'True\n', done.stderr
