"""Photographs as training samples: JPEG, RandomResizedCrop 224, flip and normalisation, on one core.

    .venv/bin/python benchmarks/bench_jpeg.py

Beside the same in plain Pillow and NumPy, in turns, on generated photographs of 500 x 375 pixels, or on a folder of real ones.
"""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from runner import median_and_interval, report, save, take_turns

from spikewise.data.augment import random_crop_box, random_hflip
from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.sampler import rng_from


@dataclass
class Options:
    """How many photographs, and how often."""

    photographs: int = 24
    rounds: int = 21
    folder: Path | None = None  # with train/CLASS/*.jpg and val/CLASS/*.jpg; None: generated ones


def photograph(rng: np.random.Generator, width: int = 500, height: int = 375) -> bytes:
    """Smooth areas, edges and grain, as a camera makes them; about as many bytes as ImageNet's."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    edges = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    grain = rng.normal(0, 6, (height, width, 3))
    mixed = 0.8 * np.asarray(coarse, np.float32) + 0.2 * np.asarray(edges, np.float32) + grain
    file = io.BytesIO()
    Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def plain(path: Path, rng: np.random.Generator) -> np.ndarray:
    """The same, as one would write it."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    top, left, height, width = random_crop_box(image.height, image.width, rng)
    image = image.crop((left, top, left + width, top + height)).resize((224, 224), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    array = (np.asarray(image, np.float32) / 255 - mean) / std
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def main(o: Options) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = o.folder or Path(made)
        if o.folder is None:
            for split, kind in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
                (folder / split / kind).mkdir(parents=True)
                for i in range(o.photographs // 2 if split == "train" else 1):
                    (folder / split / kind / f"{i}.jpg").write_bytes(photograph(np.random.default_rng(i)))
        data = image_folder("train", folder)
        chosen = range(min(o.photographs, len(data)))

        def ours() -> list[np.ndarray]:
            made = []
            for i in chosen:
                rng = rng_from(0, i)
                made.append(random_hflip(data.random_sample(i, rng), rng))
            return made

        def theirs() -> list[np.ndarray]:
            return [plain(data.files[i], rng_from(0, i)) for i in chosen]

        if not all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours(), theirs(), strict=True)):
            raise SystemExit("the two differ: no time is taken")
        seconds = take_turns({"spikewise": ours, "plain Pillow": theirs}, o.rounds)
        lines = report("JPEG, RandomResizedCrop 224, flip, normalise", seconds, "spikewise", photographs=len(chosen))
        lines[0]["images_per_s_per_core"] = round(len(chosen) / median_and_interval(seconds["spikewise"])[0], 1)
        lines[0]["bytes_per_image"] = round(sum(data.files[i].stat().st_size for i in chosen) / len(chosen))
        save("jpeg", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
