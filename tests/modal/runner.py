"""What a container asks its worker for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpclib.const import Status
from modal_proto import api_pb2 as pb

from tests.modal.calls import Call
from tests.modal.plane import refused

if TYPE_CHECKING:
    from tests.modal.cloud import Cloud
    from tests.modal.containers import Container


class Runner:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        cloud.plane.add(self)

    def call(self, call_id: str) -> Call:
        if call_id not in self.cloud.calls:
            raise refused(Status.NOT_FOUND, f"Function call {call_id} not found")
        return self.cloud.calls[call_id]

    def ContainerHello(self, request: Any, caller: Container) -> Message:
        return empty_pb2.Empty()

    def ContainerHeartbeat(self, request: Any, caller: Container) -> Message:
        return pb.ContainerHeartbeatResponse()

    def ContainerCheckpoint(self, request: Any, caller: Container) -> Message:
        caller.pool.checkpoint(caller)
        return empty_pb2.Empty()

    def TaskResult(self, request: Any, caller: Container) -> Message:
        caller.result = request.result
        return empty_pb2.Empty()

    def FunctionGetDynamicConcurrency(self, request: Any, caller: Container) -> Message:
        return pb.FunctionGetDynamicConcurrencyResponse(concurrency=request.max_concurrency)

    async def FunctionGetInputs(self, request: Any, caller: Container) -> Message:
        return await caller.pool.fetch(caller)

    def FunctionCallGetDataIn(self, request: Any, caller: Container) -> AsyncIterator[Message]:
        return self.call(request.function_call_id).chunks(request.last_index)

    def FunctionCallPutDataOut(self, request: Any, caller: Container) -> Message:
        call = self.call(request.function_call_id)
        if call.container is caller:  # not one that lost the call to another
            for chunk in request.data_chunks:
                call.take(chunk)
        return empty_pb2.Empty()

    def FunctionPutOutputs(self, request: Any, caller: Container) -> Message:
        for output in request.outputs:
            caller.pool.finish(caller, output)
        return empty_pb2.Empty()

    def VolumeCommit(self, request: Any, caller: Container | None) -> Message:
        self.cloud.commits[self.cloud.registry.volumes[request.volume_id]] += 1
        return pb.VolumeCommitResponse()

    def VolumeReload(self, request: Any, caller: Container | None) -> Message:
        self.cloud.reloads[self.cloud.registry.volumes[request.volume_id]] += 1
        return empty_pb2.Empty()
