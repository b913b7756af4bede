"""`dormouse add --modal`: pages embedded by a server on Modal, with more containers for as long as that takes.

The job is an upload as any other (`ui/core`): a page counts once the library has committed it. This asks before it
starts, keeps as many pages on the way as the containers take, and says what it took.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.coldstart.modal_target import APPS
from bench.cost.ingest import MOST_PER_S
from bench.options import float_between, int_between
from serving.documents.archives import is_zip
from serving.documents.files import open_file
from serving.documents.parser_pool import ParserPool
from serving.errors import BadValueError, NotReadyError, ServingError
from serving.library.records import guess_file_type
from serving.settings import Settings
from ui.commands.modal_estimate import FEWEST, JobHistory, Outcome, Plan, Speed, find_speed
from ui.commands.output import Output, confirm, make_printable
from ui.commands.store import CollectionStore, FileToAdd
from ui.components.wording import format_count
from ui.servers.configured import configure_targets
from ui.servers.container_limit import ask, lock_limit, put_back_left, raise_limit
from ui.servers.container_usage import UsageMeter
from ui.servers.modal_target import MOST_CONTAINERS, SCHEME, ModalTarget
from ui.servers.target import Targets

MANY_PAGED = ("pdf", "tiff")
"""Types of which one file has many pages, so that they are counted by opening it."""


def add_modal_options(parser: argparse.ArgumentParser) -> None:
    modal = parser.add_argument_group("by a server on Modal")
    about = f"embed by {APPS['hf']} on Modal, or by the app of --worker {SCHEME}APP"
    modal.add_argument("--modal", action="store_true", help=about)
    containers = (
        "raise its limit of containers to this for the job, and put it back however that ends; default: as it is"
    )
    modal.add_argument("--containers", type=int_between(1, MOST_CONTAINERS), metavar="N", help=containers)
    speed = "pages a second of one container, for the estimate; default: as measured by the last job on this folder"
    modal.add_argument("--pages-per-s", type=float_between(1e-6, MOST_PER_S), metavar="R", help=speed)
    modal.add_argument("--yes", action="store_true", help="show the estimate, and do not ask")


def check_modal_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with exit code 2 for options that do not go together, and where nobody can be asked."""
    if not options.modal:
        for name in ("containers", "pages_per_s", "yes"):
            if getattr(options, name):
                parser.error(f"--{name.replace('_', '-')} goes with --modal")
        return
    if options.page:
        parser.error("--modal opens the collections itself: a page asks the servers that it was started with")
    if options.worker is None:
        options.worker = ("", SCHEME + APPS["hf"])
    elif not options.worker[1].startswith(SCHEME):
        parser.error(f"--modal goes with --worker {SCHEME}APP: {options.worker[1]} is not on Modal")
    if not options.yes and not sys.stdin.isatty():
        parser.error("nobody can be asked here whether the estimate is fine: say --yes")


