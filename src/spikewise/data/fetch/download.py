"""Files from public sources: checked, unpacked, and resumed where a download was interrupted."""

import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from functools import partial
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pooch

from ...progress import MinuteLines
from ..registry import DATASETS, find_dataset

CHUNK_BYTES = 1 << 18


def download(name: str, root: Path, log: Callable[[str], None] | None = None) -> list[Path]:
    """Download the files of a data set into `root`/`name`; files that are there and correct are not fetched again.

    log:      is told once a minute how much of a file has arrived; None: nothing is said
    Returns:  the files, and the folder unpacked from each .tar.gz
    Raises:   ValueError for a data set without a public source, or a file whose checksum is wrong; OSError when the source
              can't be reached; what has arrived by then is kept, and the next call resumes from there
    """
    downloads = find_dataset(name).downloads
    if downloads is None:
        known = ", ".join(other for other, entry in DATASETS.items() if entry.downloads)
        raise ValueError(f"no public source is known for {name!r}; known: {known}")
    folder, paths = root / name, []
    for file, (url, md5) in downloads.items():
        downloader = ResumableDownloader(folder / f"{file}.part", log)
        paths.append(Path(pooch.retrieve(url, f"md5:{md5}", fname=file, path=folder, downloader=downloader)))
        if file.endswith(".tar.gz"):
            paths.append(unpack_beside(paths[-1]))
    return paths


class ResumableDownloader:
    """A downloader for pooch that keeps what has arrived in `part_file` and requests only the rest."""

    def __init__(self, part_file: Path, log: Callable[[str], None] | None = None):
        self.part_file, self.log = part_file, log

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        by_hand = f"download it by hand into {self.part_file.parent}"
        try:
            self.fetch(url)
        except HTTPError as error:
            error.close()  # it holds the connection
            if error.code != 416:  # nothing is left to fetch
                raise OSError(f"{url} answers {error.code} {error.reason}; {by_hand}") from None
        except (URLError, IncompleteRead) as error:
            raise OSError(f"{url} can't be reached ({getattr(error, 'reason', error)}); {by_hand}") from None
        self.part_file.replace(output_file)

    def fetch(self, url: str) -> None:
        offset = self.part_file.stat().st_size if self.part_file.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
        with urllib.request.urlopen(request, timeout=60) as response:
            resumes = response.status == 206  # else the server ignores ranges, and sends the whole file
            content_length, begin = response.headers.get("Content-Length"), offset if resumes else 0
            total = begin + int(content_length or 0)
            lines = MinuteLines(self.log, total if content_length else 0, begin)
            with self.part_file.open("ab" if resumes else "wb") as file:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    lines.at(file.tell(), partial(describe_arrival, url, file.tell(), total if content_length else 0))
        size = self.part_file.stat().st_size
        if content_length and size < total:
            raise OSError(f"{url} broke off at {size:,} of {total:,} bytes; try again to resume from there")


def describe_arrival(url: str, size: int, total: int) -> str:
    """How much of a file is there, of how much, where that is known."""
    return f"{url}: {size / 1e6:,.1f} MB" + (f" of {total / 1e6:,.1f} MB" if total else "")


def unpack_beside(archive: Path) -> Path:
    """Unpack an archive into its folder and return the folder it contains; nothing is written outside."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(archive.parent, filter="data")
            return archive.parent / tar.getnames()[0].split("/")[0]
    except (tarfile.TarError, EOFError, zlib.error, IndexError) as error:
        raise ValueError(f"{archive} can't be unpacked: {error}; download it again") from None
