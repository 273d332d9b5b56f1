"""SVG pictures to small PNG ones, by Chromium; numbered ones (`day-1.svg`, ...) become one animation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

COLOURS = 64
"""Of a picture's palette; a screen has some twenty, the rest are the letters' edges."""
FRAME = 2200
"""Milliseconds of a picture in the animation; the last one stays twice as long."""
SERIES = re.compile(r"^(\w+)-(\d+)$")


def developed(picture: Path) -> Image.Image:
    """An SVG picture as Chromium paints it, with a palette."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture.read_text(encoding="utf-8"))
    assert found, picture  # noqa: S101
    width, height = (round(float(side)) for side in found.groups())
    with tempfile.TemporaryDirectory() as folder:
        page, painted = Path(folder, "page.html"), Path(folder, "painted.png")
        page.write_text(f'<body style="margin:0"><img src="{picture.resolve().as_uri()}" width="{width}"></body>')
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-lcd-text",
            f"--user-data-dir={folder}", f"--window-size={width},{height}", "--default-background-color=00000000",
            f"--screenshot={painted}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(painted) as image:
            flat = Image.new("RGB", image.size, "white")
            flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return flat.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def animated(pictures: list[Image.Image], target: Path) -> None:
    """Pictures one after the other, again and again."""
    times = [FRAME] * (len(pictures) - 1) + [2 * FRAME]
    pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)


def main(source: Path, target: Path) -> None:
    """Every picture of a folder; those that were made before and have another name stay."""
    series: dict[str, list[tuple[int, Image.Image]]] = {}
    for picture in sorted(source.glob("*.svg")):
        found = SERIES.match(picture.stem)
        if found:
            series.setdefault(found[1], []).append((int(found[2]), developed(picture)))
            continue
        shutil.copyfile(picture, target / picture.name)
        developed(picture).save(target / f"{picture.stem}.png", optimize=True)
        print(target / f"{picture.stem}.png")
    for name, numbered in series.items():
        animated([image for _, image in sorted(numbered, key=lambda one: one[0])], target / f"{name}.gif")
        print(target / f"{name}.gif")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
