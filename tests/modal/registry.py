"""What was deployed: apps, functions, images, mounts, volumes, secrets, as the client described them.

Nothing is built or run here. Ids are handed out, what is named is found again by its name, and a published app tells
whoever runs it (`Registry.published`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpclib.const import Status
from modal_proto import api_pb2 as pb

from tests.modal.plane import Plane, refused

BUILDER = "2025.06"
"""The image builder version of a new workspace."""
LARGEST = 1 << 40
"""No body is so large that the client would take it to a blob store, which is not here."""
EXISTING = pb.OBJECT_CREATION_TYPE_UNSPECIFIED


@dataclasses.dataclass
class App:
    app_id: str
    name: str
    state: Any
    created_at: float
    definitions: dict[str, pb.Function] = dataclasses.field(default_factory=dict)
    """By function id, also those that are not published yet."""
    function_ids: dict[str, str] = dataclasses.field(default_factory=dict)
    class_ids: dict[str, str] = dataclasses.field(default_factory=dict)
    history: list[pb.AppDeploymentHistory] = dataclasses.field(default_factory=list)
    stopped_at: float = 0.0
    tags: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def functions(self) -> dict[str, pb.Function]:
        """By tag: `name`, or `Class.*` for a class's service function."""
        return {tag: self.definitions[function_id] for tag, function_id in self.function_ids.items()}

    @property
    def classes(self) -> dict[str, str]:
        return dict(self.class_ids)

    @property
    def version(self) -> int:
        return len(self.history)

    @property
    def deployed(self) -> bool:
        return bool(self.state == pb.APP_STATE_DEPLOYED)

    @property
    def ephemeral(self) -> bool:
        return self.state in (pb.APP_STATE_EPHEMERAL, pb.APP_STATE_DETACHED)

    def lifecycle(self) -> pb.AppLifecycle:
        last = self.history[-1].deployed_at if self.history else 0.0
        return pb.AppLifecycle(
            app_state=self.state, created_at=self.created_at, deployed_at=last, version=self.version,
            stopped_at=self.stopped_at,
        )  # fmt: skip


@dataclasses.dataclass
class Secret:
    name: str
    values: dict[str, str]
    """What a `from_dict` secret holds; empty for a named one, whose values are looked up when a container starts."""


def jwt(seconds: float) -> str:
    """A token that the client reads an expiry from; nobody signs or checks it."""
    parts = ({"alg": "none"}, {"exp": time.time() + seconds})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts), "x"])


def web_configs(function: Any) -> dict[str, pb.WebhookConfig]:
    """The web functions of a definition by method; a plain function's method is the empty text."""
    found = {name: each.webhook_config for name, each in function.method_definitions.items()}
    if function.HasField("webhook_config"):
        found[""] = function.webhook_config
    return {name: config for name, config in found.items() if config.type}


