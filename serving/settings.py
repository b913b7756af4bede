"""Settings of workers, engine and page. All limits are here; each says what it protects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.system.cores import count_cores

MiB = 1024 * 1024
WEIGHTS = "Cognitive-Lab/NetraEmbed"
"""The default weights of BiGemma3, for search over documents in 22 languages (arXiv 2512.03514)."""
PREFIX = "DORMOUSE_"
LOADED_WITH = frozenset({"data", "weights", "device", "vllm_eager", "hf_eager", "cores"})
"""Settings that a worker reads while it loads, which are part of its snapshot's identity. It gets all others at its
launch."""
VECTOR_BYTES = 1024 * MiB
STORE_INDEX_PAGES = 20_000
MAX_TOP_K = 50
"""Pages that one search returns: each has a picture."""
LAST_BATCH_S = 3.0
"""The end of the grace at a shutdown: requests not started by then are refused, so that clients get an error."""


class Settings(BaseSettings):
    """Limits and choices, read once; each field is `DORMOUSE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    api_keys: SecretStr = SecretStr("")
    """Comma-separated keys of the API. Empty: no key is needed, and only a loopback bind is allowed."""
    admin_key: SecretStr = SecretStr("")
    """Key of /engine, /sleep, /wake_up and /scaledown. Empty: one is made and kept in the data folder."""
    open_access: bool = False
    """Without keys, every client may use this server, under any host name: for a server behind an authenticating proxy,
    or a public one."""
    read_only: bool = False
    """For a demo: the page can be searched; nothing is added, changed or deleted, and no run is started."""
    data: Path = Path("data")
    """Folder of all files that outlive a process."""
    store: SecretStr = SecretStr("")
    """Address of a PostgreSQL with pgvector that keeps the collections instead of a file in the data folder, for
    several machines: postgresql://user@host/database. No engine or worker gets it."""
    store_index: Literal["hnsw", "binary", "exact"] = "hnsw"
    """How a store searches large collections: by an index of vectors, of their signs alone (a thirteenth of the size),
    or by none. docs/design/store-search.md has what each finds."""
    store_index_pages: Annotated[int, Field(ge=1)] = STORE_INDEX_PAGES
    """A collection of so many pages gets an index: exact search in 20,000 of 2560 numbers takes 30 ms."""
    pictures: str = ""
    """Of a store: a folder that all its machines see, for the pictures of pages. Empty: they are in the database."""

    weights: str = WEIGHTS
    """A folder, or a name on the hub."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Device of models with weights of their own; the built-in embedder always uses the CPU."""
    vllm_eager: bool = False
    """Starts faster without a snapshot, and answers fewer queries: nothing is compiled, no CUDA graphs are recorded."""
    hf_eager: bool = False
    """The same for BiGemma3 by HuggingFace's libraries."""
    context_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds at zero for which a GPU worker keeps its context (1 GB) and frees only memory that it can read again: the
    first step down of the cuda backends. 0: no such step."""
    host_s: Annotated[float, Field(ge=0)] = 0.0
    """The same for the next step, a process in memory without GPU memory, before criu+cuda leaves only a file. The cuda
    backend stays in this step."""
    gpu_wait_s: Annotated[float, Field(ge=0)] = 5.0
    """How long a restore waits for GPU memory that another process holds, before it fails."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * MiB
    """One request body. 32 pages of 1.5 MB in base64 fit; a 100 MB data URI does not reach the JSON parser."""
    max_buffered_bytes: Annotated[int, Field(ge=1024)] = 256 * MiB
    """All request bodies in memory at once; above it a request gets 429, so that the process does not grow."""
    max_pages_per_request: Annotated[int, Field(ge=1)] = 32
    """A page takes up to a second of CPU: a larger request would stay in the queue for longer than a timeout."""
    max_texts_per_request: Annotated[int, Field(ge=1)] = 256
    max_text_chars: Annotated[int, Field(ge=1)] = 2_000
    """Queries are sentences: 2,000 characters are 300 words. A longer one would delay the others by seconds."""
    max_questions: Annotated[int, Field(ge=1)] = 50
    """Questions at once on the page: a heat map with more rows is unreadable, and a worker takes 256."""
    max_matrix_cells: Annotated[int, Field(ge=1)] = 200_000
    """Questions x pages: 50 of them in a collection of 4,000 pages are a CSV of 2 MB."""
    max_lines_per_page: Annotated[int, Field(ge=1)] = 2_000
    """A dense A3 timetable has about 900 lines."""
    max_line_chars: Annotated[int, Field(ge=1)] = 10_000
    """Characters of one line of a page's text: a line is joined with its neighbours, each time as a whole."""

    max_file_bytes: Annotated[int, Field(ge=1024)] = 2_048 * MiB
    """One uploaded file, on the page: a thousand scanned pages. It stays on the disk and is read page by page."""
    max_image_bytes: Annotated[int, Field(ge=1024)] = 100 * MiB
    """One image of an export, which is taken into memory."""
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """Of an image in a request to a worker. Checked in the header, before decoding: 50 megapixels are 150 MB of RGB.
    Refuses a 17 kB PNG of 12000 x 12000."""
    max_file_pixels: Annotated[int, Field(ge=1)] = 200_000_000
    """Of an image file on the page, decoded in a process of its own within `parser_memory_bytes`: an A0 scan at 300 dpi
    has 139 megapixels. Also of a JPEG in a request, unless it is progressive: it is decoded at a half to an eighth of
    its size, and 200 megapixels take 30 MB."""
    max_side: Annotated[int, Field(ge=64)] = 2_000
    """A page is stored at most this many pixels wide and high. BiGemma3 uses 896, the OCR 960; people zoom in. One that
    is more than twice as long as wide, or as wide as long, keeps half of this as its shorter side."""
    max_page_pixels: Annotated[int, Field(ge=1)] = 16_000_000
    """Of such a long page: 1,000 x 16,000 pixels, 48 MB in memory. The queue of a worker holds 64 pages."""
    max_pdf_pages: Annotated[int, Field(ge=1)] = 5_000
    """Pages of one PDF or TIFF: an hour of work on two cores, which shows its progress and can be cancelled."""
    parser_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Time to open a file or read a page of it, in a process of its own, which is killed then. A drawing of a million
    strokes takes 9 to 15 s on two busy cores; a file of 2 kB can be made to take years."""
    parser_memory_bytes: Annotated[int, Field(ge=128 * MiB)] = 1_280 * MiB
    """Address space of such a process. A drawing of a million strokes takes 320 MB, a picture of 200 megapixels in
    colour 1.1 GB; a file of 2 kB can be made to take all memory."""
    max_failed_pages: Annotated[int, Field(ge=1)] = 5
    """Pages of one PDF or TIFF that took too long or crashed the parser; after so many its other pages are not tried.
    At 30 s each, 200 of them would keep two cores busy for an hour."""
    max_jobs: Annotated[int, Field(ge=1)] = 4
    """Uploads whose files are opened and unpacked at the same time. The pages of all opened ones are added in turn."""
    max_owner_jobs: Annotated[int, Field(ge=1)] = 32
    """Uploads of one owner that have not ended, paused ones too. Each keeps its files, and its zips unpacked, on the
    disk; somebody who drops in one file after another is not stopped."""
    max_waiting_jobs: Annotated[int, Field(ge=1)] = 128
    """Uploads of all owners that have not ended."""
    max_sending: Annotated[int, Field(ge=1)] = 1_024
    """Pages that are with a server on Modal at once: 32 containers of 32. Each takes a thread, a connection and memory
    for its JPEG."""
    retry_s: Annotated[float, Field(ge=0)] = 24 * 3600.0
    """An upload keeps the files of pages that were skipped so long, to try them again: a server that was down for a
    night is up by then. 0: they go when it ends."""
    retry_bytes: Annotated[int, Field(ge=0)] = 2_048 * MiB
    """All such files. Those of the oldest uploads go first."""
    keep_originals: bool = True
    """Keep the files that pages are of, each once, to open them from a page; they go with their last page. Off on
    Modal, where a page is acknowledged once its volume is committed: all these bytes would be in the way."""
    read_pictures: bool = True
    """Read pages that are only pictures, of a server that reads no text, with the built-in reader on this machine's
    CPU: then they are found by their words, too. About a second a page, in the background. Never on Modal."""
    max_zip_files: Annotated[int, Field(ge=1)] = 5_000
    """Files in one zip: an hour and a half of work on two cores."""
    max_zip_bytes: Annotated[int, Field(ge=1024)] = 2_048 * MiB
    """Unpacked size of a zip of pages, which is on the disk while they are added."""
    max_zip_ratio: Annotated[int, Field(ge=2)] = 100
    """Unpacked size over packed size of a large zip: 1 to 20 for pages and photos, a thousand for bombs."""

    max_export_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * MiB
    """An exported collection, when it is written and when it is uploaded: 50,000 pages of a third of a MB. During an
    import it takes that much of the disk twice. A larger collection is refused at its export, not later."""
    max_export_pages: Annotated[int, Field(ge=1)] = 100_000
    """Pages of an exported collection. Each is a file in the zip, for which Python keeps half a kilobyte in memory."""

    vector_bytes: Annotated[int, Field(ge=0)] = VECTOR_BYTES
    """Vectors in memory, of all searched collections: 200,000 pages of BiGemma3, or more than a million of the built-in
    embedder. The least recently searched collection is evicted, and read again by its next search; a collection above
    the limit is kept alone."""

    page_queue: Annotated[int, Field(ge=1)] = 64
    """Pages waiting in a worker; with 0.7 s a page the last one waits 45 s. More get 429 and are sent again."""
    query_queue: Annotated[int, Field(ge=1)] = 512
    request_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """A request still waiting after this gets 503: its client has most likely left."""
    scaledown_window: Annotated[float, Field(ge=2)] = 60.0
    """Idle seconds until the worker stops; Modal's word, default and minimum."""
    min_containers: Annotated[int, Field(ge=0, le=1)] = 0
    """1 keeps a worker running, and starts it before the first request."""
    engine_workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Workers of the engine, on a CPU each with its share of the cores. 0: one for each GPU that it sees, one on a
    CPU."""
    start_ahead: bool = False
    """The engine makes its first start without a request, where it has no snapshot yet: it takes longest of all."""
    max_in_flight: Annotated[int, Field(ge=1)] = 256
    """Requests that a worker has at once; more wait in the engine, where they take no memory."""
    max_waiting: Annotated[int, Field(ge=1)] = 1_000
    """Requests that wait in the engine for a worker; each is an open connection. More get 503."""
    hold_timeout_s: Annotated[float, Field(gt=0)] = 150.0
    """The longest a request waits there. A plain start of a large model takes 90 s; Modal gives up after 150."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """A start that takes longer has failed. Compiling a large model takes minutes."""
    snapshot_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Time to save a snapshot: 0.2 to 0.7 s for 130 MB; a disk of 200 MB/s writes 12 GB in this time."""
    restore_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A slower restore is replaced by a plain start: one takes 0.3 s, and 3 s with a cold page cache."""
    stop_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """An idle worker that has not ended by then is killed."""
    snapshots_kept: Annotated[int, Field(ge=1)] = 2
    """Snapshots on disk, each as large as a worker's memory: the one in use, and that of the release before."""
    criu: str = ""
    """Path of the criu to use; empty: found on PATH."""
    drain_s: Annotated[float, Field(ge=0)] = 20.0
    """Grace of SIGTERM for requests in flight."""
    cores: Annotated[int, Field(ge=1)] = Field(default_factory=count_cores)

    def known_at_load(self) -> dict[str, Any]:
        """Return the settings of `LOADED_WITH` as JSON values: no key is among them."""
        return {**self.model_dump(mode="json", include=set(LOADED_WITH)), "data": str(self.data.resolve())}

    def known_at_launch(self) -> dict[str, Any]:
        """Return all settings as JSON values, keys in clear text."""
        secrets = {name: value.get_secret_value() for name, value in self if isinstance(value, SecretStr)}
        return {**self.model_dump(mode="json"), **secrets, **self.known_at_load(), "store": ""}

    @property
    def pictures_folder(self) -> Path | None:
        return Path(self.pictures) if self.pictures else None

    @property
    def pages_ahead(self) -> int:
        """Return how many pages of one upload are drawn at the same time; drawn pages wait in memory."""
        return min(8, self.cores)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip())


def settings_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of all settings but `store`, keys included: for an engine, never for a worker."""
    known = {PREFIX + name.upper() for name in Settings.model_fields if name != "store"}
    return {name: value for name, value in environment.items() if name.upper() in known}
