"""The command `spikewise predict`."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from .. import disk
from ..wording import count
from .data import track_files
from .options import Connect, Device, Json, ModelName, RunOrFile, Steps, given, require_folders

if TYPE_CHECKING:
    from ..engine.predict import Prediction

THUMBNAIL, LABEL_HEIGHT, MARGIN, COLUMNS = 160, 36, 12, 6  # of a picture sheet, in pixels
MAX_SHEET = 600  # images on a sheet


def predict(
    run: RunOrFile,
    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT...", help_behavior_hint="(one or more)")],
    top: Annotated[int | None, arg(metavar="INT", help="how many classes to give; default 5, or all of fewer")] = None,
    batch: Annotated[int, arg(help="inputs computed at once")] = 32,
    T: Steps = None,
    csv_file: Annotated[Path | None, arg(name="csv", help="write a table into this file", metavar="FILE")] = None,
    sheet: Annotated[Path | None, arg(help="draw images and their classes into this file", metavar="FILE")] = None,
    device: Device = "auto",
    name: ModelName = None,
    connect: Connect = None,
    as_json: Json = False,
) -> None:
    """Classes of photographs, folders or recordings; exit status 1 where one could not be read.

    Args:
        inputs: images or recordings, or folders of them
    """
    from ..engine.predict import Predictor, expand_folders

    if not inputs:
        raise ValueError("predict needs an INPUT: spikewise predict RUN|FILE INPUT...")
    predictor = Predictor(run, device=device, batch=batch, T=T, top=top, **given(name=name, connect=connect))
    if sheet is not None and predictor.spec.kind == "events":
        raise ValueError("--sheet draws images; `spikewise events show` draws a recording")
    require_folders(csv_file, sheet)
    if sheet is not None:
        require_picture_suffix(sheet)
    sources, skipped = expand_folders(inputs, predictor.spec)
    found = list(report(track_files(predictor(sources), len(sources)), as_json))
    if csv_file is not None:
        write_csv(csv_file, found)
    if sheet is not None:
        draw_sheet(sheet, found)
    failed = sum(bool(one.error) for one in found)
    if skipped:
        print(f"spikewise: skipped {count(skipped, 'other file')}", file=sys.stderr)
    if failed:
        print(f"spikewise: {failed:,} of {count(len(found), 'input')} could not be read", file=sys.stderr)
        raise SystemExit(1)


def report(predictions: Iterable["Prediction"], as_json: bool) -> Iterator["Prediction"]:
    """Print each as it comes."""
    for one in predictions:
        if as_json:
            classes = [{"class": name, "probability": round(value, 6)} for name, value in one.classes]
            said = {name: text for name, text in (("error", one.error), ("note", one.note)) if text}
            print(json.dumps({"source": str(one.source), "classes": classes} | said))
        elif one.error:
            print(f"spikewise: {one.error}", file=sys.stderr)
        else:
            print(f"{one.source}: {', '.join(f'{name} {100 * value:.1f} %' for name, value in one.classes)}")
            if one.note:
                print(f"  note: {one.note}")
        yield one


def require_picture_suffix(file: Path) -> None:
    from PIL import Image

    if file.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--sheet {file}: no picture format is known by {file.suffix or 'no suffix'!r}; use .png or .jpg")


def write_csv(file: Path, predictions: list["Prediction"]) -> None:
    """A line per input: the path, and class and probability by rank, or the error."""
    ranks = max((len(one.classes) for one in predictions), default=0)
    with io.StringIO(newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(
            ["source", *(word for rank in range(1, ranks + 1) for word in (f"class{rank}", f"probability{rank}")), "error"]
        )
        for one in predictions:
            cells = [cell for name, value in one.classes for cell in (name, f"{value:.6f}")]
            writer.writerow([one.source, *cells, *[""] * (2 * ranks - len(cells)), one.error])
        disk.atomic_write(file.absolute(), opened.getvalue().encode())


def draw_sheet(file: Path, predictions: list["Prediction"]) -> None:
    """The images side by side, each over its file's name and its first class."""
    from PIL import Image, ImageDraw, ImageFont

    from ..data.input_spec import load_image

    shown = [one for one in predictions if not one.error]
    if not shown:
        raise ValueError(f"{file} is not drawn: no image could be read")
    if len(shown) > MAX_SHEET:
        print(f"spikewise: {file} shows the first {MAX_SHEET} of {len(shown):,} images", file=sys.stderr)
        shown = shown[:MAX_SHEET]
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    width, height = THUMBNAIL + MARGIN, THUMBNAIL + LABEL_HEIGHT + MARGIN
    picture = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    try:
        font: Any = ImageFont.truetype("DejaVuSans.ttf", 12)  # of the system: it has more letters
    except OSError:
        font = ImageFont.load_default(13)
    for number, one in enumerate(shown):
        left, top = MARGIN + number % columns * width, MARGIN + number // columns * height
        image = load_image(one.source)
        scale = min(THUMBNAIL / image.width, THUMBNAIL / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
        draw.rectangle((left - 1, top - 1, left + THUMBNAIL, top + THUMBNAIL), fill="#f2f2f2", outline="#cccccc")
        picture.paste(image, (left + (THUMBNAIL - image.width) // 2, top + (THUMBNAIL - image.height) // 2))
        name, value = one.classes[0]
        share, below = f"  {100 * value:.1f} %", top + THUMBNAIL + 4
        draw.text((left, below), shorten(one.source.name, THUMBNAIL, font), fill="#666666", font=font)
        label = shorten(name, THUMBNAIL - font.getlength(share), font) + share
        draw.text((left, below + LABEL_HEIGHT // 2), label, fill="black", font=font)
    with io.BytesIO() as content:
        picture.save(content, Image.registered_extensions()[file.suffix.lower()])
        disk.atomic_write(file.absolute(), content.getvalue())


def shorten(text: str, width: float, font: Any) -> str:
    """Text of at most `width` pixels: an ellipsis stands for its middle, as beginning and end tell names apart."""
    shown, kept = text, len(text)
    while kept > 2 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