class ModalJob:
    """One addition by a server on Modal."""

    def __init__(self, options: argparse.Namespace, settings: Settings, output: Output) -> None:
        """Ask nobody yet. Raises BadValueError."""
        self._options = options
        self._settings = settings
        self._output = output
        self.targets = Targets(list(configure_targets([options.worker], settings)))
        target = self.targets.first
        assert isinstance(target, ModalTarget)
        self._target = target
        self._history = JobHistory(settings.data, target.app)
        self._began = 0.0
        self._added = 0
        self._first = 0.0
        self._plan: Plan | None = None
        self._meter: UsageMeter | None = None

    @contextmanager
    def run(self, store: CollectionStore, files: Sequence[FileToAdd], held: Mapping[str, int]) -> Iterator[None]:
        """Ask, raise the limit, and say in the end what it took. `held`: pages of files that are there, by sha256.

        Raises ServingError; Stopped where the answer is no.
        """
        from ui.commands.page_store import PageStore

        if isinstance(store, PageStore):
            raise BadValueError(
                "a page runs on this data folder, and asks its own servers: end it, or leave --modal out"
            )
        folder, modal = self._settings.data, self._target.modal
        folder.mkdir(parents=True, exist_ok=True)
        put_back_left(folder, self._say)
        with lock_limit(folder, modal.name), ExitStack() as stack:
            plan = self._plan = self._make_plan(*self._count_pages(files, held))
            self._show_plan(plan)
            confirm("Start?", "nothing was started", yes=self._options.yes)
            stack.enter_context(raise_limit(modal, folder, plan.containers, plan.shape.containers, self._say))
            self._target.containers = plan.containers
            meter = self._meter = UsageMeter(lambda: modal.fetch_counts().runners, plan.window_s)
            self._target.on_answer = meter.note_answer
            self._began = time.monotonic()
            meter.start()
            try:
                yield
            finally:
                seconds = time.monotonic() - self._began
                meter.stop()
                self._tell_outcome(Outcome(plan, self._added, seconds, meter.read()))

    def note_page(self) -> None:
        """Count a page that was added; with enough of them, estimate what nobody knew before."""
        self._added += 1
        if self._added == 1:
            self._first = time.monotonic()
        plan = self._plan
        if self._added != FEWEST + 1 or plan is None or plan.speed is not None:
            return
        together = FEWEST / max(1e-3, time.monotonic() - self._first)
        left = plan.pages - self._added
        if left > 0 and self._meter is not None:
            up = max(1, self._meter.read().containers)
            speed = Speed(together / up, f"the first {FEWEST} pages of this job, by {format_count(up, 'container')}")
            self._say(f"{left:,} pages are left; {plan.describe_estimate(left, speed, starts=False)}")

    # Before it starts

    def _make_plan(self, pages: int, are_all: bool) -> Plan:
        """Raises NotReadyError, BadValueError."""
        modal = self._target.modal
        shape = ask(modal.fetch_shape)
        if shape is None:
            raise NotReadyError(
                f"{modal.name} does not say what it was deployed with: deploy it again with this release", code="modal"
            )
        limit, window = ask(modal.fetch_limit), ask(modal.fetch_window)
        containers = self._options.containers or limit or shape.containers
        if (places := containers * shape.requests) > self._settings.max_sending:
            most = max(1, self._settings.max_sending // shape.requests)
            raise BadValueError(
                f"{containers:,} containers take {places:,} pages at once, and this machine keeps at most"
                f" {self._settings.max_sending:,} on the way: take --containers {most}, or set DORMOUSE_MAX_SENDING"
            )
        starts = tuple(start.ready_ms / 1000 for start in self._target.starts if start.ready_ms)
        speed = find_speed(self._history.read(), shape.gpu, self._options.pages_per_s)
        return Plan(modal.name, pages, are_all, containers, limit, shape, window, starts, speed)

    def _count_pages(self, files: Sequence[FileToAdd], held: Mapping[str, int]) -> tuple[int, bool]:
        """Return the pages that are to be added, and whether these are all: files in zips are not opened for it."""
        pages, are_all = 0, True
        parsers = ParserPool(self._settings)
        try:
            with self._output.show_progress("counting") as show:
                for number, file in enumerate(files, 1):
                    inside = is_zip(file.path)
                    for name, digest in file.contents:
                        many = guess_file_type(name) in MANY_PAGED
                        are_all = are_all and not (inside and many)
                        count = self._count_file(file.path, parsers) if many and not inside else 1
                        pages += max(0, count - held.get(digest, 0))
                    show(number, len(files), f"{number:,}/{len(files):,} files")
        finally:
            parsers.close()
        return pages, are_all

    def _count_file(self, path: Path, parsers: ParserPool) -> int:
        with suppress(ServingError, OSError):  # the job says why it skips it
            return open_file(path, self._settings, parsers.run).count
        return 0

    def _show_plan(self, plan: Plan) -> None:
        lines = plan.describe()
        if self._output.as_json:
            self._output.write("estimate", "", pages=plan.pages, containers=plan.containers, lines=lines)
        for line in lines:
            self._say(line)

    # What is said of it

    def _say(self, text: str) -> None:
        """Write a line for a person on standard error, where progress is as well."""
        sys.stderr.write(f"{make_printable(text)}\n")
        sys.stderr.flush()

    def _tell_outcome(self, outcome: Outcome) -> None:
        if not outcome.pages:
            return
        self._history.add(outcome.as_record())
        self._output.summary.update(outcome.as_fields())
        for line in outcome.describe():
            self._output.write_text(line)
