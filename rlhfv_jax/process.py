"""This process: what it keeps, memory and programs, before JAX computes."""

import ctypes
import sys
from pathlib import Path

import jax

# Names of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

ROOM = 2**29  # bytes for small things; what nobody uses is never touched


def keep_memory() -> None:
  """Keeps freed buffers for the next step, where the C library can be told.

  XLA frees its temporaries after each step. glibc gives large ones back to the
  kernel, and faulting them in again costs a CPU a sixth of a training step or
  more.
  Small things get room of their own: one that was put into a buffer that is
  free would make it too small for the next step, which then took another.
  """
  if not sys.platform.startswith('linux'):
    return
  library = ctypes.CDLL(None)
  if hasattr(library, 'mallopt'):
    library.mallopt(M_MMAP_MAX, 0)
    # Never: the largest threshold there is, 2 GiB, is less than a step takes.
    library.mallopt(M_TRIM_THRESHOLD, -1)
    library.mallopt(M_ARENA_MAX, 1)
    library.malloc.restype = ctypes.c_void_p
    # The second stays, so that the room ends where it begins.
    room, _ = (library.malloc(ctypes.c_size_t(ROOM)) for _ in range(2))
    library.free(ctypes.c_void_p(room))


def keep_programs(folder: Path) -> None:
  """Compiled programs stay in this folder, or in JAX_COMPILATION_CACHE_DIR."""
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(folder / '.compiled'))
