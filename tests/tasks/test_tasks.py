from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sc
from secateur.tasks import digits, evaluate, load_task, loader, train
from tests.tiny import tiny


def rows(data: Any) -> list[bytes]:
    return [image.numpy().tobytes() for image, _ in data]


def test_the_digits_are_split_once_and_for_all_in_equal_proportions() -> None:
    one: Any = digits()
    two: Any = digits()
    parts = [rows(data) for data in (one.train, one.validation, one.test)]
    assert [len(part) for part in parts] == [1000, 297, 500]
    assert parts == [rows(data) for data in (two.train, two.validation, two.test)]
    assert len(set(parts[0]) | set(parts[1]) | set(parts[2])) == 1797
    shares = [
        [count / len(data) for _, count in sorted(Counter(int(label) for _, label in data).items())]
        for data in (one.train, one.test)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=1 / 500)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, history = train(tiny(), seed=4, progress=False)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(9)
    two, again = train(tiny(), seed=4, progress=False)
    other, _ = train(tiny(), seed=5, progress=False)
    assert history == again
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    assert not torch.equal(one.state_dict()["0.weight"], other.state_dict()["0.weight"])


def test_the_metric_is_the_mean_over_all_samples() -> None:
    task = tiny()
    model = task.model()
    images, labels = task.test.tensors  # type: ignore[attr-defined]
    expected = float((model(images).argmax(1) == labels).double().mean())
    model.train()
    assert evaluate(model, task) == pytest.approx(expected, abs=1e-12)
    assert model.training


def test_batches_follow_their_seed() -> None:
    def labels(seed: int | None) -> list[int]:
        return [int(label) for _, batch in loader(tiny(), seed=seed) for label in batch]

    assert labels(1) == labels(1) != labels(2)
    data: Any = tiny().train
    assert labels(None) == [int(label) for _, label in data]


def test_a_task_is_found_by_name_module_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tasks.py").write_text("from tests.tiny import tiny\nmade = tiny()\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    assert load_task("digits").name == "digits"
    assert load_task("my_tasks:tiny").name == "tiny"
    assert load_task("my_tasks:made").name == "tiny"
    assert load_task(f"{tmp_path}/my_tasks.py:tiny").name == "tiny"
    with pytest.raises(sc.UnknownNameError, match="nearest: digits"):
        load_task("digit")
    with pytest.raises(sc.UnknownNameError, match="nearest: tiny"):
        load_task("my_tasks:tinny")
    with pytest.raises(sc.DataError, match="is int; expected a secateur Task"):
        load_task("my_tasks:number")
    with pytest.raises(sc.DataError, match="cannot be imported"):
        load_task("no_such_module:task")
    with pytest.raises(sc.DataError, match="there is no file"):
        load_task("no/such/file.py:task")


MADE = """
from dataclasses import replace
from tests.tiny import tiny

made = tiny()

def options(network="small", *, data_dir=None):
    return replace(tiny(), name=f"{network} of {data_dir}")

def anything(**given):
    return replace(tiny(), name=str(sorted(given)))

def needs(network, data_dir):
    return replace(tiny(), name=f"{network} of {data_dir}")

def needs_more(network, size, *more):
    return tiny()
"""


def test_a_function_gets_the_options_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(MADE)

    def name(attribute: str, **options: Any) -> str:
        return load_task(f"{tmp_path}/made.py:{attribute}", **options).name

    assert name("options") == name("options", network=None, data_dir=None) == "small of None"
    assert name("options", network="large", data_dir=None) == "large of None"
    assert name("options", network="large", data_dir="here") == "large of here"
    assert name("needs", network="large", data_dir="here") == "large of here"
    assert name("anything", network=None, data_dir="here") == "['data_dir']"
    assert name("made", network=None) == "tiny"


@pytest.mark.parametrize(
    ("attribute", "options", "words"),
    [
        ("tiny", {"network": "x", "data_dir": None}, r"tiny does not take --network; leave it out"),
        ("tiny", {"network": "x", "data_dir": "y"}, r"does not take --network and --data-dir; leave it out"),
        ("options", {"network": "x", "seed": 0}, r"options does not take --seed; leave it out"),
        ("made", {"data_dir": "y"}, r"made does not take --data-dir; leave it out"),
        (
            "needs",
            {"network": None, "data_dir": None},
            r"needs network and data_dir; give its .* say --network and --data",
        ),
        (
            "needs",
            {"network": "x", "data_dir": None},
            r"needs data_dir; give its arguments defaults, or say --data-dir$",
        ),
        ("needs_more", {"network": "x"}, r"needs_more needs size; give its arguments defaults$"),
    ],
)
def test_options_that_a_task_does_not_take_or_lacks_are_said(
    tmp_path: Path, attribute: str, options: dict[str, Any], words: str
) -> None:
    (tmp_path / "made.py").write_text(MADE)
    with pytest.raises(sc.DataError, match=words):
        load_task(f"{tmp_path}/made.py:{attribute}", **options)
