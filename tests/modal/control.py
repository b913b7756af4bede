"""Looking at what was deployed, and steering it: what the command line and `from_name` handles ask for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpclib.const import Status
from modal_proto import api_pb2 as pb

from tests.modal.plane import refused

if TYPE_CHECKING:
    from tests.modal.cloud import Cloud
    from tests.modal.containers import Container
    from tests.modal.pool import Pool
    from tests.modal.registry import App

LOOK_S = 0.1
"""Between two looks at the logs of a running app."""


class Control:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.registry = cloud.registry
        cloud.plane.add(self)

    def app(self, name: str) -> App:
        app = self.registry.deployed(name)
        if not app:
            raise refused(Status.NOT_FOUND, f"App '{name}' not found in environment 'main'")
        return app

    def pool(self, function_id: str) -> Pool:
        if function_id not in self.cloud.pools:
            raise refused(Status.NOT_FOUND, f"Function {function_id} not found")
        return self.cloud.pools[function_id]

    def container(self, task_id: str) -> Container:
        found = [each for each in (*self.cloud.past, *self.cloud.running()) if each.task_id == task_id]
        if not found:
            raise refused(Status.NOT_FOUND, f"Container {task_id} not found")
        return found[-1]

    # Handles

    def FunctionGet(self, request: Any, caller: object) -> Message:
        app, tag = self.app(request.app_name), request.object_tag
        if tag not in app.function_ids:
            known = ", ".join(sorted(app.function_ids))
            raise refused(Status.NOT_FOUND, f"Function '{tag}' not found in app '{app.name}', which has: {known}")
        function_id, function = app.function_ids[tag], app.functions[tag]
        return pb.FunctionGetResponse(
            function_id=function_id, function=self.registry.data(function),
            handle_metadata=self.registry.handle(app, tag, function),
        )  # fmt: skip

    def ClassGet(self, request: Any, caller: object) -> Message:
        app = self.app(request.app_name)
        if request.object_tag not in app.class_ids:
            raise refused(Status.NOT_FOUND, f"Class '{request.object_tag}' not found in app '{app.name}'")
        return pb.ClassGetResponse(class_id=app.class_ids[request.object_tag], handle_metadata=pb.ClassHandleMetadata())

    # Scaling

    def FunctionGetCurrentStats(self, request: Any, caller: object) -> Message:
        return self.pool(request.function_id).stats()

    def FunctionUpdateSchedulingParams(self, request: Any, caller: object) -> Message:
        pool = self.pool(request.function_id)
        pool.override(request.settings)
        return pb.FunctionUpdateSchedulingParamsResponse(current_settings=pool.settings)

    def FunctionGetSchedulingParams(self, request: Any, caller: object) -> Message:
        pool = self.pool(request.function_id)
        return pb.FunctionGetSchedulingParamsResponse(
            autoscaler_configuration=pb.AutoscalerConfiguration(
                settings=pool.settings,
                static_settings=pool.function.autoscaler_settings,
                override_settings=pool.overrides,
            )
        )

    # Calls that are no web requests

    def FunctionMap(self, request: Any, caller: object) -> Message:
        """One call with one input: `.remote()` and `.spawn()`."""
        if len(request.pipelined_inputs) != 1:
            raise refused(Status.UNIMPLEMENTED, "The local cloud takes single calls, no maps.")
        pool, item = self.pool(request.function_id), request.pipelined_inputs[0]
        call = self.cloud.call(item.input)
        pool.submit(call)
        given = pb.FunctionPutInputsResponseItem(idx=item.idx, input_id=call.input_id)
        return pb.FunctionMapResponse(function_call_id=call.call_id, pipelined_inputs=[given])

    async def FunctionGetOutputs(self, request: Any, caller: object) -> Message:
        call = self.cloud.calls[request.function_call_id]
        try:
            async with asyncio.timeout(request.timeout):
                await call.answered.wait(0)
        except TimeoutError:
            return pb.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        failure = pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE, exception=call.failure)
        item = pb.FunctionGetOutputsItem(
            input_id=call.input_id, result=call.output.result if call.output else failure,
            data_format=call.output.data_format if call.output else pb.DATA_FORMAT_UNSPECIFIED,
        )  # fmt: skip
        return pb.FunctionGetOutputsResponse(outputs=[item], idxs=[0], last_entry_id="1")

    # Apps

    def AppList(self, request: Any, caller: object) -> Message:
        items = [
            pb.AppListResponse.AppListItem(
                app_id=app.app_id,
                description=app.name,
                name=app.name,
                state=app.state,
                created_at=app.created_at,
                stopped_at=app.stopped_at,
                n_running_tasks=len(self.cloud.running(app.app_id)),
            )
            for app in self.registry.by_id.values()
        ]
        return pb.AppListResponse(apps=items)

    def AppStop(self, request: Any, caller: object) -> Message:
        self.cloud.end(self.registry.app(request.app_id))
        return empty_pb2.Empty()

    def AppClientDisconnect(self, request: Any, caller: object) -> Message:
        app = self.registry.app(request.app_id)
        if not app.deployed:
            self.cloud.end(app)
        return empty_pb2.Empty()

    def AppGetLifecycle(self, request: Any, caller: object) -> Message:
        return pb.AppGetLifecycleResponse(lifecycle=self.registry.app(request.app_id).lifecycle())

    def AppDeploymentHistory(self, request: Any, caller: object) -> Message:
        app = self.registry.app(request.app_id)
        return pb.AppDeploymentHistoryResponse(app_deployment_histories=app.history, production_app_version=app.version)

    # Containers

    def TaskList(self, request: Any, caller: object) -> Message:
        tasks = [
            pb.TaskStats(
                task_id=each.task_id,
                app_id=each.app_id,
                app_description=each.pool.app.name,
                started_at=each.started_at,
                enqueued_at=each.enqueued_at,
            )
            for each in self.cloud.running(request.app_id)
        ]
        return pb.TaskListResponse(tasks=tasks)

    def TaskGetInfo(self, request: Any, caller: object) -> Message:
        each = self.container(request.task_id)
        behavior = {
            "plain": pb.TASK_SNAPSHOT_BEHAVIOR_NONE,
            "created": pb.TASK_SNAPSHOT_BEHAVIOR_SNAPSHOT,
            "restored": pb.TASK_SNAPSHOT_BEHAVIOR_RESTORE,
        }[each.kind]
        info = pb.TaskInfo(
            id=each.task_id, started_at=each.started_at, finished_at=each.finished_at, enqueued_at=each.enqueued_at,
            snapshot_behavior=behavior,
        )  # fmt: skip
        return pb.TaskGetInfoResponse(app_id=each.app_id, info=info)

    def ContainerStop(self, request: Any, caller: Container | None) -> Message:
        """Also what `modal.experimental.stop_fetching_inputs()` in a container asks for, for itself."""
        self.container(request.task_id).stop(graceful=request.graceful)
        return pb.ContainerStopResponse()

    # Logs

    def _logs(self, app_id: str, task_id: str = "") -> list[Container]:
        past = [each for each in self.cloud.past if each.app_id == app_id]
        return [each for each in (*past, *self.cloud.running(app_id)) if task_id in ("", each.task_id)]

    @staticmethod
    def _batch(each: Container, text: str, entry: int) -> pb.TaskLogsBatch:
        line = pb.TaskLogs(data=text, timestamp=time.time(), file_descriptor=pb.FILE_DESCRIPTOR_STDOUT)
        return pb.TaskLogsBatch(
            task_id=each.task_id, function_id=each.pool.function_id, entry_id=str(entry), items=[line]
        )

    async def AppGetLogs(self, request: Any, caller: object) -> AsyncIterator[Message]:
        """What running containers write, until the app ends. A second stream starts where it is opened."""
        app, read = self.registry.app(request.app_id), {}
        ends = time.monotonic() + request.timeout
        entry = int(request.last_entry_id or 0)
        if entry:
            read = {each.folder: len(each.log) for each in self._logs(app.app_id)}
        while True:
            stopped = app.state == pb.APP_STATE_STOPPED
            for each in self._logs(app.app_id, request.task_id):
                text = each.log[read.get(each.folder, 0) :]
                if text:
                    entry += 1
                    read[each.folder] = read.get(each.folder, 0) + len(text)
                    yield self._batch(each, text, entry)
            if stopped:
                yield pb.TaskLogsBatch(app_done=True)
                return
            if time.monotonic() > ends:
                return
            await asyncio.sleep(LOOK_S)

    def AppFetchLogs(self, request: Any, caller: object) -> Message:
        found = [each for each in self._logs(request.app_id, request.task_id) if each.log]
        return pb.AppFetchLogsResponse(batches=[self._batch(each, each.log, i + 1) for i, each in enumerate(found)])

    # The workspace

    def WorkspaceNameLookup(self, request: Any, caller: object) -> Message:
        return pb.WorkspaceNameLookupResponse(workspace_name="local", username="local")

    def TokenInfoGet(self, request: Any, caller: object) -> Message:
        return pb.TokenInfoGetResponse(
            token_id=self.cloud.plane.token[0], workspace_name="local", user_identity=pb.UserIdentity(username="local")
        )

    def EnvironmentList(self, request: Any, caller: object) -> Message:
        item = pb.EnvironmentListItem(name="main", default=True, environment_id="en-" + "0" * 22)
        return pb.EnvironmentListResponse(items=[item])

    def SecretList(self, request: Any, caller: object) -> Message:
        items = [
            pb.SecretListItem(label=name, secret_id=f"st-{name}", metadata=pb.SecretMetadata(name=name, keys=values))
            for name, values in self.registry.named_secrets.items()
        ]
        return pb.SecretListResponse(items=items, environment_name="main")

    def VolumeList(self, request: Any, caller: object) -> Message:
        items = [
            pb.VolumeListItem(label=name, volume_id=each, metadata=pb.VolumeMetadata(name=name))
            for each, name in self.registry.volumes.items()
        ]
        return pb.VolumeListResponse(items=items, environment_name="main")

    def WorkspaceBillingRates(self, request: Any, caller: object) -> Message:
        return pb.WorkspaceBillingRatesResponse(rates=self.cloud.rates)
