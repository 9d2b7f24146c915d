"""Grade on a Dask cluster: the same tasks, the same results, other machines.

Workers need this package, bubblewrap and user namespaces, nothing of the course: a task carries
the cells and files it needs. What a worker returns is plain data, and only the coordinator writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from .launch import GradingUnavailableError


class _DaskExecutor:
    """The part of an executor that the coordinator uses, on a `distributed.Client`."""

    def __init__(self, client: Any) -> None:
        self._executor = client.get_executor(pure=False, retries=5)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(function, *args)
        return future


@contextlib.contextmanager
def cluster_executor(address: str) -> Iterator[tuple[_DaskExecutor, int]]:
    """Connect to a scheduler.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.7:8786``.

    Yields
    ------
    tuple
        An executor, and how many tasks the workers run at the same time.

    Raises
    ------
    GradingUnavailableError
        If there is no scheduler, no worker, or no package ``distributed``.
    """
    try:
        from distributed import Client
    except ImportError:
        raise GradingUnavailableError(
            "Grading on a cluster needs Dask: pip install 'rnncourse[cluster]'"
        ) from None
    try:
        client = Client(address, timeout="10s")
    except OSError as error:
        raise GradingUnavailableError(f"No scheduler answers at {address} ({error})") from None
    with client:
        client.wait_for_workers(1, timeout=60)
        threads = sum(worker["nthreads"] for worker in client.scheduler_info()["workers"].values())
        yield _DaskExecutor(client), max(threads, 1)
