"""Each role does its work on real servers, and is refused everything else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from kvplane.controlplane.accounts import KeyRecord, Rate, Tenant
from kvplane.controlplane.accounts.redis_accounts import RedisAccounts
from kvplane.directory import (
    DirectorySettings,
    PagesDown,
    holder_id,
    open_client,
    open_pages,
)
from kvplane.directory.redis_keys import page_keys
from kvplane.directory.roles import ROLES, Role, User, user_of
from kvplane.tests.messages import batch, keys_of, neighbour, whole
from kvplane.tests.servers import Server, redis_server

PASSWORD = "no secret: it guards a test"
OWN, OTHER = keys_of(holder_id("own")), keys_of(neighbour(holder_id("own")))
REGISTRY, USAGE, BUCKET = "{kvplane:accounts}:tenants", "{kvplane:usage:1}", "{kvplane:a}:bucket"
WRITE = "return redis.call('SET', KEYS[1], 'x')"
READ = "return redis.call('GET', KEYS[1])"

FOR_NOBODY = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "CONFIG REWRITE", "KEYS *", "SCAN 0", "RANDOMKEY",
    "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "FAILOVER", "PSYNC ? -1", "SAVE", "BGREWRITEAOF", "MONITOR",
    "SCRIPT FLUSH", "SCRIPT LOAD x", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION LOAD x", "FUNCTION DUMP", "FCALL f 0",
    "SUBSCRIBE a", "PSUBSCRIBE a", "SSUBSCRIBE a", "PUBLISH a b", "CLIENT KILL ID 1", "CLIENT LIST", "CLIENT PAUSE 1",
    "CLUSTER RESET", "CLUSTER NODES", "CLUSTER FORGET x", "CLUSTER MEET 127.0.0.1 1", "MODULE LIST", "INFO", "DBSIZE",
    "SLOWLOG GET", "LATENCY RESET", "MEMORY PURGE", "SWAPDB 0 1", "ACL LOAD", "ACL GENPASS", "COMMAND COUNT", "TOUCH a",
    f"MIGRATE 127.0.0.1 1 {OWN.log} 0 1", f"RESTORE {OWN.log} 0 x", f"DUMP {OWN.log}", f"RENAME {OWN.log} {OWN.head}",
    f"COPY {OWN.log} {OWN.head}", f"PERSIST {OWN.log}", f"SORT {OWN.log}", f"OBJECT ENCODING {OWN.log}", "WAIT 0 1",
    f"SET {OTHER.checkpoint} x", f"XADD {OTHER.log} 1-1 body x", f"DEL {OTHER.head}", f"UNLINK {OTHER.head}",
    f"HSET {OTHER.head} seq 1", f"PEXPIRE {OTHER.head} 1", f"XTRIM {OTHER.log} MAXLEN 0", f"GETDEL {OTHER.checkpoint}",
    "GET elsewhere", "SET elsewhere x", "HSETNX elsewhere a b", "EXISTS elsewhere", f"SET {USAGE} x", f"DEL {USAGE}",
    f"HSET {USAGE} a 1", f"HSETNX {REGISTRY} a b", f"SET {REGISTRY} x", f"DEL {REGISTRY} {OWN.log}",
]  # fmt: skip
USERS = ["ACL SETUSER mallory on nopass ~* +@all", "ACL LIST", "ACL DELUSER default"]
SCRIPTS = [(WRITE, OTHER.checkpoint), (WRITE, REGISTRY), (READ, "elsewhere"), (WRITE, USAGE)]
READING = [(READ, OTHER.checkpoint), (READ, REGISTRY)]
CHANGES = [f"SET {OWN.checkpoint} x", f"XADD {OWN.log} 1-1 body x", f"DEL {OWN.head}", f"HSET {OWN.head} seq 1"]
READS = [f"GET {OTHER.checkpoint}", f"XRANGE {OTHER.log} - +", f"MEMORY USAGE {OTHER.log}", f"HMGET {OTHER.head} seq"]
ACCOUNTS = [f"HGETALL {REGISTRY}", f"HGET {REGISTRY} a", f"GET {BUCKET}", f"SET {BUCKET} 1", f"HGETALL {USAGE}"]

OUT_OF_BOUNDS: dict[Role, list[str]] = {
    "registrar": [*CHANGES, *ACCOUNTS, f"HSETNX {USAGE} a b"],
    "router": [*CHANGES, *USERS, *ACCOUNTS, f"HSETNX {USAGE} a b"],
    "replica": [*READS, *USERS, *ACCOUNTS, f"HSETNX {USAGE} a b", f"HMGET {OTHER.head} seq", f"EXISTS {OTHER.log}"],
    "accounts-router": [*CHANGES, *READS, *USERS, f"HSET {REGISTRY} a b", f"HDEL {REGISTRY} a", f"HSETNX {USAGE} a b"],
    "accounts-replica": [*CHANGES, *READS, *USERS, *ACCOUNTS, f"HSETNX {BUCKET} a b"],
    "accounts-operator": [*CHANGES, *READS, *USERS, f"GET {BUCKET}", f"SET {BUCKET} 1", f"HSETNX {USAGE} a b"],
}


# On servers that tests may harm, DEBUG and MODULE are no more forbidden than other commands.
OPTIONS = ("--enable-debug-command", "yes", "--enable-module-command", "yes")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey"), *OPTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def redis_of_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server of 7.0 or later is on the path")
    with Server(tmp_path_factory.mktemp("redis"), *OPTIONS, binary=binary) as running:
        yield running


@pytest.fixture(params=["valkey", "redis_of_7"])
def walled(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> Role:
    role: Role = request.param
    return role


IN_SCRIPTS = ("ACL failure in script", "The user executing the script can't")  # of Valkey, of Redis


def let_in(nodes: Sequence[Server], user: User) -> User:
    for node in nodes:
        node.ask("ACL", "SETUSER", user.name, *user.words(PASSWORD))
    return user


def as_user(url: str, user: User) -> str:
    return url.replace("://", f"://{user.name}:{PASSWORD}@")


def client_of(server: Server, user: User) -> Redis:
    return Redis(port=server.port, username=user.name, password=PASSWORD, protocol=2)


def is_refused(server: Server, user: User, *command: str | int) -> bool:
    """Whether the rules forbid it, by themselves or in a script; any other failure is none of theirs."""
    with client_of(server, user) as client:
        try:
            client.execute_command(*command)
        except NoPermissionError:
            return True
        except RedisError as exc:
            return any(words in str(exc) for words in IN_SCRIPTS)
    return False


def test_no_role_may_do_what_is_not_its_work(walled: Server, role: Role) -> None:
    user = let_in([walled], user_of(role, OWN))
    commands = [*FOR_NOBODY, *OUT_OF_BOUNDS[role]]

    allowed = [command for command in commands if not is_refused(walled, user, *command.split())]

    assert len(commands) >= 30
    assert allowed == []


def test_no_script_reaches_further_than_who_runs_it(walled: Server, role: Role) -> None:
    user = let_in([walled], user_of(role, OWN))
    digests = {script: str(walled.ask("SCRIPT", "LOAD", script)) for script, _ in (*SCRIPTS, *READING)}
    may_read = {"registrar": OTHER.checkpoint, "router": OTHER.checkpoint}
    may_read |= {"accounts-router": REGISTRY, "accounts-operator": REGISTRY}
    tried = [*SCRIPTS, *(case for case in READING if case[1] != may_read.get(role))]
    tried = [case for case in tried if case != (WRITE, REGISTRY) or role != "accounts-operator"]

    by_text = [case for case in tried if not is_refused(walled, user, "EVAL", case[0], 1, case[1])]
    by_digest = [case for case in tried if not is_refused(walled, user, "EVALSHA", digests[case[0]], 1, case[1])]
    undeclared = is_refused(walled, user, "EVAL", f"return redis.call('SET', '{OTHER.checkpoint}', 'x')", 0)

    assert (by_text, by_digest, undeclared) == ([], [], True)


def test_the_wall_stands_for_who_is_known_and_nobody_is_known_by_a_wrong_password(walled: Server) -> None:
    user = let_in([walled], user_of("router"))

    with client_of(walled, user) as client:
        assert client.ping()
    with Redis(port=walled.port, username=user.name, password="guessed") as stranger, pytest.raises(RedisError):
        stranger.ping()


def test_a_user_that_is_set_again_may_do_no_more_than_it_says(walled: Server) -> None:
    user = user_of("router")
    walled.ask("ACL", "SETUSER", user.name, "on", "nopass", "~*", "&*", "+@all", "(+set ~*)")

    let_in([walled], user)

    assert is_refused(walled, user, "SET", "elsewhere", "x")
    with Redis(port=walled.port, username=user.name, password="guessed") as stranger, pytest.raises(RedisError):
        stranger.ping()


def test_a_rule_is_a_line_for_an_operator_and_one_for_a_file(tmp_path: Path) -> None:
    user = User("kvplane-x", ("-@all", "+get", "(~a +eval)"))
    digest = "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940"  # printf p | sha256sum

    assert user.line("p") == f"user kvplane-x reset on #{digest} -@all +get (~a +eval)"
    assert user.command("p") == f'ACL SETUSER kvplane-x reset on #{digest} -@all +get "(~a +eval)"'


def test_a_replica_is_named_by_its_page_and_may_touch_three_keys() -> None:
    user = user_of("replica", page_keys(holder_id("h"), 1))

    assert user.name == "kvplane-replica-h"
    assert [rule for rule in user.rules if "~" in rule] == [
        f"~{{kv:00.0}}:h:{part}" for part in ("log", "checkpoint", "head")
    ]
    assert user_of("replica").name == "kvplane-replica"


async def test_a_database_and_a_name_in_the_url_are_no_harm(walled: Server, role: Role) -> None:
    url = as_user(walled.url, let_in([walled], user_of(role)))

    async with open_client(f"{url}/3?client_name=test", DirectorySettings()) as client:
        assert await client.call("", "PING") == b"PONG"


def test_the_registrar_sets_users_and_reads_pages(walled: Server) -> None:
    registrar = let_in([walled], user_of("registrar"))
    replica = user_of("replica", OWN)
    with client_of(walled, registrar) as client:
        client.execute_command("ACL SETUSER", replica.name, *replica.words(PASSWORD))
        known = client.execute_command("ACL USERS")
        let_in_by_it = not is_refused(walled, replica, "SET", OWN.checkpoint, "1-0 body")
        read = client.get(OWN.checkpoint)
        client.execute_command("ACL DELUSER", replica.name)

    assert replica.name in known
    assert let_in_by_it
    assert read == b"1-0 body"
    assert replica.name not in str(walled.ask("ACL", "USERS"))


async def test_a_replica_writes_no_page_but_its_own(walled: Server) -> None:
    own = let_in([walled], user_of("replica", OWN))
    async with open_pages(as_user(walled.url, own), DirectorySettings()) as pages:
        await pages.checkpoint(whole(OWN.holder, 0))

        for verb in (
            lambda: pages.checkpoint(whole(OTHER.holder, 0)),
            lambda: pages.append(batch(OTHER.holder, 1)),
            lambda: pages.drop(OTHER.holder),
        ):
            with pytest.raises(PagesDown, match=r"(?i)no permissions to access"):
                await verb()


async def test_accounts_are_kept_by_an_operator_and_used_by_routers(walled: Server) -> None:
    urls = {role: as_user(walled.url, let_in([walled], user_of(role))) for role in ROLES}
    tenant, rate = Tenant(organisation="acme"), Rate(1.0, 10.0)
    key = KeyRecord(digest="ab" * 32, tenant=tenant.name)
    settings = DirectorySettings()

    async with (
        open_client(urls["accounts-operator"], settings) as operators,
        open_client(urls["accounts-router"], settings) as routers,
        open_client(urls["accounts-replica"], settings) as replicas,
    ):
        operator, router = RedisAccounts(operators), RedisAccounts(routers)
        await operator.put(tenant)
        await operator.add_key(key)
        book = await router.read()
        lease = await router.lease("acme", rate, 4, 4)
        await router.give_back("acme", rate, -1)
        await router.give_back("acme", rate, 6)
        claimed = await router.claim("acme", "r1", 3, 8, 30), await router.claim("acme", "r1", 0, 8, 30)
        revision = await router.revision()
        revoked = await operator.revoke(key.id), await operator.revoke(key.id)
        listed = await operator.read()
        entered = await replicas.call(USAGE, "HSETNX", USAGE, "decision", "1")
        scanned = await operators.call(USAGE, "HSCAN", USAGE, "0")

    assert (dict(book.tenants), dict(book.keys)) == ({tenant.name: tenant}, {key.digest: key})
    assert listed.tenants == book.tenants
    assert (lease.units, claimed, revision, revoked) == (4, (3, 0), 2, (True, False))
    assert (entered, scanned[1]) == (1, [b"decision", b"1"])
