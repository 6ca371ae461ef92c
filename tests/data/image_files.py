"""Folders of generated images, and the published transform, for the tests."""

import io

import numpy as np
import torch
from PIL import Image


def pixels(width, height, seed=0):
    """Something smooth with something rough on it, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(coarse, np.float32) * 0.8 + rng.uniform(0, 50, (height, width, 3))).clip(0, 255).astype(np.uint8)


def encoded(image, kind="JPEG", **how):
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def jpeg(width=50, height=40, seed=0):
    return encoded(Image.fromarray(pixels(width, height, seed)), quality=90)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def image_set(folder, classes=("ant", "bee", "cat"), train=4, val=2, size=(50, 40)):
    """train/CLASS/NAME.JPEG and val/CLASS/NAME.JPEG, every image another one; brighter from class to class."""
    seed = 0
    for split, number in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            for k in range(number):
                seed += 1
                width, height = size[0] + seed % 5, size[1] + seed % 7
                image = Image.fromarray((pixels(width, height, seed) * ((1 + label) / len(classes))).astype(np.uint8))
                write(folder / split / name / f"{name}_{k}.JPEG", encoded(image, quality=90))
    return folder


def as_published(content, size=224, resized=256):
    """Resize, centre crop, to tensor, normalise, written from torchvision's documentation."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    if width <= height:
        width, height = resized, int(resized * height / width)
    else:
        width, height = int(resized * width / height), resized
    array = np.asarray(image.resize((width, height), Image.BILINEAR))
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    tensor = torch.from_numpy(array[top : top + size, left : left + size].copy()).permute(2, 0, 1).float().div(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return tensor.sub(mean).div(std).numpy()
