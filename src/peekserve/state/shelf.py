"""Where the files of registered revisions lie: each once, under its own digest, and a folder of links for each.

    STATE/models/SHA256                              a file, readable and never written again
    STATE/applications/NAME/REVISION/NAME/...        hard links to them: a repository of one application
    STATE/uploads/...                                what is coming in; nothing there survives a restart

A revision is there whole or not at all: its files are synced before they get their names, and its folder gets its own
by a rename. Two revisions that share a model share its bytes on the disk.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from peekserve.errors import InvalidRequest

NAME_DIGITS = 12


class Shelf:
    """All paths of one state folder. Every method works on the disk: call them away from the event loop."""

    def __init__(self, state: Path) -> None:
        self._models = state / "models"
        self._applications = state / "applications"
        self._uploads = state / "uploads"

    def desk(self) -> Path:
        """A new empty folder, on the same file system, for what comes in."""
        self._uploads.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._uploads))

    def root(self, application: str, revision: str) -> Path:
        """A repository with this revision in it, and nothing else."""
        return self._applications / application / revision

    def folder(self, application: str, revision: str) -> Path:
        return self.root(application, revision) / application

    def put(self, application: str, folder: Path) -> tuple[str, str]:
        """Keep what lies in `folder`, which is used up, as a revision: (its name, the digest that it begins). What was
        kept before is kept once."""
        digests = {name: _digest(path) for name, path in files_below(folder)}
        whole = hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in sorted(digests.items())).encode())
        sha = whole.hexdigest()
        revision = self._name(application, sha)
        place = self.root(application, revision)
        here = (place / ".sha").is_file()
        if here and all((place / application / name).is_file() for name in digests):
            return revision, sha
        if here:  # somebody took a file away: it is laid anew
            shutil.rmtree(place)
        self._models.mkdir(parents=True, exist_ok=True)
        draft = self.desk()
        try:
            self._lay(folder, digests, draft / application)
            (draft / ".sha").write_text(sha)
            _sync(draft / ".sha")
            for below, _, _ in os.walk(draft):
                _sync(Path(below))
            _sync(self._models)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft, place)
        except OSError:  # a full disk, mostly: nothing of it stays there
            shutil.rmtree(draft, ignore_errors=True)
            self._sweep()
            raise
        for above in (place.parent, self._applications, self._applications.parent):
            _sync(above)
        return revision, sha

    def _lay(self, folder: Path, digests: Mapping[str, str], draft: Path) -> None:
        """Each file under its digest, and links to them all in `draft`."""
        for name, digest in sorted(digests.items()):
            kept = self._models / digest
            if not kept.exists():
                _settle(folder / name, kept)
            link = draft / name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(kept, link)

    def copy(self, source: Path, target: Path) -> None:
        """The files of one folder beside another's; those of the shelf are linked, others copied."""
        for name, path in files_below(source):
            to = target / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_relative_to(self._applications):
                os.link(path, to)
            else:
                shutil.copyfile(path, to)

    def forget(self, application: str, revision: str) -> None:
        """Remove a revision, and the files that no other one has."""
        shutil.rmtree(self.root(application, revision), ignore_errors=True)
        self._sweep()

    def tidy(self, known: Iterable[tuple[str, str]]) -> None:
        """What an earlier server left behind: half-done uploads, revisions that nobody knows, files of no revision."""
        keep = {self.root(*one) for one in known}
        shutil.rmtree(self._uploads, ignore_errors=True)
        for place in sorted(self._applications.glob("*/*")):
            if place not in keep:
                shutil.rmtree(place, ignore_errors=True)
        self._sweep()

    def _sweep(self) -> None:
        if self._models.is_dir():
            for file in sorted(self._models.iterdir()):
                if file.stat().st_nlink == 1:
                    file.unlink()

    def _name(self, application: str, sha: str) -> str:
        """As short as it can be without being another's."""
        for digits in range(NAME_DIGITS, len(sha)):
            mark = self.root(application, sha[:digits]) / ".sha"
            if not mark.is_file() or mark.read_text() == sha:
                return sha[:digits]
        return sha


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file, in the order of their names. What begins with a dot is passed over. Raises
    InvalidRequest where one is no plain file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidRequest(f"{name.as_posix()!r} is a link or a device; only files are taken")
        if path.is_file():
            yield name.as_posix(), path


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _settle(path: Path, kept: Path) -> None:
    """Move a file to where it stays."""
    path.chmod(0o444)
    _sync(path)
    os.replace(path, kept)


def _sync(path: Path) -> None:
    """A file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
