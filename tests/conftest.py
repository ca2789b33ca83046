"""Shared fixtures. `parts` and its kin need no chain and run on every database; `node` and its kin bring a real chain.

`YUNXI_TEST_POSTGRES` is the SQLAlchemy URL of a PostgreSQL server on which databases may be created and dropped.
Where it is set, every test that uses `parts` runs on both databases. With `YUNXI_TEST_DATABASE=postgresql` nodes lie
there too, and the tests that would only repeat what runs without it are left out.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# tests start hundreds of interpreters: what one has compiled the others need not, whatever the environment says
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if str(ROOT) not in sys.path:
    # test modules import `tests.fixtures`; child processes that the tests start inherit this path
    sys.path.insert(0, str(ROOT))

from ledger.chain.embedded import daemon  # noqa: E402
from ledger.node import Node  # noqa: E402
from tests.fixtures.forking import end_forker  # noqa: E402
from tests.fixtures.node_databases import ON_POSTGRES, drop_databases  # noqa: E402
from tests.fixtures.nodes import Built, build, end_chain, remove_nodes_at_rest, start_chain  # noqa: E402
from tests.fixtures.nursery import Nursery  # noqa: E402
from tests.fixtures.parts import Parts, PostgresServer, SqliteFiles, Template, make_template  # noqa: E402
from tests.fixtures.terminals import PASSPHRASE, TerminalTemplate, make_terminal  # noqa: E402

POSTGRES_URL = os.environ.get("YUNXI_TEST_POSTGRES", "")

MADE_ONCE = {"world", "arrived", "three"}
"""Fixtures of a module that take long to make: the tests that use one go to one worker."""


@pytest.fixture(scope="session", autouse=True)
def _chains_end_by_themselves() -> Iterator[None]:
    # whatever happens to the test run, the daemons it started end some time after; not sooner, because one that rests
    # while its worker does something else is asked again
    before = os.environ.get("YUNXI_CHAIN_IDLE_SECONDS")
    os.environ["YUNXI_CHAIN_IDLE_SECONDS"] = "300"
    yield
    if before is None:
        os.environ.pop("YUNXI_CHAIN_IDLE_SECONDS", None)
    else:
        os.environ["YUNXI_CHAIN_IDLE_SECONDS"] = before


@pytest.fixture(scope="session", autouse=True)
def _chains_may_take_their_time() -> Iterator[None]:
    # on a busy machine a chain's start takes ten times as long; a fixture that gives up takes its whole module along
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "START_SECONDS", 180.0)
        patch.setattr(daemon, "STOP_SECONDS", 60.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_commands() -> None:
    # a test run in the background of a script ignores Ctrl-C, and every command it starts would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _what_tests_share_goes() -> Iterator[None]:
    yield
    end_forker()
    remove_nodes_at_rest()
    drop_databases()


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps together what shares a node, and leaves out what nodes on PostgreSQL change nothing about."""
    for item in items:
        if MADE_ONCE & set(getattr(item, "fixturenames", ())) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    if ON_POSTGRES:
        config.hook.pytest_deselected(items=[item for item in items if not _makes_nodes(item)])
        items[:] = [item for item in items if _makes_nodes(item)]


def _makes_nodes(item: pytest.Item) -> bool:
    fixtures, module = set(getattr(item, "fixturenames", ())), vars(getattr(item, "module", None) or object)
    makers = {"made_node", "make_node", "new_database", "exchange"} & module.keys()
    # a module may have a fixture of its own that is called `built`
    return "server" not in fixtures and bool(makers or {"built", "yunxi", "remote"} & fixtures - module.keys())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Keys of two departments and an empty SQLite database; copied, never used. Key stretching is paid once."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def postgres(template: Template) -> Iterator[PostgresServer]:
    opened = PostgresServer(POSTGRES_URL, template)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRES_URL else ["sqlite"])
def server(request: pytest.FixtureRequest, template: Template) -> Iterator[SqliteFiles | PostgresServer]:
    """Where fresh databases come from: every test that uses it runs once for each kind."""
    if request.param == "sqlite":
        yield SqliteFiles(template)
        return
    opened: PostgresServer = request.getfixturevalue("postgres")
    yield opened
    opened.rest()


@pytest.fixture
def parts(server: SqliteFiles | PostgresServer, template: Template, tmp_path: Path) -> Iterator[Parts]:
    """A ledger without a chain, two departments `fire` and `health`, empty; on each database in turn."""
    opened = Parts.open(tmp_path / "parts", server.new(tmp_path), template.agent)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_parts(template: Template, tmp_path: Path) -> Iterator[Parts]:
    """The same on SQLite only, for what is a matter of files."""
    opened = Parts.open(tmp_path / "parts", SqliteFiles(template).new(tmp_path), template.agent)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def terminal_template(template: Template, tmp_path_factory: pytest.TempPathFactory) -> TerminalTemplate:
    """A terminal of `fire` as its officers have it; copied, never used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YUNXI_PASSPHRASE", PASSPHRASE)
        return make_terminal(tmp_path_factory.mktemp("terminal") / "terminal", template.agent.index_key())


@pytest.fixture(scope="session")
def nursery(template: Template) -> Iterator[Nursery]:
    """Where processes come from that submit records at the same time, or are killed."""
    opened = Nursery(template.directory / "keys")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A node with a running embedded chain, two departments and anchored records; read it, or copy it."""
    made = build(tmp_path_factory.mktemp("built"))
    yield made
    end_chain(made.directory)


@pytest.fixture
def tampered(built: Built, tmp_path: Path) -> Path:
    """The directory of a copy of that node, to tamper with; it shares the chain, so do not anchor."""
    return built.copy(tmp_path / "tampered")


@pytest.fixture
def own_node(built: Built, tmp_path: Path) -> Iterator[Node]:
    """A copy of that node with a running chain of its own."""
    directory = built.copy_with_chain(tmp_path / "own")
    start_chain(directory)
    opened = built.open(directory)
    yield opened
    opened.close()
    end_chain(directory)
    assert [key.since for key in built.agent.held("fire", "statement")] == [0], "rotate on a node with its own keys"
