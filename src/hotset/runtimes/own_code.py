"""The modules that a version brings along, imported so that no other version sees them: ``OwnModules``.

Called by the runtime of ``predictor.py`` in a version's files. Nothing goes on ``sys.path``. Each version's modules are
registered under a package of its own (``hotset_model_….features``), and every one of them gets builtins of its own
whose ``__import__`` looks among the version's modules first: for ``import`` at the top, within functions, at any time.

One thing looks modules up by the names they have in ``sys.modules`` itself: unpickling. While the version is loaded, its
modules are *lent* to the process under their plain names, to be found where nothing else has that name; so own code is
loaded by one thread at a time in each process. What other code imports then cannot be told from what the model does.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

PACKAGE: Final = "hotset_model_"
"""How the names of the packages begin that versions' modules are registered in."""

_lending: Final = threading.RLock()
"""Held while a version's modules are lent: plain names mean one version's modules at a time."""


def shared_modules() -> int:
    """Return how many modules of this process are no version's own: what grows when a framework is imported."""
    return len(sys.modules) - _registry.own


class OwnModules:
    """The modules of one version. Any thread may import; ``close`` once, last: the modules leave ``sys.modules``.

    A version that is loaded twice at the same time gets a package for each.
    """

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.package: Final = _registry.register(self)
        self._original = builtins.__import__
        self._builtins = dict(vars(builtins)) | {"__import__": self._import}
        self._own_tops: dict[str, bool] = {}
        module = ModuleType(self.package)
        module.__path__ = [str(directory)]
        sys.modules[self.package] = module
        self._count = 0
        self.counted()

    @property
    def builtins(self) -> dict[str, Any]:
        """What the modules have for builtins."""
        return self._builtins

    def counted(self) -> None:
        """One more of its modules is there."""
        self._count += 1
        _registry.count(1)

    def import_module(self, name: str) -> ModuleType:
        """Return the module that is ``name`` among the version's files."""
        return importlib.import_module(f"{self.package}.{name}")

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within it, this thread finds the version's modules by their plain names too; other versions wait."""
        with _lending:
            _plain_names.begin(self)
            try:
                yield
            finally:
                _plain_names.end()
                self._take_off_path()

    def _take_off_path(self) -> None:
        """Undo what the version's code may have done to be found: put its directory on ``sys.path``."""
        inside = (str(self.directory), f"{self.directory}{os.sep}")
        kept = [path for path in sys.path if path != inside[0] and not path.startswith(inside[1])]
        if len(kept) == len(sys.path):
            return
        sys.path[:] = kept
        for name, module in list(sys.modules.items()):
            origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
            if origin.startswith(inside[1]) and not name.startswith(PACKAGE):
                sys.modules.pop(name, None)

    def close(self) -> None:
        """Drop every module. What still refers to one keeps it, and nothing finds it any more."""
        inside = f"{self.package}."
        for name in [name for name in list(sys.modules) if name == self.package or name.startswith(inside)]:
            sys.modules.pop(name, None)
        _registry.forget(self.package)
        _registry.count(-self._count)
        self._count = 0
        self._builtins["__import__"] = self._original

    def has(self, top: str) -> bool:
        """Whether the first part of a module's name is one of the version's own modules.

        A directory without ``__init__.py`` is one only where nothing else has the name: it may hold data.
        """
        known = self._own_tops.get(top)
        if known is None:
            known = self._own_tops[top] = self._looks_own(top)
        return known

    def is_installed(self, top: str) -> bool:
        """Whether something else than the version's own modules has this name."""
        return top in sys.modules or PathFinder.find_spec(top) is not None

    def _looks_own(self, top: str) -> bool:
        if top in sys.builtin_module_names or top.startswith(PACKAGE):
            return False
        spec = _own_spec(self, f"{self.package}.{top}", str(self.directory))
        if spec is None:
            return False
        return spec.loader is not None or not self.is_installed(top)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - called by name too, as the built-in one is
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an ``import`` statement of the version's modules calls, and extensions that these call."""
        top = name.partition(".")[0]
        # An extension, such as the unpickler, that looks in ``sys.modules`` next: a statement gives None or a tuple.
        is_by_name = fromlist == []
        if level or not self.has(top) or (is_by_name and _plain_names.is_taken(self, top)):
            found = self._original(name, globals, locals, fromlist or (), level)
            real_name = getattr(found, "__name__", "")
            if not level and real_name.startswith(PACKAGE) and not name.startswith(PACKAGE):
                # Another version's, lent to its own load at this moment.
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return found
        # ``from a.b import c`` gets the module a.b, with c imported where that is a module too; ``import a.b`` gets a.
        module = self._original(f"{self.package}.{name}", None, None, fromlist or ("__name__",), 0)
        if is_by_name:
            _plain_names.lend(self, name, module)
        return module if fromlist else sys.modules[f"{self.package}.{top}"]


