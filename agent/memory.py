"""The process's memory: a large cluster passes through a lot of it before it is a model."""

import ctypes
import gc

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_ARENAS = 2  # each thread that reads a kind would have one to itself, with what it does not use any more
_libc = ctypes.CDLL(None)


def before_loading() -> None:
    """Until all is there, next to nothing of what is made becomes garbage: looking for it costs seconds."""
    _libc.mallopt(_ARENA_MAX, _ARENAS)
    gc.disable()


def after_loading() -> None:
    """What is there now stays: it is looked at no more, and what it took to make it is given back.

    Without this a collection looks at everything now and then, and all changes wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    _libc.malloc_trim(0)
