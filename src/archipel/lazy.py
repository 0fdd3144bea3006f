"""Public names of a package that are loaded when they are first used.

Importing a package then costs nothing, and importing one of its names loads the one module that defines it. This keeps
the start of the sandboxed worker and of the command line short.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package (PEP 562).

    ``names`` says which public names each module of the package defines; ``modules`` are the modules that are public
    names themselves. A package calls this where type checkers do not look, beside the imports that they read instead::

        if TYPE_CHECKING:
            from archipel.site.datasets.catalog import Dataset
        else:
            __getattr__, __dir__ = lazy_names(__name__, {"catalog": ("Dataset",)})

    Nothing is kept: a name is looked up in its module each time. Raises ValueError for a name that is also a module's,
    because importing that module would hide the name.
    """
    module_of = {name: module for module, defined in names.items() for name in defined}
    hidden = sorted(set(module_of) & {*names, *modules})
    if hidden:
        raise ValueError(f"{package}: {', '.join(hidden)} names a module and something in it; rename one of the two")

    def load(name: str) -> object:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in module_of:
            return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def public() -> list[str]:
        return sorted({*module_of, *modules})

    return load, public
