"""Checks the zip archives that torch.save writes, before PyTorch reads them.

PyTorch ignores the checksums in its archives: a flipped bit would become a weight. So checksums are
compared here.
"""

import zipfile
from pathlib import Path

from flax_densenet.errors import InputError
from flax_densenet.weights.files.contents import COPY_AGAIN, check_members, damaged, refused

SAVE_AGAIN = (
    "save it again with torch.save(model.state_dict(), FILE) in the environment that made it"
)
_CHUNK = 2**20
_NOT_TORCH_SAVED = {
    "constants.pkl": (
        "is a TorchScript program, which is not run",
        "where you trust it, save its weights alone: "
        "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)",
    ),
    "model.weights.h5": (
        "is a .keras archive in another archive, or without a config.json",
        "unzip it and give the .keras file or the model.weights.h5 in it",
    ),
}


def check_archive(path: Path) -> None:
    """Refuses an archive that is damaged, or that unpacks to more bytes than it has.

    Args:
      path: A zip archive.

    Raises:
      InputError: It is so, or it is not what torch.save writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            _check_names(path, names)
            check_members(
                path, members, kind="a zip archive", writer="torch.save", remedy=SAVE_AGAIN
            )
            # With set_crc32_options(False), PyTorch writes zeros.
            if any(member.CRC for member in members):
                for member in members:
                    with archive.open(member) as content:
                        while content.read(_CHUNK):
                            pass
    except zipfile.BadZipFile as error:
        raise damaged(path, error) from error
    except (ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, error) from error


def _check_names(path: Path, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise refused(path, "has two members of one name", COPY_AGAIN)
    inner = {name.rpartition("/")[2] for name in names}
    for name, (why, remedy) in _NOT_TORCH_SAVED.items():
        if name in inner:
            raise refused(path, why, remedy)
    if "data.pkl" not in inner:
        some = ", ".join(names[:3])
        raise refused(path, f"is a zip archive of {some}", "unpack it and give a file in it")
