"""`kvplane up`: one machine, one application, until a signal."""

import threading

from rich.console import Console

from ..workers import prepare_model
from .config import Settings
from .interrupt import one_interrupt
from .local import Serving, free_port, machine


def up_until_signal(settings: Settings, port: int, console: Console, verbose: bool) -> None:
    """Start, say how to use it, and wait for Ctrl-C or SIGTERM; everything started is stopped again."""
    chosen = free_port(port)
    if chosen != port:
        console.print(f"Port {port} is taken; using {chosen}.")
    cpus = settings.replicas.num_cpus * (settings.replicas.max_count or settings.replicas.count)
    try:
        with one_interrupt() as interrupt:
            console.print("Preparing the model; a few seconds, the first time.")
            prepare_model(settings.engine)
            console.print("Starting Ray.")
            with machine(chosen, cpus, verbose) as here:
                interrupt.take()
                console.print(f"Starting {settings.replicas.count} replicas of {settings.name}.")
                with here.serving(settings) as serving:
                    console.print(_banner(settings, serving), highlight=False, soft_wrap=True)
                    threading.Event().wait()
    except KeyboardInterrupt:
        console.print(f"Stopped. Keys, tenants and decisions are kept in {settings.state}.")


def _banner(settings: Settings, serving: Serving) -> str:
    key, whose = _key(settings, serving)
    routing = settings.policy_name
    return f"""
[bold]{settings.name}[/bold] is served at {serving.url} by {settings.replicas.count} replicas, routing {routing}.

  export OPENAI_BASE_URL={serving.url}
  export OPENAI_API_KEY={key}   # {whose}
  curl -s $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -d '{{"model": "{settings.name}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  kvplane decisions --state {settings.state}
  kvplane status --state {settings.state}
  kvplane tenants list --state {settings.state}

Ctrl-C stops everything.
"""


def _key(settings: Settings, serving: Serving) -> tuple[str, str]:
    """A key to try it with, and whose that is."""
    if settings.open:
        return "any", "no key is asked for; everyone is one tenant"
    if not serving.keys:
        return "...", "`kvplane tenants key` makes one"
    organisation, key = next(iter(serving.keys.items()))
    return key, f"{organisation}, unless it was revoked; the first keys are in {settings.tenants_file}"