class _Registry:
    """Which versions have modules now, by their package. Thread-safe. Finds their modules for the import system."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, OwnModules] = {}
        self.own = 0

    def count(self, change: int) -> None:
        """Note modules that came or went."""
        with self._lock:
            self.own += change

    def register(self, modules: OwnModules) -> str:
        """Return a package's name. The same version has the same, time after time: loggers are kept by such names."""
        digest = hashlib.blake2b(bytes(modules.directory), digest_size=6).hexdigest()
        with self._lock:
            if self not in sys.meta_path:
                # For good: whoever walks over the list at this moment would miss a finder if one were taken out.
                sys.meta_path.insert(0, self)
                sys.meta_path.append(_plain_names)
            number = 0
            while (name := f"{PACKAGE}{digest}" + (f"_{number}" if number else "")) in self._versions:
                number += 1
            self._versions[name] = modules
        return name

    def forget(self, package: str) -> None:
        with self._lock:
            self._versions.pop(package, None)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks it, first of all finders, for every module that is not imported yet."""
        del target
        if not name.startswith(PACKAGE) or path is None:
            return None
        modules = self._versions.get(name.partition(".")[0])
        return None if modules is None else _own_spec(modules, name, *path)


_registry: Final = _Registry()
"""The finders are the process's, so there is one of this."""


def _own_spec(modules: OwnModules, name: str, *directories: str) -> ModuleSpec | None:
    """Return where a module is among the version's files; without looking at what was compiled before."""

    source: Any = partial(_OwnSource, modules)
    for directory in directories:
        finder = FileFinder(directory, (ExtensionFileLoader, EXTENSION_SUFFIXES), (source, SOURCE_SUFFIXES))
        spec = finder.find_spec(name)
        if spec is not None:
            return spec
    return None


class _OwnSource(SourceFileLoader):
    """Imports a source file with the version's builtins. It leaves nothing beside the file, and trusts nothing there."""

    def __init__(self, modules: OwnModules, name: str, path: str) -> None:
        super().__init__(name, path)
        self._modules = modules

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._modules.builtins
        super().exec_module(module)
        self._modules.counted()


class _PlainNames:
    """Finds one version's modules by their plain names, for the thread that loads it, where nobody else has found any.

    ``begin`` and ``end`` under the lock of lending.
    """

    def __init__(self) -> None:
        self._modules: OwnModules | None = None
        self._thread = 0
        self._lent: list[str] = []

    def begin(self, modules: OwnModules) -> None:
        self._thread = threading.get_ident()
        self._modules = modules

    def end(self) -> None:
        self._modules = None
        while self._lent:
            sys.modules.pop(self._lent.pop(), None)

    def is_taken(self, modules: OwnModules, top: str) -> bool:
        """Whether a plain name means something else than the version's own module."""
        return top not in self._lent and modules.is_installed(top)

    def lend(self, modules: OwnModules, name: str, module: ModuleType) -> None:
        """Have ``sys.modules`` say the plain name of a module, until the load ends.

        Raises:
            ImportError: it is not being loaded, in this thread.
        """
        if sys.modules.get(name) is module:
            return
        if self._modules is not modules or threading.get_ident() != self._thread:
            raise ImportError(
                f"{name!r} is found by that name only while the model is loaded: unpickle in load_model",
                name=name,
            )
        sys.modules[name] = module
        self._lent.append(name)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks it, last of all finders."""
        del path, target
        modules = self._modules
        if modules is None or threading.get_ident() != self._thread:
            return None
        own = f"{modules.package}.{name}"
        if not modules.has(name.partition(".")[0]) or importlib.util.find_spec(own) is None:
            return None
        self._lent.append(name)
        return ModuleSpec(name, _Lent(own))


_plain_names: Final = _PlainNames()


class _Lent(Loader):
    """Gives the version's own module for its plain name, and leaves it as it is."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        del spec
        module = importlib.import_module(self._own)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
