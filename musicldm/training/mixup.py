"""Moved to `musicldm.data.mixup`; this name stays for one release."""

from musicldm.data.mixup import *  # noqa: F403
