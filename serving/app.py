"""The one place where the server's parts are put together. It reads from left to right:

    Settings -> open_server: stores, keys, registry -> Lines: packages (digests) -> warm engines
             -> create_app:  routes, problems, envelope, around that Server

Nothing happens before `create_app` is called, and nothing is opened before the app starts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import Depends, FastAPI

from inspection.detector.book import FOLDER as DETECTORS
from inspection.detector.book import DetectorBook
from inspection.errors import ConfigurationError, NoPromotedModel
from inspection.frame import decode_image
from inspection.pipeline import Line
from inspection.registry import Registry
from inspection.stores.audit import AuditLog
from inspection.stores.carrying import Carrier
from inspection.stores.files import FileImageStore
from inspection.stores.keys import AccessKeys
from inspection.stores.places import images_dir, records_url
from inspection.stores.sql import open_records
from serving import problems
from serving.auth import allow, check_exposure
from serving.checkpoints import CheckpointKeeper
from serving.cursors import KEY, Cursors
from serving.decoders import Decoders
from serving.envelope import Envelope
from serving.feed import Feed
from serving.gate import Gate
from serving.gauges import State
from serving.in_bulk import InBulk
from serving.keeping import Keeping, can_keep
from serving.keyring import KeyRing
from serving.lines import Lines
from serving.metrics import Metrics
from serving.openapi import page
from serving.openapi.document import build_document, parameters_known
from serving.posting import Door
from serving.refusals import Refusals
from serving.routes import (
    counting,
    detectors,
    exports,
    feeding,
    health,
    holds,
    images,
    inspections,
    models,
    part_statements,
    parts,
    process,
    promotions,
    reviews,
    view_sets,
)
from serving.state import Server
from serving.threads import stand_back
from serving.tracing import Tracer
from serving.warming import warm_engine
from serving.web import pages

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from inspection.engine import Engine
    from inspection.frame import Frame
    from inspection.package import ModelPackage
    from serving.settings import Settings

log = logging.getLogger("serving")


MakeEngine = Callable[["ModelPackage", "Settings"], "Engine"]


def create_app(settings: Settings, *, make_engine: MakeEngine | None = None) -> FastAPI:
    """The web application. Nothing is opened before it starts; all is closed when it stops.

    Starting raises what `open_server` raises.

    Args:
        settings: this server's.
        make_engine: how a package comes to its engine; `warm_engine` when absent.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = open_server(settings, make_engine=make_engine)
        app.state.server = await to_thread.run_sync(opened.__enter__)
        try:
            yield
        finally:
            await app.state.server.feed.closed()
            await to_thread.run_sync(opened.__exit__, None, None, None)

    app = _App(
        title="inspection",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    known = [Depends(can_keep), Depends(parameters_known)]
    # In the order of the document; of two paths that fit a request the first one is taken.
    for each in (
        *(inspections, exports, counting, reviews, view_sets, images, part_statements, parts),
        *(holds, process, feeding, models, promotions, detectors, health),
    ):
        app.include_router(each.router, dependencies=known)
    app.state.document = build_document(app)
    app.include_router(page.router)
    app.include_router(
        pages.router(), dependencies=[Depends(allow("read"))], include_in_schema=False
    )
    problems.install(app, settings)
    app.add_middleware(Envelope)
    app.door = Envelope(Door(inspections.POSTING))
    return app


class _App(FastAPI):
    """The framework's application, with a way of its own for posted images."""

    door: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if Door.takes(scope):
            scope["app"] = self
            await self.door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@contextmanager
def open_server(settings: Settings, *, make_engine: MakeEngine | None = None) -> Iterator[Server]:
    """Everything that a running server consists of, warm; closed in order at the end.

    A product whose model cannot be put to work is refused alone: the others serve.

    Raises:
        ConfigurationError: a folder cannot be made, the log of promotions does not hold, or the
            server would be open to others without access keys.
        RecordError: the record store cannot be opened.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {settings.data_dir} cannot be made: {error.strerror}",
            remedy="Name a folder that the server's user may write: --data-dir.",
        ) from error
    url = settings.database_url or records_url(settings.data_dir)
    import_module("inspection.decoding.dicom")  # half a second that no station should wait for
    with ExitStack() as stack:
        access_keys = AccessKeys(url)
        stack.callback(access_keys.close)
        keys = KeyRing(access_keys)
        stack.callback(keys.close)
        check_exposure(settings.server.host, keys)
        files = FileImageStore(images_dir(settings.data_dir))
        records = open_records(url)
        stack.callback(records.close)
        carrier = Carrier(records, files)
        stack.callback(carrier.close)
        carrier.start()
        audit = AuditLog(url)
        stack.callback(audit.close)
        refusals = Refusals(audit)
        stack.callback(refusals.close)
        folders = {"records": settings.data_dir, "images": images_dir(settings.data_dir)}
        keeping = Keeping(records, files, folders, min_free_bytes=settings.disk.min_free_bytes)
        stack.callback(keeping.close)
        keeping.look()
        keeping.start()
        registry = Registry(settings.weights_dir)
        if not settings.products and not registry.history():
            raise NoPromotedModel(
                f"no model is promoted in {settings.weights_dir}, so there is nothing to serve",
                remedy="Run `inspection models promote MODEL@VERSION`, or name the right folder "
                "with --weights-dir.",
            )

        metrics = Metrics()
        book = DetectorBook(settings.data_dir / DETECTORS)

        decode: Callable[..., Frame] = decode_image
        if settings.limits.decoder == "process":
            decoders = Decoders(
                processes=min(settings.server.workers, os.cpu_count() or 1),
                limit_s=settings.limits.decode_s,
            )
            stack.callback(decoders.close)
            decode = decoders.decode

        def at_work(package: ModelPackage) -> Line:
            return Line(
                package=package,
                engine=make_engine(package, settings)
                if make_engine is not None
                else warm_engine(package, settings, ran=metrics.runs_of(package.recipe.product)),
                images=files,
                records=records,
                limits=settings.decode_limits,
                detectors=book,
                decode=decode,
            )

        tracer = None
        if settings.tracing.endpoint:
            tracer = Tracer(settings.tracing)
            stack.callback(tracer.close)
        lines = Lines(registry, at_work, products=settings.products)
        stack.callback(lines.close)
        workers = ThreadPoolExecutor(
            settings.server.workers, thread_name_prefix="inspect", initializer=stand_back
        )
        stack.callback(workers.shutdown)
        lines.watch()
        keeper = None
        if settings.checkpoints.every_s:
            keeper = CheckpointKeeper(settings, url, records.newest)
            stack.callback(keeper.close)
            keeper.start()
        server = Server(
            settings=settings,
            images=files,
            records=records,
            cursors=Cursors(records.secret(KEY)),
            checkpoints=keeper,
            keys=keys,
            refusals=refusals,
            registry=registry,
            lines=lines,
            workers=workers,
            gate=Gate(longest_queue=settings.server.queue),
            in_bulk=InBulk(metrics),
            metrics=metrics,
            feed=Feed(records),
            keeping=keeping,
            tracer=tracer,
            detectors=book,
        )
        metrics.watch(State(server))
        yield server
