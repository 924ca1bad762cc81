"""Models on the Hugging Face Hub: a folder is sent there. The only module that imports huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path

from distill.errors import UserError

FLAG = "--push_to_hub"


def check(name: str) -> None:
    """Refuse what could not be sent, before anything is made.

    Raises:
        UserError: ``name`` is no USER/NAME, or there is no token.
    """
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise UserError(f"{name!r} is no name of a model on the Hub", FLAG, f"{FLAG} USER/NAME")
    if not get_token():
        raise UserError(
            "there is no token for the Hub", FLAG, "hf auth login, or set HF_TOKEN to a token that may write"
        )


def push(folder: Path, name: str) -> str:
    """Send a folder's files to the model USER/NAME, which is made if need be, private; returns its address.

    Raises:
        UserError: the Hub cannot be reached, or refuses.
    """
    from httpx2 import HTTPError  # what huggingface_hub speaks HTTP with
    from huggingface_hub import HfApi

    hub = HfApi(library_name="distill-zh")
    try:
        address = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Bundle and model card")
    except (HTTPError, ConnectionError, ValueError, RuntimeError) as error:
        raise _fault(error, name) from error
    return str(address)


def _fault(error: Exception, name: str) -> UserError:
    """What the Hub's answer, or the want of one, means for the user."""
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    said = str(error).strip().split("\n")[-1]
    if status == 401:
        return UserError("the Hub does not know this token", name, "hf auth login, or set HF_TOKEN to a valid token")
    if status in (403, 404):
        return UserError(
            f"this token may not write there: {said}", name, "a token that may write, or another USER/NAME"
        )
    if status:
        return UserError(f"the Hub refused ({status}): {said}", name, "type the same command again later")
    if isinstance(error, (ValueError, RuntimeError)):
        return UserError(
            f"the Hub did not take the files: {said}", name, "fix what it reports, then type the command again"
        )
    return UserError(f"the Hub cannot be reached: {said}", name, "check the network, HF_ENDPOINT and HF_HUB_OFFLINE")
