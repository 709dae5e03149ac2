"""The whole plugin on a Dask cluster: one login, which only the client holds."""

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster, as_completed, wait

import dask_tasks
from helpers import grants, headers_in_memory, some_windows, tokens_sent
from rio_terrascope import Settings


@pytest.fixture(scope="module")
def cluster():
    with (
        # on a busy machine a nanny takes long to replace a killed worker; do not give it up before
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100s"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster, until):
    with Client(cluster) as client:
        yield client
        if "rio-terrascope" in client.run_on_scheduler(registered):
            client.unregister_worker_plugin("rio-terrascope")
        # wait for workers that are still closing
        until(lambda: headers_of(client), lambda left: left == [])


def headers_of(client):
    """Return the headers that the workers keep in GDAL's memory."""
    return [path for paths in client.run(headers_in_memory).values() for path in paths]


def registered(dask_scheduler):
    return dict(dask_scheduler.worker_plugins)


def number_of_workers(dask_scheduler):
    return len(dask_scheduler.workers)


def prefix_of(server):
    return f"/vsicurl/{server.origin}/"


def jobs(server, count, seed):
    """Return the arguments of `dask_tasks.read` as sequences. Each URL is new to GDAL."""
    windows = list(some_windows(count, size=64, seed=seed))
    urls = [f"{server.url()}?{seed}-{number}" for number in range(count)]
    file = str(server.file())
    return urls, [file] * count, [w.col_off for w in windows], [w.row_off for w in windows]


def results(futures):
    """Return the results. A cluster that hangs fails the test."""
    wait(futures, timeout=60)
    return [future.result() for future in futures]


def result(future):
    return results([future])[0]


def test_hundreds_of_tasks_while_workers_die_and_join(brief, cluster, client, register, until):
    began = time.monotonic()
    register(brief)
    count, readers = 0, set()
    victim = next(iter(client.run(os.getpid).values()))
    futures = client.map(dask_tasks.read, *jobs(brief, 200, seed=0), pure=False)
    for future in as_completed(futures, timeout=90):
        readers.add(future.result())
        count += 1
        if count == 50:
            os.kill(victim, signal.SIGKILL)
        if count == 100:
            cluster.scale(3)
    client.wait_for_workers(3)
    seed = 0
    # a renewal a second, so this is more than three lifetimes
    while count < 300 or grants(brief.requests(), "refresh_token") < 7:
        seed += 1
        futures = client.map(dask_tasks.read, *jobs(brief, 50, seed), pure=False)
        readers |= set(results(futures))
        count += 50
    everybody = set(client.run(os.getpid).values())
    elapsed = time.monotonic() - began
    assert count >= 300
    assert victim not in everybody
    assert everybody <= readers, "all have read, also the restarted worker and the new one"
    requests = brief.requests()
    assert tokens_sent(brief.requests("data")) == {"valid"}
    assert grants(requests, "password") == 1
    assert grants(requests, "refresh_token") <= elapsed / 1.0 + 1  # as many as one process makes
    assert len(headers_of(client)) == 3
    cluster.scale(2)
    until(lambda: client.run_on_scheduler(number_of_workers), lambda number: number == 2)


def test_restarted_workers_get_the_current_token(steady, client, register, until):
    register(steady)
    before = set(client.run(os.getpid).values())
    steady.clear()
    for pid in before:  # their nannies start others; client.restart() sometimes hangs, even without a plugin
        os.kill(pid, signal.SIGKILL)
    readers = set()

    def read_more():  # on any worker: Dask may still be replacing one
        seed = 1000 + len(steady.requests())
        readers.update(results(client.map(dask_tasks.read, *jobs(steady, 12, seed), pure=False)))
        return set(client.run(os.getpid).values()) - before

    until(read_more, lambda everybody: len(everybody) == 2 and everybody <= readers, seconds=90)
    assert not readers & before
    # A refused task would have raised. A thread of a closing worker may still read, without a token.
    assert tokens_sent(steady.requests("data")) <= {"valid", "none"}
    assert steady.requests("sso") == []


def test_the_packages_own_functions_in_tasks(steady, client, register):
    register(steady)
    results([client.submit(dask_tasks.read_much, steady.url(), str(steady.file()), pure=False)])
    assert result(client.submit(dask_tasks.try_with_recovery, steady.url(), pure=False)) == "read"
    assert grants(steady.requests(), "password") == 1


def test_nothing_but_access_tokens_leaves_the_client(steady, client, register, tmp_path):
    plugin = register(steady)
    results(client.map(dask_tasks.read, *jobs(steady, 8, seed=2), pure=False))
    token = plugin._client_login.env.token
    secrets = steady.password, token.refresh_token
    stored = client.run_on_scheduler(registered)
    assert "rio-terrascope" in stored
    for pickled in stored.values():
        for secret in (*secrets, token.access_token):
            assert secret.encode() not in pickled
    assert all(steady.password not in str(environ) for environ in client.run(dask_tasks.environment).values())
    for pid in client.run(os.getpid).values():
        memory = memory_of(pid)
        assert holds(memory, token.access_token)
        for secret in secrets:
            assert not holds(memory, secret)
    # everything that Dask shows or writes about the scheduler
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    (dump,) = tmp_path.glob("dump*")
    shown = dump.read_text() + str(client.get_events()) + str(client.get_scheduler_logs()) + repr(plugin)
    shown += str(client.get_worker_logs()) + client.run_on_scheduler(
        lambda dask_scheduler: str(dask_scheduler.plugins)
    )
    assert "rio-terrascope" in shown
    for secret in (*secrets, token.access_token):
        assert secret not in shown


@pytest.mark.fault("Dask logs its messages (DEBUG)", sees="no token in the log", requests="as without")
@pytest.mark.parametrize("processes", [False, True])
def test_dasks_debug_log_holds_no_token(steady, log_in, caplog, monkeypatch, processes):
    """Client and scheduler log here; with `processes=False`, the worker logs here and sends no bytes."""
    # Dask's loggers have handlers and levels of their own
    monkeypatch.setattr(logging.getLogger("distributed"), "propagate", True)
    for name in ("distributed", "distributed.core"):
        caplog.set_level("DEBUG", logger=name)
    with (
        LocalCluster(n_workers=1, processes=processes, dashboard_address=":0", silence_logs=False) as cluster,
        Client(cluster) as client,
    ):
        plugin = log_in(steady, client=client)
        client.register_plugin(plugin)
        tokens = [plugin._client_login.env.token, plugin._client_login.env.refresh()]
        result(client.submit(dask_tasks.try_with_recovery, steady.url(), pure=False))
        client.unregister_worker_plugin(plugin.name)
    assert "terrascope_put" in caplog.text, "Dask logs the messages"
    for token in tokens:
        assert token.access_token not in caplog.text


def memory_of(pid):
    """Return the writable memory of a process, where Python keeps its objects."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if mode.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                try:
                    parts.append(memory.read(end - start))
                except OSError:  # unmapped since
                    continue
    return parts


def holds(memory, text):
    return any(text.encode() in part for part in memory)


def test_unregistered_workers_keep_nothing(steady, client, register):
    register(steady, GDAL_HTTP_MAX_RETRY=7)
    options = client.run(dask_tasks.options_of, prefix_of(steady))
    assert all(of_one["GDAL_HTTP_MAX_RETRY"] == "7" for of_one in options.values())
    assert len(headers_of(client)) == len(options)
    client.unregister_worker_plugin("rio-terrascope")
    assert headers_of(client) == []
    assert set(map(str, client.run(dask_tasks.options_of, prefix_of(steady)).values())) == {"{}"}
    assert "401" in result(client.submit(dask_tasks.try_plainly, steady.url(), pure=False))
    assert "CredentialsNotFoundError" in result(client.submit(dask_tasks.try_with_recovery, steady.url()))


def test_an_unregistered_plugins_login_ends_at_the_next_renewal(brief, client, register, until):
    register(brief)
    assert len(headers_in_memory()) == 1  # the client's own
    client.unregister_worker_plugin("rio-terrascope")
    until(headers_in_memory, lambda headers: headers == [])


def test_a_session_that_was_ended_is_renewed_for_workers(steady, client, register):
    register(steady)
    steady.revoke_tokens()
    url = steady.url() + "?revoked"
    assert "401" in result(client.submit(dask_tasks.try_plainly, url, pure=False))
    futures = client.map(dask_tasks.try_with_recovery, [f"{url}{n}" for n in range(8)], pure=False)
    assert set(results(futures)) == {"read"}
    token_requests = steady.requests("sso")
    assert grants(token_requests, "password") + grants(token_requests, "refresh_token") <= 3


def test_workers_say_that_the_client_is_gone_and_go_on_with_the_next(brief, cluster, client, register, until):
    settings = Settings.from_environ(brief.environ)
    arguments = f"{cluster.scheduler_address!r}, {brief.username!r}, input(), {settings!r}"
    code = f"import dask_tasks; from rio_terrascope import Settings; dask_tasks.hold_a_login({arguments})"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        holder.stdin.write(brief.password + "\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "registered\n"
        url = brief.url() + "?gone"
        assert result(client.submit(dask_tasks.try_with_recovery, url, pure=False)) == "read"
    finally:
        holder.kill()
        holder.communicate()

    def attempt():
        return result(client.submit(dask_tasks.try_with_recovery, url, pure=False))

    gone = "TokenEndpointError: the Dask client that holds the login at 127.0.0.1 is gone"
    # if the token expires while a file is being opened, GDAL's own message comes first
    said = until(attempt, lambda answer: answer.startswith(gone))
    assert "Next: connect a client" in said
    # The worker's last token may still be valid. Each URL is new, so that GDAL has nothing cached.
    numbers = itertools.count()

    def attempt_plainly():
        return result(client.submit(dask_tasks.try_plainly, f"{url}{next(numbers)}", pure=False))

    until(attempt_plainly, lambda answer: "401" in answer)
    assert "is gone" in str(client.get_worker_logs())
    register(brief)
    assert attempt() == "read"


def test_a_worker_that_joins_without_the_client_waits_for_the_next(steady, client, register, until):
    plugin = register(steady)
    plugin.close()
    until(lambda: client.run_on_scheduler(abandoned), bool)
    client.run_on_scheduler(expire)
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)  # its nanny starts another
    until(lambda: logs_of_workers(client), lambda logs: "cannot read from Terrascope yet" in logs)
    register(steady)
    assert result(client.submit(dask_tasks.try_plainly, steady.url(), pure=False)) == "read"


def logs_of_workers(client):
    try:
        return str(client.get_worker_logs())
    except OSError:  # a worker was just killed
        return ""


def abandoned(dask_scheduler):
    return all(state.abandoned for state in dask_scheduler.plugins["rio-terrascope"]._logins.values())


def expire(dask_scheduler):
    for state in dask_scheduler.plugins["rio-terrascope"]._logins.values():
        state.expires_at = 0.0


def test_workers_in_the_clients_process(steady, log_in):
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        plugin = log_in(steady)
        client.register_plugin(plugin)
        results(client.map(dask_tasks.read, *jobs(steady, 20, seed=3), pure=False))
        results([client.submit(dask_tasks.read_much, steady.url(), str(steady.file()))])
        assert len(headers_in_memory()) == 1  # one login, one header
        client.unregister_worker_plugin("rio-terrascope")
        plugin.close()
        assert headers_in_memory() == []
        assert dask_tasks.options_of(prefix_of(steady)) == {}
    assert grants(steady.requests(), "password") == 1
    assert tokens_sent(steady.requests("data")) == {"valid"}


def test_an_asynchronous_client(brief, cluster, log_in):
    async def work():
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            plugin = log_in(brief)
            await client.register_plugin(plugin)
            seed = 10
            while grants(await asyncio.to_thread(brief.requests), "refresh_token") < 3:
                seed += 1
                await client.gather(client.map(dask_tasks.read, *jobs(brief, 20, seed), pure=False))
            await client.unregister_worker_plugin("rio-terrascope")
            plugin.close()

    asyncio.run(work())
    assert grants(brief.requests(), "password") == 1
    assert tokens_sent(brief.requests("data")) == {"valid"}
    assert headers_in_memory() == []


def test_without_the_extra():
    code = "import sys; sys.modules['distributed'] = None; import rio_terrascope.distributed"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'rio-terrascope[dask]'" in done.stderr.splitlines()[-1]
