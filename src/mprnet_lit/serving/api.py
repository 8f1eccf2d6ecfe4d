"""REST endpoint that restores one photo per request."""

import re
import secrets
import shutil
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import Options, PhotoRestorer, Result
from mprnet_lit.serving.uploads import FullError, Uploads
from mprnet_lit.serving.waiting_line import WAITING, BusyError
from mprnet_lit.utils.errors import UserError

PATH = "/api/restore"
_MAX_NAME = 100
_TICKET = re.compile(r"[0-9A-Za-z_-]{1,64}")
_BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class Api:
    """Handler of the REST endpoint.

    Args:
        restorer: restorer with the weights that the endpoint offers.
        limits: limits of one photo.
        uploads: folder of uploads and results.
        defaults: options that a request does not set.
    """

    def __init__(
        self, restorer: PhotoRestorer, limits: Limits, uploads: Uploads, defaults: Options
    ) -> None:
        self.restorer, self.limits, self.uploads = restorer, limits, uploads
        self.defaults = defaults

    @property
    def routes(self) -> list[BaseRoute]:
        """Routes of the endpoint."""
        return [
            Route(PATH, self._describe, methods=["GET"]),
            Route(PATH, self._answer, methods=["POST"]),
        ]

    async def _describe(self, request: Request) -> Response:
        """Return the weights, the defaults, the limits and the state of the line as JSON."""
        line, ticket = self.restorer.line, request.query_params.get("ticket")
        return JSONResponse(
            {
                "waiting": line.length,
                "place": None if ticket is None else line.place(ticket),
                "weights": self.restorer.labels,
                "defaults": asdict(self.defaults),
                "max_megabytes": self.limits.megabytes,
                "max_megapixels": self.limits.megapixels,
                "formats": sorted(IMAGE_SUFFIXES),
            }
        )

    async def _answer(self, request: Request) -> Response:
        """Restore the photo of a form and return it, or an error message of one sentence."""
        if self.restorer.line.length >= WAITING:  # before the upload is read
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, str(BusyError()))
        folder = self.uploads.folder / secrets.token_hex(32)
        try:
            async with request.form(max_files=1, max_fields=8) as form:
                photo, options, ticket = parse_form(dict(form.multi_items()), self.defaults)
                path = folder / safe_name(photo.filename or "")
                await run_in_threadpool(_save, photo.file, path)
            result = await run_in_threadpool(self._restore, path, options, ticket)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except HTTPException as error:  # Starlette could not parse the form
            return _error(error.status_code, f"the form is malformed: {error.detail}")
        except BusyError as error:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except FullError as error:
            return _error(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        except UserError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            message = f"the upload can't be stored ({error.strerror})"
            return _error(HTTPStatus.INSUFFICIENT_STORAGE, message)
        finally:
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(
            result.file,
            filename=result.file.name,
            headers={
                "x-restore-summary": result.line,
                "x-restore-seconds": f"{result.seconds:.3f}",
                "x-restore-change": f"{result.change:.3f}",
            },
            background=BackgroundTask(shutil.rmtree, result.file.parent, ignore_errors=True),
        )

    def _restore(self, path: Path, options: Options, ticket: str | None) -> Result:
        with self.restorer.turn(path, options, self.limits, ticket) as turn:
            return self.restorer.restore(turn, self.uploads, previews=False)


def parse_form(form: dict[str, Any], defaults: Options) -> tuple[UploadFile, Options, str | None]:
    """Return the photo, the options and the ticket of a form.

    Args:
        form: uploaded file and texts by the name of the field.
        defaults: options that the form does not set.

    Raises:
        UserError: the photo is missing, a field is unknown, or a value is invalid.
    """
    form = dict(form)
    photo = form.pop("photo", None)
    if not isinstance(photo, UploadFile):
        raise UserError("the form has no photo: add a file with the field name photo")
    ticket = form.pop("ticket", None)
    if not (ticket is None or _TICKET.fullmatch(str(ticket))):
        raise UserError("ticket must have 1 to 64 letters, digits, hyphens or underscores")
    values = asdict(defaults)
    for name, text in form.items():
        if name not in values:
            known = ", ".join(values)
            raise UserError(f"the form has an unknown field, {name}: use photo, ticket, {known}")
        values[name] = _parse(name, str(text), type(values[name]))
    return photo, Options(**values), None if ticket is None else str(ticket)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise UserError(f"{name}={text} must be true or false")
        return _BOOLEANS[text.lower()]
    if kind is float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"{name}={text} must be a number from 0 to 1")
        return value
    return text


def safe_name(name: str) -> str:
    """Return the name of an uploaded file without folders and special characters."""
    name = re.sub(r"[^\w.() -]", "_", re.split(r"[\\/]", name)[-1])
    return name.encode()[-_MAX_NAME:].decode(errors="ignore").lstrip(". ") or "photo"


def _save(source: BinaryIO, path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)


def _error(status: int, message: str) -> Response:
    return PlainTextResponse(f"{message}\n", status)
