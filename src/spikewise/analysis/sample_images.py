"""Images for a network that comes without data: photographs from a folder, or the embedded digits, enlarged."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import DATASETS
from ..wording import count

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel


def load_sample_images(folder: Path | None, *, size: int, batch: int, in_channels: int = 3) -> Tensor:
    """Images [N, in_channels, size, size], normalised, channels last.

    Raises:  ValueError for a folder with fewer photographs, or photographs for a network of other than 3 channels
    """
    if folder is None:
        data = DATASETS["digits"].load("train")
        grey = torch.stack([torch.from_numpy(data.sample(i % len(data.labels))) for i in range(batch)])
        large = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False).expand(-1, in_channels, -1, -1)
        return ((large - large.mean()) / large.std()).contiguous(memory_format=torch.channels_last)
    from PIL import Image

    from ..data.images.decode import SUFFIXES, decode

    if in_channels != 3:
        raise ValueError(f"photographs have 3 channels, the network takes {in_channels}; leave out --images")
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < batch:
        raise ValueError(f"{folder} holds {count(len(files), 'photograph')}, {batch} are needed; add some, or ask for fewer")
    images = []
    for file in files[:batch]:
        with file.open("rb") as content:
            try:
                image = decode(content).resize((size, size), Image.Resampling.BILINEAR)
            except ValueError as error:
                raise ValueError(f"{file} {error}; replace it, or take it out of the folder") from None
        images.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1))
    scaled = torch.stack(images).float() / 255
    normal = (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return normal.contiguous(memory_format=torch.channels_last)
