"""The composition root: settings to a Serve application of registrar, replicas and routers."""

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from ..workers import Replica, pace
from .config import RAY, Settings
from .errors import ConfigError
from .ingress import Ingress
from .misfit import misfit
from .registrar import Registrar
from .seam import RAYS_OWN, SEAM

APP = "kvplane"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # replicas on one host share its cores
_HEAD = {"node:__internal_head__": 0.001}


def build(args: Settings) -> serve.Application:
    """Build the application, for `serve run kvplane.controlplane.app:build` and for `kvplane up`."""
    return compose(args, Ingress, Replica)


def compose(args: Settings, ingress: type, replica: type) -> serve.Application:
    """Bind registrar, replicas and routers; another ingress or replica is a subclass of ours. Raises `ConfigError`."""
    if (why := misfit(args, args.engine.blocks)) is not None:
        raise ConfigError(why)
    registrar = _registrar().bind(args.state, args.tenants_file, args.directory, args.accounts)
    beat = pace(args.replicas.max_count or args.replicas.count)
    replicas = _replicas(args, replica).bind(args.name, args.engine, args.directory, beat, registrar)
    return _routers(args, ingress).bind(args, replicas, registrar)


def _registrar() -> serve.Deployment:
    """On the head node: the state folder is there, and embedded shards listen on its loopback."""
    return serve.deployment(
        Registrar,
        name="registrar",
        ray_actor_options={"num_cpus": 0, "resources": _HEAD},
        health_check_period_s=2,
        max_ongoing_requests=1000,
    )


def _replicas(args: Settings, replica: type) -> serve.Deployment:
    settings = args.replicas
    scaling = (
        {"num_replicas": settings.count}
        if settings.max_count is None
        else {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=settings.count,
                max_replicas=settings.max_count,
                target_ongoing_requests=settings.target_ongoing_requests,
            )
        }
    )
    return serve.deployment(
        replica,
        name="replicas",
        ray_actor_options={"num_cpus": settings.num_cpus, "runtime_env": {"env_vars": _ONE_THREAD}},
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=args.router.max_queued_requests,
        health_check_period_s=settings.health_period_s,
        graceful_shutdown_timeout_s=settings.drain_s,
        graceful_shutdown_wait_loop_s=0.2,
        request_router_config=RequestRouterConfig(request_router_class=RAYS_OWN if args.routing == RAY else SEAM),
        **scaling,
    )


def _routers(args: Settings, ingress: type) -> serve.Deployment:
    return serve.deployment(
        ingress,
        name="routers",
        num_replicas=args.router.count,
        # On the head node as well: decisions of all routers are in the one store there.
        ray_actor_options={"num_cpus": 0, "resources": _HEAD, "runtime_env": {"env_vars": _ONE_THREAD}},
        max_ongoing_requests=10_000,
        health_check_period_s=2,
    )
