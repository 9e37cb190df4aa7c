"""What results must look like before anything is drawn from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.errors import RunError

LARGEST = 10**300  # what a float holds

Check = Callable[[str, Any], None]


def check(results: Any) -> None:
    """Refuse results of another form than the page and the tables are made from.

    Keys that are not known pass; keys that are absent, or null, leave their section out.

    Args:
        results: What a run measured.

    Raises:
        RunError: A key is missing or of another type; it is named with what was expected.

    Example:
        >>> check({"kind": "demo", "task": "digits", "seconds": "12"})
        Traceback (most recent call last):
        secateur.errors.RunError: these results cannot be shown: 'seconds' is '12', expected a number...
    """
    if not isinstance(results, Mapping):
        raise RunError(f"these results cannot be shown: they are {_short(results)}, expected an object with named keys")
    _RESULTS("", results)
    _check_json("", results)


def _refuse(where: str, value: Any, expected: str) -> None:
    raise RunError(
        f"these results cannot be shown: {where!r} is {_short(value)}, expected {expected}. "
        "Give what a run wrote to its results.json"
    )


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | type(None)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _inside(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _text(where: str, value: Any) -> None:
    if not isinstance(value, str):
        _refuse(where, value, "text")


def _number(where: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        _refuse(where, value, "a number")
    if isinstance(value, int) and abs(value) > LARGEST:
        _refuse(where, "a number of more than 300 digits", "a smaller one")


def _whole(where: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(where, value, "a whole number")


def _amount(where: str, value: Any) -> None:
    _number(where, value)
    if value is not None and value < 0:
        _refuse(where, value, "a number of at least 0")


def _one_of(*allowed: str) -> Check:
    def test(where: str, value: Any) -> None:
        if value not in allowed:
            _refuse(where, value, "one of " + ", ".join(map(repr, allowed)))

    return test


def _list_of(item: Check) -> Check:
    def test(where: str, value: Any) -> None:
        if not isinstance(value, list | tuple):
            _refuse(where, value, "a list")
        for index, entry in enumerate(value):
            item(f"{where}[{index}]", entry)

    return test


def _each(item: Check) -> Check:
    def test(where: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            _refuse(where, value, "an object with named keys")
        for key, entry in value.items():
            item(_inside(where, key), entry)

    return test


def _record(*required: str, **known: Check) -> Check:
    def test(where: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            _refuse(where, value, "an object with the keys " + ", ".join(known))
        for key in required:
            if value.get(key) is None:
                _refuse(_inside(where, key), None, "to be there")
        for key, item in known.items():
            if value.get(key) is not None:
                item(_inside(where, key), value[key])

    return test


def _has(key: str) -> Check:
    """A key that has to be there, though null, for what is not known, will do."""

    def test(where: str, value: Any) -> None:
        if key not in value:
            _refuse(_inside(where, key), None, "to be there")

    return test


def _same_length(*keys: str, more: Mapping[str, int] | None = None) -> Check:
    """Lists of one record that go together have one length; `more` says how much longer some are."""
    longer = more or {}

    def test(where: str, value: Any) -> None:
        base = len(value[keys[0]]) - longer.get(keys[0], 0)
        for key in keys[1:]:
            if value.get(key) is not None and len(value[key]) != base + longer.get(key, 0):
                found = f"{len(value[key])} entries"
                _refuse(_inside(where, key), found, f"{base + longer.get(key, 0)} to go with {keys[0]!r}")

    return test


def _all(*tests: Check) -> Check:
    def test(where: str, value: Any) -> None:
        for item in tests:
            item(where, value)

    return test


def _table(where: str, value: Any) -> None:
    for index, row in enumerate(value["rows"]):
        if len(row) != len(value["columns"]):
            expected = f"{len(value['columns'])}, one for each column"
            _refuse(f"{where}.rows[{index}]", f"{len(row)} cells", expected)


def _of_length(where: str, value: Any, length: int) -> None:
    if len(value) != length:
        _refuse(where, f"{len(value)} entries", f"{length}, before and after")


def _each_of_curve(where: str, value: Any) -> None:
    for index, one in enumerate(value.get("each") or ()):
        if len(one) != len(value["sparsity"]):
            expected = f"{len(value['sparsity'])} to go with 'sparsity'"
            _refuse(f"{where}.each[{index}]", f"{len(one)} entries", expected)


_numbers = _list_of(_number)
_measured = _all(_record(mean=_number, spread=_amount, each=_numbers), _has("mean"))
_curve = _all(
    _record(
        "sparsity", "accuracy", sparsity=_numbers, accuracy=_numbers, spread=_list_of(_amount), each=_list_of(_numbers)
    ),
    _same_length("sparsity", "accuracy", "spread"),
    _each_of_curve,
)
_histogram = _all(
    _record("edges", "before", "after", edges=_numbers, before=_list_of(_amount), after=_list_of(_amount)),
    _same_length("edges", "before", "after", more={"edges": 1}),
)


def _weights(where: str, value: Any) -> None:
    """Histograms by layer, or the number of all weights."""
    if isinstance(value, Mapping):
        _each(_histogram)(where, value)
    else:
        _amount(where, value)


_change = _all(_list_of(_number), lambda where, value: _of_length(where, value, 2))
_report = _record(
    parameters=_change,
    macs=_change,
    batch=_whole,
    device=_text,
    latency=_list_of(_record(batch=_whole, before=_amount, after=_amount, ratio=_amount, pairs=_whole, remark=_text)),
    layers=_list_of(
        _record(
            name=_text,
            kind=_text,
            inputs=_change,
            outputs=_change,
            parameters=_change,
            macs=_change,
            remark=_text,
        )
    ),
)
_RESULTS = _record(
    "kind",
    "task",
    kind=_one_of("demo", "prune"),
    task=_text,
    metric=_text,
    seeds=_list_of(_whole),
    seconds=_amount,
    device=_text,
    versions=_each(_text),
    settings=_each(lambda _where, _value: None),
    command=_text,
    created=_text,
    dense=_record("accuracy", accuracy=_measured, weights=_amount, parameters=_amount),
    curves=_each(_curve),
    granularities=_list_of(
        _record("name", name=_text, weights_removed=_number, pruned_only=_measured, fine_tuned=_measured, note=_text)
    ),
    weights=_weights,
    layers=_all(_record("columns", "rows", columns=_list_of(_text), rows=_list_of(_list_of(_text))), _table),
    sizes=_list_of(_record("name", name=_text, bytes=_amount, note=_text)),
    accuracy=_record(dense=_number, pruned_only=_number, reestimated=_number, fine_tuned=_number),
    report=_report,
    sparsity=_number,
    weights_left=_amount,
    weights_total=_amount,
    history=_record(losses=_numbers, validation=_numbers, sparsity=_numbers),
    shown=_record(curve=_text, sparsity=_number, seed=_whole),
)


def _check_json(where: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                _refuse(_inside(where, key), key, "a name that is text")
            _check_json(_inside(where, key), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(f"{where}[{index}]", item)
    elif not isinstance(value, str | int | float | None):
        _refuse(where, value, "text, a number, true, false, null, a list or an object")


def finite_json(value: Any) -> Any:
    """Results with null for every number that JSON cannot hold.

    Args:
        value: Checked results.

    Returns:
        A copy, of dicts and lists.

    Example:
        >>> finite_json({"losses": (1.0, float("nan"))})
        {'losses': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
