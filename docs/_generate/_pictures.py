"""Write the pictures of the granularity page into docs/pictures."""

from pathlib import Path

from _drawing import pictures

if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "pictures"
    folder.mkdir(exist_ok=True)
    for name, drawing in pictures().items():
        (folder / name).write_text(drawing)
