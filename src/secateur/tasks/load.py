"""A task by name: one of ours, or a user's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from secateur.errors import DataError, UnknownNameError
from secateur.tasks.digits import digits
from secateur.tasks.fashion import fashion
from secateur.tasks.smollm import smollm
from secateur.tasks.spam import spam
from secateur.tasks.task import Task

BUILT_IN: Mapping[str, Callable[..., Task]] = {"digits": digits, "fashion": fashion, "smollm": smollm, "spam": spam}


def load_task(name: str, **options: Any) -> Task:
    """A task by name.

    Args:
        name: A built-in task, or `module:attribute`, or `path/to/file.py:attribute`, where the attribute is a `Task`
            or a function that returns one. Modules are looked for in the current directory too. The module is run, as
            any import is.
        **options: Arguments for that function, such as `network` or `data_dir`; those that are None are left out.

    Returns:
        The task.

    Raises:
        UnknownNameError: There is no such built-in task, or no such attribute.
        DataError: The module cannot be imported, the attribute is no task, or it takes no such option or needs more.

    Example:
        >>> load_task("digits").name
        'digits'
    """
    module, colon, attribute = name.rpartition(":")
    if not colon:
        if name not in BUILT_IN:
            raise UnknownNameError("task (yours would be MODULE:ATTRIBUTE)", name, BUILT_IN)
        return _made(name, BUILT_IN[name], options)
    found = _module(module)
    if not hasattr(found, attribute):
        raise UnknownNameError(f"attribute of {module}", attribute, [key for key in vars(found) if key[0] != "_"])
    return _made(name, getattr(found, attribute), options)


def _made(name: str, value: Any, options: Mapping[str, Any]) -> Task:
    given = {key: option for key, option in options.items() if option is not None}
    makes = callable(value) and not isinstance(value, Task)
    takes = inspect.signature(value).parameters.values() if makes else ()
    known = given if any(item.kind is item.VAR_KEYWORD for item in takes) else {item.name for item in takes}
    if refused := [key for key in given if key not in known]:
        raise DataError(f"the task {name} does not take {_written(refused)}; leave it out")
    if lacking := [item.name for item in takes if _needed(item) and item.name not in given]:
        offered = f", or say {_written(some)}" if (some := [key for key in lacking if key in options]) else ""
        raise DataError(f"the function {name} needs {' and '.join(lacking)}; give its arguments defaults{offered}")
    task = value(**given) if makes else value
    if not isinstance(task, Task):
        raise DataError(f"{name} is {type(task).__name__}; expected a secateur Task, or a function that returns one")
    return task


def _written(options: Iterable[str]) -> str:
    return " and ".join(f"--{option.replace('_', '-')}" for option in options)


def _needed(item: inspect.Parameter) -> bool:
    return item.default is item.empty and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)


def _module(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _from_file(Path(name))
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(name)
    except (ImportError, FileNotFoundError) as error:
        raise DataError(
            f"{name} cannot be imported: {error}. Give MODULE:ATTRIBUTE with a module of this environment or of the "
            "current directory, or path/to/file.py:ATTRIBUTE"
        ) from error


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
