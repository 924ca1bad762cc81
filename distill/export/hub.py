"""Upload a model's folder to the Hugging Face Hub, and download it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from distill.errors import UserError

FLAG = "--push_to_hub"
NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SECONDS = 3.0  # for the Hub's first response; without a network the error should come soon


def check(name: str, where: str = FLAG) -> None:
    """Check the name and the token, before anything is exported.

    Raises:
        UserError: ``name`` is not USER/NAME, or there is no token.
    """
    from huggingface_hub import get_token

    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not the name of a model on the Hub", where, f"{where} USER/NAME")
    if not get_token():
        raise UserError(
            "there is no token for the Hub", where, "hf auth login, or set HF_TOKEN to a token with write access"
        )


def push(folder: Path, name: str) -> str:
    """Upload a folder's files to the model USER/NAME, which is created as private if it is new; returns its URL.

    Raises:
        UserError: the Hub cannot be reached, or refuses.
    """
    from httpx2 import HTTPError  # the HTTP library of huggingface_hub
    from huggingface_hub import HfApi

    hub = HfApi(library_name="distill-zh")
    try:
        url = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Bundle and model card")
    except (HTTPError, ConnectionError, ValueError, RuntimeError) as error:
        raise _user_error(error, name) from error
    return str(url)


def download(name: str, files: Sequence[str]) -> Path:
    """The folder with some files of the model USER/NAME; from the cache if the Hub cannot be reached.

    Raises:
        UserError: the Hub has no such model or refuses, or cannot be reached, and the cache lacks the model.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    try:
        is_offline = not _responds(name)
        return Path(snapshot_download(name, allow_patterns=list(files), local_files_only=is_offline))
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _download_error(error, name) from error


def _responds(name: str) -> bool:
    """Whether the Hub responds, and soon; ``snapshot_download`` alone would wait for minutes.

    Raises:
        HTTPError: it responds that there is no such model, or refuses.
    """
    from httpx2 import ConnectError, TimeoutException
    from huggingface_hub import HfApi

    try:
        HfApi(library_name="distill-zh").model_info(name, timeout=SECONDS)
    except (ConnectError, TimeoutException, ConnectionError):  # the last one: HF_HUB_OFFLINE
        return False
    return True


def _download_error(error: Exception, name: str) -> UserError:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    if status in (401, 403, 404):
        what = f"the Hub has no such model, or this user may not read it ({status})"
        return UserError(what, name, "check USER/NAME; for a private model: hf auth login")
    if status:
        return UserError(f"the Hub refused ({status})", name, "try again later")
    what = "no such folder, and the Hub cannot be reached"
    return UserError(what, name, "check the path; for the Hub: the network, HF_ENDPOINT and HF_HUB_OFFLINE")


def _user_error(error: Exception, name: str) -> UserError:
    """The user's error for a failed upload, by the status of the Hub's response if there is one."""
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    message = str(error).strip().split("\n")[-1]
    if status == 401:
        return UserError("the Hub does not know this token", name, "hf auth login, or set HF_TOKEN to a valid token")
    if status in (403, 404):
        return UserError(
            f"this token has no write access there: {message}", name, "a token with write access, or another USER/NAME"
        )
    if status:
        return UserError(f"the Hub refused ({status}): {message}", name, "run the same command again later")
    if isinstance(error, (ValueError, RuntimeError)):
        return UserError(
            f"the Hub did not accept the files: {message}", name, "fix what it reports, then run the command again"
        )
    return UserError(f"the Hub cannot be reached: {message}", name, "check the network, HF_ENDPOINT and HF_HUB_OFFLINE")
