"""What the local cloud is asked beside running apps: proxy tokens, the bill, deleting volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from modal_proto import api_pb2 as pb

from tests.modal.cloud import Cloud


class Workspace:
    """Add it to a cloud before its first such question."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.bill: list[tuple[str, str]] = []
        """App ids and dollars; told for hours, so that a day's is not counted twice."""
        self.deleted: list[str] = []
        cloud.plane.add(self)

    def WebhookTokenCreate(self, request: Any, caller: object) -> Message:
        token = (self.cloud.plane.new("wk"), self.cloud.plane.new("ws"))
        self.cloud.proxy_tokens.add(token)
        return pb.TokenCreateResponse(token_id=token[0], token_secret=token[1])

    async def WorkspaceBillingReport(self, request: Any, caller: object) -> AsyncIterator[Message]:
        for object_id, cost in self.bill if request.resolution == "h" else ():
            yield pb.WorkspaceBillingReportItem(
                object_id=object_id, description="an app", environment_name="main", interval=request.start_timestamp,
                cost=cost,
            )  # fmt: skip

    def VolumeDelete(self, request: Any, caller: object) -> Message:
        self.deleted.append(self.cloud.registry.volumes.pop(request.volume_id))
        return empty_pb2.Empty()
