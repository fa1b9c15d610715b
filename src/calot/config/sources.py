"""The user's own `.py`, and the files beside it that it imports: run from their bytes, which a run's folder keeps.

Files beside it are imported with a dot (`from .heads import MyHead`). Anything imported while the experiment is
read belongs to the source; what it imports or opens later does not.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from calot.config.component import Component
from calot.errors import CalotError, first_line
from calot.reading import require_file

_PACKAGE = "calot_user_"
_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Source:
    """The user's own files by name, with the bytes that were run; `package` is their name in Python."""

    main: str
    folder: Path
    files: dict[str, bytes]
    package: str

    @property
    def digest(self) -> str:
        """SHA-256 over names and bytes."""
        return files_digest(self.files)

    def component(self, tag: str) -> type:
        """The component called `mine.py:MyLoss`. Raises CalotError where there is none."""
        file, _, name = tag.partition(":")
        if file not in self.files:
            raise CalotError(f"_type={tag!r}: the run keeps no {file}; it has {', '.join(sorted(self.files))}")
        found: Any = sys.modules[f"{self.package}.{_dotted(file)}"]
        for part in name.split("."):
            found = getattr(found, part, None)
        if not (isinstance(found, type) and issubclass(found, Component) and "__dataclass_fields__" in vars(found)):
            raise CalotError(f"_type={tag!r}: {file} defines no such component")
        return found


class _OwnFiles(MetaPathFinder, Loader):
    """Python's importer for the files of every source."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.closed: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, dotted = fullname.partition(".")
        source = self.sources.get(package)
        if source is None:
            return None
        base = dotted.replace(".", "/")
        for name, is_package in ((f"{base}.py", False), (f"{base}/__init__.py", True)):
            if dotted and self._has(source, name):
                spec = ModuleSpec(fullname, self, origin=str(source.folder / name), is_package=is_package)
                spec.has_location, spec.loader_state = True, name
                return spec
        is_folder = not dotted or any(name.startswith(f"{base}/") for name in source.files)
        if is_folder or (package not in self.closed and (source.folder / base).is_dir()):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def _has(self, source: Source, name: str) -> bool:
        """Whether a source has a file; one that is still being read takes it in."""
        if name not in source.files and source.package not in self.closed and (source.folder / name).is_file():
            source.files[name] = (source.folder / name).read_bytes()
        return name in source.files

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            source = self.sources[module.__name__.partition(".")[0]]
            exec(compile(source.files[spec.loader_state], str(spec.origin), "exec", dont_inherit=True), vars(module))


_own_files = _OwnFiles()
_by_digest: dict[tuple[str, str], Source] = {}


def load_file(path: Path) -> Source:
    """Run a user's `.py`, taking in the files beside it that it imports. Raises CalotError saying what went wrong."""
    require_file(path, remedy="Give an experiment's .py file.")
    if "." in path.stem or path.stem == "__init__":
        raise CalotError(f"{path}: a file with this name cannot be imported again; name it like mine.py")
    source = Source(path.name, path.parent, {}, f"{_PACKAGE}{next(_numbers)}")
    before = set(sys.modules)
    _run(source, where=path)
    _refuse_other_imports(path, before=before)
    return _by_digest.setdefault((source.main, source.digest), source)


def load_copy(main: str, files: Mapping[str, bytes], *, folder: Path) -> Source:
    """Run the copy that a run keeps: these bytes, and no other file. Code that is already loaded is not run twice."""
    known = _by_digest.get((main, files_digest(files)))
    if known is not None:
        return known
    source = Source(main, folder, dict(files), f"{_PACKAGE}{next(_numbers)}")
    _own_files.closed.add(source.package)
    _run(source, where=folder / main)
    return _by_digest.setdefault((main, source.digest), source)


def _run(source: Source, *, where: Path) -> None:
    if _own_files not in sys.meta_path:
        sys.meta_path.insert(0, _own_files)
    _own_files.sources[source.package] = source
    try:
        importlib.import_module(f"{source.package}.{_dotted(source.main)}")
        for name in sorted(source.files):  # of a copy: also what only the baseline imported
            importlib.import_module(f"{source.package}.{_dotted(name)}")
    except CalotError as error:
        raise CalotError(f"{where}: {error}") from error
    except ModuleNotFoundError as error:
        beside = f"{error.name}.py"
        remedy = f": it lies beside this file, so write `from .{error.name} import ...`"
        lies_beside = (source.folder / beside).is_file()
        raise CalotError(f"{where}: {error}{remedy if lies_beside else ''}") from error
    except (Exception, SystemExit) as error:
        raise CalotError(f"{where}: {type(error).__name__}: {first_line(error)}") from error
    finally:
        _own_files.closed.add(source.package)


def _refuse_other_imports(path: Path, *, before: set[str]) -> None:
    """A file beside it, imported through Python's own path, is not in the source: no run could be read back."""
    folder = path.parent.resolve()
    for name in sorted(set(sys.modules) - before):
        file = getattr(sys.modules[name], "__file__", None)
        if name.startswith(_PACKAGE) or not file or "site-packages" in file or name.split(".")[0] == "calot":
            continue
        if Path(file).resolve().is_relative_to(folder):
            raise CalotError(
                f"{path}: imports {name} from {file}, which the run would not keep: write `from .{name} import ...`"
            )


def module_of(source: Source) -> ModuleType:
    """The module of a source's own `.py`."""
    return sys.modules[f"{source.package}.{_dotted(source.main)}"]


def beside(source: Source, name: str) -> ModuleType | None:
    """The module of another file beside a source's own, or None where there is none; it then belongs to the source."""
    before = source.main, source.digest
    _own_files.closed.discard(source.package)
    try:
        found = importlib.import_module(f"{source.package}.{name}")
        _by_digest.pop(before, None)
        _by_digest[source.main, source.digest] = source
        return found
    except ModuleNotFoundError:
        return None
    finally:
        _own_files.closed.add(source.package)


def files_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over the names and bytes of files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()


def is_calots(cls: type) -> bool:
    """Whether a class is calot's own."""
    return cls.__module__.split(".")[0] == "calot"


def source_of(cls: type) -> Source | None:
    """The source that defines a class, or None for one that no source does."""
    return _own_files.sources.get(cls.__module__.split(".")[0])


def tag_of(cls: type, *, where: str) -> str:
    """What a file calls a component. Raises CalotError for one that could not be rebuilt from a file."""
    if is_calots(cls):
        return f"{cls.__module__}.{cls.__qualname__}"
    source = source_of(cls)
    if source is None or "<locals>" in cls.__qualname__:
        place = f"inside a function of {cls.__module__}" if "<locals>" in cls.__qualname__ else f"in {cls.__module__}"
        raise CalotError(
            f"{where}: {cls.__name__} is defined {place}, which no run can read back: define it at the top level of "
            "the experiment's own .py, or of a file that it imports with a dot"
        )
    file = PurePosixPath(cls.__module__.partition(".")[2].replace(".", "/"))
    name = f"{file}.py" if f"{file}.py" in source.files else f"{file}/__init__.py"
    return f"{name}:{cls.__qualname__}"


def fingerprint_tag(cls: type) -> str:
    """A component's name where only the treatment counts: for a user's own component its code is part of it."""
    source = source_of(cls)
    return cls.__name__ if source is None else f"{tag_of(cls, where=cls.__name__)}@{source.digest}"


def _dotted(file: str) -> str:
    return file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
