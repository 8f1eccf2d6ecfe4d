"""Folders for the Hugging Face Hub: weights, size of the network and model card; their upload."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from mprnet_lit.models import MPRNet
from mprnet_lit.utils.atomic import write_atomic, write_errors
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.weights.address import HUB_FILE
from mprnet_lit.weights.card import model_card
from mprnet_lit.weights.download import reason_of
from mprnet_lit.weights.info import Info
from mprnet_lit.weights.io import save

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def save_folder(
    model: MPRNet, folder: str | Path, info: Info | None = None, source: str | None = None
) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` into a folder.

    Args:
        model: network to write.
        folder: folder to create or update.
        info: metadata; those of the network if ``None``.
        source: path or address in the model card; the name of the folder if ``None``.

    Raises:
        UserError: a file can't be written.
    """
    require("folder", folder, (str, Path), "the path of a folder")
    folder, info = Path(folder), info or model.info or Info()
    require("info", info, Info, "an Info")
    with write_errors(folder, "into"):
        folder.mkdir(parents=True, exist_ok=True)
    save(model, folder / HUB_FILE, info)
    config = {"architecture": "MPRNet", "library_name": "mprnet_lit", **asdict(model.size)}
    config |= {"task": info.task, "crop": info.crop}
    write_atomic(folder / "config.json", f"{json.dumps(config, indent=2)}\n".encode())
    card = model_card(model, info, source or folder.resolve().name)
    write_atomic(folder / "README.md", card.encode())


def push(
    model: MPRNet,
    repo_id: str,
    info: Info | None,
    private: bool | None,
    revision: str | None,
    token: str | None,
    commit_message: str,
) -> str:
    """Upload the files of :func:`save_folder`; see :meth:`MPRNet.push_to_hub`.

    Returns:
        Address of the commit.

    Raises:
        UserError: huggingface_hub is not installed, ``repo_id`` is not ``OWNER/REPO``, or the
            upload failed.
    """
    if not isinstance(repo_id, str) or not _REPO.fullmatch(repo_id):
        raise UserError(f"repo_id={repo_id} must be OWNER/REPO")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(
            f"push_to_hub needs the package huggingface_hub: {install_hint('hub')}"
        ) from error
    with TemporaryDirectory() as folder:
        save_folder(model, folder, info, f"hf://{repo_id}")
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message,
            )
        except Exception as error:  # of the HTTP client, whose name depends on the version
            raise UserError(
                f"can't upload to hf://{repo_id} ({reason_of(error)}): check the name and the "
                "network, and set HF_TOKEN to a token that can write"
            ) from error
    return str(commit.commit_url)
