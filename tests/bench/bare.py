"""A Ray Serve application of kvplane's shape and nothing else: what Serve itself costs."""

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

_ANSWER = (
    b'{"id":"chatcmpl-0000000000000000","created":0,"model":"bare","object":"chat.completion","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"a","refusal":null},"logprobs":null,"finish_reason":"length"}],"usage":'
    b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}'
)


class FixedAnswer:
    """Answers at once."""

    async def __call__(self, body: bytes) -> bytes:
        return _ANSWER


@serve.ingress()
class Forward:
    """Passes each body on by handle, mounted as kvplane's ingress is."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Starlette(routes=[Route("/v1/chat/completions", self._chat, methods=["POST"])])

    async def _chat(self, request: Request) -> Response:
        return Response(await self._replicas.remote(await request.body()), media_type="application/json")


def bare(replicas: int) -> serve.Application:
    """As many replicas, as much allowed at once, as kvplane is given beside it."""
    answers = serve.deployment(
        FixedAnswer,
        name="answers",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=64,
        max_queued_requests=1000,
    )
    front = serve.deployment(Forward, name="front", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=10_000)
    return front.bind(answers.bind())
