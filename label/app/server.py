"""The web server of MONAI Label, with what 3D Slicer asks of it and no more, guarded against strangers.

It answers an error with its message instead of "Internal Server Error".
"""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import psutil
from fastapi import APIRouter, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import JSONResponse
from guard import Guard, Settings, is_token, too_large
from monailabel.app import lifespan as monailabel_lifespan
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints import activelearning, datastore, infer, info, logs, scoring, session, train
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import background_executors, background_tasks, stop_background_task
from names import check_name
from options import InferenceOptions, Options, ScoringOptions, TrainingOptions
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

logger = logging.getLogger(__name__)
settings = Settings()

STOP_SECONDS = 20
# Those of MONAI Label's requests that are as they should be. The others are of other clients than 3D Slicer, among them
# to replace weights, to delete images, and to ask another server; or they stand below.
OFFERED = {
    "/info/": {"GET"},
    "/datastore/": {"GET", "PUT"},
    "/datastore/image": {"GET", "HEAD", "PUT"},
    "/datastore/image/info": {"GET"},
    "/datastore/label": {"GET", "HEAD", "PUT", "DELETE"},
    "/datastore/label/info": {"GET", "PUT"},
    "/datastore/updatelabelinfo": {"PUT"},
    "/train/": {"GET", "DELETE"},
    "/scoring/": {"GET", "DELETE"},
    "/session/{session_id}": {"GET", "DELETE"},
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """MONAI Label's, and at the end no training goes on without a server."""
    async with monailabel_lifespan(app):
        yield
    for method in background_tasks:
        background_executors[method].shutdown(wait=False, cancel_futures=True)
        with suppress(psutil.NoSuchProcess):
            stop_background_task(method)


def _end_with_stdin() -> None:
    """End this server when ``serve.py`` has ended, however: then nobody holds the other end of the standard input."""
    while os.read(0, 1):  # not sys.stdin, whose lock a thread that is never joined would hold at the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


if settings.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()

app = FastAPI(title="MONAI Label", lifespan=lifespan, docs_url=None, redoc_url=None)
app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_upload_mb << 20)
app.add_middleware(Guard, hosts=settings.hosts, token=settings.token, max_mb=settings.max_upload_mb)


def _offered(router: APIRouter) -> APIRouter:
    offered = APIRouter()
    offered.routes += [route for route in router.routes if route.methods <= OFFERED.get(route.path, set())]
    return offered


for module in (info, datastore, train, scoring, session):
    app.include_router(_offered(module.router))


@app.post("/infer/{model}")
async def run_inference(
    tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: infer.ResultType | None = None,
) -> Any:
    """Segment an image of the studies or of a session, or a file."""
    options, instance = InferenceOptions.read(json.loads(params or "{}")), app_instance()
    instance.check_inference(model, options)
    if not file and (image or session_id) and not (session_id and instance.sessions().get_session(session_id)):
        instance.check_image(image)
    return infer.run_inference(tasks, model, image, session_id, json.dumps(options), file, label, output)


@app.post("/train/{model}")
async def run_training(
    model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False
) -> Any:
    """Fine-tune a model on the labels."""
    options = TrainingOptions.read(params)
    app_instance().check_training(model, options)
    return train.run_model(model, options, run_sync, enqueue)


@app.post("/scoring/{method}")
async def run_scoring(method: str, params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
    """Score the images without a label."""
    return scoring.run_method(method, ScoringOptions.read(params), run_sync)


@app.post("/activelearning/{strategy}")
async def next_sample(strategy: str, params: dict[str, Any] | None = None) -> Any:
    """The image to label next."""
    return activelearning.sample(strategy, Options.read(params))


@app.put("/session/")
async def create_session(
    tasks: BackgroundTasks, files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0
) -> Any:
    """Keep an image for a while, without adding it to the studies."""
    if uncompress:
        raise ValueError("Archives are not unpacked. Send their files themselves, each as a field `files`.")
    for file in files:
        check_name(os.path.basename(file.filename or "image.nii.gz"))
    return session.create_session(tasks, False, expiry, files)


@app.get("/logs/")
async def get_logs(lines: int = 300) -> Any:
    """The last lines of the log, as text: MONAI Label's page of it runs scripts of other servers."""
    file = os.path.join(monailabel_settings.MONAI_LABEL_APP_DIR, "logs", "app.log")
    return logs.get_logs(file, max(lines, 1), html=False, text=True, refresh=0)


if settings.token:

    @app.get("/auth/")
    async def needs_token() -> dict[str, bool]:
        """Ask for a user and a password, 3D Slicer."""
        return {"enabled": True}

    @app.post("/auth/token")
    async def give_token(password: Annotated[str, Form()]) -> dict[str, str]:
        """The token, for who knows it: 3D Slicer sends it as the password of any user."""
        if not is_token(password, settings.token):
            raise HTTPException(401, "The password is not the token that was printed where the server was started.")
        return {"access_token": settings.token, "token_type": "Bearer"}

    @app.get("/auth/token/valid")
    async def is_valid() -> dict[str, bool]:
        """The guard has let it through."""
        return {"valid": True}


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


@app.exception_handler(413)
async def uploaded_too_much(request: Request, error: Exception) -> JSONResponse:
    """An upload beyond the limit, which did not say how large it is."""
    return too_large(settings.max_upload_mb)


@app.exception_handler(404)
@app.exception_handler(405)
async def not_offered(request: Request, error: HTTPException) -> JSONResponse:
    """A request that MONAI Label has, and this server has not, or that nobody has."""
    detail = str(error.detail)
    if detail in ("Not Found", "Method Not Allowed"):
        detail = f"{request.method} {request.url.path} is not offered. GET /openapi.json lists all that is."
    return JSONResponse({"detail": detail}, error.status_code)
