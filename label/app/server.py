"""The web server of MONAI Label, which answers an error with its message instead of "Internal Server Error"."""

import json
import logging

from fastapi import Request
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException

logger = logging.getLogger(__name__)


def _messages(error: BaseException | None) -> str:
    """The messages of an error and of those that caused it, each once."""
    messages: list[str] = []
    while error is not None:
        message = str(getattr(error, "msg", error)) or type(error).__name__
        if not any(message in longer for longer in messages):
            messages.append(message)
        error = error.__cause__ or error.__context__
    return " ".join(messages)


def _answer(status: int, request: Request, error: Exception, prefix: str = "") -> JSONResponse:
    logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return JSONResponse({"detail": prefix + _messages(error)}, status)


@app.exception_handler(json.JSONDecodeError)
async def no_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    """A field such as ``params`` is no JSON."""
    return _answer(400, request, error, "The parameters are no JSON: ")


@app.exception_handler(ImageNotFoundException)
@app.exception_handler(LabelNotFoundException)
async def not_found(request: Request, error: MONAILabelException) -> JSONResponse:
    """An image or label that the studies do not hold."""
    return _answer(404, request, error)


@app.exception_handler(MONAILabelException)
@app.exception_handler(ValueError)
async def bad_request(request: Request, error: Exception) -> JSONResponse:
    """A volume, click, model or option that is not legal."""
    return _answer(400, request, error)


@app.exception_handler(Exception)
async def failed(request: Request, error: Exception) -> JSONResponse:
    """Anything else; the server writes the traceback to its log."""
    return JSONResponse({"detail": f"{type(error).__name__}: {_messages(error)}"}, 500)
