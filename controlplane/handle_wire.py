"""The first transport between the halves: Serve's deployment handle, its failures mapped in one place."""

from collections.abc import AsyncGenerator

from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from ..workers import BadTicket, Declined, Delta, EngineDead, Sampling, Ticket, Unservable
from .errors import BadRequest, Overloaded, TimedOut
from .router_half import EngineLost, ReplicaBusier, ReplicaGone, ReplicaUnwell


class HandleWire:
    """Passes the ticket first, where the seam finds it."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._generate = replicas.options(stream=True).generate

    async def __call__(self, ticket: Ticket, words: bytes, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        response = self._generate.remote(ticket, words, sampling)
        try:
            async for delta in response:
                if isinstance(delta, Declined):
                    raise ReplicaBusier(delta.load)
                yield delta
        except ActorUnavailableError as exc:
            raise ReplicaUnwell(str(exc)) from exc
        except RayActorError as exc:
            raise ReplicaGone(str(exc)) from exc
        except (BackPressureError, DeploymentUnavailableError) as exc:
            raise Overloaded("every replica is full and the queue is too; try again later") from exc
        except RayTaskError as exc:
            match exc.cause:
                case EngineDead():
                    raise EngineLost(str(exc.cause)) from exc
                case Unservable():
                    raise BadRequest(str(exc.cause)) from exc
                case BadTicket():
                    raise TimedOut(f"the request was too late when it reached its replica: {exc.cause}") from exc
            raise
        except RayError as exc:  # a lost object, a dead node: whatever it was, another replica may do better
            raise ReplicaUnwell(str(exc)) from exc
        finally:
            response.cancel()
