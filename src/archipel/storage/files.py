"""Files that are complete or absent, and disk errors as errors with a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull, Thing
from archipel.vocabulary.remedies import FreeDiskSpace, GrantAccess


@contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk, or a folder that cannot be there, into an error with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                Thing.folder(folder),
                "the disk is full",
                "free space there; finished work is kept and continues by itself",
                command=FreeDiskSpace(path=str(folder)),
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ArchipelError(
                Thing.folder(folder),
                "cannot be written",
                "give this user write permission there",
                code=ErrorCode.CONFIGURATION,
                command=GrantAccess(path=str(folder)),
            ) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            cause = f"cannot be written ({error.strerror})"
            raise ArchipelError(
                Thing.file(error.filename or folder), cause, "choose another place", code=ErrorCode.CONFIGURATION
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Write a secret: readable by its owner only from the first byte on, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with disk_errors_named(path.parent):
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
