"""The CEL library without its shell, which it imports with prompt_toolkit and rich: a seventh of a process's start."""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402  the stand-in goes before it

__all__ = ["cel"]
