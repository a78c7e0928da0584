"""Which CUDA devices this process may use, asked of the driver itself.

Without PyTorch: a server on a CPU finds out that there is none without importing one.
"""

from __future__ import annotations

import ctypes
from typing import Final

DRIVER: Final = "libcuda.so.1"
NAME_LENGTH: Final = 256


def cuda_names() -> tuple[str, ...]:
    """The names of the devices, such as "NVIDIA H200"; none without a driver that answers.

    `CUDA_VISIBLE_DEVICES` counts: the driver leaves out what it hides.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return ()
        names = []
        for number in range(count.value):
            device, name = ctypes.c_int(), ctypes.create_string_buffer(NAME_LENGTH)
            if driver.cuDeviceGet(ctypes.byref(device), number):
                return ()
            if driver.cuDeviceGetName(name, NAME_LENGTH, device):
                return ()
            names.append(name.value.decode(errors="replace"))
    except (OSError, AttributeError):  # no such library, or one that lacks these functions
        return ()
    return tuple(names)