class Registry:
    def __init__(self, plane: Plane, folder: Path, secrets: dict[str, dict[str, str]]) -> None:
        self.plane = plane
        self.folder = folder
        self.by_id: dict[str, App] = {}
        self.images: dict[str, pb.Image] = {}
        self.mounts: dict[str, list[pb.MountFile]] = {}
        self.uploads: dict[str, bytes] = {}
        self.named_secrets = secrets
        self.secrets: dict[str, Secret] = {}
        self.volumes: dict[str, str] = {}
        """Names by id."""
        self.objects: dict[str, pb.Object] = {}
        self.published: Callable[[App], Any] = lambda app: None
        self.address: Callable[[App, str, str], str] = lambda app, tag, method: ""
        plane.add(self)

    # Looking up

    def deployed(self, name: str) -> App | None:
        return next((app for app in reversed(self.by_id.values()) if app.name == name and app.deployed), None)

    def app(self, app_id: str) -> App:
        if app_id not in self.by_id:
            raise refused(Status.NOT_FOUND, f"App {app_id} not found")
        return self.by_id[app_id]

    def owner(self, function_id: str) -> App:
        found = [app for app in self.by_id.values() if function_id in app.definitions]
        if not found:
            raise refused(Status.NOT_FOUND, f"Function {function_id} not found")
        return found[0]

    def layout(self, app: App) -> pb.AppLayout:
        return pb.AppLayout(function_ids=app.function_ids, class_ids=app.class_ids, objects=list(self.objects.values()))

    def environment(self, image_id: str) -> dict[str, str]:
        """What the ENV lines of an image and its bases set."""
        image, found = self.images.get(image_id, pb.Image()), {}
        for base in image.base_images:
            found.update(self.environment(base.image_id))
        for line in image.dockerfile_commands:
            word, _, rest = line.partition(" ")
            if word == "ENV":
                for part in shlex.split(rest):
                    key, _, value = part.partition("=")
                    found[key] = value
        return found

    def declared(self, function: pb.Function) -> dict[str, str]:
        """The environment that an image and secrets give a function's containers."""
        found = self.environment(function.image_id)
        for secret in (self.secrets[each] for each in function.secret_ids):
            found.update(self.named_secrets.get(secret.name, {}) if secret.name else secret.values)
        return found

    def volume(self, name: str) -> Path:
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    # The client, its workspace

    def AuthTokenGet(self, request: Any, caller: object) -> Message:
        return pb.AuthTokenGetResponse(token=jwt(3600))

    def ClientHello(self, request: Any, caller: object) -> Message:
        return pb.ClientHelloResponse(image_builder_version=BUILDER)

    def EnvironmentGetOrCreate(self, request: Any, caller: object) -> Message:
        settings = pb.EnvironmentSettings(image_builder_version=BUILDER)
        return pb.EnvironmentGetOrCreateResponse(
            environment_id="en-" + "0" * 22, metadata=pb.EnvironmentMetadata(name="main", settings=settings)
        )

    # Objects that functions depend on

    def MountBatchedCheckExistence(self, request: Any, caller: object) -> Message:
        missing = [digest for digest in request.sha256_hex_hashes if digest not in self.uploads]
        return pb.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    def MountPutFile(self, request: Any, caller: object) -> Message:
        self.uploads[request.sha256_hex] = request.data
        return pb.MountPutFileResponse(exists=True)

    def MountGetOrCreate(self, request: Any, caller: object) -> Message:
        mount_id = self.plane.new("mo")
        self.mounts[mount_id] = list(request.files)
        metadata = pb.MountHandleMetadata(content_checksum_sha256_hex=mount_id)
        self.objects[mount_id] = pb.Object(object_id=mount_id, mount_handle_metadata=metadata)
        return pb.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=metadata)

    def BlobCreate(self, request: Any, caller: object) -> Message:
        raise refused(Status.UNIMPLEMENTED, "The local cloud has no blob store: keep single files below 4 MiB.")

    def VolumeGetOrCreate(self, request: Any, caller: object) -> Message:
        name = request.deployment_name
        known = {name: volume_id for volume_id, name in self.volumes.items()}
        if name not in known and request.object_creation_type == EXISTING:
            raise refused(Status.NOT_FOUND, f"Volume '{name}' not found in environment 'main'")
        volume_id = known.get(name) or self.plane.new("vo")
        self.volumes[volume_id] = name or volume_id
        self.volume(self.volumes[volume_id])
        metadata = pb.VolumeMetadata(version=request.version or pb.VOLUME_FS_VERSION_V1, name=name)
        self.objects[volume_id] = pb.Object(object_id=volume_id, volume_metadata=metadata)
        return pb.VolumeGetOrCreateResponse(volume_id=volume_id, version=metadata.version, metadata=metadata)

    def SecretGetOrCreate(self, request: Any, caller: object) -> Message:
        name, values = request.deployment_name, dict(request.env_dict)
        if name and request.object_creation_type != EXISTING:
            self.named_secrets[name] = values
        elif name and name not in self.named_secrets:
            raise refused(Status.NOT_FOUND, f"Secret '{name}' not found in environment 'main'")
        missing = [key for key in request.required_keys if key not in (self.named_secrets[name] if name else values)]
        if missing:
            raise refused(Status.FAILED_PRECONDITION, f"Secret is missing key(s): {', '.join(missing)}")
        secret_id = self.plane.new("st")
        self.secrets[secret_id] = Secret(name, values)
        self.objects[secret_id] = pb.Object(object_id=secret_id)
        keys = self.named_secrets[name] if name else values
        return pb.SecretGetOrCreateResponse(
            secret_id=secret_id, metadata=pb.SecretMetadata(name=name, keys=keys, environment_name="main")
        )

    def SecretUpdate(self, request: Any, caller: object) -> Message:
        self.named_secrets[self.secrets[request.secret_id].name].update(
            {update.key: update.value for update in request.updates}
        )
        return empty_pb2.Empty()

    def ImageGetOrCreate(self, request: Any, caller: object) -> Message:
        image_id = self.plane.new("im")
        self.images[image_id] = request.image
        self.objects[image_id] = pb.Object(object_id=image_id)
        return pb.ImageGetOrCreateResponse(
            image_id=image_id,
            result=pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=pb.ImageMetadata(image_builder_version=request.builder_version or BUILDER),
        )

    # Functions and classes

    def handle(self, app: App, tag: str, function: Any) -> pb.FunctionHandleMetadata:
        found = pb.FunctionHandleMetadata(
            function_name=tag, function_type=function.function_type, max_object_size_bytes=LARGEST,
            max_async_object_size_bytes=LARGEST, app_id=app.app_id,
        )  # fmt: skip
        webs = web_configs(function)
        for name, method in function.method_definitions.items():
            found.method_handle_metadata[name].CopyFrom(
                pb.FunctionHandleMetadata(
                    function_name=method.function_name,
                    function_type=method.function_type,
                    is_method=True,
                    use_method_name=name,
                    web_url=self.address(app, tag, name) if name in webs else "",
                    app_id=app.app_id,
                    max_object_size_bytes=LARGEST,
                )
            )
        if "" in webs:
            found.web_url = self.address(app, tag, "")
        return found

    def FunctionPrecreate(self, request: Any, caller: object) -> Message:
        function_id = request.existing_function_id or self.plane.new("fu")
        handle = self.handle(self.app(request.app_id), request.function_name, request)
        return pb.FunctionPrecreateResponse(function_id=function_id, handle_metadata=handle)

    def FunctionCreate(self, request: Any, caller: object) -> Message:
        app = self.app(request.app_id)
        function_id = request.existing_function_id or self.plane.new("fu")
        several = request.HasField("function_data")  # a list of GPU types: the first is the one that is there
        function = request.function_data.ranked_functions[0].function if several else request.function
        if function.is_server:
            raise refused(Status.UNIMPLEMENTED, "The local cloud runs web functions, no Servers.")
        app.definitions[function_id] = function
        for method in web_configs(function):
            described = function.method_definitions[method] if method else function
            described.web_url = self.address(app, function.function_name, method)
        handle = self.handle(app, function.function_name, function)
        self.objects[function_id] = pb.Object(object_id=function_id, function_handle_metadata=handle)
        return pb.FunctionCreateResponse(
            function_id=function_id, function=function, function_data=self.data(function), handle_metadata=handle
        )

    @staticmethod
    def data(function: pb.Function) -> pb.FunctionData:
        shared = {field.name for field in pb.FunctionData.DESCRIPTOR.fields}
        found = pb.FunctionData()
        for field, value in function.ListFields():
            if field.name in shared:
                target = getattr(found, field.name)
                if hasattr(target, "MergeFrom"):
                    target.MergeFrom(value)
                else:
                    setattr(found, field.name, value)
        found.ranked_functions.add(rank=0, function=function)
        return found

    def ClassCreate(self, request: Any, caller: object) -> Message:
        class_id = request.existing_class_id or self.plane.new("cs")
        self.objects[class_id] = pb.Object(object_id=class_id, class_handle_metadata=pb.ClassHandleMetadata())
        return pb.ClassCreateResponse(class_id=class_id, handle_metadata=pb.ClassHandleMetadata())

    # Apps

    def create(self, name: str, state: Any, tags: Mapping[str, str]) -> App:
        app = App(self.plane.new("ap"), name, state, time.time(), tags=dict(tags))
        self.by_id[app.app_id] = app
        return app

    def AppGetByDeploymentName(self, request: Any, caller: object) -> Message:
        app = self.deployed(request.name)
        if not app:
            return pb.AppGetByDeploymentNameResponse()
        return pb.AppGetByDeploymentNameResponse(app_id=app.app_id, environment_name="main", lifecycle=app.lifecycle())

    def AppCreate(self, request: Any, caller: object) -> Message:
        app = self.create(request.description, request.app_state, request.tags)
        page = f"http://modal.invalid/apps/{app.app_id}"
        return pb.AppCreateResponse(app_id=app.app_id, app_page_url=page, app_logs_url=page)

    def AppGetTags(self, request: Any, caller: object) -> Message:
        return pb.AppGetTagsResponse(tags=self.app(request.app_id).tags)

    def AppGetOrCreate(self, request: Any, caller: object) -> Message:
        app = self.deployed(request.app_name)
        if not app and request.object_creation_type == EXISTING:
            raise refused(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment 'main'")
        app = app or self.create(request.app_name, pb.APP_STATE_DEPLOYED, {})
        about = pb.AppHandleMetadata(description=app.name, lifecycle=app.lifecycle(), functions=app.function_ids)
        return pb.AppGetOrCreateResponse(app_id=app.app_id, handle_metadata=about)

    def AppGetLayout(self, request: Any, caller: object) -> Message:
        return pb.AppGetLayoutResponse(app_layout=self.layout(self.app(request.app_id)))

    def AppPublish(self, request: Any, caller: object) -> Message:
        app = self.app(request.app_id)
        app.name, app.state = request.name or app.name, request.app_state
        app.function_ids, app.class_ids = dict(request.function_ids), dict(request.class_ids)
        app.tags = dict(request.tags)
        app.definitions = {each: app.definitions[each] for each in app.function_ids.values()}
        now = self.release(app, request.client_version, request.deployment_tag)
        return pb.AppPublishResponse(url=f"http://modal.invalid/apps/{app.app_id}", deployed_at=now)

    def AppRollover(self, request: Any, caller: object) -> Message:
        app = self.app(request.app_id)
        return pb.AppRolloverResponse(url=f"http://modal.invalid/apps/{app.app_id}", deployed_at=self.release(app))

    def release(self, app: App, client_version: str = "", tag: str = "") -> float:
        """A new version, from now on: its time."""
        now = time.time()
        app.history.append(
            pb.AppDeploymentHistory(
                app_id=app.app_id,
                version=app.version + 1,
                client_version=client_version,
                deployed_at=now,
                deployed_by="local",
                tag=tag,
            )
        )
        self.published(app)
        return now

    def AppHeartbeat(self, request: Any, caller: object) -> Message:
        return empty_pb2.Empty()
