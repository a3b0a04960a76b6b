"""One signal ends the run; the next ones do not end the cleaning up."""

import asyncio
import signal

import pytest

from kvplane.controlplane.interrupt import one_interrupt


def interrupted_by(number: signal.Signals, cleaned: list[str]) -> None:
    with one_interrupt():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")


def with_a_handler_in_between() -> None:
    with one_interrupt() as interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupt.take()
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_once_and_is_then_ignored(number: signal.Signals) -> None:
    cleaned: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        interrupted_by(number, cleaned)

    assert cleaned == ["all"]


def test_handlers_come_back_when_the_block_is_left() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with one_interrupt():
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) != before

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signals_can_be_taken_back_from_one_who_took_them() -> None:
    with pytest.raises(KeyboardInterrupt):
        with_a_handler_in_between()


def signalled_while_waiting(ended: list[str]) -> None:
    async def wait() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGINT)
            ended.append("wait")

    with one_interrupt() as interrupt:
        try:
            interrupt.run(wait())
        finally:
            ended.append("run")


def signalled_at_the_end(ended: list[str]) -> None:
    async def finish() -> None:
        signal.raise_signal(signal.SIGTERM)
        ended.append("finish")

    with one_interrupt() as interrupt:
        interrupt.run(finish())


def test_a_signal_cancels_what_runs_in_a_loop_and_lets_it_clean_up() -> None:
    ended: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        signalled_while_waiting(ended)

    assert ended == ["wait", "run"]


def test_a_signal_too_late_to_cancel_anything_is_not_lost() -> None:
    ended: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        signalled_at_the_end(ended)

    assert ended == ["finish"]


def test_without_a_signal_the_result_comes_back() -> None:
    with one_interrupt() as interrupt:
        assert interrupt.run(asyncio.sleep(0, "done")) == "done"
