from pathlib import Path


def write_attention_page(folder: Path) -> Path:
    return folder / "attention.html"
