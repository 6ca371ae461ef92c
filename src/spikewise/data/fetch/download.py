"""Files from public sources: checked, and continued where a download broke off."""

import urllib.request
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pooch

# name of a data set -> files: (address, md5)
SOURCES: dict[str, dict[str, tuple[str, str]]] = {
    "fashion-mnist": {
        name: (f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}", md5)
        for name, md5 in {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        }.items()
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        )
    },
    "cifar100": {
        "cifar-100-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        )
    },
}
PIECE = 1 << 18  # bytes read at a time


def download(name: str, root: Path, sources: dict[str, dict[str, tuple[str, str]]] | None = None) -> list[Path]:
    """Bring the files of a data set into `root`/`name`; what is there and right is not fetched again.

    Returns:  the files
    Raises:   ValueError for a data set without a public source, or a file whose checksum is wrong; OSError when the source can
              not be reached; what had come by then is kept and continued next time
    """
    sources = SOURCES if sources is None else sources
    if name not in sources:
        raise ValueError(f"no public source is known for {name!r}; known: {', '.join(sources)}")
    folder = root / name
    files = []
    for file, (address, md5) in sources[name].items():
        path = pooch.retrieve(address, f"md5:{md5}", fname=file, path=folder, downloader=Continued(folder / f"{file}.part"))
        files.append(Path(path))
    return files


class Continued:
    """A downloader for pooch that keeps what came in `part` and asks only for the rest."""

    def __init__(self, part: Path):
        self.part = part

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        try:
            self.fetch(url)
        except HTTPError as error:
            if error.code != 416:  # nothing is left to fetch
                raise OSError(f"{url} answers {error.code} {error.reason}; fetch it by hand into {self.part.parent}") from None
        except (URLError, IncompleteRead) as error:
            reason = getattr(error, "reason", error)
            raise OSError(f"{url} can't be reached ({reason}); fetch it by hand into {self.part.parent}") from None
        self.part.replace(output_file)

    def fetch(self, url: str) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            goes_on = answer.status == 206  # the server knows ranges; else it begins anew
            with self.part.open("ab" if goes_on else "wb") as file:
                while piece := answer.read(PIECE):
                    file.write(piece)
            expected = answer.headers.get("Content-Length")
        total, came = (have if goes_on else 0) + int(expected or 0), self.part.stat().st_size
        if expected and came < total:
            raise OSError(f"{url} broke off at {came:,} of {total:,} bytes; try again, it goes on from there")
