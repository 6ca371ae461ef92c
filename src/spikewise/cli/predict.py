"""The command `spikewise predict`."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .. import disk
from ..wording import count
from .data import track_files
from .options import Connect, Device, Json, ModelName, RunOrFile

if TYPE_CHECKING:
    from ..engine.predict import Prediction

THUMBNAIL, LABEL_HEIGHT, COLUMNS = 160, 34, 6  # of a picture sheet, in pixels
MAX_SHEET = 600  # images on a sheet


def predict(
    run: RunOrFile,
    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")],
    top: Annotated[int, arg(help="how many classes to give")] = 5,
    batch: Annotated[int, arg(help="inputs computed at once")] = 32,
    T: Annotated[int | None, arg(help="time steps for which an image is shown; default as trained")] = None,
    csv_file: Annotated[Path | None, arg(name="csv", help="write a table into this file", metavar="FILE")] = None,
    sheet: Annotated[Path | None, arg(help="draw images and their classes into this file", metavar="FILE")] = None,
    device: Device = "auto",
    model: ModelName = None,
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
    overrides = {key: value for key, value in (("name", model), ("connect", connect)) if value is not None}
    predictor = Predictor(run, device=device, batch=batch, T=T, top=top, **overrides)
    if sheet is not None and predictor.spec.kind == "events":
        raise ValueError("--sheet draws images; `spikewise events show` draws a recording")
    for file in filter(None, (csv_file, sheet)):
        disk.require_folder_of(file)
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
            print(json.dumps({"source": str(one.source), "classes": classes} | ({"error": one.error} if one.error else {})))
        elif one.error:
            print(f"spikewise: {one.error}", file=sys.stderr)
        else:
            print(f"{one.source}: {', '.join(f'{name} {100 * value:.1f} %' for name, value in one.classes)}")
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
    """The images side by side, each over its first class."""
    from PIL import Image, ImageDraw, ImageFont

    from ..data.input_spec import load_image

    shown = [one for one in predictions if not one.error]
    if not shown:
        raise ValueError(f"{file} is not drawn: no image could be read")
    if len(shown) > MAX_SHEET:
        print(f"spikewise: {file} shows the first {MAX_SHEET} of {len(shown):,} images", file=sys.stderr)
        shown = shown[:MAX_SHEET]
    columns = min(COLUMNS, len(shown))
    width, height = THUMBNAIL + 12, THUMBNAIL + LABEL_HEIGHT + 12
    picture = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, one in enumerate(shown):
        left, top = number % columns * width + 6, number // columns * height + 6
        image = load_image(one.source)
        scale = min(THUMBNAIL / image.width, THUMBNAIL / image.height)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
        picture.paste(image, (left + (THUMBNAIL - image.width) // 2, top + (THUMBNAIL - image.height) // 2))
        name, value = one.classes[0]
        while len(name) > 4 and font.getlength(name) > THUMBNAIL:
            name = f"{name[:-2].rstrip('…')}…"
        draw.text((left, top + THUMBNAIL + 2), f"{name}\n{100 * value:.1f} %", fill="black", font=font, spacing=2)
    with io.BytesIO() as content:
        picture.save(content, Image.registered_extensions()[file.suffix.lower()])
        disk.atomic_write(file.absolute(), content.getvalue())
