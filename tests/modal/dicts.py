"""Dictionaries of the cloud, which all containers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from grpclib.const import Status
from modal_proto import api_pb2 as pb

from tests.modal.plane import refused

if TYPE_CHECKING:
    from tests.modal.cloud import Cloud


class Dicts:
    def __init__(self, cloud: Cloud) -> None:
        self.by_name: dict[str, str] = {}
        self.entries: dict[str, dict[bytes, bytes]] = {}
        self.cloud = cloud
        cloud.plane.add(self)

    def DictGetOrCreate(self, request: Any, caller: object) -> Message:
        name = request.deployment_name
        if name not in self.by_name and request.object_creation_type == pb.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise refused(Status.NOT_FOUND, f"Dict '{name}' not found in environment 'main'")
        dict_id = self.by_name.setdefault(name, self.cloud.plane.new("di"))
        self.entries.setdefault(dict_id, {})
        return pb.DictGetOrCreateResponse(dict_id=dict_id, metadata=pb.DictMetadata(name=name))

    def DictUpdate(self, request: Any, caller: object) -> Message:
        entries = self.entries[request.dict_id]
        created = not any(each.key in entries for each in request.updates)
        if created or not request.if_not_exists:
            entries.update({each.key: each.value for each in request.updates})
        return pb.DictUpdateResponse(created=created)

    def DictContains(self, request: Any, caller: object) -> Message:
        return pb.DictContainsResponse(found=request.key in self.entries[request.dict_id])
